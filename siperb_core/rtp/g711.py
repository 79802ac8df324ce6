"""PCMA and PCMU (ITU-T G.711, RFC 3551 section 4.5.14) as tables: 16-bit linear samples, little-endian, at 8 kHz.

Decoding is two translations of the payload, one for each half of a sample; encoding is one look-up per sample in a
table of all 65,536 samples; A-law to mu-law is one translation. All of it in C inside the interpreter.
"""

from __future__ import annotations

from array import array
from functools import cache
from typing import Final, Literal

Law = Literal["PCMA", "PCMU"]

SILENCE: Final[dict[Law, int]] = {"PCMA": 0xD5, "PCMU": 0xFF}
"""The octet of a sample of zero."""


def _expand_alaw(octet: int) -> int:
    octet ^= 0x55
    segment, step = octet >> 4 & 7, octet & 15
    value = (step << 4) + 8
    if segment:
        value = (value + 0x100) << (segment - 1)
    return value if octet & 0x80 else -value


def _expand_ulaw(octet: int) -> int:
    octet = ~octet & 0xFF
    segment, step = octet >> 4 & 7, octet & 15
    value = (((step << 3) + 0x84) << segment) - 0x84
    return -value if octet & 0x80 else value


_EXPAND = {"PCMA": _expand_alaw, "PCMU": _expand_ulaw}


@cache
def _halves(law: Law) -> tuple[bytes, bytes]:
    """The low and the high octet of each of the 256 samples."""
    pcm = [_EXPAND[law](octet) & 0xFFFF for octet in range(256)]
    return bytes(sample & 0xFF for sample in pcm), bytes(sample >> 8 for sample in pcm)


def _alaw_by_magnitude() -> bytes:
    """The octets of the samples 0 to 32767: every segment has sixteen steps, twice as wide as the segment before."""
    widths = (16, 16, 32, 64, 128, 256, 512, 1024)
    return b"".join(bytes([(0x80 | code) ^ 0x55]) * widths[code >> 4] for code in range(128))


def _ulaw_by_magnitude() -> bytes:
    """As for A-law; the bias of 132 cuts the first step short, and the last is as wide as what is left."""
    runs = [8 << (code >> 4) for code in range(128)]
    runs[0] -= 4
    runs[127] += 0x8000 - sum(runs)
    return b"".join(bytes([0xFF - code]) * run for code, run in enumerate(runs))


@cache
def _octets(law: Law) -> bytes:
    """The octet of each sample, indexed by the sample's 16 bits taken without sign."""
    if law == "PCMA":
        positive = _alaw_by_magnitude()
        negative = positive[::-1]  # -1 is to A-law what 0 is
    else:
        positive = _ulaw_by_magnitude()
        negative = (positive[1:] + positive[-1:])[::-1]
    return positive + bytes(octet ^ 0x80 for octet in negative)


@cache
def _translation(source: Law, target: Law) -> bytes:
    return encode(target, decode(source, bytes(range(256))))


def decode(law: Law, payload: bytes) -> bytes:
    """Linear samples of a payload: two octets for each of its octets."""
    low, high = _halves(law)
    pcm = bytearray(2 * len(payload))
    pcm[0::2] = payload.translate(low)
    pcm[1::2] = payload.translate(high)
    return bytes(pcm)


def encode(law: Law, pcm: bytes) -> bytes:
    """The payload of linear samples. Raises ValueError on half a sample."""
    if len(pcm) % 2:
        raise ValueError(f"{len(pcm)} octets are not whole 16-bit samples")
    samples = array("H", pcm)
    if _BIG_ENDIAN:
        samples.byteswap()
    return bytes(map(_octets(law).__getitem__, samples))


def translate(source: Law, target: Law, payload: bytes) -> bytes:
    """A payload of one law as a payload of the other, octet by octet (G.711 tables 3 and 4 in effect)."""
    return payload.translate(_translation(source, target))


_BIG_ENDIAN = array("H", b"\x01\x00")[0] != 1
