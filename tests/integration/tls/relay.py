"""A NAT of one port: what the gateway sends to it goes on to the PBX from another port, and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio


@attrs.frozen
class Relay:
    inside: tuple[str, int]
    """Where the gateway finds the PBX."""
    outside: tuple[str, int]
    """Where the PBX sees the gateway."""


@asynccontextmanager
async def relay_to(pbx: tuple[str, int]) -> AsyncIterator[Relay]:
    """Run it, for the one client that speaks first."""
    with (
        trio.socket.socket(type=trio.socket.SOCK_DGRAM) as inner,
        trio.socket.socket(type=trio.socket.SOCK_DGRAM) as outer,
    ):
        await inner.bind(("127.0.0.1", 0))
        await outer.bind(("127.0.0.1", 0))
        client: list[tuple[str, int]] = []

        async def out() -> None:
            while True:
                data, source = await inner.recvfrom(65_535)
                client[:] = [source]
                await outer.sendto(data, pbx)

        async def back() -> None:
            while True:
                data, _ = await outer.recvfrom(65_535)
                await inner.sendto(data, client[0])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(out)
            nursery.start_soon(back)
            yield Relay(inner.getsockname(), outer.getsockname())
            nursery.cancel_scope.cancel()
