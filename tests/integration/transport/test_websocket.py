"""WebSocket: softphones are heard and answered, and a bad one harms only itself."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
from hypothesis import given
from hypothesis import strategies as st
from trio_websocket import open_websocket

from siperb_core.sip import parse
from siperb_core.transport import accepting, websocket
from siperb_core.transport.contract import vouch
from siperb_core.transport.websocket import WebSocketTransport

from .certificates import write_certificate
from .ends import Inbox, listening

WS = WebSocketTransport("ws")
MESSAGE = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/WS c.invalid\r\n\r\n"


@asynccontextmanager
async def phone(
    listener: Any, path: str = "/ws", origin: str | None = None, subprotocol: str = "sip", tls: Any = False, **more: Any
) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    headers = [(b"Origin", origin.encode())] if origin is not None else []
    async with open_websocket(
        *listener.local, path, use_ssl=tls, subprotocols=[subprotocol], extra_headers=headers, **more
    ) as ws:
        yield ws


async def status_of(listener: Any, path: str = "/ws", origin: str | None = None, subprotocol: str = "sip") -> int:
    """The HTTP status a handshake is answered with."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: {}:{}".format(*listener.local),
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        f"Sec-WebSocket-Protocol: {subprotocol}",
        *([f"Origin: {origin}"] if origin is not None else []),
    ]
    async with await trio.open_tcp_stream(*listener.local) as stream:
        await stream.send_all("\r\n".join([*lines, "", ""]).encode())
        return int((await stream.receive_some(1000)).split()[1])


async def test_both_ends_hear_each_other(inbox: Inbox) -> None:
    async with listening(WS, inbox) as listener:
        async with phone(listener) as ws:
            assert ws.subprotocol == "sip"
            await ws.send_message(MESSAGE.decode())
            data, flow = await inbox.message()
            assert data == MESSAGE
            assert (flow.transport, flow.reliable) == ("ws", True)
            assert flow.local == listener.local
            assert flow.sent_by == "127.0.0.1:{}".format(*listener.local[1:])
            await ws.send_message(MESSAGE)
            assert await inbox.message() == (MESSAGE, flow)
            flow.send(MESSAGE)
            assert await ws.get_message() == MESSAGE.decode()
            flow.send(b"not utf-8: \xff")
            assert await ws.get_message() == b"not utf-8: \xff"
        assert await inbox.end() == (flow, "closed by the client (1000)")
        with pytest.raises(OSError):
            flow.send(MESSAGE)
        assert listener._flows == set()


async def test_the_sip_url_may_have_a_query_and_the_flow_shows_the_external_address(inbox: Inbox) -> None:
    async with (
        listening(WS, inbox, path="/sip", external="gw.example.net") as listener,
        phone(listener, "/sip?token=1") as ws,
    ):
        await ws.send_message(MESSAGE.decode())
        _, flow = await inbox.message()
        assert flow.sent_by == f"gw.example.net:{listener.local[1]}"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ((), None, True),
        ((), "http://127.0.0.1:8080", True),
        ((), "https://127.0.0.1", True),
        ((), "https://evil.example", False),
        ((), "null", False),
        ((), "http://[bad", False),
        (("https://phone.example",), None, True),
        (("https://phone.example",), "https://PHONE.example:443", True),
        (("https://phone.example/",), "https://phone.example", True),
        (("https://phone.example",), "http://phone.example", False),
        (("https://phone.example",), "https://phone.example.evil.example", False),
        (("https://phone.example",), "http://127.0.0.1", False),
        (("*",), "https://anything.example", True),
    ],
)
async def test_origin(inbox: Inbox, origins: tuple[str, ...], origin: str | None, allowed: bool) -> None:
    async with listening(WS, inbox, origins=origins) as listener:
        assert await status_of(listener, origin=origin) == (101 if allowed else 403)


async def test_wrong_path_and_wrong_subprotocol(inbox: Inbox) -> None:
    async with listening(WS, inbox) as listener:
        assert await status_of(listener, path="/") == 404
        assert await status_of(listener, path="/wsx") == 404
        assert await status_of(listener, subprotocol="xmpp") == 400
        assert await status_of(listener, subprotocol="xmpp, sip") == 101


GET = b"GET /ws HTTP/1.1\r\nHost: x\r\n"
UPGRADE = GET + b"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Protocol: sip\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET + b"\r\n", b"426"),
        (b"POST /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"405"),
        (UPGRADE + b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", b"426"),
        (UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n", b"400"),
        (UPGRADE + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n", b"400"),
        (GET + b"Padding: " + bytes([65]) * 20_000, b"431"),
        (b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP x\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"\r\n\r\n\r\n\r\n", b"400"),
    ],
)
async def test_what_is_no_handshake_gets_an_http_answer(inbox: Inbox, request_: bytes, status: bytes) -> None:
    async with listening(WS, inbox) as listener:
        async with await trio.open_tcp_stream(*listener.local) as stream:
            await stream.send_all(request_)
            answer = b""
            async for chunk in stream:
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"Connection: close" in answer
        async with phone(listener) as ws:
            await ws.send_message(MESSAGE)
            assert (await inbox.message())[0] == MESSAGE


async def test_keep_alives_are_answered_and_not_delivered(inbox: Inbox) -> None:
    async with listening(WS, inbox) as listener, phone(listener) as ws:
        await ws.send_message("\r\n\r\n")
        assert await ws.get_message() == "\r\n"
        for blank in ("\r\n", "", "\0"):
            await ws.send_message(blank)
        await ws.ping()
        await ws.send_message(b"\r\n" + MESSAGE)
        assert (await inbox.message())[0] == MESSAGE
        assert inbox.empty


async def test_a_message_in_fragments_is_one_message_and_two_in_one_segment_are_two(inbox: Inbox) -> None:
    async with listening(WS, inbox) as listener, raw_phone(listener) as stream:
        half = len(MESSAGE) // 2
        first, second = frame(MESSAGE[:half], opcode=1, final=False), frame(MESSAGE[half:], opcode=0)
        for octet in first + second:
            await stream.send_all(bytes([octet]))
        assert (await inbox.message())[0] == MESSAGE
        await stream.send_all(frame(MESSAGE) + frame(MESSAGE + b"2"))
        assert [(await inbox.message())[0] for _ in range(2)] == [MESSAGE, MESSAGE + b"2"]


def frame(data: bytes, opcode: int = 2, *, final: bool = True, length: int | None = None) -> bytes:
    """A frame of a client, masked with zeros; `length` for one that promises more than it holds."""
    length = len(data) if length is None else length
    start = bytes([opcode | (0x80 if final else 0)])
    if length < 126:
        return start + bytes([0x80 | length]) + bytes(4) + data
    if length < 65536:
        return start + b"\xfe" + length.to_bytes(2, "big") + bytes(4) + data
    return start + b"\xff" + length.to_bytes(8, "big") + bytes(4) + data


@asynccontextmanager
async def raw_phone(listener: Any) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_tcp_stream(*listener.local) as stream:
        await stream.send_all(
            UPGRADE + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(1)
        assert head.startswith(b"HTTP/1.1 101")
        yield stream


async def closing_code(stream: trio.SocketStream) -> int:
    """The code in the close frame that ends the stream."""
    data = b""
    async for chunk in stream:
        data += chunk
    at = data.rindex(b"\x88")
    return int.from_bytes(data[at + 2 : at + 4], "big")


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (frame(b"x" * (64 * 1024 + 1)), 1009),
        (frame(b"x" * 30_000, final=False) + frame(b"x" * 40_000, opcode=0), 1009),
        (frame(b"x" * 70_000, length=1 << 40), 1009),
        (frame(MESSAGE + b"x" * (1 << 20)), 1009),  # nothing of it is read on
        (frame(b"\xff\xfe", opcode=1), 1007),
        (frame(b"x", opcode=3), 1002),
        (b"\x82\x01x", 1002),  # not masked
        (b"\xf2\x80\0\0\0\0", 1002),  # reserved bits
        (frame(b"x", opcode=9, length=200) + bytes(200), 1002),
    ],
)
async def test_one_that_breaks_the_protocol_is_closed_alone(inbox: Inbox, octets: bytes, code: int) -> None:
    async with listening(WS, inbox) as listener, phone(listener) as good:
        async with raw_phone(listener) as bad:
            await bad.send_all(octets)
            assert await closing_code(bad) == code
        flow, _ = await inbox.end()
        assert inbox.empty
        with pytest.raises(OSError):
            flow.send(MESSAGE)
        await good.send_message(MESSAGE)
        assert (await inbox.message())[0] == MESSAGE


async def test_a_message_of_64_kib_passes(inbox: Inbox) -> None:
    big = b"MESSAGE " + b"x" * (64 * 1024 - 8)
    async with listening(WS, inbox) as listener, phone(listener) as ws:
        await ws.send_message(big)
        _, flow = await inbox.message()
        flow.send(big)
        assert (await ws.get_message()).encode() == big


@pytest.mark.parametrize("flood", [frame(MESSAGE), frame(b"", opcode=9), frame(b"", final=False), frame(b"\r\n")])
async def test_a_flood_costs_its_own_connection(inbox: Inbox, flood: bytes) -> None:
    if flood == frame(b"", final=False):
        flood_octets = flood + frame(b"", opcode=0, final=False) * 1000
    else:
        flood_octets = flood * 1000
    async with listening(WS, inbox) as listener, phone(listener) as good:
        async with raw_phone(listener) as bad:
            await bad.send_all(flood_octets)
            assert await closing_code(bad) == 1008
        await good.send_message(MESSAGE + b"good")
        while (await inbox._receive.receive())[0] != MESSAGE + b"good":
            pass
        assert inbox.count <= 300


async def test_one_that_does_not_read_is_given_up(inbox: Inbox) -> None:
    async with listening(WS, inbox) as listener, raw_phone(listener) as lazy:
        await lazy.send_all(frame(MESSAGE))
        _, flow = await inbox.message()
        with pytest.raises(OSError, match="does not read"):
            for _ in range(10_000):
                flow.send(b"x" * 60_000)
        assert await inbox.end() == (flow, "the peer does not read what it is sent")


async def test_what_the_kernel_does_not_take_at_once_arrives_in_order(inbox: Inbox) -> None:
    async with listening(WS, inbox) as listener, phone(listener) as ws:
        await ws.send_message(MESSAGE)
        _, flow = await inbox.message()
        # Less room in the kernel, so that 200 KiB cannot go at once.
        flow._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for number in range(20):
            flow.send(b"%d" % number + b"x" * 10_000)
        for number in range(20):
            assert (await ws.get_message()) == f"{number}" + "x" * 10_000


async def test_a_slow_handshake_ends(inbox: Inbox, autojump_clock: trio.testing.MockClock) -> None:
    async with listening(WS, inbox) as listener:
        async with await trio.open_tcp_stream(*listener.local) as stream:
            await stream.send_all(b"GET /ws HTTP/1.1\r\n")
            assert await stream.receive_some() == b""
        assert 5.0 <= trio.current_time() < 6.0
        assert inbox.empty


async def test_a_silent_client_is_pinged_and_a_dead_one_noticed(
    inbox: Inbox, autojump_clock: trio.testing.MockClock
) -> None:
    async with listening(WS, inbox) as listener, raw_phone(listener) as stream:
        start = trio.current_time()
        for _ in range(4):
            assert await stream.receive_some(100) == b"\x89\x00"
            await stream.send_all(frame(b"", opcode=10))
        assert 4 * 25 <= trio.current_time() - start <= 4 * 30
        assert await stream.receive_some(100) == b"\x89\x00"
        assert await stream.receive_some(100) == b""
        _, reason = await inbox.end()
        assert reason == "no answer to a ping"


async def test_one_that_is_owed_a_message_is_noticed_sooner(
    inbox: Inbox, autojump_clock: trio.testing.MockClock
) -> None:
    async with listening(WS, inbox) as listener, raw_phone(listener) as stream:
        await stream.send_all(frame(MESSAGE))
        _, flow = await inbox.message()
        for _ in range(2):
            await trio.sleep(1)
            flow.send(MESSAGE)
            start = trio.current_time()
            assert await stream.receive_some(len(MESSAGE) + 100) != b"\x89\x00"
            # Whoever is there answers the ping, and has time for the message itself.
            assert await stream.receive_some(100) == b"\x89\x00"
            assert trio.current_time() - start <= 10
            await stream.send_all(frame(b"", opcode=10))
            await trio.testing.wait_all_tasks_blocked()
        flow.send(MESSAGE)
        while await stream.receive_some(1000):
            pass
        assert (await inbox.end())[1] == "no answer to a ping"
        assert trio.current_time() - start <= 40


async def test_stopping_the_listener_says_goodbye(inbox: Inbox) -> None:
    async with AsyncExitStack() as stack:
        async with listening(WS, inbox) as listener:
            stream = await stack.enter_async_context(raw_phone(listener))
            await stream.send_all(frame(MESSAGE))
            _, flow = await inbox.message()
        assert await inbox.end() == (flow, "the listener was stopped")
        assert await closing_code(stream) == 1001


async def test_a_failing_receiver_harms_nobody() -> None:
    class Failing(Inbox):
        def received(self, data: bytes, flow: Any) -> None:
            super().received(data, flow)
            raise ValueError("a bug in the receiver")

    inbox = Failing()
    async with listening(WS, inbox) as listener, phone(listener) as ws:
        for _ in range(3):
            await ws.send_message(MESSAGE)
            assert (await inbox.message())[0] == MESSAGE


class Gatekeeper(Inbox):
    """A receiver that can tell who is known: who says MESSAGE."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[str, str]] = []

    def received(self, data: bytes, flow: Any) -> None:
        if data == MESSAGE:
            vouch(flow)
        super().received(data, flow)

    def knows(self, flow: Any) -> bool:
        return False

    def nuisance(self, what: str, event: str, source: str, **details: object) -> None:
        self.noted.append((what, event))


async def test_strangers_cannot_take_the_place_of_softphones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_STRANGERS", 16)
    inbox = Gatekeeper()
    async with listening(WS, inbox) as listener, raw_phone(listener) as signed_in, AsyncExitStack() as stack:
        await signed_in.send_all(frame(MESSAGE))
        await inbox.message()
        strangers = [await stack.enter_async_context(raw_phone(listener)) for _ in range(17)]
        assert await closing_code(strangers[0]) == 1013, "the oldest one goes"
        half_open = [await stack.enter_async_context(await trio.open_tcp_stream(*listener.local)) for _ in range(16)]
        for stranger in strangers[1:]:
            assert await closing_code(stranger) == 1013
        async with raw_phone(listener) as newcomer:
            assert await half_open[0].receive_some() == b""
            for ws in (signed_in, newcomer):
                await ws.send_all(frame(MESSAGE))
                while (await inbox._receive.receive())[0] != MESSAGE:
                    pass
        assert listener.door.strangers == 15


async def test_who_does_not_sign_in_is_sent_away(autojump_clock: trio.testing.MockClock) -> None:
    inbox = Gatekeeper()
    async with listening(WS, inbox) as listener, raw_phone(listener) as signed_in, raw_phone(listener) as stranger:
        start = trio.current_time()
        await signed_in.send_all(frame(MESSAGE))
        await stranger.send_all(frame(MESSAGE + b"no proof"))
        await inbox.message()
        assert await closing_code(stranger) == 1008
        assert 32 <= trio.current_time() - start <= 38
        assert inbox.noted == [("not_signed_in", "connection.not_signed_in")]
        await signed_in.send_all(frame(MESSAGE))
        while (await inbox._receive.receive())[0] != MESSAGE:
            pass


REQUEST = (
    b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/WS c.invalid;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 7 INVITE\r\n"
)


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (frame(REQUEST + b"\r\n" + b"v=0\r\n" * 60_000), 413),
        (frame(REQUEST, final=False) + frame(b"\r\n" + b"v=0\r\n" * 60_000, opcode=0), 413),
        (frame(REQUEST + b"X: " + b"y" * 70_000 + b"\r\n\r\n"), 513),
        (frame(REQUEST.replace(b"INVITE", b"ACK") + b"\r\n" + bytes(70_000)), None),
        (frame(b"SIP/2.0 200 OK\r\n\r\n" + bytes(70_000)), None),
    ],
)
async def test_a_message_that_is_too_long_costs_itself_alone(octets: bytes, status: int | None) -> None:
    inbox = Gatekeeper()
    async with listening(WS, inbox) as listener, phone(listener) as ws, raw_phone(listener) as raw:
        await ws.send_message(MESSAGE)
        await inbox.message()
        await raw.send_all(octets)
        if status is not None:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await raw.receive_some()
            answer = parse(data[2:] if data[1] < 126 else data[4:])
            assert (answer.status, answer.cseq.number, answer.cseq.method) == (status, 7, "INVITE")
        await raw.send_all(frame(MESSAGE))
        assert (await inbox.message())[0] == MESSAGE, "the connection lives, and what was too long was not delivered"
        assert inbox.noted == [("oversized", "websocket.oversized")]


async def test_running_out_of_descriptors_is_waited_out(autojump_clock: trio.testing.MockClock) -> None:
    class Starved:
        """A listening socket that cannot accept for a while."""

        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock
            self.errors = [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.EPROTO]

        def accept(self) -> Any:
            if self.errors:
                raise OSError(self.errors.pop(0), "starved")
            return self._sock.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

    with socket.socket() as real:
        real.bind(("127.0.0.1", 0))
        real.setblocking(False)
        send, receive = trio.open_memory_channel[socket.socket](1)
        async with trio.open_nursery() as nursery:
            starved = Starved(real)
            nursery.start_soon(accepting.accept, starved, send.send_nowait)
            await trio.testing.wait_all_tasks_blocked()
            async with await trio.open_tcp_stream(*real.getsockname()):
                with await receive.receive() as accepted:
                    assert not accepted.getblocking()
            assert starved.errors == []
            nursery.cancel_scope.cancel()


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5))
async def test_any_octets_harm_only_the_connection_they_come_on(chunks: list[bytes]) -> None:
    inbox = Inbox()
    async with listening(WS, inbox) as listener:
        async with raw_phone(listener) as bad:
            try:
                for chunk in chunks:
                    await bad.send_all(chunk)
                await bad.send_eof()
                async for _ in bad:
                    pass
            except trio.BrokenResourceError:
                pass
        async with raw_phone(listener) as good:
            await good.send_all(frame(MESSAGE + b"good"))
            while (await inbox._receive.receive())[0] != MESSAGE + b"good":
                pass


async def test_wss_and_a_replaced_certificate(inbox: Inbox, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "127.0.0.1")
    old = ssl.create_default_context(cafile=certificate)
    wss = listening(WebSocketTransport("wss"), inbox, certificate=certificate, key=key)
    async with wss as listener:
        async with phone(listener, tls=old) as ws:
            await ws.send_message(MESSAGE.decode())
            data, flow = await inbox.message()
            assert (data, flow.transport) == (MESSAGE, "wss")
            flow.send(b"y" * 60_000)
            assert await ws.get_message() == "y" * 60_000

            # Half replaced: the old pair stays in force.
            other, other_key = write_certificate(tmp_path, "127.0.0.1", stem="new")
            certificate.write_bytes(other.read_bytes())
            async with phone(listener, tls=old):
                pass
            await inbox.end()
            key.write_bytes(other_key.read_bytes())
            async with phone(listener, tls=ssl.create_default_context(cafile=other)):
                pass
            await inbox.end()
            stream = await trio.open_tcp_stream(*listener.local)
            async with trio.SSLStream(stream, old, server_hostname="127.0.0.1") as refused:
                with pytest.raises(trio.BrokenResourceError) as error:
                    await refused.do_handshake()
                assert "certificate verify failed" in str(error.value.__cause__)
            # Those who were connected stay so.
            flow.send(MESSAGE)
            assert await ws.get_message() == MESSAGE.decode()


async def test_garbage_on_the_wss_port(inbox: Inbox, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "127.0.0.1")
    async with listening(WebSocketTransport("wss"), inbox, certificate=certificate, key=key) as listener:
        for junk in (b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\x16\x03\x01\xff\xff" + bytes(100), b""):
            async with await trio.open_tcp_stream(*listener.local) as stream:
                try:
                    await stream.send_all(junk)
                    await stream.send_eof()
                    async for _ in stream:
                        pass
                except trio.BrokenResourceError:
                    pass
        context = ssl.create_default_context(cafile=certificate)
        async with phone(listener, tls=context) as ws:
            await ws.send_message(MESSAGE)
            assert (await inbox.message())[0] == MESSAGE


async def test_wss_without_a_usable_certificate_is_said_clearly(inbox: Inbox, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "127.0.0.1")
    _, other = write_certificate(tmp_path, "127.0.0.1", stem="other")
    for files, message in (
        ((None, None), "a certificate is needed"),
        ((tmp_path / "no.pem", key), "no.pem.*No such file"),
        ((certificate, other), "cert.pem with key.*mismatch"),
    ):
        with pytest.RaisesGroup(pytest.RaisesExc(OSError, match=message)):
            async with listening(WebSocketTransport("wss"), inbox, certificate=files[0], key=files[1]):
                pass


async def test_a_receiver_that_fails_at_the_end_of_one_flow_keeps_the_others() -> None:
    class Failing(Inbox):
        def closed(self, flow: Any, reason: str) -> None:
            super().closed(flow, reason)
            raise ValueError("a bug in the receiver")

    inbox = Failing()
    async with listening(WS, inbox) as listener, raw_phone(listener) as good:
        async with raw_phone(listener) as bad:
            await bad.send_all(frame(MESSAGE))
            _, flow = await inbox.message()
        assert (await inbox.end())[0] is flow
        await good.send_all(frame(MESSAGE))
        assert (await inbox.message())[0] == MESSAGE
