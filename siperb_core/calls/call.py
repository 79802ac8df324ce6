"""A call that is alive: its dialogs, its media, and what both sides say in it.

The class serves every method that opens a dialog - an INVITE with media, a SUBSCRIBE without - since to a proxy they
differ in little (RFC 3261 section 16). How a call comes about is in `siperb_core.calls.setup`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import structlog

from siperb_core.calls.host import CallHost
from siperb_core.calls.in_dialog import TARGET_REFRESH, DialogRequest
from siperb_core.calls.media import CallMedia, Origin, is_sdp, written_info
from siperb_core.calls.negotiation import Negotiation
from siperb_core.calls.record import CallRecord
from siperb_core.calls.referral import refer_to_peer, refer_to_softphone
from siperb_core.calls.sender import OwnRequest
from siperb_core.calls.strays import SentInvite, Strays
from siperb_core.calls.usages import Usages
from siperb_core.entries.contract import Credentials
from siperb_core.events import CallEvent
from siperb_core.rtp.events import Digit
from siperb_core.sdp import SdpError
from siperb_core.sip import Flow, Message, parse_uri, response_to
from siperb_core.sip.dialog import Dialog, Leg, Side, carry_request, other, own_ack, own_request
from siperb_core.sip.grammar import quote
from siperb_core.sip.transaction import ServerTransaction

log = structlog.get_logger()

CLIENT_BRANCH = "client"
"""Name of the softphone's branch in a call that a softphone makes: there is only one."""

SUBSCRIPTION_METHODS = frozenset({"NOTIFY", "SUBSCRIBE", "REFER"})
"""What is still said in a dialog after the BYE, where a subscription outlives the call (RFC 5057 section 4.2)."""


class CallDirectory(Protocol):
    """Where calls are found (`siperb_core.calls.directory`)."""

    strays: Strays
    """INVITEs whose 2xx may come late."""

    def ended(self, call: Call) -> None:
        """The call is over; a subscription may be left of it."""

    def gone(self, call: Call) -> None:
        """Nothing is left of the call."""

    def by_token(self, token: str) -> Call | None:
        """The call whose Contacts have this user part."""


class Call:
    """All that belongs to one Call-ID of one caller. `token` is the user part of our Contacts, on every leg."""

    def __init__(self, host: CallHost, token: str, method: str, record: CallRecord, directory: CallDirectory) -> None:
        self.host = host
        self.token = token
        self.method = method
        self.record = record
        self.media: CallMedia | None = None
        self.dialogs: dict[str, Dialog] = {}  # by the callee's tag
        self.usages = Usages()
        self.over = False
        self.internal = False
        """A softphone calls softphones: all but what is shown of the call is as if a PBX had called."""
        self.referrals: dict[str, str] = {}
        """Whom each softphone in it was last asked to call (REFER), by device."""
        self.trusted = False
        """Whether the PBX is told who calls, and believed (RFC 3325)."""
        self._answered: Dialog | None = None
        self._branch_of: dict[str, str] = {}  # callee's tag -> the media's branch
        self._negotiations: dict[str, Negotiation] = {}  # by the callee's tag
        self._owed_bye: set[Side] = set()
        self.directory = directory

    @classmethod
    def restored(cls, host: CallHost, token: str, data: dict[str, Any], directory: CallDirectory) -> Call:
        """The call out of `as_json`, after a restart. Its media, if it had any, are gone."""
        call = cls(host, token, data["method"], CallRecord.from_json(data["record"]), directory)
        call.usages = Usages.from_json(data["usages"])
        call.over = call.record.state == "ended"
        call.internal = bool(data.get("internal"))
        call.trusted = data.get("trusted", False)
        stored = data["dialog"]
        dialog = Dialog(
            call_id=stored["call_id"],
            caller_tag=stored["caller_tag"],
            callee_tag=stored["callee_tag"],
            caller=Leg.from_json(stored["caller"]),
            callee=Leg.from_json(stored["callee"]),
            confirmed=True,
        )
        call.dialogs[dialog.callee_tag] = call._answered = dialog
        if data["bridged"]:
            call._owed_bye = {"caller", "callee"}
        return call

    # ---- who is who

    @property
    def direction(self) -> Literal["outbound", "inbound"]:
        """`outbound`: a softphone calls a PBX."""
        return "inbound" if self.internal else self.record.direction

    @property
    def client_side(self) -> Side:
        """The softphone's side."""
        return "caller" if self.direction == "outbound" else "callee"

    def believes(self, side: Side) -> bool:
        """Whether what a side asserts is passed on: never what a softphone does."""
        return self.trusted and side != self.client_side

    def origin(self, side: Side) -> Origin:
        """A side as the media see it."""
        return "client" if side == self.client_side else "peer"

    @property
    def established(self) -> bool:
        """Answered and not over."""
        return self._answered is not None and not self.over

    @property
    def answered(self) -> bool:
        """A 2xx has been chosen."""
        return self._answered is not None

    def credentials_for(self, side: Side, flow: Flow | None = None) -> Callable[[], Credentials | None]:
        """What answers a challenge of this side: the connection's credentials for the PBX, nothing for a softphone.

        Where the PBX has called us, at `flow`, only if that is where we would send calls of our own: who learnt our
        Contact may call it, but is not to learn what our password makes of a challenge.
        """
        if side == self.client_side or (side == "caller" and (flow is None or not self.host.is_peer(flow))):
            return lambda: None
        of, connection = self.host.credentials, self.record.connection  # not the call: this may be kept for longer
        return lambda: of(connection)

    # ---- in the dialog

    def find_dialog(self, request: Message) -> tuple[Dialog, Side] | None:
        """The dialog a request's tags name, and who sent it."""
        for dialog in self.dialogs.values():
            side = dialog.side_of(request)
            if side is not None:
                return dialog, side
        return None

    def on_dialog_request(self, transaction: ServerTransaction, request: Message, device: str) -> bool:
        """A request inside a dialog, from either side: a softphone's from its own device, a PBX's from none.

        False where it belongs to no dialog of this call.
        """
        found = self.find_dialog(request) or self.early_dialog(request, transaction.flow)
        if found is None or (self.over and request.method not in SUBSCRIPTION_METHODS):
            return False
        dialog, side = found
        from_leg = dialog.leg(side)
        if from_leg.device != device:  # whoever learnt Contact and tags of somebody else's call has no part in it
            return False
        if request.method in TARGET_REFRESH:
            from_leg.learn(request)
        self._is_at(from_leg, transaction.flow)
        if request.method == "INFO" and self.media is not None and self.media.take_info(self.origin(side), request):
            self.host.signalling.respond(transaction, response_to(request, 200))
        else:
            DialogRequest(self, dialog, side, transaction).start()
        return True

    def _is_at(self, leg: Leg, flow: Flow) -> None:
        """A leg's far end has spoken on this flow; a softphone may have come back as another instance."""
        if flow != leg.flow:
            leg.flow = flow
            if leg.device:
                leg.instance = self.host.sources.instance_on(flow) or leg.instance

    def tell_digit(self, leg: Origin, digit: Digit) -> None:
        """A digit that came in the audio's stream, for a leg that takes it in a SIP INFO."""
        dialog = self._answered
        if dialog is None or self.over:
            return
        side = self.client_side if leg == "client" else other(self.client_side)
        to = dialog.leg(side)
        flow = self.host.leg_flow(to, self.record.connection)
        if flow is None:
            return
        info = own_request("INFO", dialog, side)
        info.set_body(*written_info(digit))
        to.offset += 1  # requests carried over after it have higher numbers
        OwnRequest(self.host.signalling, to, flow, self.credentials_for(side, flow)).send(info)
        self.keep()

    def early_dialog(self, request: Message, flow: Flow) -> tuple[Dialog, Side] | None:
        """A dialog that this request itself opens; a call that is set up knows of one kind."""
        return None

    def translate(self, message: Message, dialog: Dialog, side: Side) -> None:
        """Write the URIs of a request of `side` for the other side. Raises ParseError."""
        if side == self.client_side:
            device = parse_uri(dialog.leg(side).remote.uri).user or ""
            refer_to_peer(message, dialog.leg(other(side)), self.host.domain, device, self.peer_target)
        else:
            refer_to_softphone(message, self.host.domain)

    def peer_target(self, token: str) -> str:
        """The PBX's Contact in the dialog that this token of ours names; '' where it names none."""
        call = self.directory.by_token(token)
        if call is None or call._answered is None:
            return ""
        return call._answered.leg(other(call.client_side)).target

    def negotiation(self, dialog: Dialog) -> Negotiation | None:
        """Offer and answer in this dialog; None where the call's media are not bridged."""
        if self.media is None:
            return None
        tag = dialog.callee_tag
        if tag not in self._negotiations:
            offerer = self.first_offerer(dialog)
            self._negotiations[tag] = Negotiation(self.media, self.origin, self.media_branch(dialog), offerer)
        return self._negotiations[tag]

    def first_offerer(self, dialog: Dialog) -> Side | None:
        """Whose offer was on its way before the dialog was there."""
        return None

    def on_ack(self, request: Message, came_on: Flow) -> None:
        """The ACK of a 2xx: to the other side, with the answer to a delayed offer in it perhaps.

        It is never answered, nor ever challenged: so it counts only where its INVITE came from.
        """
        found = self.find_dialog(request)
        if found is None:
            return
        dialog, side = found
        from_leg, leg = dialog.leg(side), dialog.leg(other(side))
        number = leg.number_of(request.cseq.number)
        if number is None or not self.host.sources.comes_from(came_on, from_leg, self.record.connection):
            log.debug("sip.strange_ack", call_id=request.call_id, source=came_on.remote[0])
            return
        if from_leg.device:
            self._is_at(from_leg, came_on)
        flow = self.host.leg_flow(leg, self.record.connection)
        if flow is None:
            return
        message = carry_request(request, leg)
        if dialog is self._answered:
            self.record.acknowledged = True
            self.usages.ack_by = None
        negotiation = self.negotiation(dialog)
        problem = ""
        if negotiation is not None:
            try:
                negotiation.in_ack(side, message)
            except SdpError as error:
                log.warning("sdp.refused", call_id=request.call_id, reason=error.reason)
                problem = f"no usable answer in ACK: {error.reason}"
                message.set_body(b"")
        leg.acked, leg.ack_body = number, message.body if is_sdp(message) else b""
        self.host.signalling.acknowledge(message, flow)
        if problem:
            self.end(problem, 488)

    def acknowledge_again(self, response: Message, invite: SentInvite) -> bool:
        """A 2xx in a dialog that is alive, whose INVITE's transaction has ended: its ACK was lost, or never came where
        the INVITE was answered otherwise meanwhile. False where there is no such dialog.
        """
        if self.over:
            return False
        for dialog in self.dialogs.values():
            if dialog.confirmed and {dialog.caller_tag, dialog.callee_tag} == {response.from_tag, response.to_tag}:
                side: Side = "callee" if response.to_tag == dialog.callee_tag else "caller"
                leg = dialog.leg(side)
                flow = self.host.leg_flow(leg, self.record.connection)
                if flow is not None and (leg.acked >= invite.number or invite.in_dialog):
                    body = leg.ack_body if leg.acked == invite.number else b""
                    self.host.signalling.acknowledge(own_ack(dialog, side, invite.number, body), flow)
                return True
        return False

    def media_branch(self, dialog: Dialog) -> str:
        """The media's name for the softphone of this dialog."""
        return CLIENT_BRANCH if self.direction == "outbound" else self._branch_of[dialog.callee_tag]

    def dialog_over(self, dialog: Dialog, cause: str) -> None:
        """A BYE went through, or the dialog was found dead: of an early dialog nothing is left, the INVITE goes on."""
        if not self.usages.has(dialog.callee_tag):
            self.drop_dialog(dialog.callee_tag)
        if dialog is self._answered:
            self._over(cause)

    def usage_over(self, dialog: Dialog, cause: str) -> None:
        """A subscription has ended: when it was all there was in the dialog, the dialog ends with it."""
        if self.usages.has(dialog.callee_tag) or (self.method == "INVITE" and not self.over):
            return
        self.drop_dialog(dialog.callee_tag)
        if not self.dialogs and self._answered is not None:
            if self.over:
                self._leave()
            else:
                self._over(cause)

    def drop_dialog(self, tag: str) -> None:
        """Forget a dialog."""
        self.dialogs.pop(tag, None)
        self._branch_of.pop(tag, None)
        self._negotiations.pop(tag, None)

    def expire(self, now: float) -> None:
        """End what has run out: a session nobody has refreshed, a call nobody has acknowledged, subscriptions."""
        usages = self.usages
        deadline = usages.next_deadline
        if deadline is None or deadline > now:
            return
        if usages.session_ends is not None and usages.session_ends <= now:
            self.end("session expired: neither side has refreshed it")
        elif usages.ack_by is not None and usages.ack_by <= now:
            self.end("200 OK was never ACKed")
        usages.expire(now)
        for dialog in list(self.dialogs.values()):
            self.usage_over(dialog, "subscription expired")

    def end(self, cause: str, status: int = 503) -> None:
        """End the call on both sides by ourselves: its media died, its connection is unloaded, the gateway stops.

        `status` says the same as a number, in the Reason of the BYEs (RFC 3326).
        """
        if self.over:
            return
        log.info("call.ended_by_gateway", call_id=self.record.call_id, cause=cause)
        reason = [("Reason", f"SIP ;cause={status} ;text={quote(cause)}")]
        if self._answered is not None:
            for side in ("caller", "callee"):
                self._send_bye(self._answered, side, reason)
        self._over(cause)

    def end_lost_media(self, *, last: bool = False) -> None:
        """End a call whose media did not survive a restart, on each side as soon as it can be reached.

        The `last` time a softphone that has not come back is told through any other instance of its device; who cannot
        be reached even so is not waited for any longer.
        """
        cause = "media lost in a restart of the gateway"
        reason = [("Reason", f"SIP ;cause=503 ;text={quote(cause)}")]
        for dialog in self.dialogs.values():
            for side in list(self._owed_bye):
                leg = dialog.leg(side)
                flow = self.host.leg_flow(leg, self.record.connection) or (
                    self.host.sources.any_flow(leg) if last else None
                )
                if flow is not None:
                    self._owed_bye.discard(side)
                    self._send_bye(dialog, side, reason, flow)
        if last or not self._owed_bye:
            self._over(cause)

    @property
    def device_owed_bye(self) -> str:
        """The softphone that does not know yet that the call is over; empty where there is none."""
        if self._answered is None or self.client_side not in self._owed_bye:
            return ""
        return self._answered.leg(self.client_side).device

    def _send_bye(self, dialog: Dialog, side: Side, headers: list[tuple[str, str]], flow: Flow | None = None) -> None:
        leg = dialog.leg(side)
        flow = flow or self.host.leg_flow(leg, self.record.connection)
        if flow is not None:
            bye = own_request("BYE", dialog, side, headers)
            OwnRequest(self.host.signalling, leg, flow, self.credentials_for(side, flow)).send(bye)

    def _over(self, cause: str) -> None:
        if self.over:
            return
        self.over = True
        media = self.media
        if media is not None:
            self.record.media = media.statistics()
            self.record.diagnosis = self.record.diagnosis or media.diagnosis
        self.record.end(self.host.now(), cause)
        self.usages.ack_by = self.usages.session_ends = None
        self.announce("ended")
        self.directory.ended(self)
        if media is not None:
            media.close(self._settle)
        elif self.method == "INVITE":
            self.host.keep_record(self.record)
        self._leave()

    def _settle(self) -> None:
        """The worker has given the last figures: only now the record is whole."""
        media, record = self.media, self.record
        if media is not None and self.method == "INVITE":
            record.media = media.statistics()
            if not record.diagnosis and record.answered is not None:
                record.diagnosis = media.diagnose((record.ended or record.answered) - record.answered)
            self.host.keep_record(record)

    def _leave(self) -> None:
        """Go, unless a subscription is left, a transfer being reported on say (RFC 5057 section 4.2)."""
        for tag in [tag for tag in self.dialogs if not self.usages.has(tag)]:
            self.drop_dialog(tag)
        if self.dialogs and self._answered is not None:
            self.keep()
            return
        if self._answered is not None:
            self.host.forget_dialog(self.token)
        self.directory.gone(self)

    def announce(self, what: Literal["started", "ringing", "answered", "ended"]) -> None:
        """Tell the plugins and the log how far the call is; other methods than INVITE are not calls."""
        if self.method != "INVITE":
            return
        record = self.record
        event = CallEvent(
            what, self.host.now(), record.call_id, record.direction, record.connection, record.user, record.device,
            record.caller, record.callee, record.cause, record.number, record.status, record.started, record.answered,
            record.diagnosis,
        )  # fmt: skip
        log.info(f"call.{what}", call_id=record.call_id, connection=record.connection, cause=record.cause or None)
        self.host.announce(event)

    def keep(self) -> None:
        """Write down what a request in the dialog has changed: targets, CSeq numbers."""
        if self._answered is not None and (not self.over or self.dialogs):
            self.host.save_dialog(self.token, self.as_json(), lambda: None)

    def as_json(self) -> dict[str, Any]:
        """What the store keeps, so that requests in the dialog find their way after a restart."""
        dialog = self._answered
        return {
            "method": self.method,
            "internal": self.internal,
            "bridged": self.media is not None and not self.over,
            "record": self.record.stored(),
            "trusted": self.trusted,
            "usages": self.usages.as_json(),
            "dialog": dialog
            and {
                "call_id": dialog.call_id,
                "caller_tag": dialog.caller_tag,
                "callee_tag": dialog.callee_tag,
                "caller": {**dialog.caller.as_json(), "tls": self.host.tls_of(dialog.caller)},
                "callee": {**dialog.callee.as_json(), "tls": self.host.tls_of(dialog.callee)},
            },
        }
