"""SIPp as a PBX behind an outbound trunk: called, calling, given up on, and not let in."""

from __future__ import annotations

import hashlib
import re
import secrets
import socket
from pathlib import Path

import pytest
import trio
from sipp_peer import G722, PCMA, TONE_DBFS, open_sipp, own_address, write_tone
from watching import LIMIT, all_ended, calls_of, connection, nth_call, phone_at

from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.session import CallFailed


def trunk(pbx: str) -> str:
    """A trunk to SIPp, which alone may call in."""
    return f"""
[[connection]]
name = "office"
type = "outbound_trunk"
allow_from = ["{pbx}/32"]
[connection.settings]
server = "{pbx}"
port = 5060
username = "siperb"
password = "pbx-secret"
qualify = 0  # a scenario of SIPp knows of calls only, not of an OPTIONS
"""


@pytest.mark.parametrize("codec", [G722, PCMA], ids=["G722", "PCMA"])
async def test_call_out(tmp_path: Path, codec: dict[str, str]) -> None:
    with trio.fail_after(LIMIT):
        async with (
            open_sipp(tmp_path, "pbx", "-rtp_echo", keys={**codec, "header": "Server: SIPp"}) as pbx,
            open_gateway(tmp_path, trunk(pbx.address)) as gateway,
            phone_at(gateway, tone_hz=700) as phone,
        ):
            call = await phone.call("4711")
            await call.answered()
            heard = await call.hears_steadily(700, within=2)
            assert heard.dbfs == pytest.approx(-6, abs=0.5)
            (row,) = await calls_of(gateway, "office")
            assert (row["state"], row["direction"]) == ("answered", "outbound")
            assert (await connection(gateway, "office"))["calls"] == 1
            await call.hangup()
            await pbx.succeeds()
            (row,) = await all_ended(gateway, "office", 1)
            assert row["diagnosis"] == ""
            assert row["media"]["peer_codec"] == codec["codec"].partition("/")[0]
            assert (await connection(gateway, "office"))["calls"] == 0


async def test_a_caller_gives_up(tmp_path: Path) -> None:
    """The challenge is a 407 here, so that the CANCEL has to be that of the second INVITE."""
    with trio.fail_after(LIMIT):
        async with (
            open_sipp(tmp_path, "uas_cancelled") as pbx,
            open_gateway(tmp_path, trunk(pbx.address)) as gateway,
            phone_at(gateway) as phone,
        ):
            call = await phone.call("4711")
            await call.rang.wait()
            call.cancel()
            with pytest.raises(CallFailed) as failed:
                await call.answered()
            assert failed.value.status == 487
            await pbx.succeeds()
            (row,) = await all_ended(gateway, "office", 1)
            assert row["answered"] is None
        first, second = pbx.received("INVITE")
        assert "Proxy-Authorization:" not in first
        assert proven(second, "INVITE", "siperb", "pbx-secret")


async def test_calls_in(tmp_path: Path) -> None:
    """One that is hung up on, one that hangs up; garbage in between."""
    pbx = own_address()
    write_tone(tmp_path / "tone.alaw", 1000)
    with trio.fail_after(LIMIT):
        async with (
            open_gateway(tmp_path, trunk(pbx)) as gateway,
            phone_at(gateway, answers=True, tone_hz=700) as phone,
        ):
            sip = address(gateway, "udp")
            throw_garbage(sip)
            async with open_sipp(tmp_path, "uac", "-rtp_echo", "-s", "100", keys=G722, to=sip, address=pbx) as caller:
                call = await nth_call(phone, 1)
                await call.answered()
                heard = await call.hears_steadily(700, within=2)
                assert heard.dbfs == pytest.approx(-6, abs=0.5)
                await call.hangup()
                await caller.succeeds()
            (first,) = await all_ended(gateway, "office", 1)
            assert (first["direction"], first["diagnosis"], first["media"]["peer_codec"]) == ("inbound", "", "G722")
            throw_garbage(sip)
            async with open_sipp(
                tmp_path, "uac_plays", "-s", "100", "-d", "6000", to=sip, address=pbx, files=["tone.alaw"]
            ) as caller:
                call = await nth_call(phone, 2)
                await call.answered()
                heard = await call.hears_steadily(1000, within=2)
                assert heard.dbfs == pytest.approx(TONE_DBFS, abs=0.5)
                await caller.succeeds()
                await call.ended.wait()
                assert call.ended_by == "them"
            await all_ended(gateway, "office", 2)
            assert (await connection(gateway, "office"))["state"] == "loaded"


async def test_the_pbx_gives_up(tmp_path: Path) -> None:
    pbx = own_address()
    with trio.fail_after(LIMIT):
        async with open_gateway(tmp_path, trunk(pbx)) as gateway, phone_at(gateway) as phone:
            caller = open_sipp(tmp_path, "uac_cancels", "-d", "100", to=address(gateway, "udp"), address=pbx)
            async with caller as caller:
                call = await nth_call(phone, 1)
                await caller.succeeds()
            await call.ended.wait()
            assert not call.was_answered
            (row,) = await all_ended(gateway, "office", 1)
            assert row["answered"] is None


async def test_a_stranger_rings_nobody(tmp_path: Path) -> None:
    """From an address that is not in `allow_from`, while the PBX's own call goes through."""
    pbx = own_address()
    with trio.fail_after(LIMIT):
        async with open_gateway(tmp_path, trunk(pbx)) as gateway, phone_at(gateway, answers=True) as phone:
            sip = address(gateway, "udp")
            async with open_sipp(tmp_path, "uac_refused", "-s", "100", "-r", "50", calls=5, to=sip) as stranger:
                await stranger.succeeds()
            assert not phone.calls
            assert await calls_of(gateway, "office") == []
            async with open_sipp(tmp_path, "uac", "-s", "100", keys=G722, to=sip, address=pbx) as caller:
                call = await nth_call(phone, 1)
                await call.answered()
                await call.hangup()
                await caller.succeeds()
            assert len(phone.calls) == 1


def proven(request: str, method: str, username: str, password: str) -> bool:
    """Whether a Proxy-Authorization is right, computed by hand (RFC 2617 section 3.2.2)."""
    line = next(line for line in request.splitlines() if line.startswith("Proxy-Authorization:"))
    given = {key: value.strip('"') for key, value in re.findall(r'(\w+)=("[^"]*"|[^\s,]+)', line)}

    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode()).hexdigest()

    account, asked = md5(username, given["realm"], password), md5(method, given["uri"])
    wanted = md5(account, given["nonce"], given["nc"], given["cnonce"], given["qop"], asked)
    return given["response"] == wanted and given["username"] == username


def throw_garbage(to: tuple[str, int]) -> None:
    """Datagrams that are no SIP, or nearly."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for garbage in (
            b"",
            b"\r\n\r\n",
            b"\0" * 4,
            secrets.token_bytes(1400),
            b"INVITE sip:100@gw.example SIP/2.0\r\n\r\n",
            b"INVITE sip:100@gw.example SIP/2.0\r\nVia: SIP/2.0/UDP x\r\nContent-Length: 99999\r\n\r\nv=0",
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nCSeq: 1 INVITE\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: gw.example\r\n\r\n",
        ):
            sock.sendto(garbage, to)
