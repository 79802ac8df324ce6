"""What media costs: CPU of one worker per call-second, its memory, set-up, and the delay it adds. One JSON line each
(docs: benchmarks).

python bench/media.py [SECONDS] [CALLS ...]. Every call is real: ICE, DTLS-SRTP and 50 packets a second each way. The
load comes from a process of its own (`--load`), so that only the worker's CPU is counted; a run that loses packets says
so instead of looking cheap. The delay is softphone to PBX, from sending to the kernel's receive time stamp.
"""

from __future__ import annotations

import json
import math
import os
import platform
import random
import secrets
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
from typing import Any

import trio
import trio_asyncio

from siperb_core.media.certificate import make_certificate
from siperb_core.media.pool import MediaPool, MediaSession
from siperb_core.sdp.plan import ClientLeg, Codec, PeerLeg, SessionPlan, Stream

HOST = "127.0.0.1"
CODECS = {"opus": (Codec("opus", 48000, 2), 111, 960), "G722": (Codec("G722", 8000), 9, 160)}
TIMESTAMP = 35  # SO_TIMESTAMPNS
TICKS = os.sysconf("SC_CLK_TCK")


def voice(rate: int, seconds: int) -> bytes:
    """Something as busy as speech: gliding harmonics, noise, pauses."""
    noise, samples, phase = random.Random(1), [], 0.0
    for i in range(rate * seconds):
        t = i / rate
        phase += 2 * math.pi * (140 + 40 * math.sin(2 * math.pi * 0.7 * t)) / rate
        loud = max(0.0, math.sin(2 * math.pi * 1.3 * t)) * 6000
        samples.append(round(loud * sum(math.sin(phase * h) / h for h in range(1, 9)) + noise.gauss(0, 200)))
    return struct.pack(f"<{len(samples)}h", *samples)


def speech(codec: str) -> list[bytes]:
    """Four seconds of payloads."""
    from siperb_transcoder_opus_g722 import codecs

    pcm, encoder = voice(16000, 4), codecs.encoder(codec, 16000)
    return [encoder.encode(pcm[i : i + 640]) for i in range(0, len(pcm), 640)]


class LoadCall:
    """A softphone and a phone at the PBX, in the load process."""

    def __init__(self, index: int, nursery: trio.Nursery, certificate: Any, remote: dict[str, Any], codec: str) -> None:
        from siperb_core.media.client_leg import ClientConnection

        self.index, self.codec, self.remote = index, codec, remote
        self.received = {"web": 0, "pbx": 0}
        self.sent: dict[int, float] = {}
        self.delays: list[float] = []
        self.phone, self.web = self._bind(), self._bind()
        self.phone.setsockopt(socket.SOL_SOCKET, TIMESTAMP, 1)
        self.ufrag, self.password = secrets.token_hex(4), secrets.token_hex(12)
        self.connected = trio.Event()

        def report(kind: str, detail: str) -> None:
            if kind != "connected":
                raise SystemExit(f"{kind}: {detail}")
            self.connected.set()

        def heard(data: bytes, now: float) -> None:
            self.received["web"] += 1

        self.connection = ClientConnection(
            self.web,
            nursery=nursery,
            certificate=certificate,
            tie_breaker=secrets.randbits(64),
            report=report,
            on_rtp=heard,
            on_rtcp=lambda data, now: None,
        )

    @staticmethod
    def _bind() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        sock.setblocking(False)
        return sock

    def start(self) -> None:
        """Let ICE and DTLS begin."""
        remote = self.remote
        candidate = f"1 1 udp 2130706431 {HOST} {remote['port']} typ host"
        fingerprint = (tuple(remote["fingerprint"]),)
        self.connection.apply(
            ClientLeg(
                *(self.ufrag, self.password, remote["ufrag"], remote["password"], (candidate,), fingerprint),
                *("server", True, 1),
            )
        )

    def send(self, n: int, web: bytes, pbx: bytes) -> None:
        """Send one packet each way."""
        _, payload_type, step = CODECS[self.codec]
        self.sent[n & 0xFFFF] = time.time()
        self.connection.send(struct.pack("!BBHII", 0x80, payload_type, n & 0xFFFF, n * step & 0xFFFFFFFF, 1) + web)
        packet = struct.pack("!BBHII", 0x80, 9, n & 0xFFFF, n * 160 & 0xFFFFFFFF, 2) + pbx
        self.phone.sendto(packet, (HOST, self.remote["peer_port"]))

    def phone_readable(self) -> None:
        """Take what the phone hears, and when the kernel got it."""
        try:
            while True:
                data, ancillary, _, _ = self.phone.recvmsg(2048, 64)
                self.received["pbx"] += 1
                seconds, nanoseconds = struct.unpack_from("qq", ancillary[0][2])
                if not hasattr(self, "offset"):  # the first packet tells where our numbers begin
                    self.offset = (int.from_bytes(data[2:4], "big") - next(iter(self.sent))) & 0xFFFF
                at = self.sent.get((int.from_bytes(data[2:4], "big") - self.offset) & 0xFFFF)
                if at is not None:
                    self.delays.append(seconds + nanoseconds / 1e9 - at)
        except BlockingIOError:
            pass


async def load() -> None:
    """The load process: JSON lines on stdin and stdout."""
    from siperb_core.media.dtls import load_certificate

    async def line() -> dict[str, Any]:
        return json.loads(await trio.to_thread.run_sync(sys.stdin.readline))

    def say(**message: Any) -> None:
        print(json.dumps(message), flush=True)

    async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
        order = await line()
        made = make_certificate()
        certificate = load_certificate(made.pem)
        calls = [LoadCall(i, nursery, certificate, c, order["codec"]) for i, c in enumerate(order["calls"])]
        say(
            calls=[
                {
                    "port": c.web.getsockname()[1],
                    "phone": c.phone.getsockname()[1],
                    "ufrag": c.ufrag,
                    "password": c.password,
                }
                for c in calls
            ],
            fingerprint=made.fingerprint,
        )
        await line()
        epoll = select.epoll()
        handlers = {}
        for call in calls:
            handlers[call.web.fileno()] = call.connection.readable
            handlers[call.phone.fileno()] = call.phone_readable
            epoll.register(call.web, select.EPOLLIN)
            epoll.register(call.phone, select.EPOLLIN)

        async def serve() -> None:
            while True:
                await trio.lowlevel.wait_readable(epoll.fileno())
                for fd, _ in epoll.poll(0, 512):
                    handlers[fd]()

        async def keep_time() -> None:
            while True:
                for call in calls:
                    call.connection.advance(time.monotonic())
                await trio.sleep(0.02)

        nursery.start_soon(serve)
        nursery.start_soon(keep_time)
        for call in calls:
            call.start()
        for call in calls:
            await call.connected.wait()
        say(connected=len(calls))
        web, pbx = speech(order["codec"]), speech("G722")
        begin, n = trio.current_time(), 0
        warm = 75
        while n < warm + order["seconds"] * 50:
            if n == warm:
                for call in calls:
                    call.received.update(web=0, pbx=0)
                    call.delays.clear()
                say(measuring=True)
            for i, call in enumerate(calls):
                await trio.sleep_until(begin + 0.02 * (n + i / len(calls)))
                call.send(n, web[(n + 37 * i) % len(web)], pbx[(n + 37 * i) % len(pbx)])
            n += 1
        say(done=True)
        delays = sorted(d for c in calls for d in c.delays)
        share = [sum(c.received[leg] for c in calls) / (50 * order["seconds"] * len(calls)) for leg in ("web", "pbx")]
        say(p50=delays[len(delays) // 2], p99=delays[int(len(delays) * 0.99)], arrived=[round(s, 4) for s in share])
        await line()
        nursery.cancel_scope.cancel()


def cpu(pid: int) -> float:
    """CPU seconds a process has used."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> float:
    """Resident memory in MiB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(text.split()[1]) for text in status if text.startswith("VmRSS")) / 1024


async def measure(pool: MediaPool, count: int, seconds: int, codec: str) -> dict[str, Any]:
    """Run so many calls and take the worker's figures."""
    [pid] = pool.worker_pids
    child = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, __file__, "--load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    stdin, stdout = child.stdin, child.stdout

    async def ask(**message: Any) -> dict[str, Any]:
        stdin.write(json.dumps(message) + "\n")
        stdin.flush()
        return await hear()

    async def hear() -> dict[str, Any]:
        return json.loads(await trio.to_thread.run_sync(stdout.readline))

    try:
        memory_before = memory(pid)
        sessions: list[MediaSession] = []
        order = []
        for n in range(count):
            session = pool.open(f"bench-{n}")
            sessions.append(session)
            order.append(
                {
                    "port": session.add_branch("a"),
                    "peer_port": session.peer_port,
                    "ufrag": f"ours{n}",
                    "password": "p" * 22,
                    "fingerprint": pool.fingerprint,
                }
            )
        answer = await ask(calls=order, codec=codec, seconds=seconds)
        before = cpu(pid)
        name, payload_type, _ = CODECS[codec]
        for n, (session, theirs) in enumerate(zip(sessions, answer["calls"], strict=True)):
            client = ClientLeg(
                *(f"ours{n}", "p" * 22, theirs["ufrag"], theirs["password"]),
                (f"1 1 udp 2130706431 {HOST} {theirs['port']} typ host",),
                (tuple(answer["fingerprint"]),),
                *("client", False, 7, Stream(name, payload_type, payload_type)),
            )
            peer = PeerLeg((HOST, theirs["phone"]), None, False, 8, Stream(CODECS["G722"][0], 9, 9))
            session.apply(SessionPlan(peer, {"a": client}, "a"))
        await ask(go=True)
        setup = (cpu(pid) - before) / count * 1000
        await hear()
        start, before = time.monotonic(), cpu(pid)
        await hear()
        used, passed = cpu(pid) - before, time.monotonic() - start
        result = await hear()
        grown = memory(pid) - memory_before
        stdin.write("{}\n")
        stdin.flush()
        for session in sessions:
            session.close()
        for session in sessions:
            await session.closed.wait()
        return result | {"ms": used / passed / count * 1000, "setup": setup, "memory": grown / count}
    finally:
        stdin.close()
        stdout.close()
        child.wait()


def tell(bench: str, value: float, unit: str, **more: Any) -> None:
    """Print one result for each peer."""
    for peer in ("rtpengine", "floor"):
        reason = "not installed" if peer == "floor" or shutil.which("rtpengine") is None else "not measured in this run"
        figures = {"peer": peer, "peer_value": None, "ratio": None, "peer_version": None, "reason": reason}
        print(json.dumps({"bench": bench, "value": round(value, 3), "unit": unit} | figures | more), flush=True)


async def main(seconds: int, counts: list[int]) -> None:
    """Measure all of it."""
    print(f"python {platform.python_version()}, {os.cpu_count()} cores, {seconds} s a run", file=sys.stderr)
    async with MediaPool(ports="40000-40999", workers=1, bind_address=HOST) as pool:
        await pool.wait_ready()
        await measure(pool, 1, 1, "opus")  # the first call pays for what all share
        for bench, codec in (("media.transcode_opus_g722", "opus"), ("media.relay", "G722")):
            for count in counts:
                figures = await measure(pool, count, seconds, codec)
                if min(figures["arrived"]) < 0.99:
                    print(f"{bench}, {count} calls: packets were lost, {figures['arrived']}", file=sys.stderr)
                tell(bench, figures["ms"], "ms CPU per call-second", calls=count, arrived=figures["arrived"])
                if codec == "opus":
                    tell("media.setup_ms", figures["setup"], "ms CPU per call", calls=count)
                    delay = 1000 * figures["p99"]
                    tell("media.added_latency_p99_ms", delay, "ms", calls=count, p50=round(1000 * figures["p50"], 2))
                if codec == "opus" and count == max(counts):
                    tell("media.memory_per_call_mib", figures["memory"], "MiB", calls=count)
                    tell("media.calls_per_core", 1000 / figures["ms"], "calls", calls=count)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        trio.run(load)
    else:
        numbers = [int(word) for word in sys.argv[1:]]
        trio.run(main, numbers[0] if numbers else 10, numbers[1:] or [1, 10, 30])
