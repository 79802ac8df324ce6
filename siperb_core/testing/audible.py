"""A call of a test peer that can be talked and listened to."""

from __future__ import annotations

from typing import Any, Protocol

from siperb_core.testing import tones
from siperb_core.testing.call_media import CallMedia
from siperb_core.testing.ear import DigitHeard, Ear
from siperb_core.testing.session import Call
from siperb_core.testing.user_agent import UserAgent


class AudibleMedia(CallMedia, Protocol):
    """Media with a voice and an ear."""

    ear: Ear

    def play(self, hz: int, dbfs: float = tones.LEVEL) -> None:
        """Play a tone from now on."""

    async def send_digits(self, digits: str) -> None:
        """Send digits as telephone-events. Raises ValueError where the other side has none."""


class AudibleCall(Call):
    """What a test does with the audio of a call, whatever kind of peer has it."""

    def __init__(self, agent: UserAgent, media: AudibleMedia, **kwargs: Any) -> None:
        super().__init__(agent, media, **kwargs)
        self.media = media

    @property
    def heard(self) -> tones.Heard:
        """What the last two seconds or less sounded like."""
        return self.media.ear.heard

    @property
    def digits(self) -> list[DigitHeard]:
        """All digits that came in, each with the way it came."""
        return self.media.ear.digits

    def play(self, hz: int, dbfs: float = tones.LEVEL) -> None:
        """Play a tone from now on."""
        self.media.play(hz, dbfs)

    async def listen(self, seconds: float = 1.0) -> tones.Heard:
        """Listen anew for so much audio (at most two seconds), and say what it sounds like."""
        return await self.media.ear.listen(seconds)

    async def hears(self, hz: float) -> None:
        """Wait until a tone of `hz` is heard, a short one too."""
        await self.media.ear.hears(hz)

    async def hears_steadily(self, hz: float, seconds: float = 1.0, *, within: float = 10.0) -> tones.Heard:
        """Wait until a tone of `hz` has been heard for so long with nothing else in it; what it sounds like."""
        return await self.media.ear.hears_steadily(hz, seconds, within=within)

    async def send_digits(self, digits: str) -> None:
        """Send digits as telephone-events. Raises ValueError where the other side has none."""
        await self.media.send_digits(digits)
