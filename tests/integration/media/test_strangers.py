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

from siperb_core.rtp.packet import RtpPacket, build_rtp


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


async def test_a_branch_that_is_not_active_is_not_heard(call: Any) -> None:
    leg = await call.browser.offer()
    call.session.apply(attrs.evolve(call.plan(leg), active=None))
    await call.browser.answered(leg, call.port, call.pool.fingerprint)
    await call.event("connected")
    await trio.sleep(0.3)
    assert not call.phone.packets
    call.session.apply(call.plan(leg))
    await call.phone.heard(10)
