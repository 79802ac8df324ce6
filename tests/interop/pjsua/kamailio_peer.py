"""Kamailio as registrar and proxy, on a loopback address of its own; what is not the account's goes on to pjsua."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from server_program import ServerLog, running

PROGRAM = shutil.which("kamailio") or shutil.which("/usr/sbin/kamailio")
CONFIG = Path(__file__).with_name("kamailio.cfg")
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}


def has_tls() -> bool:
    """Whether Kamailio's module for TLS is installed."""
    return any(Path("/").glob("usr/lib*/**/kamailio/modules/tls.so"))


@asynccontextmanager
async def open_kamailio(
    folder: Path, address: str, phone: str, tls: tuple[Path, Path] | None = None
) -> AsyncIterator[ServerLog]:
    """Run Kamailio as long as the context; `phone` is pjsua's address, `tls` certificate and key."""
    folder = folder / "kamailio"
    folder.mkdir()
    defines = [f"HOST={address}", f'PHONE="{phone}"']
    if tls is not None:
        defines += [f'CERTIFICATE="{tls[0]}"', f'KEY="{tls[1]}"']
    command = [str(PROGRAM), "-DD", "-E", "-f", str(CONFIG), "-m", "64", "-M", "8", "-Y", str(folder)]
    command += [part for define in defines for part in ("-A", define)]
    async with running(command, folder, (address, PORTS["tls" if tls else "tcp"])) as log:
        yield log
