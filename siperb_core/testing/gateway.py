"""A whole gateway in this process, on free ports of loopback, for tests."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path

import trio

from siperb_core.gateway import Gateway
from siperb_core.plugins import CORE, GROUP

_HEAD = """\
[gateway]
domain = "gw.example"
data_dir = "data"

[[listen]]
transport = "udp"
bind = "127.0.0.1:0"

[[listen]]
transport = "ws"
bind = "127.0.0.1:0"

[media]
workers = 1

[plugins]
disable = ["console"]

[[device]]
name = "alice-web"
user = "alice"
password = "alice-secret"

[[device]]
name = "bob-web"
user = "bob"
password = "bob-secret"
"""


def trunk_to(port: int, keys: str = "") -> str:
    """The table of a trunk "office" to a PBX on loopback; what it gets is for Alice. `keys` are more lines of it."""
    more = f"{keys}\n" if keys else ""
    return (
        '[[connection]]\nname = "office"\ntype = "outbound_trunk"\nusers = ["alice"]\nallow_from = ["127.0.0.1"]\n'
        f'{more}[connection.settings]\nserver = "127.0.0.1"\nport = {port}\n'
    )


def head_with(plugins: Iterable[str] | None) -> str:
    """The usual beginning of the file, with the named plugins and no others of those that are installed; None: all
    but the console.
    """
    if plugins is None:
        return _HEAD
    wanted = {CORE, *plugins}
    found = {point.name for point in entry_points(group=GROUP)}
    missing = wanted - found
    if missing:
        raise LookupError(f"no plugin {', '.join(sorted(missing))} is installed: there are {', '.join(sorted(found))}")
    return _HEAD.replace('["console"]', json.dumps(sorted(found - wanted)))


@asynccontextmanager
async def open_gateway(
    directory: Path, connections: str = "", *, head: str = _HEAD, make: Callable[[Path], Gateway] = Gateway
) -> AsyncIterator[Gateway]:
    """Run a gateway with two devices (alice-web, bob-web) and these `[[connection]]` tables until the block ends.

    Entered once every entry has been set up or has failed to be. `make` gives a gateway with another clock, say.
    """
    config = directory / "siperb.toml"
    config.write_text(f"{head}\n{connections}", encoding="utf-8")
    os.chmod(config, 0o600)
    gateway = make(config)
    ended = trio.Event()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            await gateway.run(task_status=task_status)
        finally:
            ended.set()  # `gateway.stopped` is not, when the test is cancelled

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        await gateway.wait_settled()
        try:
            yield gateway
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(20):
                gateway.stop(drain_seconds=0)
                await ended.wait()
            nursery.cancel_scope.cancel()


def address(gateway: Gateway, transport: str) -> tuple[str, int]:
    """Where the gateway listens by this transport."""
    return gateway.listeners[transport][0].local


def websocket_url(gateway: Gateway) -> str:
    """Where softphones connect."""
    host, port = address(gateway, "ws")
    return f"ws://{host}:{port}/ws"
