"""A server's program, from when it listens to its end."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from watching import until


class ServerLog:
    """What a program writes."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def report(self) -> str:
        """All of it."""
        return self._file.read_text(errors="replace")

    async def said(self, words: str) -> str:
        """Wait for a line that has these words."""

        async def look() -> str:
            return next((line for line in self.report().splitlines() if words in line), "")

        return await until(look)


@asynccontextmanager
async def running(command: Sequence[str], folder: Path, at: tuple[str, int]) -> AsyncIterator[ServerLog]:
    """Run it as long as the context, in a folder, where its log is; it has to listen for TCP at an address."""
    file = folder / "log"
    with file.open("wb") as output:
        process = await trio.lowlevel.open_process(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    log = ServerLog(file)

    async def listens() -> bool:
        assert process.returncode is None, log.report()
        try:
            stream = await trio.open_tcp_stream(*at)
        except OSError:
            return False
        await stream.aclose()
        return True

    try:
        await until(listens)
        yield log
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            with trio.move_on_after(10):
                await process.wait()
            if process.returncode is None:
                process.kill()
            await process.wait()
