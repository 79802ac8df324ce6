"""Requests inside a dialog: carried from one leg to the other and answered back (RFC 3261 section 12.2, 16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siperb_core.calls.negotiation import is_reliable
from siperb_core.calls.referral import referred_to
from siperb_core.calls.sender import CallSender
from siperb_core.calls.usages import wants_no_subscription
from siperb_core.sdp import SdpError
from siperb_core.sip import Flow, Message, ParseError, identity, response_to
from siperb_core.sip.dialog import Dialog, Leg, Side, carry_request, carry_response, other, own_ack
from siperb_core.sip.grammar import quote
from siperb_core.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from siperb_core.calls.call import Call

TARGET_REFRESH = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"})
"""Methods whose 2xx may move the remote target (section 12.2.1.2, RFC 3311, RFC 6665)."""


HOP_PATIENCE = 4.0
"""Seconds that a next hop named in the dialog may stay silent before the next way is taken."""

_ABOUT_SUBSCRIPTIONS = frozenset({"NOTIFY", "SUBSCRIBE"})


class DialogRequest(CallSender):
    """One request from `side`, on its way to the other side."""

    def __init__(self, call: Call, dialog: Dialog, side: Side, server: ServerTransaction) -> None:
        self.dialog = dialog
        self.side = side
        self.server = server
        self.request = server.request
        self._offered = False
        self._passed = False  # its 2xx went on: who asked acknowledges it
        self._failed = False  # it was answered by ourselves, and the far end does not know of that
        self._asker_lost = False
        self._negotiation = call.negotiation(dialog)
        leg = dialog.leg(other(side))
        flow = call.host.leg_flow(leg, call.record.connection)
        self._at_hop = not leg.device and _elsewhere(leg, flow)
        self._reachable = flow is not None
        super().__init__(call, server.request, leg, flow or server.flow, call.credentials_for(other(side), flow))
        server.context = self

    def start(self) -> None:
        """Send it on, with its SDP rewritten for the other leg."""
        if not self._reachable:
            self._unreachable()
            return
        call, dialog = self.call, self.dialog
        message = carry_request(self.request, self.leg)
        if not call.believes(self.side):
            identity.forget_assertions(message)
        call.translate(message, dialog, self.side)
        if self.request.method == "REFER" and self.leg.device:
            call.referrals[self.leg.device] = referred_to(message)
        if self.request.method in _ABOUT_SUBSCRIPTIONS:
            event = call.usages.renamed(dialog.callee_tag, self.request)
            if event is not None:
                message.set("Event", event)
        if self._negotiation is not None:
            try:
                self._offered = self._negotiation.in_request(self.side, message)
            except SdpError as error:
                self._refuse_sdp(error)
                return
        self.send(message, HOP_PATIENCE if self._at_hop else None)

    def next_flow(self) -> Flow | None:
        """A next hop that the peer has named and that does not answer is left out for a while (RFC 3263 section 4.3);
        in the end the leg's own flow is left.
        """
        if not self._at_hop:
            return None
        self.call.host.put_aside(self.flow)
        flow = self.call.host.leg_flow(self.leg, self.call.record.connection)
        self._at_hop = _elsewhere(self.leg, flow)
        return flow

    def responded(self, response: Message) -> None:
        """Carry a response back; a final one decides over offer, target and dialog."""
        if self._at_hop:
            self.leg.flow = self.flow  # later requests stay with who answered
        if response.status == 100:
            return
        request = self.request
        success = 200 <= response.status < 300
        if success and request.method == "INVITE" and self._left_behind:
            self._acknowledge_after_end()
            return
        if success and request.method == "INVITE" and not self._passed and (self.server.final or self._asker_lost):
            self._acknowledge()  # nobody else will
            self._reject_offer()
            if self._failed:
                self.call.end("a re-INVITE was answered that had been given up", 487)
            return
        sdp: bytes | None = None
        if response.status in (401, 407):
            # The challenge is between the gateway and the PBX; a softphone has no credentials for it.
            response = response_to(request, 403, "PBX Refused Credentials")
        if response.status >= 300:
            self._reject_offer()
        else:
            try:
                if success and request.method in TARGET_REFRESH:
                    self.leg.learn(response)
                sdp = self._map_response(response)
            except SdpError as error:
                if success or is_reliable(response):
                    self._refuse_sdp(error)
                    self._fail(response, error.status, f"its answer cannot be used: {error.warning}")
                    return
                sdp = b""  # early media that cannot be; the 2xx counts
            except ParseError as error:
                if not (success and request.method == "INVITE"):
                    raise
                self._respond(response_to(request, 502))
                self._fail(response, 502, f"its answer cannot be read: {error.reason}")
                return
        self._passed = self._passed or success
        carried = carry_response(response, request, self.dialog.leg(self.side).contact)
        if not self.call.believes(other(self.side)):
            identity.forget_assertions(carried)
        if sdp is not None:
            carried.set_body(sdp, "application/sdp")
        self._respond(carried)
        if response.status >= 200:
            self._finished(response)

    def failed(self, status: int) -> None:
        """Nobody answered, or the transport failed."""
        self._reject_offer()
        response = response_to(self.request, status)
        self._respond(response)
        self._finished(response)

    def on_cancel(self, transaction: ServerTransaction, cancel: Message) -> None:
        """A re-INVITE may be cancelled too."""
        self.cancel(cancel.get("Reason") or "")

    def on_caller_lost(self, transaction: ServerTransaction) -> None:
        """Nobody waits for the answer to a re-INVITE any more; other requests run their course."""
        self._asker_lost = True
        self.cancel()

    def _finished(self, response: Message) -> None:
        """A BYE ends the dialog whatever its answer; other methods begin, lengthen or end a usage of it (RFC 5057)."""
        call, request, tag = self.call, self.request, self.dialog.callee_tag
        usages, now = call.usages, call.host.now()
        success = response.status < 300
        match request.method:
            case "BYE":
                call.dialog_over(self.dialog, request.get("Reason") or f"BYE from {self.side}")
            case "INVITE" | "UPDATE" if success and call.media is None:
                usages.refreshed(response, now)
            case "REFER" if success and not wants_no_subscription(response) and self.transaction is not None:
                usages.referred(tag, self.transaction.request.cseq.number, request.cseq.number, now)
            case "SUBSCRIBE" if success:
                usages.subscribed(tag, request, response, now)
            case "NOTIFY" if success or "terminated" in (request.get("Subscription-State") or "").lower():
                usages.notified(tag, request, now, opens=call.method != "INVITE")
                call.usage_over(self.dialog, "subscription terminated")
            case "SUBSCRIBE" | "NOTIFY" if response.status == 481:
                usages.ended(tag, request)
                call.usage_over(self.dialog, "subscription unknown")
        call.keep()

    def _unreachable(self) -> None:
        """The leg's softphone is gone. Its BYE is then ours to answer, so that the PBX is not kept waiting."""
        response = response_to(self.request, 200 if self.request.method == "BYE" else 480)
        self._respond(response)
        self._finished(response)

    def _fail(self, response: Message, status: int, cause: str) -> None:
        """A response that cannot be passed on, though the far end goes by what it has said in it: who asked has been
        told otherwise, and as the two would not agree on the session any more, it ends (RFC 6337 section 3.4).

        In an early dialog the INVITE is still to decide.
        """
        self._failed = True
        self._reject_offer()
        if response.status < 200:
            self.cancel()
            return
        if self.request.method == "INVITE":
            self._acknowledge()
        if self.dialog.confirmed:
            self.call.end(f"{self.request.method} failed: {cause}", status)

    @property
    def _left_behind(self) -> bool:
        """Whether the dialog has ended while this was under way: BYE and the answer to a re-INVITE have crossed."""
        return self.call.dialogs.get(self.dialog.callee_tag) is not self.dialog

    def _acknowledge_after_end(self) -> None:
        """A 2xx to a re-INVITE, first or repeated, in a dialog that a BYE has ended: the call is forgotten with it, and
        an ACK of who asked would find nobody. Who asked and has no answer yet gets 487 (RFC 3261 section 15.1.2).
        """
        number = self.leg.number_of(self.asked) or self.leg.invite_cseq
        body = self.leg.ack_body if self.leg.acked == number else b""
        self._signalling.acknowledge(own_ack(self.dialog, other(self.side), number, body), self.flow)
        if not self.server.final:
            self._respond(response_to(self.request, 487))

    def _acknowledge(self) -> None:
        side = other(self.side)
        self.leg.acked, self.leg.ack_body = self.leg.invite_cseq, b""
        self._signalling.acknowledge(own_ack(self.dialog, side), self.flow)

    def _map_response(self, response: Message) -> bytes | None:
        negotiation = self._negotiation
        if negotiation is None:
            return None
        side = other(self.side)
        if self.request.method == "INVITE":
            return negotiation.in_invite_response(side, response)
        return negotiation.in_response(side, response, offered=self._offered)

    def _reject_offer(self) -> None:
        if self._offered and self._negotiation is not None:
            self._negotiation.refused()
        self._offered = False

    def _refuse_sdp(self, error: SdpError) -> None:
        warning = f"{error.warning_code} siperb {quote(error.warning)}"
        self._respond(response_to(self.request, error.status, error.reason, headers=[("Warning", warning)]))

    def _respond(self, response: Message) -> None:
        if not self.server.final or response.status // 100 == 2:
            self._signalling.respond(self.server, response)


def _elsewhere(leg: Leg, flow: Flow | None) -> bool:
    """Whether a flow leads to another place than the leg's own does."""
    return flow is not None and leg.flow is not None and flow.remote != leg.flow.remote
