"""The load of the media benchmark, in a process of its own: softphones on one side, phones of the PBX on the other.

python bench/media_load.py; JSON lines on stdin and stdout:

    in   {"calls": N, "codec", "seconds", "keys": bool}
    out  {"calls": [{"port", "phone", "ufrag", "password"}], "fingerprint"}  or, with keys, {..., "send", "receive"}
    in   {"calls": [{"port", "peer_port", "ufrag", "password", "fingerprint", "setup"}]}
    out  {"connected": N}, {"measuring"}, {"done"}, {"p50", "p99", "arrived"}
    in   anything: end

A softphone has ICE and DTLS-SRTP or, with `keys`, SRTP with a key that is given (for the floor). The delay is softphone
to PBX, from sending to the kernel's receive time stamp. A peer may have lost its first packets and numbers from one
of the next: what that shifts the delays by is a multiple of a packet's 20 ms, and is taken out.
"""

from __future__ import annotations

import base64
import json
import math
import random
import secrets
import select
import socket
import struct
import sys
import time
from typing import Any

import pylibsrtp
import trio
import trio_asyncio

from siperb_core.media.certificate import make_certificate
from siperb_core.media.client_leg import ClientConnection
from siperb_core.media.dtls import load_certificate
from siperb_core.sdp.plan import ClientLeg, Codec

HOST = "127.0.0.1"
PACKET = 0.02
CODECS = {"opus": (Codec("opus", 48000, 2), 111, 960), "G722": (Codec("G722", 8000), 9, 160)}
WARM = 75
"""Packets before anything counts."""
TIMESTAMP = 35  # SO_TIMESTAMPNS


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


class KeyedConnection:
    """A softphone that needs neither ICE nor DTLS: both sides have been given keys."""

    def __init__(self, sock: socket.socket, on_rtp: Any) -> None:
        self._socket, self._on_rtp = sock, on_rtp
        self.send_key, self.receive_key = secrets.token_bytes(30), secrets.token_bytes(30)
        policy = pylibsrtp.Policy
        self._out = pylibsrtp.Session(policy(key=self.send_key, ssrc_type=policy.SSRC_ANY_OUTBOUND))
        self._in = pylibsrtp.Session(policy(key=self.receive_key, ssrc_type=policy.SSRC_ANY_INBOUND))
        self.remote: tuple[str, int]

    def send(self, packet: bytes) -> None:
        """Protect and send."""
        self._socket.sendto(self._out.protect(packet), self.remote)

    def readable(self) -> None:
        """Take what has come."""
        try:
            while True:
                self._on_rtp(self._in.unprotect(self._socket.recv(2048)), 0.0)
        except BlockingIOError:
            pass

    def advance(self, now: float) -> None:
        """Nothing happens by itself."""


class LoadCall:
    """A softphone and a phone at the PBX."""

    def __init__(self, nursery: trio.Nursery, certificate: Any, codec: str, *, keys: bool) -> None:
        self.codec = codec
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

        self.connection: Any
        if keys:
            self.connection = KeyedConnection(self.web, self.web_heard)
        else:
            self.connection = ClientConnection(
                self.web,
                nursery=nursery,
                certificate=certificate,
                tie_breaker=secrets.randbits(64),
                report=report,
                on_rtp=self.web_heard,
                on_rtcp=lambda data, now: None,
            )

    @staticmethod
    def _bind() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        sock.setblocking(False)
        return sock

    def describe(self) -> dict[str, Any]:
        """What the peer must know of us."""
        described = {
            "port": self.web.getsockname()[1],
            "phone": self.phone.getsockname()[1],
            "ufrag": self.ufrag,
            "password": self.password,
        }
        if isinstance(self.connection, KeyedConnection):
            described["send"] = base64.b64encode(self.connection.send_key).decode()
            described["receive"] = base64.b64encode(self.connection.receive_key).decode()
        return described

    def start(self, remote: dict[str, Any]) -> None:
        """Let ICE and DTLS begin."""
        self.peer_address = (HOST, remote["peer_port"])
        if isinstance(self.connection, KeyedConnection):
            self.connection.remote = (HOST, remote["port"])
            self.connected.set()
            return
        candidate = f"1 1 udp 2130706431 {HOST} {remote['port']} typ host"
        self.connection.apply(
            ClientLeg(
                *(self.ufrag, self.password, remote["ufrag"], remote["password"], (candidate,)),
                (tuple(remote["fingerprint"]),),
                *("client" if remote["setup"] == "passive" else "server", True, 1),
            )
        )

    def send(self, n: int, web: bytes, pbx: bytes) -> None:
        """Send one packet each way."""
        _, payload_type, step = CODECS[self.codec]
        self.sent[n & 0xFFFF] = time.time()
        self.connection.send(struct.pack("!BBHII", 0x80, payload_type, n & 0xFFFF, n * step & 0xFFFFFFFF, 1) + web)
        packet = struct.pack("!BBHII", 0x80, 9, n & 0xFFFF, n * 160 & 0xFFFFFFFF, 2) + pbx
        self.phone.sendto(packet, self.peer_address)

    def web_heard(self, data: bytes, now: float) -> None:
        """Take an RTP packet the softphone hears."""
        self.received["web"] += 1

    def phone_readable(self) -> None:
        """Take what the phone hears, and when the kernel got it."""
        try:
            while True:
                data, ancillary, _, _ = self.phone.recvmsg(2048, 64)
                self.received["pbx"] += 1
                seconds, nanoseconds = struct.unpack_from("qq", ancillary[0][2])
                if not hasattr(self, "offset"):  # the first packet tells where the peer's numbers begin
                    self.offset = (int.from_bytes(data[2:4], "big") - next(iter(self.sent))) & 0xFFFF
                at = self.sent.get((int.from_bytes(data[2:4], "big") - self.offset) & 0xFFFF)
                if at is not None:
                    self.delays.append(seconds + nanoseconds / 1e9 - at)
        except BlockingIOError:
            pass

    def settle_delays(self) -> list[float]:
        """The delays without what the peer's lost packets have shifted them by."""
        shift = PACKET * math.floor(min(self.delays) / PACKET) if self.delays else 0.0
        return [delay - shift for delay in self.delays]


async def line() -> dict[str, Any]:
    """What we are told next."""
    return json.loads(await trio.to_thread.run_sync(sys.stdin.readline))


def say(**message: Any) -> None:
    """Tell the benchmark."""
    print(json.dumps(message), flush=True)


async def send_all(calls: list[LoadCall], codec: str, seconds: float) -> None:
    """Send everybody's packets, evenly spread, first to warm up and then to be measured."""
    web, pbx = speech(codec), speech("G722")
    begin = trio.current_time()
    for n in range(round(WARM + seconds / PACKET)):
        if n == WARM:
            for call in calls:
                call.received.update(web=0, pbx=0)
                call.delays.clear()
            say(measuring=True)
        for i, call in enumerate(calls):
            await trio.sleep_until(begin + PACKET * (n + i / len(calls)))
            call.send(n, web[(n + 37 * i) % len(web)], pbx[(n + 37 * i) % len(pbx)])
    say(done=True)


async def main() -> None:
    """Be the load."""
    async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
        order = await line()
        made = make_certificate()
        certificate = load_certificate(made.pem)
        calls = [LoadCall(nursery, certificate, order["codec"], keys=order["keys"]) for _ in range(order["calls"])]
        say(calls=[call.describe() for call in calls], fingerprint=made.fingerprint)
        remotes = (await line())["calls"]
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
                await trio.sleep(PACKET)

        nursery.start_soon(serve)
        nursery.start_soon(keep_time)
        for call, remote in zip(calls, remotes, strict=True):
            call.start(remote)
        for call in calls:
            await call.connected.wait()
        say(connected=len(calls))
        await send_all(calls, order["codec"], order["seconds"])
        delays = sorted(delay for call in calls for delay in call.settle_delays())
        expected = order["seconds"] / PACKET * len(calls)
        share = [sum(call.received[leg] for call in calls) / expected for leg in ("web", "pbx")]
        say(
            p50=delays[len(delays) // 2],
            p99=delays[int(len(delays) * 0.99)],
            arrived=[round(part, 4) for part in share],
        )
        await line()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
