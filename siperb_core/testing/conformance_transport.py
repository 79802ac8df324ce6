"""`check_transport`: holds a transport type against its contract (`siperb_core.TransportType`), on real sockets."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import trio
from trio_websocket import ConnectionClosed, wrap_client_stream

from siperb_core.entries.model import Listen
from siperb_core.sip import Flow, parse
from siperb_core.testing.conformance_purity import NotConformant, open_sockets, require
from siperb_core.transport.contract import Listener, TransportType

PATIENCE = 30.0
"""Real seconds for what should happen at once: the machine may be busy."""
OVERSIZE = 4 << 20
MOST_MESSAGE = 1 << 20
"""Octets: whatever a transport's own bounds are, no message is larger."""


class TransportPeer(Protocol):
    """The far end of a transport, which the test has in its hands."""

    streams: bool
    """Whether octets may come in any pieces."""

    async def send(self, data: bytes) -> None:
        """Send octets: a datagram, a frame, or a piece of a stream. Raises OSError when the other end is gone."""

    async def receive(self) -> bytes:
        """What comes next: a datagram, a frame, a piece; empty when the other end has closed."""

    async def close(self) -> None:
        """Close this end."""


PeerMaker = Callable[[Listener], AbstractAsyncContextManager[TransportPeer]]


class _Datagrams:
    streams = False

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        await self._socket.send(data[:65_000])

    async def receive(self) -> bytes:
        return await self._socket.recv(65_535)

    async def close(self) -> None:
        self._socket.close()


class _Stream:
    streams = True

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise OSError("closed") from error

    async def receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(65_536))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)


class _Frames:
    streams = False

    def __init__(self, connection: object) -> None:
        self._connection: Any = connection

    async def send(self, data: bytes) -> None:
        try:
            await self._connection.send_message(data)
        except ConnectionClosed as error:
            raise OSError("closed") from error

    async def receive(self) -> bytes:
        try:
            message = await self._connection.get_message()
        except ConnectionClosed:
            return b""
        return message.encode() if isinstance(message, str) else bytes(message)

    async def close(self) -> None:
        await self._connection.aclose()


@asynccontextmanager
async def datagram_peer(listener: Listener) -> AsyncIterator[TransportPeer]:
    """A UDP socket that talks to the listener."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))
        await socket.connect(listener.local)
        yield _Datagrams(socket)


@asynccontextmanager
async def stream_peer(listener: Listener) -> AsyncIterator[TransportPeer]:
    """A TCP connection to the listener."""
    stream = await trio.open_tcp_stream(*listener.local)
    try:
        yield _Stream(stream)
    finally:
        await trio.aclose_forcefully(stream)


def tls_peer(context: ssl.SSLContext, server_name: str) -> PeerMaker:
    """Makes TLS connections to the listener, whose certificate has to be for `server_name`."""

    @asynccontextmanager
    async def open_peer(listener: Listener) -> AsyncIterator[TransportPeer]:
        plain = await trio.open_tcp_stream(*listener.local)
        stream = trio.SSLStream(plain, context, server_hostname=server_name, https_compatible=True)
        try:
            await stream.do_handshake()
            yield _Stream(stream)
        finally:
            await trio.aclose_forcefully(stream)

    return open_peer


@asynccontextmanager
async def websocket_peer(listener: Listener, path: str = "/ws") -> AsyncIterator[TransportPeer]:
    """A SIP WebSocket (RFC 7118) to the listener."""
    host, port = listener.local
    stream = await trio.open_tcp_stream(host, port)
    try:
        async with trio.open_nursery() as nursery:
            yield _Frames(await wrap_client_stream(nursery, stream, f"{host}:{port}", path, subprotocols=["sip"]))
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


class _Receiver:
    """What the transport delivers to."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, Flow]] = []
        self.endings: list[tuple[Flow, str]] = []
        self._news = trio.Event()

    def received(self, data: bytes, flow: Flow) -> None:
        self.messages.append((bytes(data), flow))
        self._tell()

    def closed(self, flow: Flow, reason: str) -> None:
        self.endings.append((flow, reason))
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        with trio.move_on_after(PATIENCE) as waiting:
            while not condition():
                await self._news.wait()
        require(not waiting.cancelled_caught, what)


def _message(number: int, body: bytes = b"") -> bytes:
    lines = [
        "MESSAGE sip:bob@192.0.2.1 SIP/2.0",
        f"Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{number}",
        "From: <sip:alice@192.0.2.9>;tag=1",
        "To: <sip:bob@192.0.2.1>",
        f"Call-ID: conformance-{number}",
        "CSeq: 1 MESSAGE",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Suite:
    def __init__(self, transport: TransportType, listener: Listener, receiver: _Receiver, dial: PeerMaker) -> None:
        self.transport, self.listener, self.receiver, self.dial = transport, listener, receiver, dial
        self._number = 0

    def next(self, body: bytes = b"") -> bytes:
        self._number += 1
        return _message(self._number, body)

    async def arrives(self, data: bytes, what: str) -> Flow:
        """Wait for a message; it has to come whole, as it was sent, and once."""
        receiver = self.receiver
        call_id = parse(data).call_id

        def mine() -> list[tuple[bytes, Flow]]:
            return [(got, flow) for got, flow in receiver.messages if call_id.encode() + b"\r\n" in got]

        await receiver.until(lambda: bool(mine()), f"{what} does not arrive")
        await trio.lowlevel.checkpoint()
        require([got for got, _ in mine()] == [data], f"{what} arrives changed or more than once")
        return mine()[0][1]

    async def lives(self, after: str) -> None:
        """Another peer is served as if nothing had been."""
        async with self.dial(self.listener) as peer:
            data = self.next()
            await peer.send(data)
            await self.arrives(data, f"a message after {after}")

    async def both_ways(self) -> None:
        async with self.dial(self.listener) as peer:
            first, second = self.next(), self.next(b"v=0\r\n" * 100)
            await peer.send(first)
            flow = await self.arrives(first, "a message")
            await peer.send(second)
            again = await self.arrives(second, "a second message")
            require(flow == again and hash(flow) == hash(again), "two messages on one path come by flows that differ")
            require(flow.transport == self.transport.name, f"the flow's transport is {flow.transport}")
            require(flow.reliable is (flow.transport != "udp"), "the flow's reliable is wrong")
            require(flow.local[1] == self.listener.local[1], "the flow's local is not where the listener is bound")
            require(":" in flow.sent_by, f"the flow's sent_by is {flow.sent_by!r}, not host:port")
            out = _message(999_999, b"x" * 500)
            flow.send(out)
            got = b""
            with trio.move_on_after(PATIENCE):
                while len(got) < len(out) and (piece := await peer.receive()):
                    got += piece
            require(got == out, "what a flow sends does not arrive as it was")

    async def any_split(self) -> None:
        async with self.dial(self.listener) as peer:
            if not peer.streams:
                return
            data = self.next(b"body")
            for index in range(len(data)):
                await peer.send(data[index : index + 1])
            await self.arrives(data, "a message in pieces of one octet")
            both = [self.next(b"1"), self.next()]
            await peer.send(b"\r\n\r\n" + b"".join(both) + b"\r\n\r\n")
            for one in both:
                await self.arrives(one, "a message in one piece with another")

    async def bad_input(self, name: str, pieces: Iterable[bytes]) -> None:
        async with self.dial(self.listener) as peer:
            try:
                with trio.move_on_after(PATIENCE):
                    for piece in pieces:
                        await peer.send(piece)
            except OSError:
                pass  # it has closed on us, as it may
        await self.lives(name)
        largest = max(len(data) for data, _ in self.receiver.messages)
        require(largest <= MOST_MESSAGE, f"{name}: a message of {largest} octets is delivered")

    async def close_is_told_once(self) -> None:
        async with self.dial(self.listener) as peer:
            data = self.next()
            await peer.send(data)
            flow = await self.arrives(data, "a message")
            if not flow.reliable:
                return
            await peer.close()
        await self.receiver.until(
            lambda: any(ended == flow for ended, _ in self.receiver.endings), "the end of a connection is not reported"
        )
        try:
            flow.send(self.next())
        except OSError:
            pass
        except Exception as error:
            raise NotConformant(f"sending on a flow that has ended raises {error!r}, not OSError") from error
        await self.lives("a connection was closed")
        told = sum(ended == flow for ended, _ in self.receiver.endings)
        require(told == 1, f"the end of a connection is reported {told} times")


async def check_transport(transport: TransportType, dial: PeerMaker, *, listen: Listen | None = None) -> None:
    """Hold a transport type against its contract; NotConformant (an AssertionError) says what is wrong.

    `dial` opens the far end of a connection to a listener: `datagram_peer`, `stream_peer`, `websocket_peer`,
    `tls_peer(...)`, or one's own. `listen` is what to listen with, by default a free port of loopback.

    Checked: a listener is given, once; messages come whole and once, and go out as they are, on equal flows; a stream
    in any pieces; what is too large, and garbage, costs nobody else anything; the end of a connection is told once;
    cancelled, the port is free again and no socket is left.
    """
    sockets = open_sockets()
    receiver = _Receiver()
    config = listen or Listen(transport.name, ("127.0.0.1", 0))

    async def serve(*, task_status: trio.TaskStatus[Listener]) -> None:
        await transport.listen(config, receiver, external_address=None, task_status=task_status)

    for _ in range(2):  # the second time shows that the first has let go of the port
        async with trio.open_nursery() as nursery:
            listener: Listener = await nursery.start(serve)
            require(listener.local[1] > 0, "the listener does not know its port")
            require(listener.transport == transport.name, f"the listener's transport is {listener.transport}")
            config = Listen(
                config.transport, listener.local, config.path, config.certificate, config.key, config.origins
            )
            await _Suite(transport, listener, receiver, dial).both_ways()
            nursery.cancel_scope.cancel()
        receiver = _Receiver()
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(serve)
        suite = _Suite(transport, listener, receiver, dial)
        await suite.any_split()
        block = b"X-Long: " + b"x" * 65_000 + b"\r\n"
        start = b"MESSAGE sip:a@b SIP/2.0\r\n"
        await suite.bad_input("a header without end", [start, *[block] * (OVERSIZE // len(block))])
        endless = start + b"Content-Length: 999999999\r\n\r\n"
        await suite.bad_input("a body without end", [endless, *[b"x" * 65_000] * (OVERSIZE // 65_000)])
        await suite.bad_input("garbage", [bytes(range(256)) * 8, b"\0", b"\r\n" * 100, b"\xff" * 1000])
        await suite.close_is_told_once()
        nursery.cancel_scope.cancel()
    left = (open_sockets() or frozenset()) - (sockets or frozenset())
    require(sockets is None or not left, f"{len(left)} socket(s) are left open")
