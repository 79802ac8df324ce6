"""What the transport tests share: a listener run in a nursery, and receivers that note what they are given."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

from siperb_core.entries.model import Listen
from siperb_core.transport.contract import vouch


class Inbox:
    """A receiver whose events can be waited for, in order."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Any](10_000)
        self.count = 0

    def received(self, data: bytes, flow: Any) -> None:
        self.count += 1
        self._send.send_nowait((data, flow))

    def closed(self, flow: Any, reason: str) -> None:
        self._send.send_nowait((None, flow, reason))

    async def message(self) -> tuple[bytes, Any]:
        """The next message; anything else fails the test."""
        data, flow = await self._receive.receive()
        return data, flow

    async def end(self) -> tuple[Any, str]:
        """The next event must be the end of a flow."""
        nothing, flow, reason = await self._receive.receive()
        assert nothing is None
        return flow, reason

    @property
    def empty(self) -> bool:
        return self._receive.statistics().current_buffer_used == 0


class Gatekeeper(Inbox):
    """A receiver that can tell who is known: who says the password."""

    def __init__(self, password: bytes) -> None:
        super().__init__()
        self.noted: list[tuple[str, str]] = []
        self._password = password

    def received(self, data: bytes, flow: Any) -> None:
        if data == self._password:
            vouch(flow)
        super().received(data, flow)

    def knows(self, flow: Any) -> bool:
        return False

    def nuisance(self, what: str, event: str, source: str, **details: object) -> None:
        self.noted.append((what, event))


@contextlib.asynccontextmanager
async def listening(
    kind: Any,
    receiver: Any,
    *,
    host: str = "127.0.0.1",
    external: str | None = None,
    path: str = "/ws",
    certificate: Path | None = None,
    key: Path | None = None,
    origins: tuple[str, ...] = (),
) -> AsyncIterator[Any]:
    """A listener of that transport on a free port, stopped at the end."""
    config = Listen(kind.name, (host, 0), path=path, certificate=certificate, key=key, origins=origins)
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[Any]) -> None:
            await kind.listen(config, receiver, external_address=external, task_status=task_status)

        yield await nursery.start(run)
        nursery.cancel_scope.cancel()
