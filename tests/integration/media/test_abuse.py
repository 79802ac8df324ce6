"""Descriptions no browser sends, over the wire: refused, with a reason, and never plain RTP towards a browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.testing.gateway import open_gateway, trunk_to, websocket_url
from siperb_core.testing.pbx import Pbx, open_pbx
from siperb_core.testing.softphone import Softphone, open_softphone

AUDIO = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:111 opus/48000/2\r\na=mid:0\r\na=rtcp-mux\r\n"
    f"a=setup:actpass\r\na=ice-ufrag:abcd\r\na=ice-pwd:{'w' * 24}\r\na=fingerprint:sha-256 {':'.join(['4A'] * 32)}\r\n"
)
HEAD = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
CANDIDATES = "".join(
    f"a=candidate:{n} 1 udp {n + 1} 192.0.2.{n % 250 + 1} {1024 + n} typ host\r\n" for n in range(1000)
)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[tuple[Gateway, Pbx, Softphone]]:
    async with (
        open_pbx() as pbx,
        open_gateway(tmp_path, trunk_to(pbx.local[1])) as gateway,
        open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone,
    ):
        with trio.fail_after(60):
            yield gateway, pbx, phone


@pytest.mark.parametrize(
    ("sdp", "statuses", "words"),
    [
        (HEAD + AUDIO + "m=audio 9 RTP/AVP 0\r\n" * 1000, (400,), "media sections"),
        (HEAD + AUDIO + CANDIDATES, (400,), "attributes"),
        (HEAD + AUDIO.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), (488,), "must be DTLS-SRTP"),
        (HEAD + AUDIO.replace("UDP/TLS/RTP/SAVPF", "RTP/SAVP").replace("a=fingerprint", "a=f"), (488,), "fingerprint"),
        (HEAD + AUDIO.replace("sha-256", "md5"), (488,), "fingerprint"),
        (HEAD + AUDIO.replace("4A:", "", 1), (488,), "fingerprint"),
        (HEAD + AUDIO.replace("a=ice-ufrag:abcd\r\n", ""), (488,), "ICE"),
        (HEAD + AUDIO.replace("a=rtcp-mux\r\n", ""), (488,), "rtcp-mux"),
        (HEAD + AUDIO.replace("opus/48000/2", "SILK/24000"), (488,), "no common codec"),
        ("\x00\x01", (400,), "bad SDP"),
    ],
)
async def test_a_description_that_cannot_be_used_is_refused_and_the_phone_goes_on(
    office: tuple[Gateway, Pbx, Softphone], sdp: str, statuses: tuple[int, ...], words: str
) -> None:
    gateway, pbx, phone = office
    response = await phone.request("INVITE", "601", [("Content-Type", "application/sdp")], sdp)
    assert response.status in statuses, response.get("Warning")
    assert words in (response.get("Warning") or "")
    assert not pbx.calls, "nothing of it reached the PBX"
    assert not gateway.calls.active()
    call = await phone.call("601")
    await call.answered()
    await call.hears(1000)
    await call.hangup()


async def test_256_kib_cost_the_sender_its_connection_and_nobody_else(
    office: tuple[Gateway, Pbx, Softphone],
) -> None:
    gateway, pbx, phone = office
    async with open_softphone(websocket_url(gateway), "bob-web", gateway.domain, "bob-secret") as bob:
        sdp = HEAD + AUDIO + "a=x:" + "y" * 256 * 1024 + "\r\n"
        response = await bob.request("INVITE", "601", [("Content-Type", "application/sdp")], sdp)
        assert response.status in (400, 413, 503)
    assert not pbx.calls
    call = await phone.call("601")
    await call.answered()
    await call.hears(1000)
    await call.hangup()
