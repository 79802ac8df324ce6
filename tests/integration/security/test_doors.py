"""Who connects and is nobody's: the gateway's own connections and those of its peers do not notice."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from trio_websocket import open_websocket_url

from siperb_core.gateway import Gateway
from siperb_core.sip import Message, parse
from siperb_core.testing.gateway import address, open_gateway, websocket_url
from siperb_core.testing.pbx import PbxSettings, open_pbx
from siperb_core.testing.softphone import open_softphone
from siperb_core.transport import stream, websocket

TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["192.0.2.0/24"]
[connection.settings]
server = "127.0.0.1"
port = {port}
transport = "tcp"
qualify = 0
"""

BRANCH = """
[[connection]]
name = "branch"
type = "inbound_registration"
[connection.settings]
username = "branch"
password = "branch-secret-0123456789"
"""


def options(text: str = "") -> bytes:
    return bytes(
        Message.request(
            "OPTIONS",
            "sip:gw.example",
            [
                ("Via", "SIP/2.0/TCP 192.0.2.1;branch=z9hG4bKx;rport"),
                ("Max-Forwards", "70"),
                ("From", "<sip:x@example>;tag=1"),
                ("To", "<sip:gw.example>"),
                ("Call-ID", "one"),
                ("CSeq", "1 OPTIONS"),
                ("Content-Length", "0"),
            ],
        )
    )


async def test_strangers_by_the_hundred_and_a_call_between_tcp_and_websocket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "MAX_STRANGERS", 16)
    monkeypatch.setattr(stream, "MAX_STRANGERS", 16)
    async with open_pbx(PbxSettings(transports=("tcp",))) as pbx, AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(open_gateway(tmp_path, TRUNK.format(port=pbx.local[1])))
        with trio.fail_after(120):
            secret = "alice-secret"
            async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, secret) as phone:
                call = await phone.call("601")
                await call.answered()
                for _ in range(60):
                    for transport in ("ws", "tcp"):
                        await stack.enter_async_context(await trio.open_tcp_stream(*address(gateway, transport)))
                await call.hears(1000)
                await call.hangup()
                again = await phone.call("601")
                await again.answered()
                assert len({leg.source for leg in pbx.calls}) == 1, "the connection we opened was kept"
                await again.hangup()
                # Nobody who comes to sign in meets a full house.
                async with open_softphone(websocket_url(gateway), "bob-web", gateway.domain, "bob-secret"):
                    assert {item["device"] for item in await registrations(gateway)} == {"alice-web", "bob-web"}
        assert gateway.listeners["ws"][0].door.strangers <= 16  # type: ignore[attr-defined]
        assert gateway.signalling.rejected["crowd"] >= 40


async def registrations(gateway: Gateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await gateway.operations.call("show.registrations")
    return found


async def test_who_is_known_at_the_door(tmp_path: Path) -> None:
    """A softphone by its registration, a PBX by its address or its password; who has shown nothing by nothing."""
    listed = TRUNK.format(port=9).replace("192.0.2.0/24", "127.0.0.8/32")
    async with open_gateway(tmp_path, listed + BRANCH) as gateway:
        with trio.fail_after(60):
            ws, tcp = gateway.listeners["ws"][0].door, gateway.listeners["tcp"][0].door  # type: ignore[attr-defined]
            async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret"):
                assert ws.strangers == 0
                async with open_websocket_url(websocket_url(gateway), subprotocols=["sip"]):
                    assert ws.strangers == 1
            target = address(gateway, "tcp")
            async with await trio.open_tcp_stream(*target) as stranger:
                await stranger.send_all(options())
                assert parse(await stranger.receive_some()).status == 401
                assert tcp.strangers == 1
                async with await trio.open_tcp_stream(*target, local_address="127.0.0.8") as listed_one:
                    await listed_one.send_all(options())
                    assert parse(await listed_one.receive_some()).status == 200
                    assert tcp.strangers == 1


async def test_what_a_stranger_can_repeat_is_logged_once_and_counted(tmp_path: Path) -> None:
    async with open_gateway(tmp_path) as gateway:
        with structlog.testing.capture_logs() as lines, trio.fail_after(60):
            for _ in range(20):
                async with await trio.open_tcp_stream(*address(gateway, "ws")) as bad:
                    await bad.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    async for _ in bad:
                        pass
                async with await trio.open_tcp_stream(*address(gateway, "tcp")) as bad:
                    await bad.send_all(b"GARBAGE\r\n\r\n" + b"MESSAGE sip:a@b SIP/2.0\r\nContent-Length: x\r\n\r\n")
                    async for _ in bad:
                        pass
        rejected = gateway.signalling.rejected
        assert (rejected["handshake"], rejected["unparsable"], rejected["stream"]) == (20, 20, 20)
        events = [line["event"] for line in lines]
        for event in ("websocket.refused", "sip.unparsable", "transport.stream_broken"):
            assert events.count(event) == 1, event
        with structlog.testing.capture_logs() as lines:
            gateway.signalling._quiet["websocket.refused"]._seconds = 0.0
            async with await trio.open_tcp_stream(*address(gateway, "ws")) as bad:
                await bad.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                async for _ in bad:
                    pass
        (line,) = [line for line in lines if line["event"] == "websocket.refused"]
        assert line["held_back"] == 19, "the next line says how many there were"


async def test_an_invite_with_a_book_for_a_description_is_answered_and_the_phone_goes_on(tmp_path: Path) -> None:
    async with open_pbx(PbxSettings(transports=("tcp",))) as pbx:
        async with open_gateway(tmp_path, TRUNK.format(port=pbx.local[1])) as gateway:
            secret = "alice-secret"
            async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, secret) as phone:
                with trio.fail_after(60):
                    async with open_websocket_url(websocket_url(gateway), subprotocols=["sip"]) as raw:
                        await raw.send_message(options().replace(b"\r\n\r\n", b"\r\n\r\n" + b"v=0\r\n" * 50_000))
                        answer = parse(bytes(await raw.get_message(), "utf-8"))
                        assert (answer.status, answer.call_id) == (413, "one")
                        await raw.send_message(options())
                        assert parse(bytes(await raw.get_message(), "utf-8")).status == 407
                    call = await phone.call("601")
                    await call.answered()
                    await call.hears(1000)
                    await call.hangup()
