"""What a test peer hears: audio kept as it came and decoded when somebody asks, and digits."""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

import attrs
import trio

from siperb_core.rtp.events import parse_event
from siperb_core.testing import codecs, tones

_KEPT: Final = 100  # packets: two seconds
_SHORT: Final = 8
_STEP: Final = 9  # packets: as much of Opus as `tones.analyse` looks at
_LEAD: Final = 50  # packets: G.722's decoder, begun in the middle of a stream, has the right level only after a while
_MOST_DIGITS: Final = 256


@attrs.frozen
class DigitHeard:
    """One digit that came in: in RTP (RFC 4733) or in a SIP INFO."""

    digit: str
    way: Literal["rtp", "info"]


class Ear:
    """One call's ear. All its methods are for trio's thread."""

    def __init__(self) -> None:
        self.packets = 0
        """Audio packets that have come in."""
        self.digits: list[DigitHeard] = []
        """The digits that have come in, the first 256."""
        self._codec = ""
        self._payloads: deque[bytes] = deque(maxlen=_KEPT)
        self._last_event: int | None = None
        self._news = trio.Event()

    # What comes in

    def tune(self, codec: str) -> None:
        """From now on payloads are of this codec."""
        if codec != self._codec:
            self._codec = codec
            self._payloads.clear()

    def take(self, payload: bytes) -> None:
        """A packet of audio."""
        self.packets += 1
        self._payloads.append(payload)
        self._tell()

    def take_event(self, payload: bytes, timestamp: int) -> None:
        """A packet of telephone-event. A digit counts at the first of its packets, which share a timestamp (RFC 4733
        section 2.5.1.2). Raises RtpError.
        """
        event = parse_event(payload)
        if timestamp != self._last_event and event.digit:
            self._last_event = timestamp
            self.note_digit(DigitHeard(event.digit, "rtp"))

    def note_digit(self, digit: DigitHeard) -> None:
        """A digit, however it came."""
        if len(self.digits) < _MOST_DIGITS:
            self.digits.append(digit)
        self._tell()

    def _tell(self) -> None:
        if self._news.statistics().tasks_waiting:
            self._news.set()
            self._news = trio.Event()

    # What was heard

    @property
    def heard(self) -> tones.Heard:
        """What the last two seconds or less sounded like."""
        return self._analyse(_KEPT)

    def _analyse(self, packets: int) -> tones.Heard:
        if not self._payloads:
            return tones.SILENCE
        payloads = list(self._payloads)[-packets:]
        return tones.analyse(codecs.decode(self._codec, payloads), codecs.sample_rate(self._codec))

    def forget(self) -> None:
        """Listen anew."""
        self._payloads.clear()

    async def listen(self, seconds: float = 1.0) -> tones.Heard:
        """Listen anew until so much audio (at most two seconds) has come in, and say what it sounds like.

        Waits as long as it takes: bound it by `trio.fail_after`.
        """
        self.forget()
        await self.listened(max(1, round(min(seconds, 2.0) * 50)))
        return self.heard

    async def listened(self, packets: int) -> None:
        """Wait until that many more packets of audio have come in."""
        wanted = self.packets + packets
        while self.packets < wanted:
            await self._news.wait()

    async def hears(self, hz: float) -> None:
        """Wait until a tone of `hz` is heard, be it ever so short (0.2 s)."""
        while not self._analyse(_SHORT).is_tone(hz, within=20, above_rest=15):
            await self.listened(_SHORT // 2)

    async def hears_steadily(self, hz: float, seconds: float = 1.0, *, within: float = 10.0) -> tones.Heard:
        """Wait until a tone of `hz` has been heard for so long with nothing else in it, from now on; what the last of
        it sounds like.

        For a peer that leaves out a frame when its machine is busy, which is no fault of what carries its sound: one
        look would find that frame now and then. Waits as long as it takes: bound it by `trio.fail_after`.
        """
        self.forget()
        clean = 0
        while True:
            await self.listened(_STEP)
            heard = self._analyse(_STEP + _LEAD)
            clean = clean + _STEP if heard.is_tone(hz, within=within) else 0
            if clean >= 50 * seconds:
                return heard

    async def heard_digits(self, count: int) -> str:
        """Wait until that many digits have come in since the call began; gives all of them."""
        while len(self.digits) < count:
            await self._news.wait()
        return "".join(heard.digit for heard in self.digits)

    async def next_event(self) -> None:
        """Wait for the next packet or digit to come in."""
        await self._news.wait()
