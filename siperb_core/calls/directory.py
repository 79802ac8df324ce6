"""All calls and dialogs that are alive, found by the token in our Contact."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog
import trio

from siperb_core.calls.branch import Destinations
from siperb_core.calls.call import Call
from siperb_core.calls.destinations import Instance, ThroughConnections, ToSoftphones
from siperb_core.calls.host import CallHost
from siperb_core.calls.record import CallRecord
from siperb_core.calls.referral import replaced
from siperb_core.calls.setup import CallSetup
from siperb_core.calls.strays import Strays
from siperb_core.entries.contract import Refusal
from siperb_core.entries.decisions import CallAttempt
from siperb_core.entries.live import LoadedConnection
from siperb_core.entries.model import Entry
from siperb_core.sip import Flow, Message, ParseError, parse_uri
from siperb_core.sip.dialog import Leg
from siperb_core.sip.registrar import Binding
from siperb_core.sip.transaction import ServerTransaction

log = structlog.get_logger()

_KEPT = 200
"""Ended calls that stay visible."""

LOST_SECONDS = 90.0
"""How long after a restart a softphone's own instance is waited for, to be told that its call is over."""


class Calls:
    """Makes calls, and brings requests inside dialogs to theirs."""

    def __init__(self, host: CallHost) -> None:
        self._host = host
        self._calls: dict[str, Call] = {}
        self.strays = Strays(host, self)
        self._ended: deque[CallRecord] = deque(maxlen=_KEPT)
        self._one_over = trio.Event()
        self._lost: dict[str, Call] = {}
        """Calls whose media did not survive a restart, and whose softphones do not know yet."""
        self._lost_until = 0.0

    def outbound(
        self,
        transaction: ServerTransaction,
        candidates: Sequence[LoadedConnection],
        *,
        user: str,
        device: str,
        emergency: bool = False,
        instance: Instance | None = None,
    ) -> None:
        """A softphone's request, and the connections that may take it, in order; all of them in an `emergency`.
        `instance` is the one softphone that it is for, where it names one.
        """
        if self._refused(transaction):
            return
        call = self._new(transaction, "outbound", user, device)
        call.record.connection = candidates[0].entry.name
        call.announce("started")
        destinations = ThroughConnections(call, candidates, emergency=emergency, instance=instance)
        if emergency:
            _start(call, lambda: destinations)
        else:
            self._admit(call, lambda: destinations)

    def inbound(
        self,
        transaction: ServerTransaction,
        entry: Entry | None,
        bindings: Callable[[], Sequence[Binding]],
        user: str,
        *,
        device: str = "",
        rings: Sequence[str] = (),
    ) -> None:
        """A request of a PBX, and where the softphones that are to ring (`rings`) can be reached, once it is admitted;
        of a softphone (`device`), then without entry.
        """
        if self._refused(transaction):
            return
        call = self._new(transaction, "inbound", user, device)
        call.record.connection = "" if entry is None else entry.name
        call.announce("started")
        self._admit(call, lambda: ToSoftphones(call, entry, bindings()), rings)

    def _admit(self, call: CallSetup, destinations: Callable[[], Destinations], rings: Sequence[str] = ()) -> None:
        """Start a call once the gates have let it pass."""
        record = call.record

        def go_on(refusal: Refusal | None) -> None:
            if call.over:
                return  # the caller has not waited for it
            if refusal is not None:
                call.refuse(refusal.status, refusal.reason)
                return
            _start(call, destinations)

        attempt = CallAttempt(
            call_id=record.call_id, direction=record.direction, method=call.method, number=record.number,
            caller=record.caller, request=call.request, connection=record.connection, user=record.user,
            device=record.device, devices=tuple(rings),
        )  # fmt: skip
        self._host.choices.admit(attempt, go_on)

    def _new(self, transaction: ServerTransaction, direction: Any, user: str, device: str) -> CallSetup:
        call = CallSetup(self._host, transaction, direction, user=user, device=device, directory=self)
        self._calls[call.token] = call
        return call

    def _refused(self, transaction: ServerTransaction) -> bool:
        """Whether the request has been here before: it is answered 482 then (RFC 3261 sections 8.2.2.2 and 16.3)."""
        reason = self._host.signalling.been_here(transaction.request)
        if reason:
            self._host.signalling.refuse(transaction, 482, reason)
        return bool(reason)

    def restore(self, token: str, data: dict[str, Any]) -> None:
        """A dialog that was alive when the gateway went down.

        A bridged call has lost its media: it is ended on the PBX's side at once, on the softphone's when it is back.
        """
        call = Call.restored(self._host, token, data, self)
        self._calls[token] = call
        if data["bridged"]:
            self._lost[token] = call
            self._lost_until = self._host.now() + LOST_SECONDS
            call.end_lost_media()

    def on_registered(self, device: str) -> None:
        """A softphone is back: tell it what it missed."""
        for call in list(self._lost.values()):
            if call.device_owed_bye == device:
                call.end_lost_media()

    def ended(self, call: Call) -> None:
        """A call is over: it goes to those that ended."""
        if call.method == "INVITE":
            self._ended.append(call.record)
        self._one_over.set()
        self._one_over = trio.Event()

    def gone(self, call: Call) -> None:
        """Nothing is left of a call."""
        self._calls.pop(call.token, None)
        self._lost.pop(call.token, None)

    def by_token(self, token: str) -> Call | None:
        """The call whose Contacts have this user part."""
        return self._calls.get(token)

    def expire(self) -> None:
        """End sessions and subscriptions that have run out; to be called every few seconds."""
        now = self._host.now()
        self.strays.expire()
        if self._lost and self._lost_until <= now:
            for call in list(self._lost.values()):
                call.end_lost_media(last=True)
        for call in list(self._calls.values()):
            try:
                call.expire(now)
            except Exception:  # ours; the other calls are not to live for ever because of it
                log.exception("call.not_expired", call_id=call.record.call_id)

    @property
    def kept(self) -> int:
        """How many calls and subscriptions are kept, the rests of ended calls included."""
        return len(self._calls)

    async def wait_idle(self) -> None:
        """Wait until no call is left."""
        while self.active():
            await self._one_over.wait()

    def find(self, request: Message) -> Call | None:
        """The call whose Contact this request was sent to."""
        return self._calls.get(parse_uri(request.uri).user or "")

    def asker(self, request: Message) -> tuple[Leg, str] | None:
        """In whose name a request with a tag in To is sent: the leg, and the connection of its call; None where it
        belongs to no dialog that is there already.
        """
        call = self.find(request)
        found = None if call is None else call.find_dialog(request)
        return None if call is None or found is None else (found[0].leg(found[1]), call.record.connection)

    def on_request(self, transaction: ServerTransaction, request: Message, *, device: str) -> bool:
        """A request with a tag in To: inside a dialog, or False: then a 481 is owed, if anything.

        `device` is the softphone it comes from, '' for a PBX.
        """
        call = self.find(request)
        return call is not None and call.on_dialog_request(transaction, request, device)

    def is_transfer(self, request: Message, device: str, called: str) -> bool:
        """Whether a softphone's request to another is part of a transfer: it takes the place of a dialog the other is
        in (RFC 3891), or a call the softphone is in has referred it there (RFC 3515). Neither can be made up: Call-ID
        and tags are known to a dialog's parties and to whom they tell alone, and a REFER came in a dialog.
        """
        uri = str(parse_uri(request.uri).with_(headers=()))
        if any(call.referrals.get(device) == uri for call in self._calls.values()):
            return True
        named = replaced(request)
        return named is not None and any(
            dialog.call_id == named[0]
            and {dialog.caller_tag, dialog.callee_tag} == named[1]
            and called in (dialog.caller.device, dialog.callee.device)
            for call in self._calls.values()
            if not call.over
            for dialog in call.dialogs.values()
        )

    def on_ack(self, request: Message, flow: Flow) -> None:
        """An ACK of a 2xx."""
        call = self.find(request)
        if call is not None:
            call.on_ack(request, flow)

    def active(self) -> list[Call]:
        """Calls (not subscriptions) that are not over."""
        return [call for call in self._calls.values() if call.method == "INVITE" and not call.over]

    def modes(self) -> Counter[str]:
        """How many calls have agreed on media, by what is done with them: passthrough, relay, transcode."""
        found = (
            call.media.bridge.mode if call.media is not None else (call.record.media or {}).get("mode")
            for call in self.active()
        )
        return Counter(mode for mode in found if mode)

    def of_connection(self, name: str) -> list[Call]:
        """Calls that use a connection."""
        return [call for call in self.active() if call.record.connection == name]

    def as_json(self, *, ended: bool = True) -> list[dict[str, Any]]:
        """`siperb show calls`: those that last, then those that ended, newest first."""
        rows = [call.record.as_json(call.media.statistics() if call.media else None) for call in self.active()]
        if ended:
            rows += [record.as_json(None) for record in reversed(self._ended)]
        return rows


def _start(call: CallSetup, destinations: Callable[[], Destinations]) -> None:
    """Send a new call's request on. What cannot be read in it, or a mistake of ours, ends the call: its media's ports
    are not to stay with a call that nobody knows of.
    """
    try:
        call.start(destinations())
    except ParseError as error:
        call.abandon(error.status, error.reason)
    except Exception:
        call.abandon(500, "Internal Error")
        raise
