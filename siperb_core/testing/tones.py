"""Tones made and heard, in pure Python: 16-bit little-endian mono samples."""

from __future__ import annotations

import cmath
import math
import sys
from array import array
from functools import lru_cache

import attrs

LEVEL = -6.0  # dBFS of a tone nobody asked to be louder or softer

_LARGEST_WINDOW = 8192  # samples; a second of 8 kHz, half a second of 16 kHz
_SPREAD = 4  # bins on either side of the peak that a Hann window leaks into


@lru_cache(maxsize=64)
def second(hz: int, dbfs: float, rate: int) -> bytes:
    """One second of a sine of `hz`, which ends where it begins: repeated, it goes on without a click.

    `dbfs` is the level of the sine, 0 the loudest; `rate` is in Hz. Raises ValueError on a tone that cannot be.
    """
    if not 0 < hz < rate / 2:
        raise ValueError(f"no tone of {hz} Hz in {rate} samples a second")
    if dbfs > 0:
        raise ValueError(f"no tone of {dbfs} dBFS: 0 is the loudest")
    amplitude, turn = 32767 * 10 ** (dbfs / 20), 2 * math.pi * hz / rate
    return _little_endian(array("h", [round(amplitude * math.sin(turn * i)) for i in range(rate)]))


def _little_endian(samples: array[int]) -> bytes:
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


@attrs.frozen
class Heard:
    """What a piece of audio sounds like."""

    hz: float  # of the strongest tone; 0 in silence
    dbfs: float  # level of all there is, as that of a sine; -120 in silence
    tone_to_rest: float  # dB between that tone and everything else
    seconds: float  # how much was listened to

    def is_tone(self, hz: float, *, within: float = 10.0, above_rest: float = 20.0) -> bool:
        """Whether it is a tone of `hz`, give or take `within` Hz, at least `above_rest` dB above everything else."""
        return abs(self.hz - hz) <= within and self.tone_to_rest >= above_rest


SILENCE = Heard(hz=0.0, dbfs=-120.0, tone_to_rest=0.0, seconds=0.0)


def analyse(pcm: bytes, rate: int) -> Heard:
    """The strongest tone at the end of `pcm`, in up to 8192 samples. Less than 256, or none but zeros, are silence."""
    samples = array("h", pcm[: len(pcm) // 2 * 2])
    if sys.byteorder == "big":
        samples.byteswap()
    size = min(_LARGEST_WINDOW, 1 << len(samples).bit_length() - 1) if samples else 0
    heard = samples[len(samples) - size :]
    power = sum(sample * sample for sample in heard)
    if size < 256 or power == 0:
        return attrs.evolve(SILENCE, seconds=size / rate)
    level = 10 * math.log10(2 * power / size / 32768**2)
    turn = 2 * math.pi / size
    spectrum = _fft([sample * (0.5 - 0.5 * math.cos(turn * i)) for i, sample in enumerate(heard)])
    powers = [abs(value) ** 2 for value in spectrum[: size // 2]]
    powers[:_SPREAD] = [0.0] * _SPREAD  # the constant part is not heard
    peak = max(range(len(powers)), key=powers.__getitem__)
    tone = sum(powers[max(peak - _SPREAD, 0) : peak + _SPREAD + 1])
    rest = sum(powers) - tone
    return Heard(
        hz=(peak + _between(powers, peak)) * rate / size,
        dbfs=level,
        tone_to_rest=10 * math.log10(tone / max(rest, tone * 1e-12)),
        seconds=size / rate,
    )


def _between(powers: list[float], peak: int) -> float:
    """How far the tone is off the strongest bin's middle (a parabola through the logarithms of three bins)."""
    if not 0 < peak < len(powers) - 1:
        return 0.0
    left, middle, right = (math.log(max(power, 1e-12)) for power in powers[peak - 1 : peak + 2])
    curve = left - 2 * middle + right
    return 0.5 * (left - right) / curve if curve else 0.0


def _fft(values: list[float]) -> list[complex]:
    """The discrete Fourier transform of as many values as a power of two (Cooley and Tukey)."""
    size = len(values)
    bits = size.bit_length() - 1
    out = [complex(values[int(f"{i:0{bits}b}"[::-1], 2)]) for i in range(size)]
    half = 1
    while half < size:
        factors = [cmath.exp(-1j * math.pi * i / half) for i in range(half)]
        for start in range(0, size, 2 * half):
            evens, odds = out[start : start + half], out[start + half : start + 2 * half]
            turned = [odd * factor for odd, factor in zip(odds, factors, strict=True)]
            out[start : start + half] = [even + odd for even, odd in zip(evens, turned, strict=True)]
            out[start + half : start + 2 * half] = [even - odd for even, odd in zip(evens, turned, strict=True)]
        half *= 2
    return out
