"""SIPp as the other side: each process on a loopback address of its own, so that every port there is free."""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from watching import until

from siperb_core.rtp import g711
from siperb_core.testing import tones

SIPP = shutil.which("sipp")
SCENARIOS = Path(__file__).parent / "scenarios"
PORT = 5060
RTP_PORT = 6000

G722 = {"payload": "9", "codec": "G722/8000"}
PCMA = {"payload": "8", "codec": "PCMA/8000"}
TONE_DBFS = -6.0


class Sipp:
    """One running SIPp."""

    def __init__(self, process: trio.Process, folder: Path, address: str) -> None:
        self.address = address
        self._process = process
        self._folder = folder

    @property
    def messages(self) -> str:
        """All SIP that has come and gone, with SIPp's own remarks in between."""
        log = self._folder / "messages.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def received(self, method: str) -> list[str]:
        """The requests of a method that have come in, repetitions too."""
        blocks = re.split(r"^-{20,} .*$", self.messages, flags=re.MULTILINE)
        found = []
        for block in blocks:
            head, _, message = block.lstrip().partition("\n\n")
            if "message received" in head and message.startswith(f"{method} "):
                found.append(message)
        return found

    @property
    def statistics(self) -> dict[str, str]:
        """What SIPp has counted, not more than a second or two old; by the names of its file's columns."""
        file = self._folder / "statistics.csv"
        lines = file.read_text().splitlines() if file.exists() else []
        return dict(zip(lines[0].split(";"), lines[-1].split(";"), strict=True)) if len(lines) > 1 else {}

    @property
    def ended(self) -> bool:
        """Whether SIPp has ended, well or not."""
        return self._process.returncode is not None

    async def listens(self) -> None:
        """Wait until SIPp has its SIP port."""
        wanted = ":".join((bytes(reversed(bytes(map(int, self.address.split("."))))).hex().upper(), f"{PORT:04X}"))

        async def look() -> bool:
            return wanted in _udp_sockets()

        await until(look)

    async def watch(self) -> None:
        """Wait for the end; a failure of SIPp's ends the test at once."""
        await self._process.wait()
        assert self._process.returncode == 0, self.report()

    async def succeeds(self, *, seconds: float = 30.0) -> None:
        """Wait for the end of the scenario, and assert that SIPp calls it a success."""
        with trio.move_on_after(seconds):
            await self._process.wait()
        assert self._process.returncode == 0, self.report()

    def report(self) -> str:
        """What there is to read about a failure."""
        errors = self._folder / "errors.log"
        text = errors.read_text(errors="replace") if errors.exists() else ""
        screen = (self._folder / "screen").read_text(errors="replace")
        return f"SIPp's exit code: {self._process.returncode}\n{text}\n{screen[-1500:]}\n{self.messages[-12000:]}"


@asynccontextmanager
async def open_sipp(
    folder: Path,
    scenario: str,
    *options: str,
    to: tuple[str, int] | None = None,
    calls: int = 1,
    address: str = "",
    keys: dict[str, str] | None = None,
    files: Iterable[str] = (),
    messages: bool = True,
) -> AsyncIterator[Sipp]:
    """Run a scenario, for `calls` calls; `to` is where a caller calls. Ended by force with the block.

    `address`: a loopback address nobody else uses; by default a random one. `files` of `folder` the scenario needs.
    Without `messages` none is kept, where they are many.
    """
    address = address or own_address()
    source, folder = folder, folder / f"{scenario}-{secrets.token_hex(3)}"
    folder.mkdir()
    for file in files:
        shutil.copy(source / file, folder)
    command = [str(SIPP), "-sf", str(SCENARIOS / f"{scenario}.xml"), "-i", address, "-p", str(PORT)]
    command += ["-mi", address, "-mp", str(RTP_PORT), "-ci", address]
    command += ["-m", str(calls), "-nostdin", "-nd"]
    command += ["-trace_err", "-error_file", "errors.log", "-trace_stat", "-stf", "statistics.csv", "-fd", "1"]
    if messages:
        command += ["-trace_msg", "-message_file", "messages.log"]
    for key, value in (keys or {}).items():
        command += ["-key", key, value]
    command += options
    if to is not None:
        command.append("{}:{}".format(*to))
    with (folder / "screen").open("wb") as screen:
        process = await trio.lowlevel.open_process(command, cwd=folder, stdout=screen, stderr=subprocess.STDOUT)
    sipp = Sipp(process, folder, address)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sipp.watch)
            if to is None:
                await sipp.listens()
            yield sipp
            nursery.cancel_scope.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def _udp_sockets() -> str:
    """The system's list of bound UDP ports."""
    return Path("/proc/net/udp").read_text()


def own_address() -> str:
    """A loopback address that is nobody's: there are sixteen million."""
    return "127.{}.{}.{}".format(*(1 + secrets.randbelow(253) for _ in range(3)))


def write_tone(file: Path, hz: int) -> None:
    """A second of a tone as SIPp plays it: raw A-law."""
    file.write_bytes(g711.encode("PCMA", tones.second(hz, TONE_DBFS, 8000)))
