"""telephone-event, DTMF in RTP (RFC 4733)."""

from __future__ import annotations

import struct
from typing import Final

import attrs

from siperb_core.rtp.packet import RtpError

DIGITS: Final = "0123456789*#ABCD"
MAX_DURATION: Final = 0xFFFF

_EVENT = struct.Struct("!BBH")


@attrs.frozen
class TelephoneEvent:
    """The payload of one telephone-event packet (section 2.3).

    `duration` is in units of the event's RTP clock; `volume` in -dBm0.
    """

    event: int
    end: bool
    volume: int
    duration: int

    @property
    def digit(self) -> str:
        """The key that was pressed, or nothing when the event is no key of a telephone."""
        return DIGITS[self.event] if self.event < len(DIGITS) else ""


@attrs.frozen
class Digit:
    """One key that was pressed: which, and for how long."""

    key: str
    milliseconds: int


class EventReader:
    """Makes digits out of telephone-event packets: each once, when it is over, whatever of its packets was lost.

    All packets of an event, or of a segment of a long one, have one timestamp (section 2.5.1.2). It is over with the
    first packet that says so; when all of these are lost, with the next event or the next audio.
    """

    def __init__(self) -> None:
        self._timestamp: int | None = None
        self._told = True
        self._key = ""
        self._duration = 0  # of this segment
        self._before = 0  # of the segments before it

    def take(self, payload: bytes, timestamp: int, clock: int) -> list[Digit]:
        """Take a packet's payload; gives the digits that are over. Raises RtpError."""
        event = parse_event(payload)
        ended: list[Digit] = []
        if timestamp != self._timestamp:
            if self._goes_on(event, timestamp):
                self._before += MAX_DURATION
            else:
                ended = self.over(clock)
                self._told, self._key, self._before = False, event.digit, 0
            self._timestamp, self._duration = timestamp, 0
        self._duration = max(self._duration, event.duration)
        return ended + self.over(clock) if event.end else ended

    def _goes_on(self, event: TelephoneEvent, timestamp: int) -> bool:
        """Whether this is the next segment of a key that is held for longer than a duration can say (section
        2.5.1.3).
        """
        if self._told or self._timestamp is None or event.digit != self._key:
            return False
        return (timestamp - self._timestamp) & 0xFFFFFFFF == MAX_DURATION

    def over(self, clock: int) -> list[Digit]:
        """What follows is no event: one that is still open has ended."""
        if self._told or not self._key:
            return []
        self._told = True
        return [Digit(self._key, max(1000 * (self._before + self._duration) // clock, 1))]


def parse_event(payload: bytes) -> TelephoneEvent:
    """Read a telephone-event payload. Raises RtpError when it is too short."""
    if len(payload) < _EVENT.size:
        raise RtpError("telephone-event shorter than four octets")
    event, flags, duration = _EVENT.unpack_from(payload)
    return TelephoneEvent(event, flags > 0x7F, flags & 0x3F, duration)


def build_event(event: TelephoneEvent) -> bytes:
    """Write a telephone-event payload."""
    return _EVENT.pack(event.event, (0x80 if event.end else 0) | event.volume, event.duration)


def rescale_event(payload: bytes, source_clock: int, target_clock: int) -> tuple[bytes, int]:
    """Bring an event's duration to another RTP clock.

    Returns the new payload and by how many ticks of the target clock its packet's timestamp lies after the event's
    start: an event whose duration no longer fits 16 bits is cut into segments (section 2.5.1.3), each starting where
    the one before it ends. Raises RtpError on a payload that is too short.
    """
    event = parse_event(payload)
    if source_clock == target_clock:
        return payload[: _EVENT.size], 0
    duration = event.duration * target_clock // source_clock
    segments = max(duration - 1, 0) // MAX_DURATION
    return build_event(attrs.evolve(event, duration=duration - segments * MAX_DURATION)), segments * MAX_DURATION
