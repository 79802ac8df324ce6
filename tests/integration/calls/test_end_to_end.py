"""Whole calls: softphone (WebSocket, ICE, DTLS-SRTP, Opus), gateway, PBX (UDP, RTP); by what both ends hear."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.testing.gateway import address, open_gateway, websocket_url
from siperb_core.testing.pbx import Pbx, PbxSettings, open_pbx
from siperb_core.testing.session import CallFailed
from siperb_core.testing.softphone import PhoneCall, Softphone, open_softphone
from siperb_core.testing.user_agent import Credentials

TONE = 1000
LEVEL = -6.0

OUTBOUND_REGISTRATION = """
[[connection]]
name = "office"
type = "outbound_registration"
users = ["alice"]
[connection.settings]
server = "127.0.0.1"
port = {port}
username = "200"
password = "two-hundred"
"""

TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["{allowed}"]
[connection.settings]
server = "127.0.0.1"
port = {port}
"""

INBOUND_REGISTRATION = """
[[connection]]
name = "office"
type = "inbound_registration"
users = ["alice"]
[connection.settings]
username = "branch"
password = "branch-secret-0123456789"
"""


@asynccontextmanager
async def phone_of(gateway: Gateway, name: str = "alice") -> AsyncIterator[Softphone]:
    async with open_softphone(websocket_url(gateway), f"{name}-web", gateway.domain, f"{name}-secret") as phone:
        yield phone


async def show(gateway: Gateway, what: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = await gateway.operations.call(f"show.{what}")
    return rows


async def hears_tone(call: PhoneCall) -> None:
    heard = await call.listen()
    assert heard.is_tone(TONE, within=2), heard
    assert heard.dbfs == pytest.approx(LEVEL, abs=0.5)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[tuple[Gateway, Pbx]]:
    """A gateway registered as extension 200 of a PBX."""
    async with (
        open_pbx(PbxSettings(accounts={"200": "two-hundred"}, tone_dbfs=LEVEL)) as pbx,
        open_gateway(tmp_path, OUTBOUND_REGISTRATION.format(port=pbx.local[1])) as gateway,
    ):
        yield gateway, pbx


async def test_out_through_a_registration_with_a_challenge(office: tuple[Gateway, Pbx]) -> None:
    gateway, pbx = office
    (connection,) = await show(gateway, "connections")
    assert (connection["state"], connection["registration"]["state"]) == ("loaded", "registered")
    async with phone_of(gateway) as phone:
        with trio.fail_after(20):
            call = await phone.call("601")
            await call.answered()
            await hears_tone(call)
            (row,) = await show(gateway, "calls")
            assert (row["state"], row["connection"], row["user"]) == ("answered", "office", "alice")
            assert (row["media"]["client_codec"], row["media"]["peer_codec"]) == ("opus", "G722")
            assert pbx.calls[0].account == "200", "the gateway answered the challenge"
            await call.hangup()
        assert (await show(gateway, "calls"))[0]["state"] == "ended"


async def test_the_echo_comes_back(office: tuple[Gateway, Pbx]) -> None:
    gateway, _ = office
    async with phone_of(gateway) as phone:
        with trio.fail_after(20):
            call = await phone.call("600")
            await call.answered()
            call.play(TONE, LEVEL)
            await call.hears(TONE)
            await hears_tone(call)
            await call.hangup()


@pytest.mark.parametrize("way", ["event", "info"])
async def test_each_digit_arrives_once(office: tuple[Gateway, Pbx], way: str) -> None:
    gateway, pbx = office
    async with phone_of(gateway) as phone:
        with trio.fail_after(20):
            call = await phone.call("602")
            await call.answered()
            await call.listen(0.2)
            if way == "event":
                await call.send_digits("1359#")
            else:
                for digit in "1359#":
                    await call.send_info(digit)
            while len(pbx.calls[0].digits) < 5:
                await call.listen(0.1)
            await call.hangup()
        assert "".join(heard.digit for heard in pbx.calls[0].digits) == "1359#"


async def test_busy_unknown_and_cancelled(office: tuple[Gateway, Pbx]) -> None:
    gateway, pbx = office
    async with phone_of(gateway) as phone:
        with trio.fail_after(20):
            for number, status in (("603", 486), ("699", 404)):
                with pytest.raises(CallFailed) as failed:
                    call = await phone.call(number)
                    await call.answered()
                assert failed.value.status == status
            call = await phone.call("604")
            await call.rang.wait()
            call.cancel()
            with pytest.raises(CallFailed) as failed:
                await call.answered()
            assert failed.value.status == 487
        assert not pbx.agent.calls
        assert not gateway.calls.active()


async def test_the_pbx_calls_back(office: tuple[Gateway, Pbx]) -> None:
    gateway, _ = office
    async with phone_of(gateway) as phone:
        with trio.fail_after(20):
            call = await phone.call("605")
            await call.answered()
            await call.hangup()
            back = await phone.next_call()
            await back.accept()
            await back.hears(TONE)
            (row,) = [row for row in await show(gateway, "calls") if row["state"] == "answered"]
            assert (row["direction"], row["device"]) == ("inbound", "alice-web")
            await back.hangup()


@pytest.mark.parametrize("by", ["phone", "pbx"])
async def test_hold_and_resume(office: tuple[Gateway, Pbx], by: str) -> None:
    gateway, pbx = office
    async with phone_of(gateway) as phone:
        with trio.fail_after(30):
            call = await phone.call("601")
            await call.answered()
            call.play(440, LEVEL)
            await call.hears(TONE)
            await pbx.calls[0].hears(440)
            side = call if by == "phone" else pbx.calls[0]
            for _ in range(3):
                await side.hold()
                sent = (await show(gateway, "calls"))[0]["media"]
                await side.resume()
                await hears_tone(call)
                heard = await pbx.calls[0].listen()
                assert heard.is_tone(440, within=2), (heard, sent)
            await call.hangup()


async def test_a_trunk_both_ways(tmp_path: Path) -> None:
    async with open_pbx(PbxSettings(tone_dbfs=LEVEL)) as pbx:
        text = TRUNK.format(port=pbx.local[1], allowed="127.0.0.0/8")
        async with open_gateway(tmp_path, text) as gateway, phone_of(gateway) as phone:
            with trio.fail_after(20):
                call = await phone.call("601")
                await call.answered()
                await hears_tone(call)
                await call.hangup()
                incoming = await pbx.call("sip:4711@{}:{}".format(*address(gateway, "udp")))
                back = await phone.next_call()
                await back.accept()
                await incoming.answered()
                incoming.play(TONE, LEVEL)
                back.play(440, LEVEL)
                await back.hears(TONE)
                await incoming.hears(440)
                await incoming.hangup()


async def test_a_trunk_from_elsewhere_rings_nobody(tmp_path: Path) -> None:
    async with open_pbx() as pbx:
        text = TRUNK.format(port=pbx.local[1], allowed="192.0.2.1")
        async with open_gateway(tmp_path, text) as gateway, phone_of(gateway) as phone:
            with trio.fail_after(20):
                incoming = await pbx.call("sip:4711@{}:{}".format(*address(gateway, "udp")))
                with pytest.raises(CallFailed) as failed:
                    await incoming.answered()
            assert failed.value.status == 403
            assert not phone.calls


async def test_a_pbx_that_registers_both_ways(tmp_path: Path) -> None:
    async with (
        open_pbx(PbxSettings(tone_dbfs=LEVEL)) as pbx,
        open_gateway(tmp_path, INBOUND_REGISTRATION) as gateway,
        phone_of(gateway) as phone,
    ):
        with trio.fail_after(30):
            with pytest.raises(CallFailed) as failed:
                call = await phone.call("601")
                await call.answered()
            assert failed.value.status == 480, "nobody has registered yet"
            credentials = Credentials("branch", "branch-secret-0123456789")
            registration = await pbx.register(address(gateway, "udp"), credentials, domain=gateway.domain)
            assert registration.status == 200
            (connection,) = await show(gateway, "connections")
            assert connection["registration"]["state"] == "registered"
            call = await phone.call("601")
            await call.answered()
            await hears_tone(call)
            await call.hangup()
            incoming = await pbx.call("sip:4711@{}:{}".format(*address(gateway, "udp")))
            back = await phone.next_call()
            await back.accept()
            await incoming.answered()
            back.play(440, LEVEL)
            await incoming.hears(440)
            await back.hangup()


async def test_no_common_codec_says_what_each_side_has(tmp_path: Path) -> None:
    async with open_pbx(PbxSettings(codecs=("PCMU",))) as pbx:
        text = TRUNK.format(port=pbx.local[1], allowed="127.0.0.1").replace(
            "[connection.settings]", 'codecs = ["PCMA"]\n[connection.settings]'
        )
        async with open_gateway(tmp_path, text) as gateway, phone_of(gateway) as phone:
            with trio.fail_after(20):
                with pytest.raises(CallFailed) as failed:
                    call = await phone.call("601")
                    await call.answered()
                assert failed.value.status == 488
                incoming = await pbx.call("sip:4711@{}:{}".format(*address(gateway, "udp")))
                with pytest.raises(CallFailed) as refused:
                    await incoming.answered()
                assert refused.value.status == 488
                warning = refused.value.response.get("Warning") or ""
                assert "PCMU" in warning
                assert "PCMA" in warning
