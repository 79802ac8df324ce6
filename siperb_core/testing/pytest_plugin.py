"""The pytest plugin `siperb`: installed with the core, loaded by pytest by itself, in every run: it imports nothing
before one of its fixtures is asked for.

`pbx` and `softphone` open demo PBXs and softphones on free ports of loopback, `gateway` a whole gateway in this
process with the plugins named and no others; `entry` is what a connection type is handed, without sockets. All of them
want pytest-trio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

if TYPE_CHECKING:
    import trio

    from siperb_core.gateway import Gateway
    from siperb_core.testing.fakes import FakeEntry
    from siperb_core.testing.pbx import Pbx, PbxSettings
    from siperb_core.testing.softphone import Softphone

T = TypeVar("T")

F = TypeVar("F", bound=Callable[..., Any])


def _async_fixture(function: F) -> F:
    """A fixture for pytest-trio; whoever does not have that has no use for these fixtures either."""
    try:
        from pytest_trio import trio_fixture
    except ImportError:
        return pytest.fixture(function)  # type: ignore[return-value]
    return cast("F", trio_fixture(function))


class _Held:
    """Context managers that are open until the fixture ends, each in a task of its own."""

    def __init__(self, nursery: trio.Nursery, leave: trio.Event) -> None:
        self._nursery = nursery
        self._leave = leave

    async def open(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter it, here and now; it is left when the fixture ends."""

        async def hold(*, task_status: trio.TaskStatus[T]) -> None:
            async with manager as value:
                task_status.started(value)
                await self._leave.wait()

        value: T = await self._nursery.start(hold)
        return value


@asynccontextmanager
async def _holding() -> AsyncIterator[_Held]:
    import trio

    leave = trio.Event()
    async with trio.open_nursery() as nursery:
        try:
            yield _Held(nursery, leave)
        finally:
            leave.set()


@_async_fixture
async def pbx() -> AsyncIterator[Callable[..., Any]]:
    """`office = await pbx(accounts={"200": "secret"})`: a demo PBX; the arguments are those of `PbxSettings`."""
    from siperb_core.testing.pbx import PbxSettings, open_pbx

    async with _holding() as held:

        async def open_one(settings: PbxSettings | None = None, **fields: Any) -> Pbx:
            return await held.open(open_pbx(settings or PbxSettings(**fields)))

        yield open_one


@_async_fixture
async def gateway(tmp_path: Path, pbx: object) -> AsyncIterator[Callable[..., Any]]:
    """`gw = await gateway(connections, plugins=["connection_trunk"])`: a gateway with the devices alice-web and
    bob-web (passwords alice-secret, bob-secret) and the `[[connection]]` tables of a text.

    Of the installed plugins only those named are loaded, all but the console when none are named. It is entered when
    every connection is loaded or down.
    """
    from siperb_core.testing.gateway import head_with, open_gateway

    async with _holding() as held:
        opened = 0

        async def open_one(connections: str = "", *, plugins: Iterable[str] | None = None) -> Gateway:
            nonlocal opened
            opened += 1
            directory = tmp_path / f"gateway{opened}"
            directory.mkdir()
            return await held.open(open_gateway(directory, connections, head=head_with(plugins)))

        yield open_one


@_async_fixture
async def softphone(gateway: object) -> AsyncIterator[Callable[..., Any]]:
    """`alice = await softphone(gw, "alice", codecs=("PCMU",))`: a softphone, registered as the device NAME-web by
    WebSocket; the fields are those of `SoftphoneSettings`.
    """
    from siperb_core.testing.gateway import websocket_url
    from siperb_core.testing.softphone import open_softphone

    async with _holding() as held:

        async def open_one(of: Gateway, name: str = "alice", **fields: Any) -> Softphone:
            device, password = f"{name}-web", f"{name}-secret"
            return await held.open(open_softphone(websocket_url(of), device, of.domain, password, **fields))

        yield open_one


@pytest.fixture
def entry() -> FakeEntry:
    """What a connection type is handed, with a scripted PBX behind it (`entry.pbx`).

    It goes by trio's clock: ask for `autojump_clock` beside it, and hours pass at once.
    """
    from siperb_core.testing.fakes import FakeEntry

    return FakeEntry()
