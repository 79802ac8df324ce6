"""The test peers' codecs: Opus and G.722 through PyAV, PCMA and PCMU by table, L16 (RFC 3551 section 4.5.11, at 16 kHz)
for a codec that the gateway knows nothing about; packets of 20 ms, mono.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, cast

import attrs
import av
from av.audio.frame import AudioFrame

from siperb_core.media.contract import TranscoderType
from siperb_core.rtp import g711
from siperb_core.rtp.g711 import Law
from siperb_core.sdp.plan import Codec
from siperb_core.testing import tones

PAYLOAD_TYPES: Final = {"PCMU": 0, "PCMA": 8, "G722": 9}
"""The static payload types (RFC 3551 section 6): all codecs here but Opus, which has none."""
PACKET: Final = 160  # octets, and ticks of the RTP clock, of 20 ms in any of these three

_RATES: Final = {"opus": 48000, "G722": 16000, "PCMA": 8000, "PCMU": 8000, "L16": 16000}
_PYAV: Final = {"opus": "libopus", "G722": "g722"}
_DYNAMIC: Final = 97  # the first payload type of those that were learnt
_PCMA: Final = Codec("PCMA", 8000)


@attrs.frozen
class _Learnt:
    """A codec of a plugin's, and who brings it from and to PCMA."""

    codec: Codec
    here: TranscoderType
    away: TranscoderType


_learnt: dict[str, _Learnt] = {}


def learn(codec: Codec, transcoders: Iterable[TranscoderType]) -> None:
    """Speak a codec that plugins give, where they transcode it to PCMA and back; nothing happens where they do not."""
    if codec.name in _RATES:
        return
    by_pair = {pair: item for item in transcoders for pair in item.pairs()}
    here, away = by_pair.get((codec.name, "PCMA")), by_pair.get(("PCMA", codec.name))
    if here is not None and away is not None:
        _learnt[codec.name] = _Learnt(codec, here, away)


def numbers() -> dict[str, int]:
    """The payload types a PBX gives to what can be spoken over RTP here: all but Opus."""
    return {**PAYLOAD_TYPES, "L16": 96, **{name: _DYNAMIC + index for index, name in enumerate(_learnt)}}


def sample_rate(name: str) -> int:
    """Of the samples, in Hz."""
    return 8000 if name in _learnt else _RATES[name]


def clock_rate(name: str) -> int:
    """Of the RTP timestamps, in Hz (for G.722 see RFC 3551 section 4.5.2)."""
    if name in _learnt:
        return _learnt[name].codec.clock
    return _RATES[name] if name in ("opus", "L16") else 8000


def encode(name: str, pcm: bytes) -> list[bytes]:
    """Payloads of 20 ms of 16-bit mono samples; what is left over at the end is left out."""
    size = sample_rate(name) // 50 * 2
    blocks = [pcm[start : start + size] for start in range(0, len(pcm) - size + 1, size)]
    if name == "L16":
        return [_swapped(block) for block in blocks]
    if name in _learnt:
        known = _learnt[name]
        return list(_through(known.away, _PCMA, known.codec, encode("PCMA", pcm)))
    if name not in _PYAV:
        return [g711.encode(cast(Law, name), block) for block in blocks]
    context = _context(name, "w")
    payloads: list[bytes] = []
    for block in blocks:
        frame = AudioFrame(format="s16", layout="mono", samples=size // 2)
        frame.sample_rate = sample_rate(name)
        plane: Any = frame.planes[0]
        plane.update(block)
        payloads += map(bytes, context.encode(frame))
    return payloads


def decode(name: str, payloads: Iterable[bytes]) -> bytes:
    """The samples of payloads that followed one another; one that cannot be decoded is left out."""
    if name == "L16":
        return b"".join(_swapped(payload) for payload in payloads)
    if name in _learnt:
        known = _learnt[name]
        return decode("PCMA", _through(known.here, known.codec, _PCMA, payloads))
    if name not in _PYAV:
        return b"".join(g711.decode(cast(Law, name), payload) for payload in payloads)
    context = _context(name, "r")
    pcm = bytearray()
    for payload in payloads:
        try:
            frames = context.decode(av.Packet(payload))
        except av.FFmpegError:
            continue
        for frame in frames:
            pcm += bytes(frame.planes[0])[: 2 * frame.samples]
    return bytes(pcm)


def _through(kind: TranscoderType, source: Codec, target: Codec, payloads: Iterable[bytes]) -> Iterator[bytes]:
    coder = kind.create(source, target)
    try:
        for payload in payloads:
            try:
                yield coder.transcode(payload)
            except ValueError:
                continue
    finally:
        coder.close()


def _swapped(pcm: bytes) -> bytes:
    """Between the samples here, least octet first, and those on the wire, most significant first."""
    swapped = bytearray(pcm[: len(pcm) // 2 * 2])
    swapped[::2], swapped[1::2] = swapped[1::2], swapped[::2]
    return bytes(swapped)


def _context(name: str, mode: str) -> Any:
    context: Any = av.CodecContext.create(_PYAV[name], cast(Any, mode))
    context.sample_rate = sample_rate(name)
    context.layout = "mono"
    context.format = "s16"
    return context


@lru_cache(maxsize=64)
def looped_tone(name: str, hz: int, dbfs: float) -> Sequence[bytes]:
    """A second of a tone as payloads that can be sent round and round."""
    second = tones.second(hz, dbfs, sample_rate(name))
    # The second time round the codec's memory is that of a tone going on, not of a silence before it.
    return tuple(encode(name, second * 2)[50:])


@lru_cache(maxsize=8)
def silence(name: str) -> Sequence[bytes]:
    """One packet of silence."""
    return tuple(encode(name, bytes(sample_rate(name) // 50 * 2)))
