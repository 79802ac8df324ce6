"""A PBX's media for tests: a UDP socket that sends a tone in RTP and keeps what it gets."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import trio

from siperb_core.rtp.packet import RtpPacket, build_rtp, parse_rtp

PAYLOAD_TYPES = {"G722": 9, "PCMU": 0, "PCMA": 8}
_FFMPEG = {"G722": ("g722", 16000), "PCMU": ("pcm_mulaw", 8000), "PCMA": ("pcm_alaw", 8000)}


class Phone:
    """Talks one codec, 20 ms packets. `packets` is all RTP that came."""

    def __init__(self, sock: trio.socket.SocketType, codec: str = "G722") -> None:
        self.socket, self.codec = sock, codec
        self.packets: list[RtpPacket] = []
        self._changed = trio.Event()
        self.name, self.rate = _FFMPEG[codec]
        self.protect: Callable[[bytes], bytes] = bytes
        self.unprotect: Callable[[bytes], bytes] = bytes

    @classmethod
    async def create(cls, codec: str = "G722") -> Phone:
        """Bind a socket on loopback."""
        sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        await sock.bind(("127.0.0.1", 0))
        return cls(sock, codec)

    @property
    def address(self) -> tuple[str, int]:
        """Where it is."""
        host, port = self.socket.getsockname()
        return host, port

    async def listen(self) -> None:
        """Keep what comes."""
        while True:
            try:
                data = await self.socket.recv(2048)
            except OSError:
                if self.socket.fileno() < 0:
                    return  # the call's end has closed it
                raise
            self.packets.append(parse_rtp(self.unprotect(data)))
            self._changed.set()
            self._changed = trio.Event()

    def payloads(self, hertz: float, amplitude: float = 0.25) -> list[bytes]:
        """Encode ten seconds of a tone."""
        encoder = av.CodecContext.create(self.name, "w")
        encoder.sample_rate, encoder.format, encoder.layout = self.rate, "s16", "mono"
        samples = self.rate // 50
        out: list[bytes] = []
        for n in range(500):
            at = np.arange(n * samples, (n + 1) * samples) / self.rate
            wave = (amplitude * 32767 * np.sin(2 * np.pi * hertz * at)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="s16", layout="mono")
            frame.sample_rate, frame.pts = self.rate, n * samples
            out += [bytes(packet) for packet in encoder.encode(frame)]
        return out

    async def talk(self, to: tuple[str, int], hertz: float) -> None:
        """Send a tone in real time for ever."""
        start, payloads = trio.current_time(), self.payloads(hertz)
        for n, payload in enumerate(itertools.cycle(payloads)):
            await trio.sleep_until(start + n * 0.02)
            packet = RtpPacket(PAYLOAD_TYPES[self.codec], n & 0xFFFF, n * 160, 4711, payload)
            await self.socket.sendto(self.protect(build_rtp(packet)), to)

    async def heard(self, count: int) -> None:
        """Wait until that many packets have come since now."""
        self.packets.clear()
        with trio.fail_after(20):
            while len(self.packets) < count:
                await self._changed.wait()

    def decode(self) -> np.ndarray[Any, Any]:
        """Turn what came into samples at `rate`."""
        decoder = av.CodecContext.create(self.name, "r")
        decoder.sample_rate, decoder.layout = self.rate, "mono"
        frames = [f for p in self.packets for f in decoder.decode(av.Packet(p.payload))]
        return np.concatenate([f.to_ndarray()[0] for f in frames])
