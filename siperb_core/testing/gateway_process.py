"""`siperb run` as a process, to be killed like one: on an address of its own, so that its ports stay free."""

from __future__ import annotations

import os
import secrets
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from siperb_core.control import connect

SIPERB = Path(sys.executable).with_name("siperb")
T = TypeVar("T")
_INTERVAL = 0.02  # seconds between two looks at what another process does


def own_address() -> str:
    """A loopback address that is nobody's: there are sixteen million."""
    return "127.{}.{}.{}".format(*(1 + secrets.randbelow(253) for _ in range(3)))


async def until(look: Callable[[], Awaitable[T]], *, seconds: float = 20.0) -> T:
    """The first result that is true. Raises trio.TooSlowError."""
    with trio.fail_after(seconds):
        while not (found := await look()):  # noqa: ASYNC110 - what another process does sends no event
            await trio.sleep(_INTERVAL)
        return found


class GatewayProcess:
    """A gateway that can be started, killed without a word, and started again with the same file."""

    def __init__(self, folder: Path, config: str) -> None:
        self.folder = folder
        self.config = folder / "siperb.toml"
        self.config.write_text(config, encoding="utf-8")
        self.config.chmod(0o600)
        self.process: trio.Process | None = None
        self.workers: list[int] = []

    async def start(self) -> None:
        """Start it; returns when it says READY (sd_notify)."""
        path = self.folder / "notify"
        path.unlink(missing_ok=True)
        with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_DGRAM) as notify:
            await notify.bind(str(path))
            environment: Mapping[str, str] = {**os.environ, "NOTIFY_SOCKET": str(path)}
            with (self.folder / "gateway.log").open("ab") as log:
                self.process = await trio.lowlevel.open_process(
                    [str(SIPERB), "run", "--config", str(self.config)], env=environment, stderr=log, stdout=log
                )
            with trio.fail_after(60):
                while b"READY=1" not in await notify.recv(4096):
                    pass
        self.workers = children(self.process.pid)

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> None:
        """Whatever state it is in, it is gone afterwards."""
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            with trio.CancelScope(shield=True), trio.move_on_after(15):
                await self.process.wait()
            self.process.kill()

    async def ask(self, method: str, **params: Any) -> Any:
        """What `siperb show` would say."""
        async with connect(self.folder / "data" / "control.sock") as client:
            return await client.call(method, params)

    async def registered(self, connection: str) -> bool:
        """Whether the gateway's own registration of a connection stands."""
        (row,) = [row for row in await self.ask("show.connections") if row["name"] == connection]
        return (row["registration"] or {}).get("state") == "registered"

    def stored(self, table: str) -> int:
        """Rows of a table of the store."""
        with sqlite3.connect(f"file:{self.folder}/data/siperb.db?mode=ro", uri=True) as store:
            (count,) = store.execute(f"SELECT count(*) FROM {table}").fetchone()
        store.close()
        return int(count)

    @property
    def log(self) -> str:
        return (self.folder / "gateway.log").read_text(errors="replace")


def children(pid: int) -> list[int]:
    """Processes a process has started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def gone(pid: int) -> bool:
    """Whether a process has ended; one whose end nobody has asked about yet has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


@asynccontextmanager
async def gateway_process(folder: Path, config: str) -> AsyncIterator[GatewayProcess]:
    """A gateway that has said READY."""
    gateway = GatewayProcess(folder, config)
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.stop()
