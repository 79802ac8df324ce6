"""Offer and answer in one dialog of a bridged call: which SDP is which, and what the other side gets for it.

RFC 3264 knows offers and answers, SIP says which message may carry what (RFC 3261 section 13.2.1, RFC 3262 section 5,
RFC 3311 section 5.1). Early dialogs of a fork negotiate each for itself.
"""

from __future__ import annotations

from collections.abc import Callable

from siperb_core.calls.media import CallMedia, Origin, is_sdp
from siperb_core.sdp import SdpError
from siperb_core.sip import Message
from siperb_core.sip.dialog import Side, other


class Negotiation:
    """The state of offer and answer in one dialog.

    `offerer` is whose offer was sent on already when the dialog came to be: the caller's, as a rule.
    """

    def __init__(
        self, media: CallMedia, origin: Callable[[Side], Origin], branch: str, offerer: Side | None = None
    ) -> None:
        self._media = media
        self._origin = origin
        self._branch = branch
        self._pending: Side | None = offerer
        self._previewed = False  # the pending offer has an answer in an unreliable provisional, which may change yet
        self._settled = False  # the exchange of the INVITE under way is complete: its 2xx cannot change it
        self._given: dict[Side, bytes] = {}  # the last SDP each side got
        self._offer = b""  # the pending offer, when it came in a response
        self._answer = b""  # the answer to the INVITE's offer, as the far end wrote it
        self._acknowledged: bytes | None = None  # the answer that went out in the ACK
        self._before: tuple[Side | None, bool] = (None, False)

    def in_request(self, side: Side, message: Message) -> bool:
        """Rewrite the SDP of a request of `side`, if it has one; whether it is an offer. Raises `SdpError`."""
        if not is_sdp(message):
            if message.method == "INVITE":
                self._restart()
            return False
        if self._pending == other(side) and message.method == "PRACK":
            sdp = self._take_answer(side, message.body)
            self._done()
            message.set_body(sdp)
            return False
        if self._pending is not None and not self._previewed:
            raise SdpError("another offer is still unanswered", status=491)
        sdp = self._media.offer(self._origin(side), self._branch, message.body)
        if message.method == "INVITE":
            self._restart()
        self._before = self._pending, self._previewed
        self._pending, self._previewed = side, False
        self._given[other(side)] = sdp
        message.set_body(sdp)
        return True

    def refused(self) -> None:
        """The request with the offer got a final response that is no 2xx (RFC 3264 section 4)."""
        self._media.withdraw()
        self._pending, self._previewed = self._before
        self._before = (None, False)

    def in_invite_response(self, side: Side, response: Message) -> bytes | None:
        """The SDP that goes on in a provisional or 2xx of `side` to an INVITE; b"" for none. Raises `SdpError`."""
        success = response.status >= 200
        if self._settled:
            # RFC 3261 section 13.2.1: what stands in a 2xx after the answer went out reliably is no answer any more.
            if success:
                self._return_to_own_answer(side)
            return self._given.get(other(side), b"") if response.body else None
        if not is_sdp(response):
            if success and self._pending == other(side):
                self._pending = None
                if not self._previewed:
                    self._media.reject()
            return None
        if self._pending == other(side):
            sdp = self._take_answer(side, response.body)
            self._answer = response.body
            if success or is_reliable(response):
                self._done()
            else:
                self._previewed = True
            return sdp
        if self._pending == side:
            if response.body == self._offer:
                return self._given[other(side)]
            self._media.reject()
        sdp = self._media.offer(self._origin(side), self._branch, response.body)
        self._pending, self._offer = side, response.body
        self._given[other(side)] = sdp
        return sdp

    def in_response(self, side: Side, response: Message, *, offered: bool) -> bytes | None:
        """The SDP that goes on in a 2xx to an UPDATE or PRACK (`offered`: which had the offer), b"" for none.

        In an answer to anything else an SDP is a list of capabilities that are not the gateway's (RFC 3261 section
        11.2): none goes on. Raises `SdpError`.
        """
        if not is_sdp(response):
            return None
        if not offered or self._pending != other(side):
            return b""
        sdp = self._take_answer(side, response.body)
        self._answer = b""
        self._done()
        return sdp

    def in_ack(self, side: Side, message: Message) -> None:
        """Rewrite the SDP of the ACK of a 2xx: the answer to an offer in it, or nothing. Raises `SdpError`."""
        if self._pending == other(side):
            if is_sdp(message):
                self._acknowledged = self._take_answer(side, message.body)
                self._done()
            else:
                self._pending = None
                self._media.reject()
        if is_sdp(message):
            message.set_body(self._acknowledged or b"")

    def _take_answer(self, side: Side, sdp: bytes) -> bytes:
        answer = self._media.answer(self._origin(side), self._branch, sdp)
        self._media.answered_by = self
        self._given[other(side)] = answer
        return answer

    def _restart(self) -> None:
        """A re-INVITE goes by: what its 2xx says counts again."""
        self._settled = False
        self._answer, self._acknowledged = b"", None

    def _done(self) -> None:
        self._pending, self._previewed, self._settled = None, False, True

    def _return_to_own_answer(self, side: Side) -> None:
        """Another early dialog has answered the same offer after this one, and lost: the media come back to this."""
        if self._answer and self._media.answered_by is not self:
            self._take_answer(side, self._answer)


def is_reliable(response: Message) -> bool:
    """Whether a provisional response is to be acknowledged by a PRACK (RFC 3262 section 3)."""
    if not 100 < response.status < 200 or response.get("RSeq") is None:
        return False
    return any(tag.lower() == "100rel" for tag in response.values("Require"))
