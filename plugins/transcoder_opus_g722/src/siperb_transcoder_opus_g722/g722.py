"""G.722 at 64 kbit/s (ITU-T G.722) to and from 16-bit mono: libspandsp where it is installed, PyAV elsewhere.

At 16 kHz two samples make an octet. At 8 kHz, for G.711 on the other side, an octet is one sample: libspandsp takes and
gives the lower sub-band alone, which needs no resampling; PyAV has no such mode and resamples.
"""

from __future__ import annotations

from array import array
from functools import cache
from operator import mul
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from . import libraries
from .libraries import ffi

_LONGEST = 960  # octets: 120 ms
_BAND_8000 = 1  # G722_SAMPLE_RATE_8000
_STATE = 1024  # octets; libspandsp's is 172

_NEAR = bytes(range(0x73, 0x8D))  # the higher octet of a sample within 0.9 dB of full scale, or beyond it
_SUSPECT = 0x5000  # what is as far beyond full scale as it gets comes out louder than this
_TOO_FAR = 0x9000  # from the lower band alone: more than the higher one can add
_STEP = 0x4000  # from a sample to the next: far less than from one end of the scale to the other
# The receive QMF for the lower band (G.722 table 11), for the first and the second sample of an octet.
_ODD = (3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11)
_QMF = (_ODD[::-1], _ODD)
_TAPS = len(_ODD)


def _check(octets: int) -> None:
    if not 0 < octets <= _LONGEST:
        raise ValueError(f"a G.722 payload of {octets} octets: 1 to {_LONGEST} can be decoded")


class SpandspDecoder:
    """G.722 payloads to samples through libspandsp. `rate` in Hz: 8000 or 16000.

    Where both sub-bands add up to more than 16 bits hold, libspandsp goes on at the other end of the scale: a crack in
    loud speech. The lower band alone, which does not overflow, tells which samples these are. It comes from the same
    payload decoded once more, from the state before, and only where something is near full scale.
    """

    def __init__(self, rate: int) -> None:
        self._library: Any = libraries.spandsp()
        self._pcm = ffi.new("int16_t[]", 2 * _LONGEST)
        self._view = ffi.buffer(self._pcm)
        # States in memory of our own: they are copied. The library frees nothing of them.
        self._state: Any = _decoder_state(self._library, _BAND_8000 if rate == 8000 else 0)
        self._decode = self._library.g722_decode
        self._overflows = rate == 16000
        self._before, self._before_last = ffi.new("unsigned char[]", _STATE), ffi.new("unsigned char[]", _STATE)
        self._last_payload = b""

    def decode(self, payload: bytes) -> bytes:
        _check(len(payload))
        state = self._state
        if not self._overflows:
            return self._view[: 2 * self._decode(state, self._pcm, payload, len(payload))]  # type: ignore[no-any-return]
        before, self._before_last = self._before_last, self._before
        ffi.memmove(before, state, _STATE)
        self._before = before
        samples = self._decode(state, self._pcm, payload, len(payload))
        pcm: bytes = self._view[: 2 * samples]
        if len(pcm[1::2].translate(None, _NEAR)) != samples:
            pcm = self._saturated(pcm, payload)
        self._last_payload = payload
        return pcm

    def _saturated(self, pcm: bytes, payload: bytes) -> bytes:
        """The samples just decoded, with those that overflowed as loud as a sample can be."""
        low = (
            [0] * _TAPS + self._low_band(self._before_last, self._last_payload) + self._low_band(self._before, payload)
        )
        start = len(low) - len(payload) - _TAPS + 1
        samples = array("h", pcm)
        last, over = 0, False
        for n, sample in enumerate(samples):
            if -_SUSPECT < sample < _SUSPECT:
                last, over = 0, False
                continue
            if not -_STEP < sample - last < _STEP:  # else it is what the one before was
                at = start + n // 2
                over = abs(sample - (sum(map(mul, _QMF[n % 2], low[at : at + _TAPS])) >> 12)) > _TOO_FAR
            last = sample
            if over:
                samples[n] = -32768 if sample > 0 else 32767
        return samples.tobytes()

    def _low_band(self, state: Any, payload: bytes) -> list[int]:
        """What it would have decoded from that state as narrowband: a sample for each octet, as loud as at 16 kHz."""
        if not payload:
            return []
        again = _decoder_state(self._library, 0)
        ffi.memmove(again, state, _STATE)
        for at, value in _narrowband(self._library):
            again[at] = value
        samples = self._decode(again, self._pcm, payload, len(payload))
        return list(self._pcm[0:samples])

    def close(self) -> None:
        self._state = None


def _decoder_state(library: Any, options: int) -> Any:
    state = ffi.new("unsigned char[]", _STATE)
    library.g722_decode_init(state, 64000, options)
    return state


@cache
def _narrowband(library: Any) -> tuple[tuple[int, int], ...]:
    """The octets of a decoder's state, and their values, that make it decode the lower sub-band alone."""
    wide, narrow = (bytes(_decoder_state(library, options)) for options in (0, _BAND_8000))
    return tuple((at, value) for at, value in enumerate(narrow) if value != wide[at])


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
