"""DTMF as tones in the audio (ITU-T Q.23, Q.24), for PBXs that have nothing else: made and found at 8 kHz."""

from __future__ import annotations

import math
from array import array
from operator import mul
from typing import Final

from siperb_core.rtp.events import Digit

RATE: Final = 8000
BLOCK: Final = 205  # samples: wide enough to tell the rows apart, short enough for a digit of 50 ms

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
    """Finds digits in a stream of samples. A digit is told when it is over: two blocks (51 ms) at least."""

    def __init__(self) -> None:
        self._left = array("h")
        self._current = ""
        self._blocks = 0
        self._misses = 0

    def feed(self, pcm: bytes) -> list[Digit]:
        """Take 16-bit samples at 8 kHz; gives the digits that have ended."""
        left = self._left
        left.frombytes(pcm)
        ended: list[Digit] = []
        position = 0
        while position + BLOCK <= len(left):
            found = self._block(left[position : position + BLOCK])
            position += BLOCK
            if found == self._current:
                self._blocks += 1
                self._misses = 0
                continue
            # One odd block inside a digit, a lost packet say, does not make two of it.
            self._misses += 1
            if self._current and not found and self._misses < 2:
                continue
            if self._current and self._blocks >= 2:
                ended.append(Digit(self._current, self._blocks * BLOCK * 1000 // RATE))
            self._current, self._blocks, self._misses = found, 1, 0
        del left[:position]
        return ended

    def _block(self, block: array[int]) -> str:
        energy = sum(map(mul, block, block)) / BLOCK / 2**30
        if energy < _WEAKEST / 2:
            return ""
        powers = {hertz: self._power(block, hertz) for hertz in _WAVES}
        low, high = max(_ROWS, key=powers.__getitem__), max(_COLUMNS, key=powers.__getitem__)
        both = powers[low] + powers[high]
        if both < _PURITY * energy or not _TWIST[0] < powers[low] / (powers[high] or 1e-12) < _TWIST[1]:
            return ""
        return _KEYS[_ROWS.index(low)][_COLUMNS.index(high)]

    @staticmethod
    def _power(block: array[int], hertz: int) -> float:
        """Mean power of one tone (Goertzel's sum written as two dot products, which Python does fastest)."""
        cosine, sine = _WAVES[hertz]
        return float(sum(map(mul, block, cosine)) ** 2 + sum(map(mul, block, sine)) ** 2) * 2 / BLOCK**2 / 2**30
