"""The driver of the protocol core: bytes in from flows, effects out to flows, one timer for all transactions.

Everything here is synchronous but the timer task. A message passes from the socket through parser, validation and
transaction layer to whoever uses the transaction, and out again, in one go; nothing waits in between.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
import trio

from siperb_core.lockout import OncePerMinute
from siperb_core.sip import Flow, Message, ParseError, parse, response_to, validate
from siperb_core.sip.timers import TimerWheel
from siperb_core.sip.transaction import (
    AckReceived,
    CancelReceived,
    ClientTransaction,
    Effect,
    RequestReceived,
    ResponseReceived,
    Send,
    ServerTransaction,
    StrayResponse,
    TimedOut,
    TransportFailed,
)
from siperb_core.sip.transaction_layer import TransactionLayer

log = structlog.get_logger()

_STREAMS = frozenset({"tcp", "tls"})

_METHODS = frozenset(
    {"INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "INFO", "UPDATE", "PRACK", "MESSAGE", "REFER"}
    | {"SUBSCRIBE", "NOTIFY", "PUBLISH"}
)


class ClientUser(Protocol):
    """Whoever sent a request: `ClientTransaction.context`."""

    def on_response(self, transaction: ClientTransaction, response: Message) -> None:
        """A provisional, a final, or one more 2xx of an INVITE."""

    def on_failure(self, transaction: ClientTransaction, status: int) -> None:
        """No final response will come: 408 nobody answered, 503 the transport failed (RFC 3261 section 16.8, 16.9), 502
        what came cannot be read.
        """


class PatientUser(ClientUser, Protocol):
    """Who sent a request with `patience`."""

    def on_silence(self, transaction: ClientTransaction) -> None:
        """Nothing at all was heard so far. The transaction goes on: the answer may still come."""


class ServerUser(Protocol):
    """Whoever answers an INVITE: `ServerTransaction.context`."""

    def on_cancel(self, transaction: ServerTransaction, cancel: Message) -> None:
        """The caller gave up; the CANCEL itself is answered already."""

    def on_caller_lost(self, transaction: ServerTransaction) -> None:
        """The flow the request came on is gone before its final response: nobody is left to answer (section 17.2.4)."""


class LargeWays(Protocol):
    """TCP connections beside UDP flows (`siperb_core.targets`)."""

    def stream_beside(self, flow: Flow) -> Flow | None:
        """A connection to where this UDP flow leads; None where that is known not to work."""

    def no_stream(self, flow: Flow) -> None:
        """It did not work."""


class RequestUser(Protocol):
    """Where new requests go."""

    def on_request(self, transaction: ServerTransaction, request: Message) -> None:
        """A request that opened a transaction."""

    def on_ack(self, request: Message, flow: Flow) -> None:
        """The ACK of a 2xx, which is outside any transaction."""

    def on_stray_response(self, response: Message, flow: Flow) -> None:
        """A 2xx to an INVITE whose transaction is gone."""

    def on_flow_closed(self, flow: Flow, reason: str) -> None:
        """A flow has ended."""


class Signalling:
    """Receives for all transports, owns the transaction layer, and performs its effects."""

    def __init__(self) -> None:
        self.user: RequestUser
        """Set before the first message comes in."""
        self._layer = TransactionLayer(new_token=lambda: secrets.token_hex(8))
        self._silences: TimerWheel[ClientTransaction] = TimerWheel()
        self._closings: dict[Flow, trio.Event] = {}
        self._alarm = trio.CancelScope()
        """Around the sleep of the timers' task: its deadline is when the next timer is due."""
        self.messages: Counter[tuple[str, str, str]] = Counter()
        """(transport, direction, method or status class, `other` for a method nobody has defined): for metrics."""
        self.rejected: Counter[str] = Counter()
        self.ways: LargeWays | None = None
        """Ways for requests that are too large for UDP; None where there are none."""
        self.ignores: Callable[[Message, Flow], bool] | None = None
        """Says of a request that its source is not listened to: it is dropped without an answer."""
        self.known: Callable[[Flow], bool] | None = None
        """Says of a connection just accepted that its other end is a peer's, by its address."""
        self._quiet: defaultdict[str, OncePerMinute] = defaultdict(OncePerMinute)  # by event
        self.tap: Callable[[Message, Flow, bool], None] | None = None
        """Sees every message with its flow; True for those that go out."""

    # ---- from the transports

    def received(self, data: bytes, flow: Flow) -> None:
        """One message from the wire. A mistake of the peer costs this message and nothing else."""
        try:
            message = parse(data)
        except ParseError as error:
            self.nuisance("unparsable", "sip.unparsable", flow.remote[0], reason=str(error))
            if error.message is not None and not (self.ignores and self.ignores(error.message, flow)):
                self._answer_statelessly(error.message, error.status, error.reason, (), flow)
            return
        if self.ignores and message.is_request and self.ignores(message, flow):
            return
        verdict = validate(message)
        if verdict is not None and verdict.status == 483 and _ends_here(message):
            verdict = validate(message, as_proxy=False)
        self.messages[flow.transport, "in", _kind(message)] += 1
        if self.tap:
            self.tap(message, flow, False)
        if verdict is not None:
            self.nuisance("invalid", "sip.invalid", flow.remote[0], status=verdict.status, reason=verdict.reason)
            if message.is_request and message.method != "ACK":
                self._answer_statelessly(message, verdict.status, verdict.reason, verdict.headers, flow)
            return
        self._perform(self._layer.receive(message, flow, trio.current_time()))

    def closed(self, flow: Flow, reason: str) -> None:
        """A flow is gone: its client transactions fail, its user is told."""
        self._perform(self._layer.flow_failed(flow, trio.current_time()))
        self.user.on_flow_closed(flow, reason)
        closing = self._closings.pop(flow, None)
        if closing is not None:
            closing.set()

    def knows(self, flow: Flow) -> bool:
        """Whether the other end of an accepted connection is a peer's (`siperb_core.transport.contract.Doorkeeper`)."""
        return self.known is not None and self.known(flow)

    def nuisance(self, what: str, event: str, source: str, **details: object) -> None:
        """What anybody can make us log as often as he likes: counted each time, logged once per source and minute."""
        self.rejected[what] += 1
        held_back = self._quiet[event].due(source, trio.current_time())
        if held_back is not None:
            log.info(event, source=source, **details, held_back=held_back)

    async def wait_closed(self, flow: Flow) -> None:
        """Wait until a connection has ended; for ever where it is none, or had ended before."""
        await self._closings.setdefault(flow, trio.Event()).wait()

    # ---- for the users of transactions

    def request(self, message: Message, flow: Flow, user: ClientUser) -> ClientTransaction:
        """Send a request in a client transaction of its own; `user` hears what becomes of it."""
        transaction, effects = self._layer.request(message, flow, trio.current_time())
        transaction.context = user
        self._perform(effects)
        return transaction

    def request_patiently(
        self, message: Message, flow: Flow, user: PatientUser, patience: float | None
    ) -> ClientTransaction:
        """As `request`; after `patience` seconds in which nothing was heard the user is told that, too."""
        transaction = self.request(message, flow, user)
        if patience is not None and not transaction.ended:
            deadline = trio.current_time() + patience
            self._silences.start(transaction, "silence", deadline)
            if deadline < self._alarm.deadline:
                self._alarm.deadline = deadline
        return transaction

    def respond(self, transaction: ServerTransaction, message: Message) -> None:
        """Answer a request."""
        self._perform(self._layer.respond(transaction, message, trio.current_time()))

    def refuse(self, transaction: ServerTransaction, status: int, reason: str = "", **headers: str) -> None:
        """Answer a request with a final response of our own; keyword `retry_after` becomes `Retry-After`."""
        self.challenge(
            transaction, status, [(name.replace("_", "-").title(), value) for name, value in headers.items()], reason
        )

    def drop(self, transaction: ServerTransaction) -> None:
        """Never answer a request, as if it had not come."""
        self._perform(self._layer.drop(transaction))

    def challenge(
        self, transaction: ServerTransaction, status: int, headers: Sequence[tuple[str, str]], reason: str = ""
    ) -> None:
        """Answer a request with a final response of our own that has these headers."""
        message = response_to(transaction.request, status, reason, to_tag=secrets.token_hex(5), headers=headers)
        self.respond(transaction, message)

    def been_here(self, request: Message) -> str:
        """Why a request just received is not to be forwarded again, in words; '' where it is new here.

        It came before by another path (section 8.2.2.2), or we sent it as it is (section 16.3 step 4): 482 is owed.
        """
        if self._layer.is_merged(request):
            return "Merged Request"
        return "Loop Detected" if self._layer.is_looped(request) else ""

    def cancel(self, transaction: ClientTransaction, reason: str = "") -> None:
        """CANCEL an INVITE, as soon as that is allowed."""
        self._perform(self._layer.cancel(transaction, trio.current_time(), reason=reason))

    def send(self, message: Message, flow: Flow) -> None:
        """Send outside any transaction: the ACK of a 2xx, or a 2xx that came again."""
        self._send(Send(flow, message, None))

    def acknowledge(self, message: Message, flow: Flow) -> None:
        """Send an ACK of a 2xx: a Via and branch of its own (RFC 3261 section 13.2.2.4)."""
        message.prepend("Via", self._layer.new_via(flow))
        self.send(message, flow)

    async def run_timers(self) -> None:
        """Drive the timers of all transactions, until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._next_deadline()) as self._alarm:
                await trio.sleep_forever()
            now = trio.current_time()
            self._perform(self._layer.advance(now))
            while (due := self._silences.pop_due(now)) is not None:
                transaction = due[0]
                if transaction.source is None and not transaction.ended:
                    try:
                        transaction.context.on_silence(transaction)
                    except Exception:
                        self._bug(transaction.request)

    def _next_deadline(self) -> float:
        deadlines = (self._layer.next_deadline, self._silences.next_deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=math.inf)

    @property
    def transactions(self) -> int:
        """How many transactions are alive."""
        return len(self._layer)

    # ---- effects

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            try:
                self._perform_one(effect)
            except Exception as error:
                self._mishap(effect, error)
        deadline = self._layer.next_deadline
        if deadline is not None and deadline < self._alarm.deadline:
            self._alarm.deadline = deadline

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case RequestReceived(transaction=transaction, message=message):
                self.user.on_request(transaction, message)
            case ResponseReceived(transaction=client, message=message):
                user: ClientUser | None = client.context
                if user is not None:
                    user.on_response(client, message)
            case AckReceived(message=message, flow=flow):
                self.user.on_ack(message, flow)
            case CancelReceived(transaction=transaction, message=message):
                server_user: ServerUser | None = transaction.context
                if server_user is not None:
                    server_user.on_cancel(transaction, message)
            case TimedOut(transaction=client):
                self._failed(client, 408)
            case TransportFailed(transaction=client):
                self._failed(client, 503)
            case StrayResponse(message=message, flow=flow):
                self.user.on_stray_response(message, flow)
            case _:
                pass

    def _mishap(self, effect: Effect, error: Exception) -> None:
        """The user of a transaction has raised: that costs this message, and nobody is left waiting for an answer.

        A response in which something cannot be read is its sender's mistake; a final one counts as 502 then (RFC 3261
        section 16.7). All else is a mistake of ours: loud, but it must not take listeners and timers down.
        """
        transaction = getattr(effect, "transaction", None)
        message = getattr(effect, "message", None) or getattr(transaction, "request", None)
        if isinstance(effect, ResponseReceived) and isinstance(error, ParseError):
            self.rejected["invalid"] += 1
            log.debug("sip.invalid", call_id=effect.message.get("Call-ID"), reason=error.reason)
        else:
            self._bug(message)
        try:
            if isinstance(effect, RequestReceived) and not effect.transaction.final:
                self.refuse(effect.transaction, 500)
            elif isinstance(effect, ResponseReceived) and effect.message.status >= 200:
                self._failed(effect.transaction, 502)
        except Exception:
            self._bug(message)

    def _bug(self, message: Message | None) -> None:
        log.exception("sip.bug", call_id=message and message.get("Call-ID"))
        self.rejected["bug"] += 1

    def _failed(self, transaction: object, status: int) -> None:
        if isinstance(transaction, ClientTransaction):
            if transaction.context is not None:
                transaction.context.on_failure(transaction, status)
        elif isinstance(transaction, ServerTransaction) and transaction.context is not None:
            transaction.context.on_caller_lost(transaction)

    def _send(self, effect: Send) -> None:
        flow, message = effect.flow, effect.message
        if flow.transport in _STREAMS and message.get("Content-Length") is None:
            # It came in a datagram or a frame, where it may be left out; a stream is framed by it (section 18.3).
            message.set("Content-Length", str(len(message.body)))
        self.messages[flow.transport, "out", _kind(message)] += 1
        if self.tap:
            self.tap(message, flow, True)
        try:
            flow.send(bytes(message))
        except OSError as error:
            log.debug("sip.send_failed", remote=flow.remote[0], reason=str(error))
            if isinstance(effect.transaction, ClientTransaction):
                self._perform(self._layer.send_failed(effect.transaction, trio.current_time()))

    def _answer_statelessly(
        self, request: Message, status: int, reason: str, headers: tuple[tuple[str, str], ...], flow: Flow
    ) -> None:
        try:
            self.send(response_to(request, status, reason, to_tag=secrets.token_hex(5), headers=headers), flow)
        except ParseError:
            log.debug("sip.unanswerable", source=flow.remote[0])


def _kind(message: Message) -> str:
    if message.is_request:
        return message.method if message.method in _METHODS else "other"
    return f"{message.status // 100}xx"


def _ends_here(request: Message) -> bool:
    """Whether a request is for the gateway itself: how many more hops it may make does not matter to that."""
    return request.method in ("OPTIONS", "REGISTER") and "@" not in request.uri
