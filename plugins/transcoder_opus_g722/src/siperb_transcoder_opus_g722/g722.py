"""G.722 at 64 kbit/s (ITU-T G.722) to and from 16-bit mono: libspandsp where it is installed, PyAV elsewhere.

At 16 kHz two samples make an octet. At 8 kHz, for G.711 on the other side, an octet is one sample: libspandsp takes and
gives the lower sub-band alone, which needs no resampling; PyAV has no such mode and resamples.
"""

from __future__ import annotations

from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from . import libraries
from .libraries import ffi

_LONGEST = 960  # octets: 120 ms
_BAND_8000 = 1  # G722_SAMPLE_RATE_8000


def _check(octets: int) -> None:
    if not 0 < octets <= _LONGEST:
        raise ValueError(f"a G.722 payload of {octets} octets: 1 to {_LONGEST} can be decoded")


class SpandspDecoder:
    """G.722 payloads to samples through libspandsp. `rate` in Hz: 8000 or 16000."""

    def __init__(self, rate: int) -> None:
        self._library: Any = libraries.spandsp()
        self._pcm = ffi.new("int16_t[]", 2 * _LONGEST)
        self._view = ffi.buffer(self._pcm)
        self._state: Any = self._library.g722_decode_init(ffi.NULL, 64000, _BAND_8000 if rate == 8000 else 0)
        self._decode = self._library.g722_decode

    def decode(self, payload: bytes) -> bytes:
        _check(len(payload))
        samples = self._decode(self._state, self._pcm, payload, len(payload))
        return self._view[: 2 * samples]  # type: ignore[no-any-return]

    def close(self) -> None:
        if self._state is not None:
            self._library.g722_decode_free(self._state)
            self._state = None


class SpandspEncoder:
    """Samples to G.722 payloads through libspandsp. `rate` in Hz: 8000 or 16000."""

    def __init__(self, rate: int) -> None:
        self._library: Any = libraries.spandsp()
        self._octet = 2 if rate == 8000 else 4  # octets of PCM in an octet of G.722
        self._out = ffi.new("unsigned char[]", _LONGEST)
        self._view = ffi.buffer(self._out)
        self._state: Any = self._library.g722_encode_init(ffi.NULL, 64000, _BAND_8000 if rate == 8000 else 0)
        self._encode = self._library.g722_encode

    def encode(self, pcm: bytes) -> bytes:
        if len(pcm) % self._octet:
            raise ValueError(f"{len(pcm)} octets of samples do not make whole octets of G.722")
        _check(len(pcm) // self._octet)
        size = self._encode(self._state, self._out, pcm, len(pcm) // 2)
        return self._view[:size]  # type: ignore[no-any-return]

    def close(self) -> None:
        if self._state is not None:
            self._library.g722_encode_free(self._state)
            self._state = None


class _Resampler:
    """Samples at one rate to exactly as many at another; silence at the start makes up for the filter's delay."""

    def __init__(self, source: int, target: int) -> None:
        self._resampler = AudioResampler(format="s16", layout="mono", rate=target)
        self._source, self._target = source, target
        self._kept = b""
        self._started = False

    def __call__(self, pcm: bytes) -> bytes:
        wanted = len(pcm) * self._target // self._source
        frames = self._resampler.resample(_frame(pcm, self._source))
        got = self._kept + b"".join(bytes(frame.planes[0])[: 2 * frame.samples] for frame in frames)
        if not self._started:
            self._started = True
            got = bytes(max(0, wanted - len(got))) + got
        out, self._kept = got[:wanted], got[wanted:]
        return out + bytes(wanted - len(out))


def _frame(pcm: bytes, rate: int) -> AudioFrame:
    frame = AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
    frame.sample_rate = rate
    plane: Any = frame.planes[0]
    plane.update(pcm + bytes(plane.buffer_size - len(pcm)))
    return frame


class PyavDecoder:
    """G.722 payloads to samples through PyAV, which keeps nothing back. `rate` in Hz: 8000 or 16000."""

    def __init__(self, rate: int) -> None:
        self._context: Any = av.CodecContext.create("g722", "r")
        self._context.sample_rate = 16000
        self._context.layout = "mono"
        self._resample = _Resampler(16000, 8000) if rate == 8000 else None

    def decode(self, payload: bytes) -> bytes:
        _check(len(payload))
        frames = self._context.decode(av.Packet(payload))
        pcm = b"".join(bytes(frame.planes[0])[: 2 * frame.samples] for frame in frames)
        return self._resample(pcm) if self._resample else pcm

    def close(self) -> None:
        self._context = None


class PyavEncoder:
    """Samples to G.722 payloads through PyAV. `rate` in Hz: 8000 or 16000."""

    def __init__(self, rate: int) -> None:
        self._octet = 2 if rate == 8000 else 4
        self._context: Any = None
        self._size = 0  # samples the context takes at a time: FFmpeg's encoder wants every frame of one length
        self._resample = _Resampler(8000, 16000) if rate == 8000 else None

    def encode(self, pcm: bytes) -> bytes:
        if len(pcm) % self._octet:
            raise ValueError(f"{len(pcm)} octets of samples do not make whole octets of G.722")
        _check(len(pcm) // self._octet)
        if self._resample:
            pcm = self._resample(pcm)
        samples = len(pcm) // 2
        if samples != self._size:
            self._size = samples
            self._context = av.CodecContext.create("g722", "w")
            self._context.sample_rate = 16000
            self._context.layout = "mono"
            self._context.format = "s16"
            self._context.options = {"frame_size": str(samples)}
        return b"".join(bytes(packet) for packet in self._context.encode(_frame(pcm, 16000)))

    def close(self) -> None:
        self._context = None
