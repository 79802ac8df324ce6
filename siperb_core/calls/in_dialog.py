"""Requests inside a dialog: carried from one leg to the other and answered back (RFC 3261 section 12.2, 16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siperb_core.calls.media import is_sdp
from siperb_core.calls.sender import Sender
from siperb_core.sdp import SdpError
from siperb_core.sip import Message, response_to
from siperb_core.sip.dialog import Dialog, Side, carry_request, carry_response, other
from siperb_core.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from siperb_core.calls.call import Call

TARGET_REFRESH = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"})
"""Methods whose 2xx may move the remote target (section 12.2.1.2, RFC 3311, RFC 6665)."""


class DialogRequest(Sender):
    """One request from `side`, on its way to the other side."""

    def __init__(self, call: Call, dialog: Dialog, side: Side, server: ServerTransaction) -> None:
        self.call = call
        self.dialog = dialog
        self.side = side
        self.server = server
        self.request = server.request
        self._offered = False
        leg = dialog.leg(other(side))
        flow = call.host.leg_flow(leg)
        self._reachable = flow is not None
        super().__init__(call.host.signalling, leg, flow or server.flow, call.credentials_for(other(side)))
        server.context = self

    def start(self) -> None:
        """Send it on, with its SDP rewritten for the other leg."""
        if not self._reachable:
            self._unreachable()
            return
        message = carry_request(self.request, self.leg)
        if not self._map_request(message):
            return
        self.send(message)

    def responded(self, response: Message) -> None:
        """Carry a response back; a final one decides over offer, target and dialog."""
        if response.status == 100:
            return
        request = self.request
        sdp: bytes | None = None
        if response.status >= 200:
            if response.status < 300 and request.method in TARGET_REFRESH:
                self.leg.learn(response)
            if response.status >= 300 and self._offered:
                self._reject_offer()
        if response.status < 300:
            try:
                sdp = self._map_response(response)
            except SdpError as error:
                self._refuse_sdp(error)
                return
        carried = carry_response(response, request, self.dialog.leg(self.side).contact)
        if sdp is not None:
            carried.set_body(sdp, "application/sdp")
        self._respond(carried)
        if response.status >= 200:
            self._finished(response.status)

    def failed(self, status: int) -> None:
        """Nobody answered, or the transport failed."""
        if self._offered:
            self._reject_offer()
        self._respond(response_to(self.request, status))
        self._finished(status)

    def on_cancel(self, transaction: ServerTransaction, cancel: Message) -> None:
        """A re-INVITE may be cancelled too."""
        if self.transaction is not None:
            self._signalling.cancel(self.transaction, cancel.get("Reason") or "")

    def _finished(self, status: int) -> None:
        """A BYE ends the dialog whatever its answer; a subscription also ends by its last NOTIFY (section 12.2.1.2)."""
        method = self.request.method
        if method == "BYE":
            cause = self.request.get("Reason") or f"BYE from {self.side}"
            self.call.dialog_over(self.dialog, cause)
        elif method == "NOTIFY" and "terminated" in (self.request.get("Subscription-State") or "").lower():
            if self.call.method == "SUBSCRIBE":
                self.call.dialog_over(self.dialog, "subscription terminated")
        elif method == "SUBSCRIBE" and status == 481:
            self.call.dialog_over(self.dialog, "subscription unknown")
        self.call.keep()

    def _unreachable(self) -> None:
        """The leg's softphone is gone. Its BYE is then ours to answer, so that the PBX is not kept waiting."""
        status = 200 if self.request.method == "BYE" else 480
        self._respond(response_to(self.request, status))
        self._finished(status)

    def _map_request(self, message: Message) -> bool:
        call = self.call
        if call.media is None or not is_sdp(message):
            return True
        try:
            sdp = call.media.offer(call.origin(self.side), call.media_branch(self.dialog), message.body)
            self._offered = True
        except SdpError as error:
            self._refuse_sdp(error)
            return False
        message.set_body(sdp, "application/sdp")
        return True

    def _map_response(self, response: Message) -> bytes | None:
        call = self.call
        if call.media is None or not is_sdp(response):
            return None
        origin, branch = call.origin(other(self.side)), call.media_branch(self.dialog)
        if self._offered:
            return call.media.answer(origin, branch, response.body)
        return call.media.offer(origin, branch, response.body)

    def _reject_offer(self) -> None:
        self._offered = False
        if self.call.media is not None:
            self.call.media.reject()

    def _refuse_sdp(self, error: SdpError) -> None:
        warning = f'{error.warning_code} siperb "{error.warning}"'
        self._respond(response_to(self.request, error.status, error.reason, headers=[("Warning", warning)]))

    def _respond(self, response: Message) -> None:
        if not self.server.final or response.status // 100 == 2:
            self._signalling.respond(self.server, response)


class OwnRequest(Sender):
    """A request of the gateway's own in a dialog; its answer interests nobody, but a challenge is answered."""
