"""Kamailio as registrar and proxy, on a loopback address of its own; what is not the account's goes on to pjsua."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from watching import until

PROGRAM = shutil.which("kamailio") or shutil.which("/usr/sbin/kamailio")
CONFIG = Path(__file__).with_name("kamailio.cfg")
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}


def has_tls() -> bool:
    """Whether Kamailio's module for TLS is installed."""
    return any(Path("/").glob("usr/lib*/**/kamailio/modules/tls.so"))


class Kamailio:
    """One running Kamailio."""

    def __init__(self, log: Path, address: str) -> None:
        self.address = address
        self._log = log

    def report(self) -> str:
        """All it has written."""
        return self._log.read_text(errors="replace")

    async def saw(self, *words: str) -> str:
        """Wait until it has passed or taken a request: method, transport, ...; the line of its log."""
        wanted = " ".join(("SEEN", *words))

        async def look() -> str:
            return next((line for line in self.report().splitlines() if wanted in line), "")

        return await until(look)


@asynccontextmanager
async def open_kamailio(
    folder: Path, address: str, phone: str, tls: tuple[Path, Path] | None = None
) -> AsyncIterator[Kamailio]:
    """Run Kamailio as long as the context; `phone` is pjsua's address, `tls` certificate and key."""
    folder = folder / "kamailio"
    folder.mkdir()
    defines = [f"HOST={address}", f'PHONE="{phone}"']
    if tls is not None:
        defines += [f'CERTIFICATE="{tls[0]}"', f'KEY="{tls[1]}"']
    command = [str(PROGRAM), "-DD", "-E", "-f", str(CONFIG), "-m", "64", "-M", "8", "-Y", str(folder)]
    command += [part for define in defines for part in ("-A", define)]
    log = folder / "log"
    with log.open("wb") as errors:
        process = await trio.lowlevel.open_process(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
    kamailio = Kamailio(log, address)

    async def listens() -> bool:
        assert process.returncode is None, kamailio.report()
        try:
            stream = await trio.open_tcp_stream(address, 5061 if tls else 5060)
        except OSError:
            return False
        await stream.aclose()
        return True

    try:
        await until(listens)
        yield kamailio
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            with trio.move_on_after(10):
                await process.wait()
            if process.returncode is None:
                process.kill()
            await process.wait()
