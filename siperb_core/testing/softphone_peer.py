"""The media of a softphone's call below SDP: ICE and DTLS-SRTP by aiortc, RTP by hand (so that there is DTMF in it).

Everything here runs on an asyncio loop in a thread of its own; `AsyncioThread` is the bridge to trio.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Literal, TypeVar

import attrs
import trio
from aioice import Candidate
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport
from aiortc.rtcicetransport import RTCIceGatherer, RTCIceParameters, RTCIceTransport

from siperb_core.rtp.packet import RtpError, RtpPacket, build_rtp, parse_rtp
from siperb_core.testing import codecs
from siperb_core.testing.outgoing_digit import OutgoingDigit

_PTIME: Final = 0.02
_MOST_DIGITS: Final = 256
_CLOSING: Final = 5.0

T = TypeVar("T")


class AsyncioThread:
    """An asyncio loop in a thread. Start it in trio's thread; close it there."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        # Not asyncio.new_event_loop(): where trio-asyncio is imported, that gives no loop in trio's thread.
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="softphone media", daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` over there; cancelled here, it is cancelled there."""
        done = trio.Event()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.add_done_callback(lambda _: self.tell(done.set))
        try:
            await done.wait()
        except trio.Cancelled:
            future.cancel()
            raise
        return future.result()

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a function over there, soon."""
        self._loop.call_soon_threadsafe(function, *args)

    def tell(self, function: Callable[..., object], *args: object) -> None:
        """Call a function in trio's thread, soon; for the other thread."""
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            pass

    async def close(self) -> None:
        """Cancel what still runs and end the thread."""

        async def wind_up() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        await self.run(wind_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await trio.to_thread.run_sync(self._thread.join)
        self._loop.close()


@attrs.frozen
class RemotePeer:
    """The other side's transport, from its description."""

    ufrag: str
    password: str
    lite: bool
    candidates: tuple[str, ...]
    fingerprints: tuple[tuple[str, str], ...]


@attrs.frozen
class Sending:
    """What a stream of ours is made of. `events` and `events_clock`: telephone-event, None if there is none."""

    codec: str
    payload_type: int
    events: int | None
    events_clock: int
    may_send: bool
    receive: int  # the payload types of what comes in
    receive_events: frozenset[int]


class _Dtls(RTCDtlsTransport):
    """aiortc's DTLS-SRTP, which hands RTP up as it is."""

    def __init__(self, ice: RTCIceTransport, certificate: RTCCertificate, take: Callable[[bytes], None]) -> None:
        super().__init__(ice, [certificate])
        self._take = take

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        self._take(data)

    async def _handle_rtcp_data(self, data: bytes) -> None:
        """Reports are for those who adapt; a test phone does not."""


class Peer:
    """One call's transport and streams. Make it, and call its coroutines, on the loop of an `AsyncioThread`."""

    def __init__(
        self, certificate: RTCCertificate, on_audio: Callable[[bytes], None], on_event: Callable[[bytes, int], None]
    ) -> None:
        self._gatherer = RTCIceGatherer(iceServers=[])
        self._ice = RTCIceTransport(self._gatherer)
        self._connection = self._ice._connection
        self._dtls = _Dtls(self._ice, certificate, self._received)
        self._on_audio, self._on_event = on_audio, on_event
        self.ssrc = secrets.randbits(32)
        self.packets_out = 0
        self.sending: Sending | None = None
        self._loop: Sequence[bytes] = ()
        self._looped = ("", 0, 0.0)
        self.tone: tuple[int, float] | None = None
        self._digits: deque[tuple[str, asyncio.Event | None]] = deque(maxlen=_MOST_DIGITS)
        self._waiting: set[asyncio.Event] = set()  # for digits to be out
        self._task: asyncio.Task[None] | None = None
        self._connecting: asyncio.Task[None] | None = None

    async def gather(self, addresses: Sequence[str], *, controlling: bool) -> None:
        """Open a socket on each address; loopback, which aioice leaves out by itself, is as good as any.

        From then on checks may come in, so the ICE role is settled here: the offerer controls (RFC 8445 section 6.1.1).
        """
        self._connection.ice_controlling = controlling
        self._connection._local_candidates_start = True
        self._connection._local_candidates += await self._connection.get_component_candidates(1, list(addresses))
        self._connection._local_candidates_end = True

    @property
    def ufrag(self) -> str:
        return str(self._connection.local_username)

    @property
    def password(self) -> str:
        return str(self._connection.local_password)

    @property
    def candidates(self) -> list[str]:
        """Values of a=candidate."""
        return [candidate.to_sdp() for candidate in self._connection.local_candidates]

    @property
    def port(self) -> int:
        """Of the first candidate."""
        return int(self._connection.local_candidates[0].port)

    @property
    def fingerprints(self) -> list[tuple[str, str]]:
        """(hash, value) of our certificate."""
        return [(f.algorithm, f.value) for f in self._dtls.getLocalParameters().fingerprints]

    def connect(
        self,
        remote: RemotePeer,
        *,
        dtls: Literal["client", "server"],
        done: Callable[[str], None],
    ) -> None:
        """Start ICE, then DTLS, then sending. `done` hears "" when it worked, else what did not."""

        async def connect() -> None:
            try:
                done(await self._connect(remote, dtls))
            except Exception as error:  # whatever it was, somebody waits to hear of it
                done(repr(error))

        self._connecting = asyncio.get_running_loop().create_task(connect())

    async def _connect(self, remote: RemotePeer, dtls: Literal["client", "server"]) -> str:
        self._dtls._set_role(dtls)
        for value in remote.candidates:
            try:
                await self._connection.add_remote_candidate(Candidate.from_sdp(value))
            except ValueError:
                continue
        await self._connection.add_remote_candidate(None)
        await self._ice.start(
            RTCIceParameters(usernameFragment=remote.ufrag, password=remote.password, iceLite=remote.lite)
        )
        if self._ice.state != "completed":
            return f"ICE is {self._ice.state}"
        fingerprints = [RTCDtlsFingerprint(algorithm=name, value=value) for name, value in remote.fingerprints]
        await self._dtls.start(RTCDtlsParameters(fingerprints=fingerprints))
        if self._dtls.state != "connected":
            return f"DTLS is {self._dtls.state}"
        self._task = asyncio.get_running_loop().create_task(self._pace())
        return ""

    def use(self, sending: Sending) -> None:
        """Send and understand this from now on."""
        self.sending = sending

    async def send_digits(self, digits: str) -> None:
        """Send digits as telephone-events; returns when the last one is out, or the call has ended meanwhile."""
        out = asyncio.Event()
        self._digits.extend((digit, None) for digit in digits[:-1])
        self._digits.append((digits[-1], out))
        self._waiting.add(out)
        await out.wait()
        self._waiting.discard(out)

    async def close(self) -> None:
        """End the streams and the transport."""
        for out in self._waiting:
            out.set()
        for task in (self._task, self._connecting):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._in_time(self._dtls.stop())
        await self._in_time(self._ice.stop())
        # A transport that never started has sockets all the same.
        await self._in_time(self._connection.close())

    @staticmethod
    async def _in_time(work: Awaitable[None]) -> None:
        try:
            await asyncio.wait_for(work, _CLOSING)
        except (TimeoutError, ConnectionError):
            pass

    async def _pace(self) -> None:
        """One packet every 20 ms by the clock."""
        clock = asyncio.get_running_loop().time
        start, ticks = clock(), 0
        sequence, stamp = secrets.randbits(15), secrets.randbits(20)
        digit: OutgoingDigit | None = None
        out: asyncio.Event | None = None
        while True:
            ticks += 1
            await asyncio.sleep(max(0.0, start + ticks * _PTIME - clock()))
            sending = self.sending
            if sending is None or not sending.may_send:
                continue
            if digit is None and self._digits and sending.events is not None:
                key, out = self._digits.popleft()
                event_stamp = (stamp + ticks) * sending.events_clock // 50 & 0xFFFFFFFF
                digit = OutgoingDigit(key, event_stamp, sending.events_clock // 50)
            packets: list[tuple[int, bytes, int, bool]] = []
            if digit is not None:
                packets = [(sending.events or 0, data, digit.timestamp, mark) for data, mark in digit.tick()]
                if digit.over:
                    digit = None
                    if out is not None:
                        out.set()
            else:
                timestamp = (stamp + ticks) * codecs.clock_rate(sending.codec) // 50 & 0xFFFFFFFF
                packets = [(sending.payload_type, self._next_payload(sending.codec, ticks), timestamp, ticks == 1)]
            for payload_type, payload, timestamp, marker in packets:
                sequence = (sequence + 1) & 0xFFFF
                packet = RtpPacket(payload_type, sequence, timestamp, self.ssrc, payload, marker)
                try:
                    await self._dtls._send_rtp(build_rtp(packet))
                except ConnectionError:
                    return
                self.packets_out += 1

    def _next_payload(self, codec: str, ticks: int) -> bytes:
        wanted = (codec, *(self.tone or (0, 0.0)))
        if wanted != self._looped:
            self._looped = wanted
            self._loop = codecs.silence(codec) if self.tone is None else codecs.looped_tone(codec, *self.tone)
        return self._loop[ticks % len(self._loop)]

    def _received(self, data: bytes) -> None:
        sending = self.sending
        if sending is None:
            return
        try:
            packet = parse_rtp(data)
        except RtpError:
            return
        if packet.payload_type == sending.receive and packet.payload:
            self._on_audio(packet.payload)
        elif packet.payload_type in sending.receive_events:
            self._on_event(packet.payload, packet.timestamp)
