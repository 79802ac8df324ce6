"""What is measured by the media benchmark: our worker, rtpengine, and a floor in C. Each carries the same calls."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from media_load import CODECS, HOST

from siperb_core.media.encoding import EffortSetting
from siperb_core.media.pool import MediaPool, MediaSession
from siperb_core.sdp.plan import ClientLeg, PeerLeg, SessionPlan, Stream

HERE = Path(__file__).parent


class Bridge(Protocol):
    """Something that carries calls between softphones and a PBX."""

    pid: int
    """The process whose CPU and memory count; 0 before it is started."""
    keys: bool
    """Whether the softphones' keys are given, instead of agreed on by DTLS."""

    def connect(self, codec: str, load: dict[str, Any]) -> list[dict[str, Any]]:
        """Set calls up for what the load has described; what it is to be told of each (bench/media_load.py)."""

    async def release(self) -> None:
        """End the calls."""


class Worker:
    """One worker of ours."""

    keys = False

    def __init__(self, pool: MediaPool) -> None:
        self._pool = pool
        [self.pid] = pool.worker_pids
        self._sessions: list[MediaSession] = []

    @property
    def effort(self) -> str:
        """How well Opus is encoded now."""
        return self._sessions[0].stats.get("effort", "")

    def connect(self, codec: str, load: dict[str, Any]) -> list[dict[str, Any]]:
        """A media session each."""
        made, payload_type, _ = CODECS[codec]
        remotes = []
        for n, theirs in enumerate(load["calls"]):
            session = self._pool.open(f"bench-{n}")
            self._sessions.append(session)
            ufrag, password = f"ours{n}", "p" * 22
            client = ClientLeg(
                *(ufrag, password, theirs["ufrag"], theirs["password"]),
                (f"1 1 udp 2130706431 {HOST} {theirs['port']} typ host",),
                (tuple(load["fingerprint"]),),
                *("client", False, 7, Stream(made, payload_type, payload_type)),
            )
            remote = {"ufrag": ufrag, "password": password, "fingerprint": self._pool.fingerprint, "setup": "active"}
            remotes.append(remote | {"port": session.add_branch("a"), "peer_port": session.peer_port})
            peer = PeerLeg((HOST, theirs["phone"]), None, False, 8, Stream(CODECS["G722"][0], 9, 9))
            session.apply(SessionPlan(peer, {"a": client}, "a"))
        return remotes

    async def release(self) -> None:
        """Give the ports back."""
        for session in self._sessions:
            session.close()
        for session in self._sessions:
            await session.closed.wait()
        self._sessions.clear()


@asynccontextmanager
async def worker(effort: EffortSetting = "auto", ports: str = "40000-40999") -> AsyncIterator[Worker]:
    """Ours."""
    async with MediaPool(ports=ports, workers=1, bind_address=HOST, effort=effort) as pool:
        await pool.wait_ready()
        yield Worker(pool)


def _bencode(value: Any) -> bytes:
    match value:
        case str():
            return b"%d:%s" % (len(value.encode()), value.encode())
        case list():
            return b"l" + b"".join(map(_bencode, value)) + b"e"
        case _:
            return b"d" + b"".join(_bencode(key) + _bencode(value[key]) for key in sorted(value)) + b"e"


class Rtpengine:
    """rtpengine in user space, spoken to by its ng protocol (bencode over UDP)."""

    keys = False

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((HOST, port))
        self._socket.settimeout(5)
        self._cookies = itertools.count()
        self._calls: list[str] = []

    def ask(self, command: str, **parameters: Any) -> str:
        """Send a command; the SDP of the answer. Raises SystemExit where there is none."""
        cookie = f"{os.getpid()}_{next(self._cookies)}".encode()
        message = {name.replace("_", "-"): value for name, value in parameters.items()} | {"command": command}
        self._socket.send(cookie + b" " + _bencode(message))
        while True:
            got, _, body = self._socket.recv(65_535).partition(b" ")
            if got == cookie:
                break
        sdp = re.search(rb"3:sdp(\d+):", body)
        if b"6:result2:ok" not in body and b"6:result4:pong" not in body:
            raise SystemExit(f"rtpengine: {body.decode(errors='replace')}")
        return body[sdp.end() : sdp.end() + int(sdp[1])].decode() if sdp else ""

    def connect(self, codec: str, load: dict[str, Any]) -> list[dict[str, Any]]:
        """Offer and answer of each."""
        made, payload_type, _ = CODECS[codec]
        start = f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
        same = {"flags": ["trust-address"], "replace": ["origin"]}
        change = {} if codec == "G722" else {"codec": {"strip": [codec], "transcode": ["G722"]}}
        method, fingerprint = load["fingerprint"]
        remotes = []
        for theirs in load["calls"]:
            name = secrets.token_hex(8)
            self._calls.append(name)
            web = (
                f"m=audio {theirs['port']} UDP/TLS/RTP/SAVPF {payload_type}\r\n"
                f"a=rtpmap:{payload_type} {codec}/{made.clock}{'/2' if made.channels == 2 else ''}\r\n"
                f"a=ice-ufrag:{theirs['ufrag']}\r\na=ice-pwd:{theirs['password']}\r\n"
                f"a=candidate:1 1 udp 2130706431 {HOST} {theirs['port']} typ host\r\n"
                f"a=fingerprint:{method} {fingerprint}\r\na=setup:actpass\r\na=rtcp-mux\r\na=mid:0\r\na=sendrecv\r\n"
            )
            offer = self.ask(
                "offer",
                call_id=name,
                from_tag="a",
                sdp=start + web,
                transport_protocol="RTP/AVP",
                rtcp_mux=["demux"],
                ICE="remove",
                **same,
                **change,
            )
            phone = f"m=audio {theirs['phone']} RTP/AVP 9\r\na=rtpmap:9 G722/8000\r\na=sendrecv\r\n"
            answer = self.ask("answer", call_id=name, from_tag="a", to_tag="b", sdp=start + phone, **same)
            remotes.append(self._remote(answer, offer))
        return remotes

    @staticmethod
    def _remote(answer: str, offer: str) -> dict[str, Any]:
        def line(pattern: str, sdp: str = answer) -> str:
            found = re.search(pattern, sdp)
            if found is None:
                raise SystemExit(f"rtpengine's SDP has no {pattern}: {sdp}")
            return found[1]

        return {
            "port": int(line(r"m=audio (\d+)")),
            "peer_port": int(line(r"m=audio (\d+)", offer)),
            "ufrag": line(r"a=ice-ufrag:(\S+)"),
            "password": line(r"a=ice-pwd:(\S+)"),
            "fingerprint": [line(r"a=fingerprint:(\S+)").lower(), line(r"a=fingerprint:\S+ (\S+)")],
            "setup": line(r"a=setup:(\S+)"),
        }

    async def release(self) -> None:
        """End the calls."""
        for name in self._calls:
            self.ask("delete", call_id=name, from_tag="a")
        self._calls.clear()


@contextmanager
def rtpengine(work: Path) -> Iterator[Rtpengine]:
    """rtpengine, with a thread for each core of a small machine: one does not carry thirty transcoded calls."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        port = sock.getsockname()[1]
    command = [
        *("rtpengine", "--foreground", "--log-stderr", "--log-level=3", "--table=-1", f"--interface={HOST}"),
        *(f"--listen-ng={HOST}:{port}", "--port-min=42000", "--port-max=44999", "--num-threads=2"),
        *("--delete-delay=0", "--timeout=120"),
    ]
    with (work / "rtpengine.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        peer = Rtpengine(process.pid, port)
        for attempt in range(50):
            try:
                peer.ask("ping")
                break
            except ConnectionRefusedError:
                if attempt == 49 or process.poll() is not None:
                    raise SystemExit(f"rtpengine did not start: {(work / 'rtpengine.log').read_text()}") from None
                time.sleep(0.1)
        yield peer
    finally:
        process.terminate()
        process.wait()


def rtpengine_version() -> str | None:
    """The version that is installed; None where none is."""
    if shutil.which("rtpengine") is None:
        return None
    said = subprocess.run(["rtpengine", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d[\w.+~-]*", said.stdout + said.stderr)
    return found[0] if found else "unknown"


class Floor:
    """bench/media_floor.c, started anew for each run."""

    keys = True

    def __init__(self, program: Path) -> None:
        self._program = program
        self._process: subprocess.Popen[str] | None = None
        self.pid = 0

    def connect(self, codec: str, load: dict[str, Any]) -> list[dict[str, Any]]:
        """Give it ports and keys."""
        calls = load["calls"]
        process = self._process = subprocess.Popen(
            [self._program, str(len(calls)), codec], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = process.pid
        assert process.stdin is not None
        assert process.stdout is not None
        for call in calls:
            process.stdin.write(f"{call['port']} {call['phone']} {call['send']} {call['receive']}\n")
        process.stdin.flush()
        ports = [process.stdout.readline().split() for _ in calls]
        return [{"port": int(web), "peer_port": int(pbx)} for web, pbx in ports]

    async def release(self) -> None:
        """End it."""
        process, self._process, self.pid = self._process, None, 0
        if process is not None:
            process.terminate()
            process.communicate()


def floor(work: Path) -> Floor | str:
    """The floor, compiled; or why not."""
    program = work / "media_floor"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return "no C compiler"
    command = [compiler, "-O2", "-o", program, HERE / "media_floor.c", "-lopus", "-lspandsp", "-lsrtp2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return "not compiled: libopus-dev, libspandsp-dev and libsrtp2-dev are needed"
    return Floor(program)
