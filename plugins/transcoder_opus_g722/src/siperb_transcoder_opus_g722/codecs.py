"""The four codecs behind one pair of interfaces: payloads to 16-bit little-endian mono samples, and back."""

from __future__ import annotations

from array import array
from typing import Protocol, cast

from siperb_core import g711

from . import libraries
from .g722 import PyavDecoder, PyavEncoder, SpandspDecoder, SpandspEncoder
from .opus import BITRATE, OpusDecoder, OpusEncoder

NAMES = ("opus", "G722", "PCMA", "PCMU")
LONGEST_G711 = 960  # octets: 120 ms, the longest packet Opus has


class Decoder(Protocol):
    """One stream's decoder."""

    def decode(self, payload: bytes) -> bytes:
        """The payload's samples. Raises ValueError on a payload that is none of this codec."""

    def conceal(self) -> bytes:
        """Samples for one packet that was lost, as long as the one before it."""

    def close(self) -> None:
        """Give the memory back."""


class Encoder(Protocol):
    """One stream's encoder."""

    def encode(self, pcm: bytes) -> bytes:
        """The payload of these samples. Raises ValueError where the codec has no packet of that duration."""

    def close(self) -> None:
        """Give the memory back."""


class _PlainDecoder(Protocol):
    def decode(self, payload: bytes) -> bytes: ...

    def close(self) -> None: ...


class G711Decoder:
    """PCMA or PCMU to samples at 8 kHz."""

    def __init__(self, law: g711.Law) -> None:
        self._law = law

    def decode(self, payload: bytes) -> bytes:
        if not 0 < len(payload) <= LONGEST_G711:
            raise ValueError(f"a {self._law} payload of {len(payload)} octets: 1 to {LONGEST_G711} can be decoded")
        return g711.decode(self._law, payload)

    def close(self) -> None:
        """Nothing is held."""


class G711Encoder:
    """Samples at 8 kHz to PCMA or PCMU."""

    def __init__(self, law: g711.Law) -> None:
        self._law = law

    def encode(self, pcm: bytes) -> bytes:
        return g711.encode(self._law, pcm)

    def close(self) -> None:
        """Nothing is held."""


class Repeating:
    """Adds concealment to a decoder: the last packet again, 6 dB softer each time, silence from the fifth on."""

    def __init__(self, decoder: _PlainDecoder, silence: bytes) -> None:
        self._decoder = decoder
        self._last = silence
        self._lost = 0

    def decode(self, payload: bytes) -> bytes:
        pcm = self._decoder.decode(payload)
        self._last, self._lost = pcm, 0
        return pcm

    def conceal(self) -> bytes:
        self._lost += 1
        if self._lost > 4:
            return bytes(len(self._last))
        self._last = array("h", [sample >> 1 for sample in array("h", self._last)]).tobytes()
        return self._last

    def close(self) -> None:
        self._decoder.close()


def decoder(name: str, rate: int, *, ptime: int = 20) -> Decoder:
    """A decoder to samples at `rate`: 16000 Hz (opus, G722) or 8000 (any). Raises ValueError on anything else."""
    _check(name, rate)
    if name == "opus":
        return OpusDecoder(rate, ptime=ptime)
    plain: _PlainDecoder
    if name == "G722":
        plain = SpandspDecoder(rate) if libraries.spandsp() else PyavDecoder(rate)
    else:
        plain = G711Decoder(cast("g711.Law", name))
    return Repeating(plain, bytes(rate * ptime // 1000 * 2))


def encoder(name: str, rate: int, *, bitrate: int = BITRATE) -> Encoder:
    """An encoder of samples at `rate`, as with `decoder`; `bitrate` is Opus's. Raises ValueError on anything else."""
    _check(name, rate)
    if name == "opus":
        return OpusEncoder(rate, bitrate=bitrate)
    if name == "G722":
        return SpandspEncoder(rate) if libraries.spandsp() else PyavEncoder(rate)
    return G711Encoder(cast("g711.Law", name))


def _check(name: str, rate: int) -> None:
    if name not in NAMES:
        raise ValueError(f"no codec {name}: there are {', '.join(NAMES)}")
    if rate != 8000 and not (rate == 16000 and name in ("opus", "G722")):
        raise ValueError(f"{name} cannot be had at {rate} Hz")
