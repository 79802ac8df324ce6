"""Raw ends of UDP, TCP and WebSocket, for tests that want to say octet for octet what is on the wire.

async with open_wire("tcp", address(gateway, "tcp")) as wire:
    await wire.send(octets)
    assert (await wire.receive()).status == 400
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
import trio_websocket

from siperb_core.sip import KEEPALIVE, Message, StreamFramer, parse
from siperb_core.sip.digest import answer_challenge
from siperb_core.testing.user_agent import Credentials, token

_READ = 65_536


class WireClosed(Exception):
    """The other side has closed the connection."""


class Wire:
    """One end. Nothing is sent, answered or repeated unless the test does it."""

    def __init__(
        self, transport: str, send: Callable[[bytes], Awaitable[None]], read: Callable[[], Awaitable[list[Message]]]
    ) -> None:
        self.transport = transport
        self.passed_over: list[Message] = []
        """What `response` and `arrival` have read and not given out."""
        self.sent_by = f"{token()}.invalid"
        self._send = send
        self._read = read
        self._queue: deque[Message] = deque()

    async def send(self, data: bytes | Message) -> None:
        """Send one message, or octets as they are."""
        await self._send(bytes(data))

    async def receive(self) -> Message:
        """The next message. Raises `WireClosed`."""
        while not self._queue:
            self._queue.extend(await self._read())
        return self._queue.popleft()

    async def response(self, call_id: str, *, cseq: int | None = None, at_least: int = 200) -> Message:
        """The next response of that Call-ID whose status is `at_least` that."""
        while True:
            message = await self.receive()
            if message.status >= at_least and message.call_id == call_id and cseq in (None, message.cseq.number):
                return message
            self.passed_over.append(message)

    async def arrival(self, method: str) -> Message:
        """The next request of a method; what came before it is in `passed_over`."""
        while True:
            message = await self.receive()
            if message.method == method:
                return message
            self.passed_over.append(message)

    def via(self) -> str:
        """A Via of this end with a branch of its own."""
        return f"SIP/2.0/{self.transport.upper()} {self.sent_by};branch=z9hG4bK{token()};rport"

    async def request(self, message: Message, credentials: Credentials | None = None) -> Message:
        """Send a request with a Via of our own and give its final response; a challenge is answered once."""
        again = message.copy()
        message.prepend("Via", self.via())
        await self.send(message)
        response = await self.response(message.call_id, cseq=message.cseq.number)
        if response.status not in (401, 407) or credentials is None:
            return response
        answer = authorised(again, response, credentials)
        answer.set("CSeq", f"{again.cseq.number + 1} {again.method}")
        return await self.request(answer)


def authorised(request: Message, challenge: Message, credentials: Credentials, *, nonce_count: int = 1) -> Message:
    """A copy of the request with an answer to the challenge. Raises ValueError where it has none we can answer."""
    asked, header = "WWW-Authenticate", "Authorization"
    if challenge.status == 407:
        asked, header = "Proxy-Authenticate", "Proxy-Authorization"
    value = answer_challenge(
        challenge.get_all(asked),
        method=request.method,
        uri=request.uri,
        username=credentials.username,
        password=credentials.password,
        cnonce=token(),
        nonce_count=nonce_count,
        body=request.body,
    )
    if value is None:
        raise ValueError("there is no challenge that can be answered")
    answer = request.copy()
    answer.set(header, value)
    return answer


@asynccontextmanager
async def open_wire(
    transport: str, remote: tuple[str, int], *, path: str = "/ws", source: str = "127.0.0.1"
) -> AsyncIterator[Wire]:
    """An end connected to an address by `udp`, `tcp` or `ws`. Each has a port of its own, on the address `source`."""
    if transport == "udp":
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
            await sock.bind((source, 0))
            await sock.connect(remote)

            async def send_datagram(data: bytes) -> None:
                await sock.send(data)

            async def read_datagram() -> list[Message]:
                return [parse(await sock.recv(_READ))]

            yield Wire("udp", send_datagram, read_datagram)
    elif transport == "tcp":
        async with await trio.open_tcp_stream(*remote, local_address=source) as stream:
            yield stream_wire("tcp", stream)
    else:
        # Not trio_websocket.open_websocket_url: where the gateway is killed it leaves the socket to the collector.
        async with await trio.open_tcp_stream(*remote, local_address=source) as stream, trio.open_nursery() as nursery:
            host = "{}:{}".format(*remote)
            websocket = await trio_websocket.wrap_client_stream(nursery, stream, host, path, subprotocols=["sip"])

            async def send_frame(data: bytes) -> None:
                try:
                    await websocket.send_message(data.decode())
                except UnicodeDecodeError:
                    await websocket.send_message(data)
                except trio_websocket.ConnectionClosed as error:
                    raise WireClosed from error

            async def read_frame() -> list[Message]:
                try:
                    data = await websocket.get_message()
                except trio_websocket.ConnectionClosed as error:
                    raise WireClosed from error
                return [parse(data.encode() if isinstance(data, str) else data)]

            yield Wire("ws", send_frame, read_frame)
            await websocket.aclose()
            nursery.cancel_scope.cancel()


def stream_wire(transport: str, stream: trio.abc.Stream) -> Wire:
    """An end of a TCP or TLS connection that is open."""
    framer = StreamFramer()

    async def read() -> list[Message]:
        try:
            data = bytes(await stream.receive_some(_READ))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise WireClosed from error
        if not data:
            raise WireClosed
        return [parse(octets) for octets in framer.feed(data) if octets != KEEPALIVE]

    return Wire(transport, stream.send_all, read)


def request(
    method: str,
    uri: str,
    *,
    caller: str,
    callee: str = "",
    cseq: int = 1,
    call_id: str = "",
    contact: str = "",
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
) -> Message:
    """A request with the fields every request has, without Via. `caller` and `callee` are URIs."""
    fields = [
        ("Max-Forwards", "70"),
        ("From", f"<{caller}>;tag={token()}"),
        ("To", f"<{callee or uri}>"),
        ("Call-ID", call_id or token()),
        ("CSeq", f"{cseq} {method}"),
    ]
    if contact:
        fields.append(("Contact", contact))
    return Message.request(method, uri, [*fields, *headers], body)
