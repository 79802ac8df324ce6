"""A SIP user agent (RFC 3261): what the demo PBX and the test softphone have in common below their calls.

It drives the transaction layer on trio's clock, finds the call a request belongs to, and answers digest challenges. How
messages travel is the flows' business, what calls do is `session`'s.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from siperb_core.sip import Flow, Message, NameAddr, ParseError, parse, response_to, validate
from siperb_core.sip.digest import answer_challenge
from siperb_core.sip.transaction import (
    AckReceived,
    CancelReceived,
    ClientTransaction,
    Effect,
    RequestReceived,
    ResponseReceived,
    Send,
    ServerTransaction,
    TimedOut,
    TransportFailed,
)
from siperb_core.sip.transaction_layer import TransactionLayer

if TYPE_CHECKING:
    from siperb_core.testing.session import Call

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, MESSAGE, NOTIFY"
_KEPT_MESSAGES = 1000


@asynccontextmanager
async def background() -> AsyncIterator[trio.Nursery]:
    """A nursery for peers: cancelled at the end, and an error of the body leaves it as it is, not in a group."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except Exception as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def token() -> str:
    """Unguessable text for tags, branches and Call-IDs."""
    return secrets.token_hex(8)


@attrs.frozen
class Credentials:
    """Who to be when challenged (RFC 8760)."""

    username: str
    password: str = attrs.field(repr=False)


class Handler(Protocol):
    """What stands above the agent. Both are called synchronously and must not raise."""

    def on_invite(self, transaction: ServerTransaction, invite: Message) -> None:
        """A new call; a final response is owed."""

    def on_request(self, transaction: ServerTransaction, request: Message) -> None:
        """Any other request outside a dialog; a final response is owed."""


class Responses(Protocol):
    """Who hears the responses to a request: the `context` of its transaction."""

    def on_response(self, transaction: ClientTransaction, response: Message) -> None:
        """One response. No answer in time is a 408 without header fields, a dead flow a 503."""


class _Exchange:
    """A request that somebody waits for."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.response: Message | None = None

    def on_response(self, transaction: ClientTransaction, response: Message) -> None:
        if response.status >= 200:
            self.response = response
            self.done.set()


class UserAgent:
    """One agent over any number of flows. It is a `siperb_core.transport.contract.Receiver`.

    `received_messages` keeps the last thousand that came in. `swallow`, when set, sees every message about to be sent
    and loses it by answering True: networks do that.
    """

    def __init__(self, name: str, handler: Handler, route: Callable[[str, Flow], Flow]) -> None:
        self.name = name
        self.layer = TransactionLayer(token, max_transactions=2000)
        self.calls: dict[tuple[str, str], Call] = {}
        self.received_messages: deque[Message] = deque(maxlen=_KEPT_MESSAGES)
        self.swallow: Callable[[Message], bool] | None = None
        self._handler = handler
        self._route = route
        self._nursery: trio.Nursery | None = None
        self._earlier = trio.Event()
        self._sleeping_until = float("inf")

    @property
    def nursery(self) -> trio.Nursery:
        """Where calls run. Raises RuntimeError outside `run`."""
        if self._nursery is None:
            raise RuntimeError("the user agent is not running")
        return self._nursery

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the timers until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                while True:
                    deadline = self.layer.next_deadline
                    self._earlier = trio.Event()
                    self._sleeping_until = float("inf") if deadline is None else deadline
                    with trio.move_on_at(self._sleeping_until):
                        await self._earlier.wait()
                    self.perform(self.layer.advance(trio.current_time()))
            finally:
                self._nursery = None

    # Receiver

    def received(self, data: bytes, flow: Flow) -> None:
        """One message. What is no SIP message is dropped."""
        try:
            message = parse(data)
        except ParseError:
            return
        self.received_messages.append(message)
        self.perform(self.layer.receive(message, flow, trio.current_time()))

    def closed(self, flow: Flow, reason: str) -> None:
        """A flow has ended, and all transactions on it."""
        self.perform(self.layer.flow_failed(flow, trio.current_time()))

    # Sending

    def flow_for(self, message: Message, fallback: Flow) -> Flow:
        """The flow a request leaves by: towards its first Route, else its Request-URI (section 8.1.2)."""
        routes = message.values("Route")
        uri = NameAddr("", message.uri).uri if not routes else routes[0].partition("<")[2].partition(">")[0]
        return self._route(uri, fallback)

    def start(self, request: Message, flow: Flow, context: Responses | None) -> ClientTransaction:
        """Send a request in a transaction; its responses go to `context`."""
        request.set("User-Agent", self.name)
        transaction, effects = self.layer.request(request, flow, trio.current_time())
        transaction.context = context
        self.perform(effects)
        return transaction

    def respond(self, transaction: ServerTransaction, response: Message) -> None:
        """Answer a request."""
        response.set("Server", self.name)
        self.perform(self.layer.respond(transaction, response, trio.current_time()))

    def send(self, message: Message, flow: Flow) -> None:
        """Send outside any transaction: the ACK to a 2xx. One that cannot be sent is lost, as UDP may."""
        self.perform([Send(flow, message)])

    def cancel(self, transaction: ClientTransaction) -> None:
        """Send CANCEL for an INVITE."""
        self.perform(self.layer.cancel(transaction, trio.current_time()))

    async def request(self, request: Message, flow: Flow, credentials: Credentials | None = None) -> Message:
        """Send a request other than INVITE and give its final response; a challenge is answered with `credentials`."""
        while True:
            again = request.copy()
            exchange = _Exchange()
            self.start(request, flow, exchange)
            await exchange.done.wait()
            assert exchange.response is not None
            authorised = self.authorised(again, exchange.response, credentials)
            if authorised is None:
                return exchange.response
            request = authorised

    def authorised(self, request: Message, response: Message, credentials: Credentials | None) -> Message | None:
        """The request once more with an answer to the challenge in `response` (section 22.2), CSeq one higher.

        None where there is no challenge, nothing to answer it with, or the answer has been refused before.
        """
        if response.status not in (401, 407) or credentials is None:
            return None
        asked, answer = ("WWW-Authenticate", "Authorization")
        if response.status == 407:
            asked, answer = ("Proxy-Authenticate", "Proxy-Authorization")
        challenges = response.get_all(asked)
        stale = any("stale=true" in challenge.lower() for challenge in challenges)
        if request.get(answer) is not None and not stale:
            return None
        value = answer_challenge(
            challenges,
            method=request.method,
            uri=request.uri,
            username=credentials.username,
            password=credentials.password,
            cnonce=token(),
            body=request.body,
        )
        if value is None:
            return None
        request.set(answer, value)
        request.set("CSeq", f"{request.cseq.number + 1} {request.method}")
        return request

    # Effects

    def perform(self, effects: list[Effect]) -> None:
        """Do what the transaction layer asks for."""
        for effect in effects:
            match effect:
                case Send(flow, message, transaction):
                    self._send(flow, message, transaction)
                case RequestReceived(transaction, message):
                    self._request_received(transaction, message)
                case ResponseReceived(transaction, message):
                    self._tell(transaction, message)
                case TimedOut(transaction):
                    self._tell(transaction, Message.response(408, "Request Timeout", []))
                case TransportFailed(ClientTransaction() as transaction):
                    self._tell(transaction, Message.response(503, "Service Unavailable", []))
                case AckReceived(message, _):
                    call = self._call_of(message)
                    if call is not None:
                        call.on_ack(message)
                case CancelReceived(transaction, _):
                    for call in list(self.calls.values()):
                        call.on_cancel(transaction)
        deadline = self.layer.next_deadline
        if deadline is not None and deadline < self._sleeping_until:
            self._earlier.set()

    def _send(self, flow: Flow, message: Message, transaction: ClientTransaction | ServerTransaction | None) -> None:
        if self.swallow is not None and self.swallow(message):
            return
        try:
            flow.send(bytes(message))
        except OSError:
            if transaction is not None:
                self.perform(self.layer.send_failed(transaction, trio.current_time()))

    def _tell(self, transaction: ClientTransaction, response: Message) -> None:
        if transaction.context is not None:
            transaction.context.on_response(transaction, response)

    def _call_of(self, message: Message) -> Call | None:
        try:
            return self.calls.get((message.call_id, message.to_tag))
        except ParseError:
            return None

    def _request_received(self, transaction: ServerTransaction, request: Message) -> None:
        verdict = validate(request)
        if verdict is not None:
            refusal = response_to(request, verdict.status, verdict.reason, to_tag=token(), headers=verdict.headers)
            self.respond(transaction, refusal)
        elif request.to_tag:
            call = self._call_of(request)
            if call is None or not call.takes(request):
                self.respond(transaction, response_to(request, 481))
            else:
                call.on_request(transaction, request)
        elif self.layer.is_merged(request):
            self.respond(transaction, response_to(request, 482, to_tag=token()))
        elif request.method == "INVITE":
            self._handler.on_invite(transaction, request)
        else:
            self._handler.on_request(transaction, request)
