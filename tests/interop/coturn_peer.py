"""coturn as the TURN server, on a loopback address of its own, with the secret it shares with the gateway."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from watching import until

PROGRAM = shutil.which("turnserver")
MISSING = "coturn is not installed (apt-get install coturn)"
PORT = 3478
REALM = "gw.example"


class Coturn:
    """One running coturn."""

    def __init__(self, log: Path, address: str) -> None:
        self.address = address
        self._log = log

    @property
    def uri(self) -> str:
        """As it stands in the gateway's `[media] turn`."""
        return f"turn:{self.address}:{PORT}?transport=udp"

    def report(self) -> str:
        """All it has written."""
        return self._log.read_text(errors="replace")

    async def said(self, words: str) -> str:
        """Wait for a line of its log that has these words."""

        async def look() -> str:
            return next((line for line in self.report().splitlines() if words in line), "")

        return await until(look)


@asynccontextmanager
async def open_coturn(folder: Path, address: str, secret: str) -> AsyncIterator[Coturn]:
    """Run coturn as long as the context; it relays to loopback addresses, which it would refuse otherwise."""
    folder = folder / "coturn"
    folder.mkdir()
    # A file, for the secret is nobody's who looks at the list of processes.
    config = folder / "turnserver.conf"
    config.write_text(
        f"listening-ip={address}\nrelay-ip={address}\nlistening-port={PORT}\nmin-port=49152\nmax-port=49200\n"
        f"realm={REALM}\nuse-auth-secret\nstatic-auth-secret={secret}\nuserdb={folder}/turndb\n"
        f"pidfile={folder}/pid\nlog-file=stdout\nverbose\nallow-loopback-peers\n"
        "no-tls\nno-dtls\nno-cli\nno-rfc5780\nfingerprint\n"
    )
    log = folder / "log"
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            [str(PROGRAM), "-c", str(config)], cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    coturn = Coturn(log, address)

    async def listens() -> bool:
        assert process.returncode is None, coturn.report()
        try:
            stream = await trio.open_tcp_stream(address, PORT)
        except OSError:
            return False
        await stream.aclose()
        return True

    try:
        await until(listens)
        yield coturn
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            with trio.move_on_after(10):
                await process.wait()
            if process.returncode is None:
                process.kill()
            await process.wait()
