"""What strangers and broken peers send costs them, and nobody else."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio
import trio_websocket

from siperb_core.testing.gateway import address, open_gateway, trunk_to, websocket_url
from siperb_core.testing.pbx import open_pbx
from siperb_core.testing.softphone import open_softphone

GARBAGE = (
    b"\x00" * 100,
    b"INVITE",
    b"INVITE sip:x SIP/2.0\r\n\r\n",
    b"SIP/2.0 200 OK\r\nVia: \r\n\r\n",
    b"\xff\xfe" * 700,
    b"OPTIONS sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP 1.1.1.1;branch=z9hG4bKx\r\nContent-Length: 99999\r\n\r\n",
    b"\x80\x08" + bytes(170),
)


async def test_garbage_between_calls_harms_nobody(tmp_path: Path) -> None:
    async with open_pbx() as pbx, open_gateway(tmp_path, trunk_to(pbx.local[1])) as gateway:
        async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger, trio.fail_after(30):
                call = await phone.call("601")
                await call.answered()
                for data in GARBAGE * 20:
                    stranger.sendto(data, address(gateway, "udp"))
                assert (await call.listen()).is_tone(1000)
                await call.hangup()
                again = await phone.call("601")
                await again.answered()
                await again.hangup()


# trio-websocket, the stranger's end here, forgets its socket when the connection is cut while it sends.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("size", [70_000, 5_000_000])
async def test_an_oversized_websocket_message_costs_its_own_connection(tmp_path: Path, size: int) -> None:
    async with open_pbx() as pbx, open_gateway(tmp_path, trunk_to(pbx.local[1])) as gateway:
        url = websocket_url(gateway)
        async with open_softphone(url, "alice-web", gateway.domain, "alice-secret") as phone:
            with trio.fail_after(30):
                async with trio_websocket.open_websocket_url(url, subprotocols=["sip"]) as stranger:
                    with pytest.raises(trio_websocket.ConnectionClosed):
                        await stranger.send_message("x" * size)
                        while True:
                            await stranger.get_message()
                call = await phone.call("601")
                await call.answered()
                await call.hears(1000)
                await call.hangup()


async def test_a_softphone_without_password_reaches_nobody(tmp_path: Path) -> None:
    async with open_pbx() as pbx, open_gateway(tmp_path, trunk_to(pbx.local[1])) as gateway:
        phone = open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "wrong", register=False)
        async with phone as stranger:
            with trio.fail_after(30):
                registration = await stranger.register()
                assert registration.status == 401
                response = await stranger.request("MESSAGE", "600", body="hello")
                assert response.status == 407
        assert not pbx.messages


async def test_an_invite_without_offer_is_answered_with_one(tmp_path: Path) -> None:
    async with open_pbx() as pbx, open_gateway(tmp_path, trunk_to(pbx.local[1])) as gateway:
        async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone:
            with trio.fail_after(30):
                incoming = await pbx.call("sip:4711@{}:{}".format(*address(gateway, "udp")), late_offer=True)
                call = await phone.next_call()
                await call.accept()
                await incoming.answered()
                incoming.play(1000)
                await call.hears(1000)
                await incoming.hears(440)
                await incoming.hangup()
