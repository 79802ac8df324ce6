"""A browser for tests: aiortc's RTCPeerConnection, used as the web page would, beside the SDP it needs and the ears to listen."""

from __future__ import annotations

import asyncio
import fractions
from typing import Any

import aioice.ice
import numpy as np
import trio
import trio_asyncio
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import SessionDescription
from av import AudioFrame

from siperb_core.sdp.plan import ClientLeg, Codec, Stream

OPUS = Codec("opus", 48000, 2, "minptime=10;useinbandfec=1")
CLIENT_SSRC = 0x0BADCAFE


class Tone(MediaStreamTrack):
    """A tone at 48 kHz, in real time."""

    kind = "audio"

    def __init__(self, hertz: float, amplitude: float = 0.25) -> None:
        super().__init__()
        self.hertz, self.amplitude = hertz, amplitude
        self._samples = 0
        self._start = 0.0

    async def recv(self) -> AudioFrame:
        loop = asyncio.get_running_loop()
        self._start = self._start or loop.time()
        await asyncio.sleep(max(0.0, self._start + self._samples / 48000 - loop.time()))
        at = np.arange(self._samples, self._samples + 960) / 48000
        samples = (self.amplitude * 32767 * np.sin(2 * np.pi * self.hertz * at)).astype(np.int16)
        frame = AudioFrame.from_ndarray(np.stack([samples, samples]).T.reshape(1, -1), layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, self._samples, fractions.Fraction(1, 48000)
        self._samples += 960
        return frame


class Browser:
    """Offers a call with a tone and hears what comes back. All methods are called from trio."""

    def __init__(self, hertz: float = 1000.0) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.connection.addTrack(Tone(hertz))
        self.heard: list[np.ndarray[Any, Any]] = []
        self._listener: asyncio.Task[None] | None = None
        self.connection.on("track", self._track)

    def _track(self, track: MediaStreamTrack) -> None:
        self._listener = asyncio.ensure_future(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        while True:
            frame = await track.recv()
            self.heard.append(frame.to_ndarray()[0, ::2])

    async def offer(self) -> ClientLeg:
        """Make an offer; returns the leg as the gateway's plan would have it, once ours is filled in."""
        await trio_asyncio.aio_as_trio(self._offer)()
        media = SessionDescription.parse(self.connection.localDescription.sdp).media[0]
        return ClientLeg(
            ufrag="ourufrag",
            password="ourpasswordourpassword",
            remote_ufrag=media.ice.usernameFragment,
            remote_password=media.ice.password,
            remote_candidates=tuple(
                f"{c.foundation} {c.component} {c.protocol} {c.priority} {c.ip} {c.port} typ {c.type}"
                for c in media.ice_candidates
            ),
            remote_fingerprints=tuple((f.algorithm, f.value) for f in media.dtls.fingerprints),
            dtls="client",
            controlling=False,
            ssrc=CLIENT_SSRC,
            stream=Stream(OPUS, send=96, receive=96),
        )

    async def _offer(self) -> None:
        await self.connection.setLocalDescription(await self.connection.createOffer())

    async def answered(self, leg: ClientLeg, port: int, fingerprint: tuple[str, str], payload_type: int = 96) -> None:
        """Take the gateway's answer."""
        setup = "active" if leg.dtls == "client" else "passive"
        sdp = "\r\n".join(
            [
                *("v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0"),
                f"m=audio {port} UDP/TLS/RTP/SAVPF {payload_type}",
                *("c=IN IP4 127.0.0.1", "a=rtcp-mux", "a=mid:0", "a=sendrecv"),
                f"a=ice-ufrag:{leg.ufrag}",
                f"a=ice-pwd:{leg.password}",
                f"a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host",
                "a=end-of-candidates",
                f"a=fingerprint:{fingerprint[0]} {fingerprint[1]}",
                f"a=setup:{setup}",
                f"a=rtpmap:{payload_type} opus/48000/2",
                f"a=ssrc:{leg.ssrc} cname:gateway",
                "",
            ]
        )
        await trio_asyncio.aio_as_trio(self.connection.setRemoteDescription)(RTCSessionDescription(sdp, "answer"))

    async def hear(self, seconds: float) -> np.ndarray[Any, Any]:
        """Wait until that much sound has come since now; 48 kHz."""
        self.heard.clear()
        while sum(len(part) for part in self.heard) < seconds * 48000:
            await trio.sleep(0.02)
        return np.concatenate(self.heard)

    async def close(self) -> None:
        """Hang up."""
        await trio_asyncio.aio_as_trio(self.connection.close)()
        if self._listener is not None:
            self._listener.cancel()


def use_loopback(monkeypatch: Any) -> None:
    """Have aioice gather the loopback address, which it leaves out."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


def tone_of(samples: np.ndarray[Any, Any], rate: int) -> tuple[float, float, float]:
    """Find the strongest tone: hertz, level in dBFS (of a sine's amplitude), and how many dB it stands above all the rest."""
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
