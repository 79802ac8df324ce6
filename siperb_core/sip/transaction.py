"""What transactions share: events, the effects they ask for, and the two types users see (RFC 3261 section 17).

A transaction is a state machine without a clock or a socket. An event goes in together with `now`, effects come out as
data, in the order in which they are to be performed. Every state is one function, named after it, in
`transaction_client` and `transaction_server`; `TRANSITIONS` of each machine lists what these functions do, and tests
hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import attrs

from siperb_core.sip.flow import Flow
from siperb_core.sip.headers import Via
from siperb_core.sip.message import Message
from siperb_core.sip.parser import parse
from siperb_core.sip.recurring import TopVia, whole_via

if TYPE_CHECKING:
    from siperb_core.sip.timers import Timer
    from siperb_core.sip.transaction_layer import TransactionLayer

# Events, by the names the RFC's figures use.
REQUEST: Final = "request"  # a client's request is to be sent; a server's request came in again
PROVISIONAL: Final = "1xx"
SUCCESS: Final = "2xx"
FAILURE: Final = "300-699"
ACK: Final = "ACK"
CANCEL: Final = "cancel"  # the user wants the INVITE cancelled
TRANSPORT_ERROR: Final = "transport error"
TIMER_A: Final = "timer A"
TIMER_B: Final = "timer B"
TIMER_C: Final = "timer C"
TIMER_D: Final = "timer D"
TIMER_E: Final = "timer E"
TIMER_F: Final = "timer F"
TIMER_G: Final = "timer G"
TIMER_H: Final = "timer H"
TIMER_I: Final = "timer I"
TIMER_J: Final = "timer J"
TIMER_K: Final = "timer K"
TIMER_L: Final = "timer L"
TIMER_M: Final = "timer M"
TIMER_TRYING: Final = "timer 100"  # the 200 ms of section 17.2.1
TIMER_CANCELLED: Final = "timer cancelled"  # the 64*T1 an INVITE is still waited for after its CANCEL (section 9.1)
TIMER_UNANSWERED: Final = "timer unanswered"  # 64*T1 without an answer by the user: the client has given up (timer F)


@attrs.define(eq=False)
class Send:
    """Hand `message` to `flow`. When that fails, tell the layer by `send_failed(transaction)`, if there is one."""

    flow: Flow
    message: Message
    transaction: ClientTransaction | ServerTransaction | None = None


@attrs.define(eq=False)
class RequestReceived:
    """A new request, not a retransmission, neither ACK nor CANCEL. The user owes it a final response."""

    transaction: ServerTransaction
    message: Message


@attrs.define(eq=False)
class AckReceived:
    """An ACK to a 2xx: it belongs to the dialog, not to a transaction (section 17.2.1)."""

    message: Message
    flow: Flow


@attrs.define(eq=False)
class CancelReceived:
    """The INVITE of `transaction` is to be given up. The CANCEL is answered; the user answers the INVITE (487)."""

    transaction: ServerTransaction
    message: Message


@attrs.define(eq=False)
class ResponseReceived:
    """A response to our request, our own Via taken off.

    A 2xx to an INVITE may come several times (retransmitted, or from several branches of a fork), and may come after
    the transaction is final: after a 487, or after `TimedOut`. The user acknowledges each one, and hangs up what it has
    no use for.
    """

    transaction: ClientTransaction
    message: Message


@attrs.define(eq=False)
class StrayResponse:
    """A 2xx to an INVITE of which no transaction is left. Nothing in it has been checked or changed."""

    message: Message
    flow: Flow


@attrs.define(eq=False)
class TimedOut:
    """No final response in time (timer B, C or F): the user goes on as if it were a 408."""

    transaction: ClientTransaction


@attrs.define(eq=False)
class TransportFailed:
    """The flow is gone before there was a final response.

    A client's: the user goes on as if it were a 503. A server's: nobody is left to answer.
    """

    transaction: ClientTransaction | ServerTransaction


@attrs.define(eq=False)
class TransactionEnded:
    """The last effect of a transaction; nothing more comes from it."""

    transaction: ClientTransaction | ServerTransaction


# Effects are not frozen, since attrs takes 0.2 us longer to make a frozen one, and there are a dozen in a call.
Effect: TypeAlias = (
    Send
    | RequestReceived
    | AckReceived
    | CancelReceived
    | ResponseReceived
    | StrayResponse
    | TimedOut
    | TransportFailed
    | TransactionEnded
)

Step: TypeAlias = Callable[[Any, str, "Message | None", float, "list[Effect]"], None]
"""A state: what it does with an event (and the message that is the event, if any) at a moment, appending effects."""


class Transaction:
    """State, timers and end of a transaction. Not to be made by users: the layer does."""

    TRANSITIONS: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """(state, event, next state) for all that the state functions do; an event not listed is ignored in that state."""
    AT_ONCE: ClassVar[tuple[str, ...]] = ()
    """States that end as soon as they are entered where the flow is reliable: their timers are zero there."""

    __slots__ = (
        *("_layer", "_step", "_timers", "context", "final", "flow", "internal", "key", "lingers", "method"),
        "request",
    )

    def __init__(self, layer: TransactionLayer, key: tuple[Any, ...], request: Message, flow: Flow) -> None:
        self._layer = layer
        self._step: Step | None = None
        self._timers: dict[str, Timer[Transaction]] = {}
        self.key = key
        self.request = request
        """A client's as sent, with our Via; a server's as received, with `received` and `rport` filled in.

        Some time after the final response only its request line is left, of our INVITE also what a 2xx repeats."""
        self.flow = flow
        self.method = request.method
        self.context: Any = None
        """The user's; the layer never looks at it, and lets go of it once nothing can come any more but late copies."""
        self.final = False
        """There was a final response, or there will be none."""
        self.lingers = False
        """Over for its user: it only waits for late copies of messages (Accepted, Completed, Confirmed)."""
        self.internal = False
        """Made by the layer itself (a CANCEL): the user does not hear of it."""

    @property
    def state(self) -> str:
        """The state's name as in the RFC's figures: `Calling`, `Proceeding`, ..., `Terminated`."""
        return "Terminated" if self._step is None else self._step.__name__.strip("_").capitalize()

    @property
    def ended(self) -> bool:
        """Whether the transaction is in state Terminated."""
        return self._step is None

    def handle(self, event: str, message: Message | None, now: float, out: list[Effect]) -> None:
        """Let the present state have the event. For the layer only."""
        step = self._step
        if step is not None:
            step(self, event, message, now, out)

    def fire(self, timer: str, now: float, out: list[Effect]) -> None:
        """A timer of this transaction is due. For the layer only."""
        del self._timers[timer]
        self.handle(timer, None, now, out)

    def settle(self) -> None:
        """Let go of what late copies do not need: thousands linger, for half a minute each. For the layer only."""
        self.request = self.request.outline()
        self.context = None

    def _linger(self) -> None:
        self.final = True
        self.lingers = True
        self._layer.note_lingering(self)

    def _start(self, timer: str, deadline: float) -> None:
        self._timers[timer] = self._layer.wheel.start(self, timer, deadline)

    def _stop_all(self) -> None:
        timers = self._timers
        if timers:
            stop = self._layer.wheel.stop
            for timer in timers.values():
                stop(timer)
            timers.clear()

    def _end(self, out: list[Effect]) -> None:
        """Enter Terminated: no timer, not found by the layer any more."""
        self._stop_all()
        self._step = None
        self._layer.forget(self)
        if not self.internal and isinstance(self, (ClientTransaction, ServerTransaction)):
            out.append(TransactionEnded(self))

    def _fail(self, out: list[Effect]) -> None:
        """The flow is gone (sections 17.1.4 and 17.2.4)."""
        if not self.final:
            self.final = True
            if not self.internal and isinstance(self, (ClientTransaction, ServerTransaction)):
                out.append(TransportFailed(self))
        self._end(out)


def response_event(status: int) -> str:
    """The event a response is, by its status."""
    return PROVISIONAL if status < 200 else SUCCESS if status < 300 else FAILURE


class ClientTransaction(Transaction):
    """A request of ours and its responses, on one flow (section 17.1)."""

    __slots__ = ("_top_via", "source")

    def __init__(self, layer: TransactionLayer, key: tuple[Any, ...], request: Message, flow: Flow) -> None:
        super().__init__(layer, key, request, flow)
        self.source: Flow | None = None
        """What the last response came in on: over UDP not always `flow`. None while nothing was heard."""
        self._top_via: TopVia | None = None

    @property
    def via(self) -> Via | None:
        """Our Via as it came back in the last response: `received` and `rport` say how the peer sees us (RFC 3581)."""
        if self._top_via is None:
            return None
        before, branch, more, whole = self._top_via
        return whole or whole_via(before, branch, more or "")

    def heard(self, top_via: TopVia, source: Flow) -> None:
        """A response has come in, with this Via of ours. For the layer only."""
        self._top_via, self.source = top_via, source


class ServerTransaction(Transaction):
    """A request that came in and our response to it (section 17.2)."""

    __slots__ = ("_response", "cancelled", "original")

    def __init__(self, layer: TransactionLayer, key: tuple[Any, ...], request: Message, flow: Flow) -> None:
        super().__init__(layer, key, request, flow)
        self._response: Message | bytes | None = None
        self.cancelled = False
        """A CANCEL came before our final response."""
        self.original: tuple[Any, ...] | None = None
        """The layer's: by what copies of this request are known that come by other paths (section 8.2.2.2)."""

    @property
    def response(self) -> Message | None:
        """The last response sent: what a retransmitted request gets again."""
        response = self._response
        return parse(response) if isinstance(response, bytes) else response

    def settle(self) -> None:
        """As octets a response is less than half its size, and it is hardly ever asked for again."""
        super().settle()
        if isinstance(self._response, Message):
            self._response = bytes(self._response)

    def abandon(self, out: list[Effect]) -> None:
        """Enter Terminated without a response. For the layer only."""
        self.final = True
        self._end(out)

    def _send(self, message: Message, out: list[Effect]) -> None:
        self._response = message
        out.append(Send(self.flow, message, self))

    def _repeat(self, out: list[Effect]) -> None:
        response = self.response
        if response is not None:
            out.append(Send(self.flow, response, self))
