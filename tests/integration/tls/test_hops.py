"""A proxy that leaves the path: what follows its first answer goes to the PBX behind it, where the list has that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from siperb_core.sip import Message, parse, response_to
from siperb_core.testing.gateway import open_gateway

from .peers import TRUNK, head, phone_of

SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n"
    "a=rtpmap:8 PCMA/8000\r\n"
)


class Machine:
    """A SIP server of one socket, which answers everything with 200 and this Contact; deaf: with nothing at all."""

    def __init__(self, sock: trio.socket.SocketType, contact: str, *, deaf: bool = False) -> None:
        self._socket = sock
        self._contact = contact
        self._deaf = deaf
        self.heard: list[str] = []
        self.said_bye = trio.Event()
        self.acknowledged = trio.Event()

    async def run(self) -> None:
        while True:
            data, source = await self._socket.recvfrom(65_536)
            message = parse(data)
            self.heard.append(message.method)
            if message.method == "ACK":
                self.acknowledged.set()
            elif not self._deaf:
                await self._socket.sendto(bytes(self._answer(message)), source)
            if message.method == "BYE":
                self.said_bye.set()

    def _answer(self, message: Message) -> Message:
        headers = [("Contact", f"<{self._contact}>")]
        response = response_to(message, 200, "OK", to_tag="desk", headers=headers)
        if message.method == "INVITE":
            response.set_body(SDP.encode(), "application/sdp")
        return response


@asynccontextmanager
async def machines(*, deaf: bool = False) -> AsyncIterator[tuple[Machine, Machine, int]]:
    """The proxy at 127.0.0.1 with its port, and the PBX behind it at 127.0.0.2."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as one, trio.socket.socket(type=trio.socket.SOCK_DGRAM) as two:
        await one.bind(("127.0.0.1", 0))
        await two.bind(("127.0.0.2", 0))
        contact = f"sip:desk@127.0.0.2:{two.getsockname()[1]}"
        proxy, behind = Machine(one, contact), Machine(two, contact, deaf=deaf)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(proxy.run)
            nursery.start_soon(behind.run)
            yield proxy, behind, one.getsockname()[1]
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("listed", [True, False])
async def test_a_call_goes_on_where_the_contact_says_if_the_list_has_it(tmp_path: Path, listed: bool) -> None:
    async with machines() as (proxy, behind, port):
        text = TRUNK.format(server="127.0.0.1", port=port, transport="udp", more="qualify = 0")
        text = text.replace("127.0.0.0/8", "127.0.0.0/8" if listed else "127.0.0.1/32")
        async with open_gateway(tmp_path, text, head=head(tmp_path)) as gateway, phone_of(gateway) as phone:
            with trio.fail_after(60):
                call = await phone.call("601")
                await call.answered()
                end = behind if listed else proxy
                await end.acknowledged.wait()
                await call.hangup()
                await end.said_bye.wait()
    assert (proxy.heard, behind.heard) == (["INVITE"], ["ACK", "BYE"]) if listed else behind.heard == []


async def test_a_next_hop_that_is_dead_leaves_the_flow_of_the_call(tmp_path: Path) -> None:
    async with machines(deaf=True) as (proxy, behind, port):
        text = TRUNK.format(server="127.0.0.1", port=port, transport="udp", more="qualify = 0")
        async with open_gateway(tmp_path, text, head=head(tmp_path)) as gateway, phone_of(gateway) as phone:
            with trio.fail_after(60):
                call = await phone.call("601")
                await call.answered()
                await behind.acknowledged.wait()
                await call.hangup()
                await proxy.said_bye.wait()
    assert "BYE" in behind.heard, "it was tried first"
