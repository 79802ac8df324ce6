"""The test softphone: its SIP over a WebSocket against a tiny server, its media against another softphone's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio_websocket

from siperb_core.sip import Message, parse, response_to
from siperb_core.sip.digest import DigestServer
from siperb_core.testing.session import CallFailed
from siperb_core.testing.softphone import Softphone, open_softphone
from siperb_core.testing.softphone_media import MediaFailed


class TinyServer:
    """A registrar with one password, and a proxy that sends what one phone says to all others, and nothing else."""

    def __init__(self) -> None:
        self.sockets: list[trio_websocket.WebSocketConnection] = []
        self.requests: list[Message] = []
        self.digest = DigestServer("example.net", b"0" * 16)
        self.refuse_calls_with = 0
        self.url = ""

    async def serve(self, request: trio_websocket.WebSocketRequest) -> None:
        assert request.proposed_subprotocols == ("sip",)
        websocket = await request.accept(subprotocol="sip")
        self.sockets.append(websocket)
        try:
            while True:
                data = await websocket.get_message()
                await self._take(websocket, parse(data.encode() if isinstance(data, str) else data))
        except trio_websocket.ConnectionClosed:
            self.sockets.remove(websocket)

    async def _take(self, websocket: trio_websocket.WebSocketConnection, message: Message) -> None:
        if message.is_request:
            self.requests.append(message)
        if message.method == "REGISTER":
            await self._register(websocket, message)
        elif message.method == "INVITE" and self.refuse_calls_with:
            warning = [("Warning", '305 tiny "no common codec"')]
            await _say(websocket, response_to(message, self.refuse_calls_with, to_tag="t", headers=warning))
        elif message.method != "ACK" or not self.refuse_calls_with:
            for other in self.sockets:
                if other is not websocket:
                    await _say(other, message)

    async def _register(self, websocket: trio_websocket.WebSocketConnection, request: Message) -> None:
        now = trio.current_time()
        for value in request.get_all("Authorization"):
            result = self.digest.verify(
                value, method="REGISTER", secret_of={"alice": "secret", "bob": "secret"}.get, now=now
            )
            if result.ok:
                contact = [("Contact", value) for value in request.get_all("Contact")]
                await _say(websocket, response_to(request, 200, to_tag="t", headers=contact))
                return
        headers = [("WWW-Authenticate", value) for value in self.digest.challenge(now)]
        await _say(websocket, response_to(request, 401, to_tag="t", headers=headers))


async def _say(websocket: trio_websocket.WebSocketConnection, message: Message) -> None:
    await websocket.send_message(bytes(message).decode())


@pytest.fixture
async def server() -> AsyncIterator[TinyServer]:
    tiny = TinyServer()
    async with trio.open_nursery() as nursery:
        listening = await nursery.start(trio_websocket.serve_websocket, tiny.serve, "127.0.0.1", 0, None)
        tiny.url = f"ws://127.0.0.1:{listening.port}/ws"
        yield tiny
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def two(server: TinyServer, **settings: object) -> AsyncIterator[tuple[Softphone, Softphone]]:
    with trio.fail_after(15):
        async with (
            open_softphone(server.url, "alice", "example.net", "secret", tone_hz=500, **settings) as alice,
            open_softphone(server.url, "bob", "example.net", "secret", tone_hz=900, answers=True, **settings) as bob,
        ):
            yield alice, bob


async def test_registers_as_jssip_does(server: TinyServer) -> None:
    async with open_softphone(server.url, "alice", "example.net", "secret") as phone:
        assert phone.registration is not None
        assert phone.registration.status == 200
        assert phone.registration.expires == 300
        await phone.registration.unregister()
    first, second, *_, last = server.requests
    assert first.get("Authorization") is None
    assert second.get("Authorization") is not None
    assert second.cseq.number == first.cseq.number + 1
    contact = second.contacts[0]
    assert contact.parsed_uri.host.endswith(".invalid")
    assert contact.parsed_uri.param("transport") == "ws"
    assert (contact.param("+sip.instance") or "").startswith("<urn:uuid:")
    assert contact.param("reg-id") == "1"
    assert "outbound" in second.values("Supported")
    assert second.via.host.endswith(".invalid")
    assert second.via.protocol == "WS"
    assert last.expires == 0


async def test_a_wrong_password_is_told(server: TinyServer) -> None:
    with pytest.raises(CallFailed, match="401"):
        async with open_softphone(server.url, "alice", "example.net", "wrong"):
            pass


async def test_a_refusal_is_seen_with_its_reason(server: TinyServer) -> None:
    server.refuse_calls_with = 488
    async with open_softphone(server.url, "alice", "example.net", "secret") as phone:
        call = await phone.call("601")
        with pytest.raises(CallFailed) as refused:
            await call.answered()
    assert refused.value.status == 488
    assert refused.value.response is not None
    assert "no common codec" in (refused.value.response.get("Warning") or "")


@pytest.mark.parametrize("codec", ["opus", "G722", "PCMU"])
async def test_two_phones_hear_one_another(server: TinyServer, codec: str) -> None:
    async with two(server, codecs=(codec,)) as (alice, bob):
        call = await alice.call("bob")
        await call.answered()
        await call.connected()
        there = bob.calls[0]
        await there.connected()
        assert call.media.codec == there.media.codec == codec
        await call.hears(900)
        await there.hears(500)
        heard = await call.listen(0.5)
        assert heard.is_tone(900, within=2)
        assert heard.dbfs == pytest.approx(-6, abs=0.5)
        await call.hangup()
        await there.ended.wait()
        assert there.ended_by == "them"


async def test_digits_in_rtp_and_in_info(server: TinyServer) -> None:
    async with two(server) as (alice, bob):
        call = await alice.call("bob")
        await call.answered()
        await call.connected()
        await call.send_digits("19#")
        await call.send_info("5")
        assert await bob.calls[0].media.ear.heard_digits(4) == "19#5"
        assert [heard.way for heard in bob.calls[0].digits] == ["rtp", "rtp", "rtp", "info"]
        with pytest.raises(ValueError, match="x"):
            await call.send_digits("x")


async def test_hold_and_resume(server: TinyServer) -> None:
    async with two(server) as (alice, bob):
        call = await alice.call("bob")
        await call.answered()
        await call.connected()
        there = bob.calls[0]
        await call.hears(900)
        await call.hold()
        assert (call.media.direction, there.media.direction) == ("sendonly", "recvonly")
        await there.hears(500)
        sent = there.media.packets_out
        await there.media.ear.listened(5)
        assert there.media.packets_out <= sent + 1
        await call.resume()
        assert (call.media.direction, there.media.direction) == ("sendrecv", "sendrecv")
        await call.hears(900)
        await there.hold()
        assert call.media.direction == "recvonly"
        await there.hangup()
        await call.ended.wait()


async def test_a_call_is_cancelled(server: TinyServer) -> None:
    async with two(server) as (alice, bob):
        object.__setattr__(bob.settings, "answers", False)
        call = await alice.call("bob")
        await call.rang.wait()
        await call.hangup()
        assert call.status == 487
        await bob.calls[0].ended.wait()
        assert bob.calls[0].status == 487


async def test_a_call_is_answered_by_hand_or_refused(server: TinyServer) -> None:
    async with two(server) as (alice, bob):
        object.__setattr__(bob.settings, "answers", False)
        async with trio.open_nursery() as nursery:

            async def pick_up() -> None:
                await (await bob.next_call()).accept()

            nursery.start_soon(pick_up)
            call = await alice.call("bob")
            await call.answered()
        await call.hangup()
        second = await alice.call("bob")
        await second.rang.wait()
        bob.calls[1].reject(486)
        with pytest.raises(CallFailed, match="486"):
            await second.answered()


async def test_a_lost_websocket_fails_what_is_under_way(server: TinyServer) -> None:
    async with open_softphone(server.url, "alice", "example.net", "secret") as phone:
        call = await phone.call("nobody")
        await server.sockets[0].aclose()
        with pytest.raises(CallFailed, match="503"):
            await call.answered()
        await phone.disconnected.wait()


async def test_a_stranger_s_certificate_is_no_media(server: TinyServer) -> None:
    async with two(server) as (alice, bob):
        object.__setattr__(bob.settings, "answers", False)
        call = await alice.call("bob")
        await call.rang.wait()
        there = bob.calls[0]
        offer = there.invite.body if there.invite is not None else b""
        fingerprint = offer.partition(b"a=fingerprint:sha-256 ")[2][:2]
        wrong = b"00" if fingerprint != b"00" else b"11"
        there.invite.body = offer.replace(b"sha-256 " + fingerprint, b"sha-256 " + wrong)  # type: ignore[union-attr]
        await there.accept()
        with pytest.raises(MediaFailed, match="DTLS"):
            await there.connected()


async def test_messages_and_requests(server: TinyServer) -> None:
    async with two(server) as (alice, bob):
        response = await alice.request("MESSAGE", "bob", [("Content-Type", "text/plain")], "hello")
        assert response.status == 200
        assert [message.body for message in bob.messages] == [b"hello"]
        assert (await alice.request("SUBSCRIBE", "bob")).status == 405
