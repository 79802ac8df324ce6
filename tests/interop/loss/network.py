"""A bad network between the gateway and its PBX: datagrams are lost, doubled and overtaken, by a seeded die."""

from __future__ import annotations

import random
from collections import Counter

import attrs
import trio


@attrs.frozen
class Weather:
    """How bad it is: shares of all datagrams, each way."""

    loss: float = 0.10
    twice: float = 0.02
    late: float = 0.05
    """Held back for up to `delay` seconds, so that others overtake it."""
    delay: float = 0.05


class Relay:
    """A UDP relay: what comes to `near` goes on to the far end, and what the far end sends back comes from `near`."""

    def __init__(self, far: tuple[str, int], weather: Weather, seed: int) -> None:
        self._far = far
        self._weather = weather
        self._die = random.Random(seed)
        self._gateway: tuple[str, int] | None = None
        self.counts: Counter[str] = Counter()
        self.near: tuple[str, int]

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Relay until cancelled."""
        with (
            trio.socket.socket(type=trio.socket.SOCK_DGRAM) as near,
            trio.socket.socket(type=trio.socket.SOCK_DGRAM) as far,
        ):
            for sock in (near, far):
                await sock.bind(("127.0.0.1", 0))
                sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 1 << 21)
            self.near = near.getsockname()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, nursery, near, far, True)
                nursery.start_soon(self._carry, nursery, far, near, False)
                task_status.started()

    async def _carry(
        self, nursery: trio.Nursery, come: trio.socket.SocketType, go: trio.socket.SocketType, outwards: bool
    ) -> None:
        weather = self._weather
        while True:
            data, source = await come.recvfrom(65_536)
            if outwards:
                self._gateway = source
            to = self._far if outwards else self._gateway
            if to is None:
                continue
            self.counts["sent"] += 1
            if self._die.random() < weather.loss:
                self.counts["lost"] += 1
                continue
            copies = 1
            if self._die.random() < weather.twice:
                self.counts["doubled"] += 1
                copies = 2
            for _ in range(copies):
                if self._die.random() < weather.late:
                    self.counts["late"] += 1
                    nursery.start_soon(self._later, go, data, to, self._die.random() * weather.delay)
                else:
                    await go.sendto(data, to)

    async def _later(self, go: trio.socket.SocketType, data: bytes, to: tuple[str, int], seconds: float) -> None:
        await trio.sleep(seconds)
        await go.sendto(data, to)
