"""A digit on its way out as telephone-event packets (RFC 4733 section 2.5)."""

from __future__ import annotations

from typing import Final

from siperb_core.rtp.events import DIGITS, TelephoneEvent, build_event

_PACKETS: Final = 5  # of 20 ms: how long a digit is
_END_PACKETS: Final = 3  # section 2.5.1.4
_PAUSE_PACKETS: Final = 5


class OutgoingDigit:
    """A digit being sent: packets of growing duration, three that say the end, and a pause.

    All its packets have the same `timestamp`; `step` is how many ticks of the event's clock 20 ms are.
    """

    def __init__(self, digit: str, timestamp: int, step: int) -> None:
        self.timestamp = timestamp
        self._event = DIGITS.index(digit)
        self._step = step
        self._ticks = 0

    @property
    def over(self) -> bool:
        """Whether the pause, too, is over."""
        return self._ticks >= _PACKETS + _PAUSE_PACKETS

    def tick(self) -> list[tuple[bytes, bool]]:
        """The payloads of the next 20 ms, each with its marker."""
        self._ticks += 1
        if self._ticks > _PACKETS:
            return []
        end = self._ticks == _PACKETS
        payload = build_event(TelephoneEvent(self._event, end, 10, self._ticks * self._step))
        return [(payload, self._ticks == 1)] * (_END_PACKETS if end else 1)


def check_digits(digits: str) -> None:
    """Raises ValueError on what is no key of a telephone."""
    if set(digits) - set(DIGITS):
        raise ValueError(f"not all of {digits!r} can be sent")
