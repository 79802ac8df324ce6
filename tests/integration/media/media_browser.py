"""A browser for tests: aiortc's RTCPeerConnection, used as the web page would, beside the SDP it needs and the ears to
listen.
"""

from __future__ import annotations

import asyncio
import fractions
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import aioice.ice
import numpy as np
import trio
import trio_asyncio
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcicetransport import candidate_to_aioice
from aiortc.sdp import SessionDescription
from av import AudioFrame

from siperb_core.sdp.plan import ClientLeg, Codec, Stream

OPUS = Codec("opus", 48000, 2, "minptime=10;useinbandfec=1")
CLIENT_SSRC = 0x0BADCAFE
UFRAG, PASSWORD = "ourufrag", "ourpasswordourpassword"


class Tone(MediaStreamTrack):
    """A tone at 48 kHz, in real time."""

    kind = "audio"

    def __init__(self, hertz: float, amplitude: float = 0.25) -> None:
        super().__init__()
        self.hertz, self.amplitude = hertz, amplitude
        self._samples = 0
        self._start = 0.0
        self._ending = False
        self._parked = trio.Event()

    async def recv(self) -> AudioFrame:
        loop = asyncio.get_running_loop()
        if self._ending:
            self._parked.set()
            await loop.create_future()
        self._start = self._start or loop.time()
        await asyncio.sleep(max(0.0, self._start + self._samples / 48000 - loop.time()))
        at = np.arange(self._samples, self._samples + 960) / 48000
        samples = (self.amplitude * 32767 * np.sin(2 * np.pi * self.hertz * at)).astype(np.int16)
        frame = AudioFrame.from_ndarray(np.stack([samples, samples]).T.reshape(1, -1), layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, self._samples, fractions.Fraction(1, 48000)
        self._samples += 960
        return frame

    async def park(self) -> None:
        """Have the sender wait here: one that is cancelled while it encodes in a thread of trio-asyncio misses it, and
        never ends.
        """
        self._ending = True
        with trio.move_on_after(1):  # a sender that never began asks for nothing
            await self._parked.wait()


class Browser:
    """Offers a call with a tone and hears what comes back. All methods are called from trio."""

    def __init__(self, hertz: float = 1000.0) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._tone = Tone(hertz)
        self.connection.addTrack(self._tone)
        self.heard: list[np.ndarray[Any, Any]] = []
        self._changed = trio.Event()
        self._listener: asyncio.Task[None] | None = None
        self.connection.on("track", self._track)

    def _track(self, track: MediaStreamTrack) -> None:
        self._listener = asyncio.ensure_future(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        while True:
            frame = await track.recv()
            self.heard.append(frame.to_ndarray()[0, ::2])
            self._changed.set()
            self._changed = trio.Event()

    async def offer(self) -> ClientLeg:
        """Make an offer; returns the leg as the gateway's plan would have it."""
        await trio_asyncio.aio_as_trio(self._describe_ourselves)(self.connection.createOffer)
        return self._leg(controlling=False, dtls="client")

    async def answered(self, leg: ClientLeg, port: int, fingerprint: tuple[str, str]) -> None:
        """Take the gateway's answer."""
        answer = RTCSessionDescription(_sdp(leg, port, fingerprint, "active"), "answer")
        await trio_asyncio.aio_as_trio(self.connection.setRemoteDescription)(answer)

    async def answer(self, ssrc: int, port: int, fingerprint: tuple[str, str]) -> ClientLeg:
        """Take the gateway's offer and answer it; returns the leg, in which the gateway controls ICE and is the DTLS
        server.
        """
        offered = ClientLeg(UFRAG, PASSWORD, "", "", (), (), "server", True, ssrc)
        offer = RTCSessionDescription(_sdp(offered, port, fingerprint, "actpass"), "offer")
        await trio_asyncio.aio_as_trio(self.connection.setRemoteDescription)(offer)
        await trio_asyncio.aio_as_trio(self._describe_ourselves)(self.connection.createAnswer)
        return self._leg(controlling=True, dtls="server")

    async def _describe_ourselves(self, create: Callable[[], Awaitable[RTCSessionDescription]]) -> None:
        await self.connection.setLocalDescription(await create())

    def _leg(self, *, controlling: bool, dtls: Literal["client", "server"]) -> ClientLeg:
        media = SessionDescription.parse(self.connection.localDescription.sdp).media[0]
        return ClientLeg(
            ufrag=UFRAG,
            password=PASSWORD,
            remote_ufrag=media.ice.usernameFragment,
            remote_password=media.ice.password,
            remote_candidates=tuple(c.to_sdp() for c in map(candidate_to_aioice, media.ice_candidates)),
            remote_fingerprints=tuple((f.algorithm, f.value) for f in media.dtls.fingerprints),
            dtls=dtls,
            controlling=controlling,
            ssrc=CLIENT_SSRC,
            stream=Stream(OPUS, send=96, receive=96),
        )

    async def hear(self, seconds: float) -> np.ndarray[Any, Any]:
        """Wait until that much sound has come since now; 48 kHz."""
        self.heard.clear()
        with trio.fail_after(20):
            while sum(len(part) for part in self.heard) < seconds * 48000:
                await self._changed.wait()
        return np.concatenate(self.heard)

    async def stop_talking(self) -> None:
        """Send no audio any more; RTCP goes on."""
        await self._tone.park()

    def send_raw(self, data: bytes, to: tuple[str, int]) -> None:
        """Send a datagram from the very address that media goes out from, as who forges it would."""
        self.connection.getSenders()[0].transport.transport._connection._protocols[0].transport.sendto(data, to)

    def stop_reporting(self) -> None:
        """Send no RTCP either."""

        async def nothing(data: bytes) -> None:
            pass

        self.connection.getSenders()[0].transport._send_rtp = nothing

    async def close(self) -> None:
        """Hang up."""
        await self._tone.park()
        await trio_asyncio.aio_as_trio(self.connection.close)()
        if self._listener is not None:
            self._listener.cancel()


def _sdp(leg: ClientLeg, port: int, fingerprint: tuple[str, str], setup: str) -> str:
    return "\r\n".join(
        [
            *("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0"),
            f"m=audio {port} UDP/TLS/RTP/SAVPF 96",
            *("c=IN IP4 127.0.0.1", "a=rtcp-mux", "a=mid:0", "a=sendrecv"),
            f"a=ice-ufrag:{leg.ufrag}",
            f"a=ice-pwd:{leg.password}",
            f"a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host",
            "a=end-of-candidates",
            f"a=fingerprint:{fingerprint[0]} {fingerprint[1]}",
            f"a=setup:{setup}",
            "a=rtpmap:96 opus/48000/2",
            f"a=ssrc:{leg.ssrc} cname:gateway",
            "",
        ]
    )


def use_loopback(monkeypatch: Any) -> None:
    """Have aioice gather the loopback address, which it leaves out."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


def tone_of(samples: np.ndarray[Any, Any], rate: int) -> tuple[float, float, float]:
    """Find the strongest tone: hertz, level in dBFS (of a sine's amplitude), and how many dB it stands above all the
    rest.
    """
    signal = samples.astype(float) / 32768
    window = np.blackman(len(signal))
    spectrum = np.abs(np.fft.rfft(signal * window)) ** 2
    peak = int(np.argmax(spectrum[10:])) + 10
    tone = spectrum[peak - 4 : peak + 5].sum()
    left, middle, right = np.log(spectrum[peak - 1 : peak + 2])
    hertz = (peak + 0.5 * (left - right) / (left - 2 * middle + right)) * rate / len(signal)
    # Parseval: the energy of a windowed sine of amplitude a is a^2/4 * N * sum(w^2) over the positive half.
    amplitude = np.sqrt(tone * 4 / (len(signal) * (window**2).sum()))
    rest = spectrum[10:].sum() - tone
    return hertz, 20 * np.log10(amplitude), 10 * np.log10(tone / rest)
