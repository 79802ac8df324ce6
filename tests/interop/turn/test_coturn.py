"""Whether a real coturn takes the credentials that provisioned softphones get, and only as long as they hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from aioice import stun
from aioice.turn import create_turn_endpoint
from coturn_peer import MISSING, PORT, PROGRAM, open_coturn, turn_uri

from siperb_core.gateway import Gateway
from siperb_core.testing.gateway import head_with, open_gateway
from siperb_core.testing.gateway_process import own_address
from siperb_core.testing.softphone_peer import AsyncioThread

pytestmark = [pytest.mark.interop, pytest.mark.skipif(PROGRAM is None, reason=MISSING)]
LIMIT = 60  # seconds for a test, if the machine is busy
SECRET = "north-of-the-wall"
TTL = 600


def gateway_head(uri: str) -> str:
    return head_with(None).replace("[media]", f'[media]\nturn = ["{uri}"]\nturn_secret = "{SECRET}"\nturn_ttl = {TTL}')


class EarlierGateway(Gateway):
    """One whose clock is behind, so that what it hands out has run out a minute ago."""

    def now(self) -> float:
        return time.time() - TTL - 60


async def handed_out(folder: Path, uri: str, make: Callable[[Path], Gateway] = Gateway) -> tuple[str, str]:
    """Username and credential, as a provisioned softphone gets them."""
    async with open_gateway(folder, head=gateway_head(uri), make=make) as gateway:
        link = await gateway.operations.call("device.link", {"name": "alice-web"})
        token = link["provision"].rpartition("/")[2]
        settings: dict[str, Any] = await gateway.operations.call("device.provision", {"token": token})
    (server,) = settings["iceServers"]
    assert server["urls"] == [uri]
    return server["username"], server["credential"]


class Ear(asyncio.DatagramProtocol):
    """Keeps what comes out of the relay."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.heard.put_nowait((data, addr))


async def relayed(server: str, username: str, password: str) -> tuple[str, bytes, bytes]:
    """Allocate a relay, send through it both ways; its host, and what came out at either end. Raises TransactionFailed.

    Runs on an asyncio loop.
    """
    loop = asyncio.get_running_loop()
    relay, inside = await create_turn_endpoint(Ear, (server, PORT), username, password)
    outer, outside = await loop.create_datagram_endpoint(Ear, ("127.0.0.1", 0))
    try:
        there = outer.get_extra_info("sockname")
        relay.sendto(b"from inside", there)
        out, seen_as = await outside.heard.get()
        outer.sendto(b"from outside", seen_as)
        back, _ = await inside.heard.get()
    finally:
        relay.close()
        outer.close()
    return str(seen_as[0]), out, back


async def test_coturn_takes_what_the_gateway_hands_out_and_relays(tmp_path: Path) -> None:
    there = own_address()
    thread = AsyncioThread()
    with trio.fail_after(LIMIT):
        async with open_coturn(tmp_path, there, SECRET) as coturn:
            username, password = await handed_out(tmp_path, turn_uri(there))
            try:
                assert await thread.run(relayed(there, username, password)) == (there, b"from inside", b"from outside")
            finally:
                await thread.close()
            assert username in await coturn.said("ALLOCATE processed, success")


async def test_coturn_refuses_what_has_run_out_or_was_changed(tmp_path: Path) -> None:
    there = own_address()
    thread = AsyncioThread()
    with trio.fail_after(LIMIT):
        async with open_coturn(tmp_path, there, SECRET):
            earlier = await handed_out(tmp_path, turn_uri(there), EarlierGateway)
            username, password = await handed_out(tmp_path, turn_uri(there))
            expires, _, user = username.partition(":")
            longer = f"{int(expires) + 86400}:{user}"  # the guest makes them hold longer
            try:
                for name, secret in (earlier, (longer, password), (username, password[::-1])):
                    with pytest.raises(stun.TransactionFailed) as refused:
                        await thread.run(relayed(there, name, secret))
                    assert refused.value.response.attributes["ERROR-CODE"][0] == 401
                assert await thread.run(relayed(there, username, password))
            finally:
                await thread.close()
