"""What is heard by who dials a code: an echo, or two tones that say a switch was turned."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from siperb_core import Audio

SAMPLE_RATE = 8000
"""Samples a second of an endpoint's audio (`siperb_core.Audio`)."""
LEVEL = -12.0
"""Of the tones, in dBFS: a good deal below the loudest, as it is heard at the ear."""
LOW, HIGH = 600, 900
"""Hz. Low then high says "on", high then low "off"."""
TONE_SECONDS = 0.4
PAUSE_SECONDS = 0.1
END_KEY = "#"
"""Ends an echo test, as with Asterisk's Echo()."""
PATIENCE_SECONDS = 10.0
"""How long the caller's first packet is waited for before the tones are said all the same."""
LINGER_SECONDS = 0.5
"""How long the line is left open behind the tones: what is still in the caller's jitter buffer would not be heard."""

_FADE = SAMPLE_RATE // 200  # samples, 5 ms: a tone that begins at once clicks


@lru_cache(maxsize=8)
def tone(hz: int, seconds: float = TONE_SECONDS, dbfs: float = LEVEL) -> bytes:
    """A sine that fades in and out, as 16-bit little-endian samples."""
    count = round(seconds * SAMPLE_RATE)
    peak, turn = 32767 * 10 ** (dbfs / 20), 2 * math.pi * hz / SAMPLE_RATE
    samples = [
        round(peak * min(1.0, at / _FADE, (count - 1 - at) / _FADE) * math.sin(turn * at)) for at in range(count)
    ]
    return struct.pack(f"<{count}h", *samples)


def confirmation(on: bool) -> bytes:
    """The two tones of a switch that is on or off now."""
    pause = bytes(2 * round(PAUSE_SECONDS * SAMPLE_RATE))
    return tone(LOW if on else HIGH) + pause + tone(HIGH if on else LOW)


@attrs.frozen
class Echo:
    """Plays back what it hears, digits as digits, until the caller presses `#`, hangs up, or `seconds` are over."""

    seconds: float

    async def run(self, audio: Audio) -> None:
        """As `siperb_core.MediaEndpoint.run`."""
        import trio  # not at the top: what only reads settings, `siperb route` say, need not wait for it

        async def speak() -> None:
            while True:
                await audio.send(await audio.receive())

        with trio.move_on_after(self.seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(speak)
                while (digit := await audio.receive_digit()).key != END_KEY:
                    await audio.send_digit(digit)
                nursery.cancel_scope.cancel()


@attrs.frozen
class Switch:
    """Turns a switch as soon as the call is answered, says by two tones how it stands now, and hangs up."""

    turn: Callable[[], bool]
    """Gives how the switch stands now."""

    async def run(self, audio: Audio) -> None:
        """As `siperb_core.MediaEndpoint.run`. The switch is turned, whether or not anybody listens to the end."""
        import trio

        on = self.turn()
        with trio.move_on_after(PATIENCE_SECONDS):
            await audio.receive()  # ICE and DTLS are through, then: tones said before that would be lost
        await audio.send(confirmation(on))
        await trio.sleep(LINGER_SECONDS)
