"""DTMF as tones in the audio (ITU-T Q.23, Q.24), for PBXs that have nothing else: made and found at 8 kHz."""

from __future__ import annotations

import math
from array import array
from operator import mul
from typing import Final

from siperb_core.rtp.events import Digit

RATE: Final = 8000
BLOCK: Final = 205  # samples: wide enough to tell the rows apart, short enough for a digit of 45 ms
HOP: Final = 103
"""Samples from the beginning of a block to that of the next."""
LONGEST_LOSS: Final = 800
"""Samples, 100 ms: a digit is taken to go on over so long a loss, and to have ended in a longer one."""

_ROWS: Final = (697, 770, 852, 941)
_COLUMNS: Final = (1209, 1336, 1477, 1633)
_KEYS: Final = ("123A", "456B", "789C", "*0#D")
_FREQUENCIES: Final = {
    key: (row, column)
    for row, line in zip(_ROWS, _KEYS, strict=True)
    for column, key in zip(_COLUMNS, line, strict=True)
}
_LEVELS: Final = (-9.0, -7.0)  # dBFS of the low and the high tone: 2 dB twist, as telephones have it
_WEAKEST: Final = 10 ** (-36 / 10)  # of the two tones together, full scale 1
_PURITY: Final = 0.6  # share of the energy the two tones must have: speech does not
_TWIST: Final = (10 ** (-8 / 10), 10 ** (10 / 10))  # low over high, of what is still a digit (Q.24)
_LEAST_LOW: Final = _PURITY * _TWIST[0] / (1 + _TWIST[0])  # share of the energy the low tone has at the least, by both
_FEWEST: Final = 3  # blocks with its tones a digit has at the least
_FEWEST_MAIMED: Final = 2  # one of which a part was lost
_PAUSE: Final = 3  # blocks without tones that end it
_RECOVERY: Final = 480  # samples after a loss in which a decoder like that of G.722 may not have found its way back

_WAVES: Final = {
    hertz: tuple(
        array("d", [wave(2 * math.pi * hertz * n / RATE) for n in range(BLOCK)]) for wave in (math.cos, math.sin)
    )
    for hertz in (*_ROWS, *_COLUMNS)
}


def tone(digit: str, start: int, samples: int) -> bytes:
    """16-bit samples of a digit's two tones, from sample `start` of the digit on. Raises KeyError on no digit."""
    low, high = (
        (2 * math.pi * hertz / RATE, 32767 * 10 ** (level / 20))
        for hertz, level in zip(_FREQUENCIES[digit], _LEVELS, strict=True)
    )
    return array(
        "h",
        [round(low[1] * math.sin(low[0] * n) + high[1] * math.sin(high[0] * n)) for n in range(start, start + samples)],
    ).tobytes()


class ToneDetector:
    """Finds digits in a stream of samples. A digit is told when it is over; 45 ms of tones are one, and so long a pause
    parts two.

    The blocks overlap by half, so that a digit shortened by a lost packet is long enough still.
    """

    def __init__(self) -> None:
        self._left = array("h")
        self._lost = bytearray()  # of each sample left: whether it never came
        self._at = 0  # sample where what is left begins
        self._key = ""
        self._began = self._ends = 0  # samples
        self._hits = self._misses = 0  # blocks with the digit, and without it since
        self._maimed = self._quiet = False
        self._doubt_until = 0  # sample

    def feed(self, pcm: bytes) -> list[Digit]:
        """Take 16-bit samples at 8 kHz; gives the digits that have ended."""
        return self._take(pcm, lost=False)

    def lose(self, samples: int) -> list[Digit]:
        """So many samples were lost before those that come next: neither tones nor a pause, up to `LONGEST_LOSS`."""
        return self._take(bytes(2 * min(samples, 2 * LONGEST_LOSS)), lost=samples <= LONGEST_LOSS)

    def _take(self, pcm: bytes, *, lost: bool) -> list[Digit]:
        left = self._left
        left.frombytes(pcm)
        self._lost += (b"\1" if lost else b"\0") * (len(pcm) // 2)
        ended: list[Digit] = []
        position = 0
        while position + BLOCK <= len(left):
            digit = self._next(left[position : position + BLOCK], self._lost.count(1, position, position + BLOCK))
            if digit is not None:
                ended.append(digit)
            position += HOP
            self._at += HOP
        del left[:position], self._lost[:position]
        return ended

    def _next(self, block: array[int], lost: int) -> Digit | None:
        """Take the next block, of which so many samples are lost; the digit that has ended with it."""
        energy = sum(map(mul, block, block)) / 2**30
        key = "" if energy < _WEAKEST / 2 * BLOCK else self._key_in(block, energy / BLOCK)
        if lost:
            self._doubt_until = self._at + BLOCK + _RECOVERY
        doubt = self._at < self._doubt_until
        if self._key:
            self._maimed = self._maimed or doubt
            if key == self._key:
                self._hits, self._misses, self._ends = self._hits + 1, 0, self._at + BLOCK
                self._quiet = False
                return None
            known = BLOCK - lost
            quiet = known >= BLOCK // 4 and energy < _WEAKEST / 2 * known
            if lost and not key and not quiet:
                return None  # who knows: what came of it is no pause
            self._misses += 1
            self._quiet = self._quiet or quiet
            if not key and (self._misses < _PAUSE or (doubt and not self._quiet)):
                return None
        elif not key:
            return None
        digit = None
        if self._hits >= (_FEWEST_MAIMED if self._maimed else _FEWEST):
            digit = Digit(self._key, (self._ends - self._began) * 1000 // RATE)
        self._key, self._began, self._ends = key, self._at, self._at + BLOCK
        self._hits, self._misses, self._maimed = (1 if key else 0), 0, doubt
        self._quiet = False
        return digit

    def _key_in(self, block: array[int], energy: float) -> str:
        """The digit whose tones a block has, of this mean power; '' for none."""
        rows = {hertz: self._power(block, hertz) for hertz in _ROWS}
        low = max(_ROWS, key=rows.__getitem__)
        if rows[low] < _LEAST_LOW * energy:
            return ""
        columns = {hertz: self._power(block, hertz) for hertz in _COLUMNS}
        high = max(_COLUMNS, key=columns.__getitem__)
        if rows[low] + columns[high] < _PURITY * energy:
            return ""
        if not _TWIST[0] < rows[low] / (columns[high] or 1e-12) < _TWIST[1]:
            return ""
        return _KEYS[_ROWS.index(low)][_COLUMNS.index(high)]

    @staticmethod
    def _power(block: array[int], hertz: int) -> float:
        """Mean power of one tone (Goertzel's sum written as two dot products, which Python does fastest)."""
        cosine, sine = _WAVES[hertz]
        return float(sum(map(mul, block, cosine)) ** 2 + sum(map(mul, block, sine)) ** 2) * 2 / BLOCK**2 / 2**30
