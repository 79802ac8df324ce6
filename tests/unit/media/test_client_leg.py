"""The softphone's socket by itself: what goes out of it comes from the address the softphone asked."""

from __future__ import annotations

import socket
import sys

import pytest
import trio
import trio_asyncio
from aioice import stun

from siperb_core.media.certificate import make_certificate
from siperb_core.media.client_leg import ClientConnection
from siperb_core.media.dtls import load_certificate
from siperb_core.sdp.plan import ClientLeg

ASKED = "127.0.0.5"


def check(transaction: bytes) -> bytes:
    attributes = {"USERNAME": "ours:them", "PRIORITY": 1, "ICE-CONTROLLING": 9, "USE-CANDIDATE": None}
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, transaction, attributes)
    request.add_message_integrity(b"o" * 22)
    return bytes(request)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells at which address a datagram came in")
async def test_answers_checks_and_dtls_come_from_the_address_that_was_asked() -> None:
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours.bind(("0.0.0.0", 0))
    ours.setblocking(False)
    port = ours.getsockname()[1]
    phone = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await phone.bind(("127.0.0.9", 0))
    asked = (ASKED, port)
    with phone, trio.fail_after(30):
        async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
            connection = ClientConnection(
                ours,
                nursery=nursery,
                certificate=load_certificate(make_certificate().pem),
                tie_breaker=1,
                report=lambda kind, detail: None,
                on_rtp=lambda data, now: None,
                on_rtcp=lambda data, now: None,
            )
            prints = (("sha-256", ":".join(["AB"] * 32)),)
            connection.apply(ClientLeg("ours", "o" * 22, "them", "t" * 22, (), prints, "client", False, 1))
            await phone.sendto(check(b"1" * 12), asked)
            await trio.lowlevel.wait_readable(ours)
            connection.readable()
            answer, source = await phone.recvfrom(2048)
            assert stun.parse_message(answer).message_class == stun.Class.RESPONSE
            assert source == asked

            request, source = await phone.recvfrom(2048)  # the check that ours triggers
            response = stun.Message(
                stun.Method.BINDING,
                stun.Class.RESPONSE,
                stun.parse_message(request).transaction_id,
                {"XOR-MAPPED-ADDRESS": source},
            )
            response.add_message_integrity(b"t" * 22)
            await phone.sendto(bytes(response), asked)
            await trio.lowlevel.wait_readable(ours)
            connection.readable()
            hello, source = await phone.recvfrom(2048)
            assert hello[0] == 22, "DTLS: a handshake"
            assert source == asked
            await connection.close()
            nursery.cancel_scope.cancel()
