"""Where a request goes: out through one connection after the other, or to all softphones of a connection at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog

from siperb_core.calls.call import CLIENT_BRANCH
from siperb_core.calls.setup import CallSetup
from siperb_core.entries.contract import OutboundCall, OutboundLeg, Refusal
from siperb_core.entries.lifecycle import LoadedConnection
from siperb_core.entries.model import Entry
from siperb_core.routing import fails_over
from siperb_core.sip import Flow, NameAddr
from siperb_core.sip.dialog import Leg, carry_request
from siperb_core.sip.registrar import Binding

log = structlog.get_logger()


class ThroughConnections:
    """A softphone's request: the first connection takes it; the others are for failover, where the entry wants that."""

    def __init__(self, call: CallSetup, candidates: Sequence[LoadedConnection]) -> None:
        self._call = call
        self._candidates = iter(candidates)
        self._current: Entry | None = None

    def start(self) -> None:
        """Dial through the next connection that can take the request."""
        call = self._call
        for loaded in self._candidates:
            entry = self._current = call.entry = loaded.entry
            call.record.connection = entry.name
            outbound = self._outbound_leg(loaded)
            if isinstance(outbound, OutboundLeg):
                call.host.flow_to(outbound.target, partial(self._dial, outbound))
                return
            call.failed_without_branch(outbound.status, outbound.reason)
            if not self._fails_over(outbound.status):
                break
        call.finish()

    def next_after(self, status: int) -> bool:
        """Failover is opt-in, and for failures of the connection, not for the answer of a person."""
        if not self._fails_over(status):
            return False
        log.info(
            "call.failover", call_id=self._call.request.call_id, connection=self._call.record.connection, status=status
        )
        self.start()
        return True

    def _fails_over(self, status: int) -> bool:
        return self._current is not None and self._current.failover and fails_over(status)

    def _outbound_leg(self, loaded: LoadedConnection) -> OutboundLeg | Refusal:
        call = self._call
        asked = OutboundCall(call.record.number, call.method, call.record.user, call.record.device, call.request)
        try:
            return loaded.connection.outbound_leg(asked)
        except Exception:
            log.exception("plugin.failed", connection=loaded.entry.name, call_id=call.request.call_id)
            return Refusal(500, "Connection Failed")

    def _dial(self, outbound: OutboundLeg, flow: Flow | None) -> None:
        call = self._call
        if call.over:
            return
        if flow is None:
            call.failed_without_branch(503, "PBX Not Reachable")
            if not self.next_after(503):
                call.finish()
            return
        leg = Leg(
            local=NameAddr(outbound.from_display, outbound.from_uri, ()),
            remote=NameAddr("", outbound.to_uri, ()),
            contact=call.host.contact(call.token, flow),
            target=outbound.request_uri,
            routes=outbound.route,
            flow=flow,
        )
        message = carry_request(call.request, leg)
        for header, value in outbound.headers:
            message.set(header, value)
        if call.open_media(call.caller.flow, flow) and call.map_offer(message, "client", CLIENT_BRANCH):
            call.start_branch(leg, flow, message)


class ToSoftphones:
    """A PBX's request: all contacts of the connection's users ring at once."""

    def __init__(self, call: CallSetup, entry: Entry, bindings: Sequence[Binding]) -> None:
        call.entry = entry
        call.record.connection = entry.name
        self._call = call
        self._reachable = [(binding, binding.flow) for binding in bindings if binding.flow is not None]

    def start(self) -> None:
        """Ring them, each with an offer of its own."""
        call = self._call
        if not self._reachable:
            call.refuse(480, "Temporarily Unavailable")
            return
        if not call.open_media(self._reachable[0][1], call.caller.flow):
            return
        for number, (binding, flow) in enumerate(self._reachable):
            leg = self._leg(binding, flow)
            message = carry_request(call.request, leg)
            if call.over or not call.map_offer(message, "peer", f"{number}"):
                return
            call.start_branch(leg, flow, message, f"{number}")

    def next_after(self, status: int) -> bool:
        """There is nobody else to ring."""
        return False

    def _leg(self, binding: Binding, flow: Flow) -> Leg:
        call = self._call
        caller, domain = call.request.from_, call.host.domain
        return Leg(
            local=NameAddr(caller.display, f"sip:{caller.parsed_uri.user or 'anonymous'}@{domain}", ()),
            remote=NameAddr("", f"sip:{binding.aor}@{domain}", ()),
            contact=call.host.contact(call.token, flow),
            target=binding.contact,
            routes=binding.path,
            flow=flow,
            device=binding.aor,
        )
