"""pjsua2 as the other side, in a process of its own on a loopback address of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from siperb_core.testing import tones

AGENT = Path(__file__).with_name("agent.py")
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}
ACTIVE, LOCAL_HOLD, REMOTE_HOLD = 1, 2, 3
"""Of pjsua's media."""
_RATE = 16_000


class Pjsua:
    """One running agent. What it says is kept until it is asked for."""

    def __init__(self, process: trio.Process, folder: Path, address: str, transport: str) -> None:
        self.address = address
        self.uri = f"sip:pbx@{address}:{PORTS[transport]};transport={transport}"
        self.events: deque[dict[str, Any]] = deque(maxlen=1000)
        self._process = process
        self._folder = folder
        self._news = trio.Event()

    async def read(self) -> None:
        """Take down what it says, until it ends."""
        assert self._process.stdout is not None
        rest = b""
        async for data in self._process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            # Until its log is turned off, pjsua has some lines of its own.
            self.events.extend(json.loads(line) for line in lines if line.startswith(b"{"))
            self._news.set()
            self._news = trio.Event()

    async def ready(self) -> None:
        """Wait until it runs; what else it has said is kept: a registration may be through before."""
        while not any(said["event"] == "ready" for said in self.events):
            await self._news.wait()

    async def order(self, do: str, **more: Any) -> None:
        """Have it do something."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps({"do": do, **more}).encode() + b"\n")

    async def event(self, event: str, **values: Any) -> dict[str, Any]:
        """Wait for it to have said this, and take it off the list with all that was said before."""
        wanted = {"event": event, **values}
        while True:
            while self.events:
                said = self.events.popleft()
                assert said["event"] != "error", said
                if wanted.items() <= said.items():
                    return said
            await self._news.wait()

    async def hears(self, hz: int) -> tones.Heard:
        """Wait until it hears a tone, from now on: what it has of an earlier call does not count."""
        file = self._folder / "heard.wav"
        enough = file.stat().st_size + _RATE  # half a second more
        while True:
            pcm = file.read_bytes()
            heard = tones.analyse(pcm[-_RATE:], _RATE)
            if len(pcm) >= enough and heard.is_tone(hz):
                return heard
            await trio.sleep(0.2)


@asynccontextmanager
async def open_pjsua(folder: Path, address: str, transport: str = "udp", **settings: Any) -> AsyncIterator[Pjsua]:
    """Run an agent as long as the context; it answers calls, and plays 1000 Hz, unless told otherwise."""
    folder = folder / f"pjsua-{address}"
    folder.mkdir()
    with (folder / "stderr").open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            [sys.executable, str(AGENT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        )
    pjsua = Pjsua(process, folder, address, transport)
    given = {
        "address": address,
        "transport": transport,
        "port": PORTS[transport],
        "rtp_port": 6000,
        "folder": str(folder),
        "log": str(folder / "log"),
        "id": f"sip:pbx@{address}",
        "codecs": ["G722", "PCMA"],
        **settings,
    }
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pjsua.read)
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send_all(json.dumps(given).encode() + b"\n")
            with trio.fail_after(30):
                await pjsua.ready()
            yield pjsua
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(5):
            await process.stdin.aclose()
            await process.wait()
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
