"""The RTP of a call the gateway answers by itself: what the caller says and presses, and what is said and pressed back.

G.711 and telephone-events (RFC 4733), between this process and a media worker, over loopback.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import Final, Literal

import attrs
import trio

from siperb_core.entries.decisions import SAMPLE_RATE
from siperb_core.media.digits import END_PACKETS, LONGEST, PACKET, PAUSE, SHORTEST
from siperb_core.rtp import g711
from siperb_core.rtp.dtmf_tones import ToneDetector
from siperb_core.rtp.events import DIGITS, Digit, EventReader, TelephoneEvent, build_event
from siperb_core.rtp.packet import RtpError, RtpPacket, build_rtp, parse_rtp
from siperb_core.rtp.twins import Twins, Way

HERE: Final = ("127.0.0.1", 9)
"""Where the flow pretends to lead: the discard port, as nothing is ever sent there."""
FRAME: Final = SAMPLE_RATE // 50  # samples of a packet, 20 ms
_LONGEST_PACKET: Final = 2048
_SILENT_SECONDS: Final = 1.0
"""Without a packet for so long one of silence is sent: the call is not to end as one whose PBX has died."""
_WAITING: Final = 50  # packets, and digits, nobody has listened to yet
_VOLUME: Final = 10  # of digits, in -dBm0

Law = Literal["PCMA", "PCMU"]


class Line:
    """RTP with the media worker, as `siperb_core.entries.decisions.Audio`."""

    def __init__(self, law: Law, number: int, events: int | None, by_info: Callable[[Digit], None]) -> None:
        """`number` is the law's payload type, `events` that of telephone-events; None where the other side has none:
        digits go out by `by_info`. Raises OSError where no port is free.
        """
        self.law, self.number, self.events = law, number, events
        self._by_info = by_info
        self.remote: tuple[str, int] = HERE
        self._rtp, self._rtcp = _bound_pair()
        self.port: int = self._rtp.getsockname()[1]
        self._socket = trio.socket.from_stdlib_socket(self._rtp)
        self._heard, self._hear = trio.open_memory_channel[bytes](_WAITING)
        self._presses, self._pressed = trio.open_memory_channel[Digit](_WAITING)
        self._reader = EventReader()
        self._tones = ToneDetector()
        self._twins = Twins()
        self._pressing = trio.Lock()  # one digit goes out after the other
        self._muted = False  # a digit is going out, in the place of what is said
        self._sequence = secrets.randbits(15)
        self._timestamp = secrets.randbits(31)
        self._ssrc = secrets.randbits(32) or 1
        self._due = trio.current_time()

    async def receive(self) -> bytes:
        """As `Audio.receive`."""
        return g711.decode(self.law, await self._hear.receive())

    async def send(self, samples: bytes) -> None:
        """As `Audio.send`."""
        for start in range(0, len(samples), 2 * FRAME):
            await trio.sleep_until(self._due)
            await self._send(g711.encode(self.law, samples[start : start + 2 * FRAME]))

    async def receive_digit(self) -> Digit:
        """As `Audio.receive_digit`."""
        return await self._pressed.receive()

    async def send_digit(self, digit: Digit) -> None:
        """As `Audio.send_digit`."""
        if digit.key not in DIGITS or len(digit.key) != 1:
            raise ValueError(f"{digit.key!r:.20} is no key of a telephone")
        milliseconds = min(max(digit.milliseconds, SHORTEST), LONGEST)
        async with self._pressing:
            if self.events is None:
                self._by_info(attrs.evolve(digit, milliseconds=milliseconds))
                await trio.sleep(milliseconds / 1000)
            else:
                self._muted = True
                try:
                    await self._sound(self.events, DIGITS.index(digit.key), milliseconds)
                finally:
                    self._muted = False
            await trio.sleep(PAUSE)

    async def _sound(self, number: int, event: int, milliseconds: int) -> None:
        """The packets of one telephone-event: one timestamp, a duration that grows, and the end three times."""
        began = max(trio.current_time(), self._due)
        start = self._timestamp + round((began - self._due) * SAMPLE_RATE)
        packets = round(milliseconds / 1000 / PACKET)
        for index in range(packets):
            await trio.sleep_until(began + index * PACKET)
            end = index == packets - 1
            ticks = SAMPLE_RATE * (milliseconds if end else round(1000 * (index + 1) * PACKET)) // 1000
            payload = build_event(TelephoneEvent(event, end, _VOLUME, ticks))
            for _ in range(END_PACKETS if end else 1):
                await self._put(number, start, payload, marker=index == 0)

    async def _send(self, payload: bytes) -> None:
        now = trio.current_time()
        gap = max(0.0, now - self._due)
        if gap > FRAME / SAMPLE_RATE:
            self._timestamp += round(gap * SAMPLE_RATE)
            self._due = now
        timestamp = self._timestamp
        self._timestamp += len(payload)
        self._due += len(payload) / SAMPLE_RATE
        if self._muted:
            await trio.lowlevel.checkpoint()
        else:
            await self._put(self.number, timestamp, payload, marker=gap > 0)

    async def _put(self, number: int, timestamp: int, payload: bytes, *, marker: bool) -> None:
        packet = RtpPacket(number, self._sequence & 0xFFFF, timestamp & 0xFFFFFFFF, self._ssrc, payload, marker=marker)
        self._sequence += 1
        try:
            await self._socket.sendto(build_rtp(packet), self.remote)
        except OSError:
            pass  # the worker's port is gone, and with it soon the call

    async def listen(self) -> None:
        """Take the caller's packets, and drop what nobody listens to."""
        while True:
            try:
                data, source = await self._socket.recvfrom(_LONGEST_PACKET)
                packet = parse_rtp(data)
            except (OSError, RtpError):
                await trio.lowlevel.checkpoint()
                continue
            if source[1] == self.remote[1]:
                self._take(packet)

    def _take(self, packet: RtpPacket) -> None:
        if packet.payload_type == self.number:
            for digit in self._reader.over(SAMPLE_RATE):  # its last packets were lost
                self._digit("event", digit)
            if self.events is None:
                for digit in self._tones.feed(g711.decode(self.law, packet.payload)):
                    self._digit("tone", digit)
            try:
                self._heard.send_nowait(packet.payload)
            except trio.WouldBlock:
                pass
        elif packet.payload_type == self.events:
            try:
                digits = self._reader.take(packet.payload, packet.timestamp, SAMPLE_RATE)
            except RtpError:
                return
            for digit in digits:
                self._digit("event", digit)

    def take_info(self, digit: Digit) -> None:
        """A digit came in a SIP INFO."""
        self._digit("info", digit)

    def _digit(self, way: Way, digit: Digit) -> None:
        """Note a digit, unless it is one that came another way already."""
        now, lasts = trio.current_time(), digit.milliseconds / 1000
        if self._twins.fresh(way, digit.key, now - lasts, now + lasts if way == "info" else now):
            try:
                self._presses.send_nowait(digit)
            except trio.WouldBlock:
                pass

    async def keep_up(self) -> None:
        """Send a packet of silence where the endpoint says nothing for long."""
        silence = g711.encode(self.law, bytes(2 * FRAME))
        while True:
            await trio.sleep_until(self._due + _SILENT_SECONDS)
            if trio.current_time() >= self._due + _SILENT_SECONDS:
                await self._send(silence)

    def close(self) -> None:
        """Give the ports back."""
        self._socket.close()
        self._rtcp.close()


def _bound_pair() -> tuple[socket.socket, socket.socket]:
    """Two neighbouring ports on loopback: RTCP goes to the one after RTP's. Raises OSError."""
    error: OSError | None = None
    for _ in range(20):
        rtp, rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        try:
            rtp.setblocking(False)
            rtp.bind((HERE[0], 0))
            rtcp.bind((HERE[0], rtp.getsockname()[1] + 1))
        except (OSError, OverflowError) as refused:
            rtp.close()
            rtcp.close()
            error = OSError(str(refused))
        else:
            return rtp, rtcp
    raise error or OSError("no ports")
