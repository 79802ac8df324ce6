"""Digits made and found in a worker, where the two legs have different ways for them: telephone-events (RFC 4733) and
tones in the audio.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import trio

from siperb_core.media.contract import Transcoder
from siperb_core.media.direction import Direction
from siperb_core.rtp import g711
from siperb_core.rtp.dtmf_tones import RATE, ToneDetector, tone
from siperb_core.rtp.events import DIGITS, MAX_DURATION, Digit, TelephoneEvent, build_event
from siperb_core.rtp.g711 import Law
from siperb_core.sdp.plan import Codec, Stream

MOST_QUEUED: Final = 64
SHORTEST: Final = 60  # milliseconds; what detectors want is 40 (Q.24)
LONGEST: Final = 6000
PAUSE: Final = 0.1  # seconds between two digits
PACKET: Final = 0.02
END_PACKETS: Final = 3  # RFC 4733 section 2.5.1.4

_SAMPLES: Final = int(RATE * PACKET)
_VOLUME: Final = 10  # -dBm0
_G711: Final = ("PCMA", "PCMU")


class ToneVoice:
    """Speaks tones in a leg's codec."""

    def __init__(self, codec: Codec, transcoder: Callable[[Codec, Codec], Transcoder]) -> None:
        """Raises what `transcoder` does where nothing transcodes to that codec."""
        self._law = cast(Law, codec.name if codec.name in _G711 else "PCMA")
        self._transcoder: Transcoder | None = None
        if codec.name not in _G711:
            self._transcoder = transcoder(Codec("PCMA", RATE), codec)

    def payload(self, key: str, index: int) -> bytes:
        """The packet of that index of a digit; of silence for "", which parts two of them for listeners that have no
        eye for timestamps.
        """
        pcm = tone(key, index * _SAMPLES, _SAMPLES) if key else bytes(2 * _SAMPLES)
        payload = g711.encode(self._law, pcm)
        return payload if self._transcoder is None else self._transcoder.transcode(payload)

    def close(self) -> None:
        if self._transcoder is not None:
            self._transcoder.close()


class ToneEar:
    """Finds tones in a leg's audio."""

    def __init__(
        self, codec: Codec, transcoder: Callable[[Codec, Codec], Transcoder], tell: Callable[[Digit], None]
    ) -> None:
        """Raises what `transcoder` does where nothing transcodes from that codec."""
        self._law = cast(Law, codec.name if codec.name in _G711 else "PCMA")
        self._transcoder: Transcoder | None = None
        self._tell = tell
        self._detector = ToneDetector()
        if codec.name not in _G711:
            self._transcoder = transcoder(codec, Codec("PCMA", RATE))

    def hear(self, payload: bytes, missing: int) -> None:
        """Take one packet's payload, before which so many are missing; one that cannot be decoded is passed over."""
        try:
            if self._transcoder is not None:
                payload = self._transcoder.transcode(payload)
        except ValueError:
            return
        digits = self._detector.lose(missing * len(payload)) if missing else []
        for digit in digits + self._detector.feed(g711.decode(self._law, payload)):
            self._tell(digit)

    def close(self) -> None:
        if self._transcoder is not None:
            self._transcoder.close()


class DigitPlayer:
    """Sends digits into a direction, one after the other, in the place of what else goes that way."""

    def __init__(self, direction: Direction, send: Callable[[bytes], None]) -> None:
        self._direction = direction
        self._send = send
        self._queue: deque[tuple[Digit, Stream, ToneVoice | None]] = deque()
        self._running = False

    def play(self, digit: Digit, target: Stream, voice: ToneVoice | None, nursery: trio.Nursery) -> None:
        """Send a digit after those that wait: by telephone-event, or by `voice`. Too many, and it is lost."""
        if digit.key in DIGITS and len(self._queue) < MOST_QUEUED:
            self._queue.append((digit, target, voice))
            if not self._running:
                self._running = True
                nursery.start_soon(self._run)

    def clear(self) -> None:
        """Forget what waits: the call has ended, or its codecs are others."""
        self._queue.clear()

    async def _run(self) -> None:
        try:
            while self._queue:
                digit, target, voice = self._queue.popleft()
                self._direction.muted = True
                try:
                    await self._sound(digit, target, voice)
                finally:
                    self._direction.muted = False
                if voice is None:
                    await trio.sleep(PAUSE)
        finally:
            self._running = False

    async def _sound(self, digit: Digit, target: Stream, voice: ToneVoice | None) -> None:
        direction, clock = self._direction, target.codec.clock
        milliseconds = min(max(digit.milliseconds, SHORTEST), LONGEST)
        packets = max(round(milliseconds / 1000 / PACKET), 3)
        began, start = trio.current_time(), direction.instant(time.monotonic())
        rest = 0 if voice is None else round(PAUSE / PACKET)
        for index in range(packets + rest):
            await trio.sleep_until(began + index * PACKET)
            elapsed = round(index * PACKET * clock)
            if voice is not None:
                try:
                    payloads = [voice.payload(digit.key if index < packets else "", index)]
                except ValueError:  # its transcoder has failed, or was closed with the call
                    return
            else:
                end = index == packets - 1
                ticks = target.dtmf_clock * (milliseconds if end else round(1000 * (index + 1) * PACKET)) // 1000
                event = TelephoneEvent(DIGITS.index(digit.key), end, _VOLUME, min(ticks, MAX_DURATION))
                payloads = [build_event(event)] * (END_PACKETS if end else 1)
            for payload in payloads:
                self._send(
                    direction.inject(
                        payload,
                        event=voice is None,
                        marker=index == 0,
                        elapsed=elapsed,
                        start=start,
                        now=time.monotonic(),
                    )
                )
        await trio.sleep_until(began + (packets + rest) * PACKET)
