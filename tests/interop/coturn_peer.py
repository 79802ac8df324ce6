"""coturn as the TURN server, on a loopback address of its own, with the secret it shares with the gateway."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from server_program import ServerLog, running

PROGRAM = shutil.which("turnserver")
MISSING = "coturn is not installed (apt-get install coturn)"
PORT = 3478
REALM = "gw.example"


def turn_uri(address: str) -> str:
    """As it stands in the gateway's `[media] turn`."""
    return f"turn:{address}:{PORT}?transport=udp"


@asynccontextmanager
async def open_coturn(folder: Path, address: str, secret: str) -> AsyncIterator[ServerLog]:
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
    async with running([str(PROGRAM), "-c", str(config)], folder, (address, PORT)) as log:
        yield log
