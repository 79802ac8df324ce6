"""Client transactions: INVITE (RFC 3261 section 17.1.1 with RFC 6026) and all other methods (section 17.1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from siperb_core.sip.flow import Flow
from siperb_core.sip.message import Message
from siperb_core.sip.transaction import (
    CANCEL,
    FAILURE,
    PROVISIONAL,
    SUCCESS,
    TIMER_A,
    TIMER_B,
    TIMER_C,
    TIMER_CANCELLED,
    TIMER_D,
    TIMER_E,
    TIMER_F,
    TIMER_K,
    TIMER_M,
    TRANSPORT_ERROR,
    ClientTransaction,
    Effect,
    ResponseReceived,
    Send,
    TimedOut,
)

if TYPE_CHECKING:
    from siperb_core.sip.transaction_layer import TransactionLayer


class InviteClient(ClientTransaction):
    """Our INVITE. Figure 5 of RFC 3261 as corrected by figure 1 of RFC 6026, with timer C of a proxy (section 16.6)."""

    TRANSITIONS: ClassVar = (
        ("Calling", TIMER_A, "Calling"),
        ("Calling", CANCEL, "Calling"),
        ("Calling", PROVISIONAL, "Proceeding"),
        ("Calling", SUCCESS, "Accepted"),
        ("Calling", FAILURE, "Completed"),
        ("Calling", TIMER_B, "Terminated"),
        ("Calling", TRANSPORT_ERROR, "Terminated"),
        ("Proceeding", PROVISIONAL, "Proceeding"),
        ("Proceeding", CANCEL, "Proceeding"),
        ("Proceeding", TIMER_C, "Proceeding"),
        ("Proceeding", SUCCESS, "Accepted"),
        ("Proceeding", FAILURE, "Completed"),
        ("Proceeding", TIMER_CANCELLED, "Terminated"),
        ("Proceeding", TRANSPORT_ERROR, "Terminated"),
        ("Accepted", SUCCESS, "Accepted"),
        ("Accepted", TIMER_M, "Terminated"),
        ("Accepted", TRANSPORT_ERROR, "Terminated"),
        ("Completed", FAILURE, "Completed"),
        ("Completed", SUCCESS, "Completed"),
        ("Completed", TIMER_D, "Terminated"),
        ("Completed", TRANSPORT_ERROR, "Terminated"),
    )
    AT_ONCE: ClassVar = ("Completed",)

    __slots__ = ("_ack", "_cancel_reason", "_cancel_sent", "_cancel_wanted", "_retransmit_after", "_started")

    def __init__(self, layer: TransactionLayer, key: tuple[Any, ...], request: Message, flow: Flow) -> None:
        super().__init__(layer, key, request, flow)
        self._ack: Message | None = None
        self._cancel_wanted = False
        self._cancel_sent = False
        self._cancel_reason = ""
        self._retransmit_after = 0.0
        self._started = 0.0

    @property
    def cancelled(self) -> bool:
        """Whether `TransactionLayer.cancel` was called, or timer C has fired."""
        return self._cancel_wanted

    def begin(self, now: float, out: list[Effect]) -> None:
        """Section 17.1.1.2, first paragraph: send, and start timer A (unreliable flows) and timer B."""
        timers = self._layer.timers
        self._step = InviteClient._calling
        self._started = now
        out.append(Send(self.flow, self.request, self))
        if not self.flow.reliable:
            self._retransmit_after = timers.t1
            self._start(TIMER_A, now + timers.t1)
        self._start(TIMER_B, now + timers.timeout)

    def settle(self) -> None:
        """The user stays: another 2xx is for it, and is known by what the INVITE shares with its responses."""
        self.request = self.request.outline("via", "from", "to", "call-id", "cseq")

    def cancel(self, reason: str, now: float, out: list[Effect]) -> None:
        """Want the INVITE cancelled; only the first call counts. For the layer only."""
        if not self._cancel_wanted and not self.final:
            self._cancel_wanted = True
            self._cancel_reason = reason
            self.handle(CANCEL, None, now, out)

    def _calling(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Calling, section 17.1.1.2: nothing was heard yet; a CANCEL waits for a provisional response (section 9.1)."""
        if event == PROVISIONAL:
            assert message is not None
            self._stop_all()
            self._step = InviteClient._proceeding
            base = self._started if message.status == 100 else now
            self._start(TIMER_C, base + self._layer.timers.timer_c)
            out.append(ResponseReceived(self, message))
            if self._cancel_wanted:
                self._send_cancel(now, out)
        elif event in (SUCCESS, FAILURE):
            self._on_final(event, message, now, out)
        elif event == TIMER_A:
            out.append(Send(self.flow, self.request, self))
            self._retransmit_after *= 2
            self._start(TIMER_A, now + self._retransmit_after)
        elif event == TIMER_B:
            self._time_out(out)
            self._end(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _proceeding(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Proceeding, section 17.1.1.2, under the timer C of section 16.8."""
        if event == PROVISIONAL:
            assert message is not None
            timer = self._timers.get(TIMER_C)
            if timer is not None and message.status > 100:
                self._layer.wheel.postpone(timer, now + self._layer.timers.timer_c)
            if not self.final:
                out.append(ResponseReceived(self, message))
        elif event in (SUCCESS, FAILURE):
            self._on_final(event, message, now, out)
        elif event == CANCEL:
            self._send_cancel(now, out)
        elif event == TIMER_C:
            # Section 16.8: a provisional response was seen, so there is something to cancel. The user need not wait for
            # the 487.
            self._cancel_wanted = True
            self._send_cancel(now, out)
            self._time_out(out)
        elif event == TIMER_CANCELLED:
            self._time_out(out)
            self._end(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _accepted(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Accepted, RFC 6026 section 8.4: every 2xx goes to the user, who acknowledges it; all else is absorbed."""
        if event == SUCCESS:
            assert message is not None
            out.append(ResponseReceived(self, message))
        elif event == TIMER_M:
            self._end(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _completed(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Completed, section 17.1.1.2: a retransmitted final response gets our ACK again.

        A 2xx after that is one the RFC leaves out, yet forking peers send it: somebody answered, and waits for an ACK.
        """
        if event == FAILURE:
            assert self._ack is not None
            out.append(Send(self.flow, self._ack, self))
        elif event == SUCCESS:
            assert message is not None
            out.append(ResponseReceived(self, message))
        elif event == TIMER_D:
            self._end(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _on_final(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        assert message is not None
        self._stop_all()
        told = self.final  # by TimedOut: only a 2xx, which has to be acknowledged and hung up, is news after that
        if event == SUCCESS:
            self._step = InviteClient._accepted
            self._linger()
            self._start(TIMER_M, now + self._layer.timers.timeout)
            out.append(ResponseReceived(self, message))
            return
        self._step = InviteClient._completed
        self._ack = self._make_ack(message)
        out.append(Send(self.flow, self._ack, self))
        if not told:
            out.append(ResponseReceived(self, message))
        self.final = True
        if self.flow.reliable:
            self._end(out)
        else:
            self._linger()
            self._start(TIMER_D, now + self._layer.timers.timer_d)

    def _time_out(self, out: list[Effect]) -> None:
        if not self.final:
            self.final = True
            out.append(TimedOut(self))

    def _send_cancel(self, now: float, out: list[Effect]) -> None:
        if not self._cancel_sent:
            self._cancel_sent = True
            self._start(TIMER_CANCELLED, now + self._layer.timers.timeout)
            self._layer.send_cancel(self, self._cancel_reason, now, out)

    def _make_ack(self, response: Message) -> Message:
        """Section 17.1.1.3: the request's own Via, From, Call-ID and Route, and the To of the response."""
        headers = self._same_hop_headers()
        headers.append(("To", response.get("To") or ""))
        headers.append(("CSeq", f"{self.request.cseq.number} ACK"))
        return Message.request("ACK", self.request.uri, headers)

    def make_cancel(self, reason: str) -> Message:
        """Section 9.1: the request's own Via, From, To, Call-ID, Route and CSeq number; `reason` as a Reason header."""
        headers = self._same_hop_headers()
        headers.append(("To", self.request.get("To") or ""))
        headers.append(("CSeq", f"{self.request.cseq.number} CANCEL"))
        if reason:
            headers.append(("Reason", reason))
        return Message.request("CANCEL", self.request.uri, headers)

    def _same_hop_headers(self) -> list[tuple[str, str]]:
        request = self.request
        headers = [("Via", request.get("Via") or ""), ("Max-Forwards", "70")]
        headers += [("Route", route) for route in request.get_all("Route")]
        headers += [("From", request.get("From") or ""), ("Call-ID", request.get("Call-ID") or "")]
        return headers


class NonInviteClient(ClientTransaction):
    """Our request of any other method. Figure 6 of RFC 3261."""

    TRANSITIONS: ClassVar = (
        ("Trying", TIMER_E, "Trying"),
        ("Trying", PROVISIONAL, "Proceeding"),
        ("Trying", SUCCESS, "Completed"),
        ("Trying", FAILURE, "Completed"),
        ("Trying", TIMER_F, "Terminated"),
        ("Trying", TRANSPORT_ERROR, "Terminated"),
        ("Proceeding", TIMER_E, "Proceeding"),
        ("Proceeding", PROVISIONAL, "Proceeding"),
        ("Proceeding", SUCCESS, "Completed"),
        ("Proceeding", FAILURE, "Completed"),
        ("Proceeding", TIMER_F, "Terminated"),
        ("Proceeding", TRANSPORT_ERROR, "Terminated"),
        ("Completed", TIMER_K, "Terminated"),
        ("Completed", TRANSPORT_ERROR, "Terminated"),
    )
    AT_ONCE: ClassVar = ("Completed",)

    __slots__ = ("_retransmit_after",)

    def __init__(self, layer: TransactionLayer, key: tuple[Any, ...], request: Message, flow: Flow) -> None:
        super().__init__(layer, key, request, flow)
        self._retransmit_after = 0.0

    def begin(self, now: float, out: list[Effect]) -> None:
        """Section 17.1.2.2, first paragraph: send, and start timer E (unreliable flows) and timer F."""
        timers = self._layer.timers
        self._step = NonInviteClient._trying
        out.append(Send(self.flow, self.request, self))
        if not self.flow.reliable:
            self._retransmit_after = timers.t1
            self._start(TIMER_E, now + timers.t1)
        self._start(TIMER_F, now + timers.timeout)

    def _trying(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Trying, section 17.1.2.2: sent again after T1, 2*T1, 4*T1, ... at most T2."""
        if event in (SUCCESS, FAILURE):
            self._on_final(message, now, out)
        elif event == PROVISIONAL:
            assert message is not None
            self._step = NonInviteClient._proceeding
            if not self.internal:
                out.append(ResponseReceived(self, message))
        elif event == TIMER_E:
            out.append(Send(self.flow, self.request, self))
            self._retransmit_after = min(self._retransmit_after * 2, self._layer.timers.t2)
            self._start(TIMER_E, now + self._retransmit_after)
        elif event == TIMER_F:
            self._time_out(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _proceeding(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Proceeding, section 17.1.2.2: sent again every T2."""
        if event in (SUCCESS, FAILURE):
            self._on_final(message, now, out)
        elif event == PROVISIONAL:
            assert message is not None
            if not self.internal:
                out.append(ResponseReceived(self, message))
        elif event == TIMER_E:
            out.append(Send(self.flow, self.request, self))
            self._start(TIMER_E, now + self._layer.timers.t2)
        elif event == TIMER_F:
            self._time_out(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _completed(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Completed, section 17.1.2.2: retransmitted responses are absorbed."""
        if event == TIMER_K:
            self._end(out)
        elif event == TRANSPORT_ERROR:
            self._fail(out)

    def _on_final(self, message: Message | None, now: float, out: list[Effect]) -> None:
        assert message is not None
        self._stop_all()
        self.final = True
        self._step = NonInviteClient._completed
        if not self.internal:
            out.append(ResponseReceived(self, message))
        if self.flow.reliable:
            self._end(out)
        else:
            self._linger()
            self._start(TIMER_K, now + self._layer.timers.t4)

    def _time_out(self, out: list[Effect]) -> None:
        self.final = True
        if not self.internal:
            out.append(TimedOut(self))
        self._end(out)
