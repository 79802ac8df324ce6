"""WebSocket: softphones are heard and answered, over TLS too, and noticed when they are gone."""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_core.transport import accepting
from siperb_core.transport.websocket import WebSocketTransport

from .certificates import write_certificate
from .ends import Inbox, listening
from .phones import GET, MESSAGE, UPGRADE, WS, closing_code, frame, phone, raw_phone


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


async def test_a_message_of_64_kib_passes(inbox: Inbox) -> None:
    big = b"MESSAGE " + b"x" * (64 * 1024 - 8)
    async with listening(WS, inbox) as listener, phone(listener) as ws:
        await ws.send_message(big)
        _, flow = await inbox.message()
        flow.send(big)
        assert (await ws.get_message()).encode() == big


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
