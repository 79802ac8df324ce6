"""Server transactions: INVITE (RFC 3261 section 17.2.1 with RFC 6026) and all other methods (section 17.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from siperb_core.sip.flow import Flow
from siperb_core.sip.message import Message
from siperb_core.sip.response import response_to
from siperb_core.sip.transaction import (
    ACK,
    CANCEL,
    FAILURE,
    PROVISIONAL,
    REQUEST,
    SUCCESS,
    TIMER_G,
    TIMER_H,
    TIMER_I,
    TIMER_J,
    TIMER_L,
    TIMER_TRYING,
    TIMER_UNANSWERED,
    TRANSPORT_ERROR,
    AckReceived,
    CancelReceived,
    Effect,
    Send,
    ServerTransaction,
)

if TYPE_CHECKING:
    from siperb_core.sip.transaction_layer import TransactionLayer


class InviteServer(ServerTransaction):
    """An INVITE that came in. Figure 7 of RFC 3261 as corrected by figure 3 of RFC 6026."""

    TRANSITIONS: ClassVar = (
        ("Proceeding", REQUEST, "Proceeding"),
        ("Proceeding", TIMER_TRYING, "Proceeding"),
        ("Proceeding", PROVISIONAL, "Proceeding"),
        ("Proceeding", CANCEL, "Proceeding"),
        ("Proceeding", SUCCESS, "Accepted"),
        ("Proceeding", FAILURE, "Completed"),
        ("Proceeding", TRANSPORT_ERROR, "Terminated"),
        ("Accepted", SUCCESS, "Accepted"),
        ("Accepted", ACK, "Accepted"),
        ("Accepted", TIMER_L, "Terminated"),
        ("Accepted", TRANSPORT_ERROR, "Terminated"),
        ("Completed", REQUEST, "Completed"),
        ("Completed", TIMER_G, "Completed"),
        ("Completed", ACK, "Confirmed"),
        ("Completed", TIMER_H, "Terminated"),
        ("Completed", TRANSPORT_ERROR, "Terminated"),
        ("Confirmed", TIMER_I, "Terminated"),
        ("Confirmed", TRANSPORT_ERROR, "Terminated"),
    )
    AT_ONCE: ClassVar = ("Confirmed",)

    __slots__ = ("_retransmit_after",)

    def __init__(self, layer: TransactionLayer, key: tuple[Any, ...], request: Message, flow: Flow) -> None:
        super().__init__(layer, key, request, flow)
        self._retransmit_after = 0.0

    def begin(self, now: float) -> None:
        """Section 17.2.1, first paragraph: the user has 200 ms to answer before a 100 goes out."""
        self._step = InviteServer._proceeding
        self._start(TIMER_TRYING, now + self._layer.timers.trying_delay)

    def settle(self) -> None:
        """After a 2xx nothing is repeated here: of the response only its tag is still asked for."""
        response = self.response
        super().settle()
        if self._step is InviteServer._accepted and response is not None:
            self._response = response.outline("to")

    def _proceeding(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Proceeding, section 17.2.1: a retransmitted INVITE gets the latest provisional response again."""
        if event == PROVISIONAL:
            assert message is not None
            self._stop_all()
            self._send(message, out)
        elif event == SUCCESS:
            assert message is not None
            self._stop_all()
            self._step = InviteServer._accepted
            self._linger()
            self._send(message, out)
            self._start(TIMER_L, now + self._layer.timers.timeout)
        elif event == FAILURE:
            assert message is not None
            self._stop_all()
            self._step = InviteServer._completed
            self._linger()
            self._send(message, out)
            timers = self._layer.timers
            if not self.flow.reliable:
                self._retransmit_after = timers.t1
                self._start(TIMER_G, now + timers.t1)
            self._start(TIMER_H, now + timers.timeout)
        elif event == REQUEST:
            self._repeat(out)
        elif event == TIMER_TRYING:
            self._send(response_to(self.request, 100), out)
        elif event == CANCEL:
            # Section 9.2: only an INVITE without a final response is touched by a CANCEL, and by the first one only.
            assert message is not None
            if not self.cancelled:
                self.cancelled = True
                out.append(CancelReceived(self, message))
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _accepted(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Accepted, RFC 6026 section 7.1: retransmitted INVITEs are absorbed; further 2xx of the user go out."""
        if event == SUCCESS:
            assert message is not None
            self._send(message, out)
        elif event == ACK:
            assert message is not None
            out.append(AckReceived(message, self.flow))
        elif event == TIMER_L:
            self._end(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _completed(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Completed, section 17.2.1: the final response goes out again until its ACK comes, or timer H is due."""
        if event == ACK:
            self._stop_all()
            self._step = InviteServer._confirmed
            if self.flow.reliable:
                self._end(out)
            else:
                self._start(TIMER_I, now + self._layer.timers.t4)
        elif event == REQUEST:
            self._repeat(out)
        elif event == TIMER_G:
            self._repeat(out)
            self._retransmit_after = min(self._retransmit_after * 2, self._layer.timers.t2)
            self._start(TIMER_G, now + self._retransmit_after)
        elif event == TIMER_H:
            self._end(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _confirmed(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Confirmed, section 17.2.1: retransmitted ACKs are absorbed."""
        if event == TIMER_I:
            self._end(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)


class NonInviteServer(ServerTransaction):
    """A request of any other method that came in. Figure 8 of RFC 3261."""

    TRANSITIONS: ClassVar = (
        ("Trying", PROVISIONAL, "Proceeding"),
        ("Trying", SUCCESS, "Completed"),
        ("Trying", FAILURE, "Completed"),
        ("Trying", TIMER_UNANSWERED, "Terminated"),
        ("Trying", TRANSPORT_ERROR, "Terminated"),
        ("Proceeding", REQUEST, "Proceeding"),
        ("Proceeding", PROVISIONAL, "Proceeding"),
        ("Proceeding", SUCCESS, "Completed"),
        ("Proceeding", FAILURE, "Completed"),
        ("Proceeding", TIMER_UNANSWERED, "Terminated"),
        ("Proceeding", TRANSPORT_ERROR, "Terminated"),
        ("Completed", REQUEST, "Completed"),
        ("Completed", TIMER_J, "Terminated"),
        ("Completed", TRANSPORT_ERROR, "Terminated"),
    )
    AT_ONCE: ClassVar = ("Completed",)

    __slots__ = ()

    def begin(self, now: float) -> None:
        """Section 17.2.2, first paragraph. A request nobody answers is let go when its sender gives up (RFC 4320)."""
        self._step = NonInviteServer._trying
        self._start(TIMER_UNANSWERED, now + self._layer.timers.timeout)

    def _trying(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Trying, section 17.2.2: retransmitted requests are absorbed; there is nothing to answer them with."""
        if event in (SUCCESS, FAILURE):
            self._on_final(message, now, out)
        elif event == PROVISIONAL:
            assert message is not None
            self._step = NonInviteServer._proceeding
            self._send(message, out)
        elif event == TIMER_UNANSWERED:
            self.final = True
            self._end(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _proceeding(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Proceeding, section 17.2.2: a retransmitted request gets the latest provisional response again."""
        if event in (SUCCESS, FAILURE):
            self._on_final(message, now, out)
        elif event == PROVISIONAL:
            assert message is not None
            self._send(message, out)
        elif event == REQUEST:
            self._repeat(out)
        elif event == TIMER_UNANSWERED:
            self.final = True
            self._end(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _completed(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Completed, section 17.2.2: a retransmitted request gets the final response again; nothing else is sent."""
        if event == REQUEST:
            self._repeat(out)
        elif event == TIMER_J:
            self._end(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _on_final(self, message: Message | None, now: float, out: list[Effect]) -> None:
        assert message is not None
        self._stop_all()
        self.final = True
        self._step = NonInviteServer._completed
        if not self.flow.reliable:
            self._linger()
            self._send(message, out)
            self._start(TIMER_J, now + self._layer.timers.timeout)
            return
        out.append(Send(self.flow, message, self))
        self._response = message
        self._end(out)
