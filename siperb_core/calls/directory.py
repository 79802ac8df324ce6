"""All calls and dialogs that are alive, found by the token in our Contact."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import trio

from siperb_core.calls.call import Call
from siperb_core.calls.destinations import ThroughConnections, ToSoftphones
from siperb_core.calls.host import CallHost
from siperb_core.calls.record import CallRecord
from siperb_core.calls.setup import CallSetup
from siperb_core.entries.lifecycle import LoadedConnection
from siperb_core.entries.model import Entry
from siperb_core.sip import Flow, Message, parse_uri
from siperb_core.sip.registrar import Binding
from siperb_core.sip.transaction import ServerTransaction

_KEPT = 200
"""Ended calls that stay visible."""


class Calls:
    """Makes calls, and brings requests inside dialogs to theirs."""

    def __init__(self, host: CallHost) -> None:
        self._host = host
        self._calls: dict[str, Call] = {}
        self._ended: deque[CallRecord] = deque(maxlen=_KEPT)
        self._one_over = trio.Event()

    def outbound(
        self, transaction: ServerTransaction, candidates: Sequence[LoadedConnection], *, user: str, device: str
    ) -> None:
        """A softphone's request, and the connections that may take it, in order."""
        call = self._new(transaction, "outbound", user, device)
        call.announce("started")
        call.start(ThroughConnections(call, candidates))

    def inbound(self, transaction: ServerTransaction, entry: Entry, bindings: Sequence[Binding], user: str) -> None:
        """A request of a PBX, and the softphones that are to ring."""
        call = self._new(transaction, "inbound", user, "")
        call.record.connection = entry.name
        call.announce("started")
        call.start(ToSoftphones(call, entry, bindings))

    def _new(self, transaction: ServerTransaction, direction: Any, user: str, device: str) -> CallSetup:
        call = CallSetup(self._host, transaction, direction, user=user, device=device, on_over=self._over)
        self._calls[call.token] = call
        return call

    def restore(self, token: str, data: dict[str, Any]) -> None:
        """A dialog that was alive when the gateway went down.

        A bridged call has lost its media: it is ended on the PBX's side at once, on the softphone's when it is back.
        """
        call = Call.restored(self._host, token, data, self._over)
        self._calls[token] = call
        if data["bridged"]:
            call.end_lost_media()

    def on_registered(self, device: str) -> None:
        """A softphone is back: tell it what it missed."""
        for call in list(self._calls.values()):
            if call.device_owed_bye == device:
                call.end_lost_media()

    def _over(self, call: Call) -> None:
        if self._calls.pop(call.token, None) is not None and call.method == "INVITE":
            self._ended.append(call.record)
            self._host.keep_record(call.record)
        self._one_over.set()
        self._one_over = trio.Event()

    async def wait_idle(self) -> None:
        """Wait until no call is left."""
        while self.active():
            await self._one_over.wait()

    def find(self, request: Message) -> Call | None:
        """The call whose Contact this request was sent to."""
        return self._calls.get(parse_uri(request.uri).user or "")

    def on_request(self, transaction: ServerTransaction, request: Message) -> None:
        """A request with a tag in To: inside a dialog, or lost (481)."""
        call = self.find(request)
        if call is None:
            self._host.signalling.refuse(transaction, 481)
        else:
            call.on_dialog_request(transaction, request)

    def on_ack(self, request: Message) -> None:
        """An ACK of a 2xx."""
        call = self.find(request)
        if call is not None:
            call.on_ack(request)

    def on_flow_closed(self, flow: Flow) -> None:
        """A softphone is gone: what it was still dialling is given up."""
        for call in list(self._calls.values()):
            if isinstance(call, CallSetup) and call.direction == "outbound" and call.caller.flow == flow:
                call.give_up()

    def active(self) -> list[Call]:
        """Calls (not subscriptions) that are not over."""
        return [call for call in self._calls.values() if call.method == "INVITE"]

    def of_connection(self, name: str) -> list[Call]:
        """Calls that use a connection."""
        return [call for call in self.active() if call.record.connection == name]

    def as_json(self, *, ended: bool = True) -> list[dict[str, Any]]:
        """`siperb show calls`: those that last, then those that ended, newest first."""
        rows = [call.record.as_json(call.media.statistics() if call.media else None) for call in self.active()]
        if ended:
            rows += [record.as_json(None) for record in reversed(self._ended)]
        return rows
