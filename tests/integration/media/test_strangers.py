"""Datagrams of strangers, during set-up and after: the call goes on, and nothing of theirs is heard."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio
from media_browser import tone_of
from pylibsrtp import Policy

from siperb_core.media.peer_leg import srtp_session
from siperb_core.rtp.packet import RtpPacket, build_rtp
from siperb_core.sdp.crypto import new_keys
from siperb_core.sdp.plan import PeerKeys


def record(kind: bytes, body: bytes) -> bytes:
    return kind + b"\xfe\xfd" + bytes(8) + struct.pack("!H", len(body)) + body


def client_hello(ciphers: bytes) -> bytes:
    body = b"\xfe\xfd" + os.urandom(32) + b"\0\0" + struct.pack("!H", len(ciphers)) + ciphers + b"\x01\0"
    length = len(body).to_bytes(3, "big")
    return record(b"\x16", b"\x01" + length + bytes(5) + length + body)


DATAGRAMS = {
    "hello without ciphers": client_hello(b"\0\0"),
    "good hello": client_hello(b"\xc0\x2b\xc0\x2f\xc0\x13"),
    "fatal alert": record(b"\x15", b"\x02\x28"),
    "garbage": record(b"\x16", os.urandom(32)),
    "broken STUN": b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x00\x24\x00\x02\x00\x00\x00\x00",
    "RTP": build_rtp(RtpPacket(96, 1, 1, 1, b"hello")),
    "nothing": b"",
}


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


async def spray(sock: socket.socket, data: bytes, ports: tuple[int, ...]) -> None:
    while True:
        for port in ports:
            for _ in range(20):
                sock.sendto(data, ("127.0.0.1", port))
        await trio.sleep(0.002)


@pytest.mark.parametrize("dtls", ["client", "server"])
@pytest.mark.parametrize("kind", DATAGRAMS)
async def test_a_call_is_set_up_and_heard_under_fire(call: Any, stranger: socket.socket, kind: str, dtls: str) -> None:
    ports = (call.port, call.session.peer_port, call.session.peer_port + 1)
    call.nursery.start_soon(spray, stranger, DATAGRAMS[kind], ports)
    if dtls == "client":
        await call.connect()
    else:
        leg = await call.browser.answer(5, call.port, call.pool.fingerprint)
        call.session.apply(call.plan(leg))
        await call.event("connected")
    await call.phone.heard(25)
    assert {p.ssrc for p in call.phone.packets} == {777}


async def test_spoofed_rtp_is_not_heard(call: Any, stranger: socket.socket) -> None:
    await call.connect()
    packet = build_rtp(RtpPacket(9, 1, 1, 1, bytes(160)))
    call.nursery.start_soon(spray, stranger, packet, (call.session.peer_port,))
    await call.phone.heard(25)
    while call.session.stats["client"]["packets_in"] < 30:  # noqa: ASYNC110
        await trio.sleep(0.05)
    assert call.session.stats["peer"]["packets_in"] == 0
    assert call.session.stats["client"]["packets_out"] == 0


FORGED = {
    **{name: DATAGRAMS[name] for name in ("hello without ciphers", "good hello", "fatal alert", "garbage", "RTP")},
    "bad SRTP": build_rtp(RtpPacket(96, 1, 1, 1, os.urandom(80))),
    "bad SRTCP": b"\x81\xc9\x00\x07" + os.urandom(60),
    "close notify": record(b"\x15", b"\x01\x00"),
}


@pytest.mark.parametrize("kind", FORGED)
async def test_what_is_forged_in_the_softphones_own_name_does_no_harm(call: Any, kind: str) -> None:
    """From its very address, which ICE has checked: DTLS and SRTP know by their keys that it is not the softphone's."""
    await call.connect()
    call.nursery.start_soon(call.phone.talk, ("127.0.0.1", call.session.peer_port), 700.0)
    await call.phone.heard(10)
    for _ in range(50):
        for _ in range(20):
            call.browser.send_raw(FORGED[kind], ("127.0.0.1", call.port))
        await call.phone.heard(1)
    await call.phone.heard(50)
    hertz, _, purity = tone_of(call.phone.decode(), call.phone.rate)
    assert (hertz, purity > 25) == (pytest.approx(1000, abs=0.2), True)
    hertz, _, _ = tone_of(await call.browser.hear(1), 48000)
    assert hertz == pytest.approx(700, abs=0.2)
    assert [event.kind for event in call.events] == ["connected"]
    if "SRT" in kind or kind == "RTP":
        while call.session.stats["client"]["srtp_errors"] < 900:  # noqa: ASYNC110
            await trio.sleep(0.05)


@pytest.mark.parametrize("from_stranger", [True, False])
async def test_a_flood_at_the_pbxs_leg_of_sdes_is_not_heard(
    call: Any, stranger: socket.socket, from_stranger: bool
) -> None:
    ours, theirs = new_keys(os.urandom)[0].key, new_keys(os.urandom)[0].key
    suite = "AES_CM_128_HMAC_SHA1_80"
    call.phone.protect = srtp_session((suite, theirs), Policy.SSRC_ANY_OUTBOUND).protect
    call.phone.unprotect = srtp_session((suite, ours), Policy.SSRC_ANY_INBOUND).unprotect
    plain = call.plan

    def secured(leg: Any, **more: Any) -> Any:
        plan = plain(leg, **more)
        return attrs.evolve(plan, peer=attrs.evolve(plan.peer, srtp=PeerKeys(suite, ours, theirs)))

    call.plan = secured
    await call.connect()
    to = ("127.0.0.1", call.session.peer_port)
    call.nursery.start_soon(call.phone.talk, to, 700.0)
    await call.browser.hear(0.5)
    bad = build_rtp(RtpPacket(9, 1, 1, 1, os.urandom(170)))
    for _ in range(50):
        for _ in range(20):
            if from_stranger:
                stranger.sendto(bad, to)
            else:
                await call.phone.socket.sendto(bad, to)
        await call.phone.heard(1)
    hertz, _, _ = tone_of(await call.browser.hear(1), 48000)
    assert hertz == pytest.approx(700, abs=0.2)
    counter = "filtered" if from_stranger else "srtp_errors"
    while call.session.stats["peer"][counter] < 900:  # noqa: ASYNC110
        await trio.sleep(0.05)


async def test_a_branch_that_is_not_active_is_not_heard(call: Any) -> None:
    leg = await call.browser.offer()
    call.session.apply(attrs.evolve(call.plan(leg), active=None))
    await call.browser.answered(leg, call.port, call.pool.fingerprint)
    await call.event("connected")
    await trio.sleep(0.3)
    assert not call.phone.packets
    call.session.apply(call.plan(leg))
    await call.phone.heard(10)
