"""Strangers at a WebSocket, and softphones gone bad: each harms only himself."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.sip import parse
from siperb_core.transport import websocket

from .ends import Gatekeeper, Inbox, listening
from .phones import MESSAGE, WS, closing_code, frame, phone, raw_phone


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


async def test_a_slow_handshake_ends(inbox: Inbox, autojump_clock: trio.testing.MockClock) -> None:
    async with listening(WS, inbox) as listener:
        async with await trio.open_tcp_stream(*listener.local) as stream:
            await stream.send_all(b"GET /ws HTTP/1.1\r\n")
            assert await stream.receive_some() == b""
        assert 5.0 <= trio.current_time() < 6.0
        assert inbox.empty


async def test_strangers_cannot_take_the_place_of_softphones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_STRANGERS", 16)
    inbox = Gatekeeper(MESSAGE)
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
    inbox = Gatekeeper(MESSAGE)
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
    inbox = Gatekeeper(MESSAGE)
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
