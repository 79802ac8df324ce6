"""Opus (RFC 6716) to and from 16-bit mono at 8 or 16 kHz; libopus does that without resampling."""

from __future__ import annotations

from typing import Any

from . import libraries
from .libraries import ffi

BITRATE = 32_000  # bit/s
LOW_COMPLEXITY, HIGH_COMPLEXITY = 5, 8

_APPLICATION_AUDIO = 2049
_SET_BITRATE, _SET_COMPLEXITY, _SET_INBAND_FEC, _SET_PACKET_LOSS_PERC, _SET_SIGNAL = 4002, 4010, 4012, 4014, 4024
_SET_VBR_CONSTRAINT = 4020
_SIGNAL_AUTO, _SIGNAL_VOICE = -1000, 3001
_LONGEST_MS = 120  # RFC 6716 section 3.2.5
_LARGEST_PACKET = 4000  # what libopus's own documentation recommends

_error = ffi.new("int *")


class OpusDecoder:
    """One stream's decoder. A stereo packet comes out as mono. `rate` in Hz: 8000 or 16000."""

    def __init__(self, rate: int, *, ptime: int = 20) -> None:
        self._library = libraries.opus()
        self._longest = rate * _LONGEST_MS // 1000
        self._last = rate * ptime // 1000
        self._pcm = ffi.new("int16_t[]", self._longest)
        self._view = ffi.buffer(self._pcm)
        self._decode = self._library.opus_decode
        self._state: Any = _made(self._library, self._library.opus_decoder_create(rate, 1, _error))

    def decode(self, payload: bytes) -> bytes:
        """The packet's samples. Raises ValueError on a packet libopus refuses."""
        if not payload:  # to libopus that would mean a lost packet
            raise ValueError("an empty Opus packet")
        samples = self._decode(self._state, payload, len(payload), self._pcm, self._longest, 0)
        if samples < 0:
            raise ValueError(f"not an Opus packet: {_text(self._library, samples)}")
        self._last = samples
        return self._view[: 2 * samples]  # type: ignore[no-any-return]

    def conceal(self) -> bytes:
        """Samples for a packet that was lost, as long as the one before it (RFC 6716 section 4.4)."""
        samples = self._decode(self._state, ffi.NULL, 0, self._pcm, self._last, 0)
        if samples < 0:
            raise ValueError(_text(self._library, samples))
        return self._view[: 2 * samples]  # type: ignore[no-any-return]

    def recover(self, following: bytes) -> bytes:
        """Samples for the packet lost just before this one, out of this one's forward error correction where it has
        any (RFC 6716 section 2.1.7), else concealed.
        """
        samples = self._decode(self._state, following, len(following), self._pcm, self._last, 1)
        if samples < 0:
            raise ValueError(f"not an Opus packet: {_text(self._library, samples)}")
        return self._view[: 2 * samples]  # type: ignore[no-any-return]

    def close(self) -> None:
        if self._state is not None:
            self._library.opus_decoder_destroy(self._state)
            self._state = None


class OpusEncoder:
    """One stream's encoder: mono, `rate` 8000 or 16000 Hz, `bitrate` in bit/s.

    Starts in the mode that costs least (CELT). With high effort (`adjust_effort`) libopus hears whether it is speech,
    and takes SILK for it: better, in three quarters of the bits. `expect_loss` changes to SILK with FEC. Both cost
    three to five times the CPU at 16 kHz; at 8 kHz, high effort costs next to nothing, and CELT stays.
    """

    def __init__(self, rate: int, *, bitrate: int = BITRATE) -> None:
        self._library = libraries.opus()
        self._rate = rate
        self._last = b""
        self._out = ffi.new("unsigned char[]", _LARGEST_PACKET)
        self._view = ffi.buffer(self._out)
        self._encode = self._library.opus_encode
        self._state: Any = _made(self._library, self._library.opus_encoder_create(rate, 1, _APPLICATION_AUDIO, _error))
        # The frame durations of RFC 6716 section 2.1.4 in octets of PCM.
        self._frames = frozenset(rate * tenths // 10_000 * 2 for tenths in (25, 50, 100, 200, 400, 600))
        self._set(_SET_BITRATE, bitrate)
        self._set(_SET_COMPLEXITY, LOW_COMPLEXITY)
        if bitrate >= BITRATE:  # nobody asked for less
            # Free to go above it for a moment: constrained, pure tones come out 3 to 10 dB less clean.
            self._set(_SET_VBR_CONSTRAINT, 0)

    def _set(self, request: int, value: int) -> None:
        result = self._library.opus_encoder_ctl(self._state, request, ffi.cast("int", value))
        if result < 0:
            raise ValueError(f"Opus option {request}={value}: {_text(self._library, result)}")

    def adjust_effort(self, *, high: bool) -> None:
        """Encode as well as pays, or as cheaply."""
        # From 7 on libopus tells speech from music; 8 is the first that is no worse than the highest.
        self._set(_SET_COMPLEXITY, HIGH_COMPLEXITY if high else LOW_COMPLEXITY)

    def expect_loss(self, percent: int) -> None:
        """Get ready for `percent` of packets to be lost: 0 is the cheap mode, more SILK with FEC (RFC 6716 2.1.7)."""
        self._set(_SET_PACKET_LOSS_PERC, percent)
        self._set(_SET_INBAND_FEC, int(percent > 0))
        self._set(_SET_SIGNAL, _SIGNAL_VOICE if percent else _SIGNAL_AUTO)

    def encode(self, pcm: bytes) -> bytes:
        """One packet of as many samples. Raises ValueError on a duration other than multiples of 2.5 ms up to 120."""
        if len(pcm) not in self._frames:
            return self._encode_several(pcm)
        size = self._encode(self._state, pcm, len(pcm) // 2, self._out, _LARGEST_PACKET)
        if size < 0:
            raise ValueError(f"Opus encoder: {_text(self._library, size)}")
        packet: bytes = self._view[:size]
        self._last = packet[:1]
        return packet

    def _encode_several(self, pcm: bytes) -> bytes:
        """A packet of a duration no frame has (30 ms, say): several equal frames in it (RFC 6716 section 3.2.5)."""
        frame = next((f for f in sorted(self._frames, reverse=True) if len(pcm) % f == 0), 0)
        if not frame or not 0 < len(pcm) <= self._rate * _LONGEST_MS // 1000 * 2:
            raise ValueError(f"Opus has no packet of {len(pcm) / 2 / self._rate * 1000:g} ms")
        library = self._library
        packer = library.opus_repacketizer_create()
        try:
            library.opus_repacketizer_init(packer)
            packets = [self.encode(pcm[start : start + frame]) for start in range(0, len(pcm), frame)]
            frames = [ffi.from_buffer("unsigned char[]", packet) for packet in packets]
            for data in frames:  # the packer keeps pointers to them
                result = library.opus_repacketizer_cat(packer, data, len(data))
                if result < 0:
                    raise ValueError(f"Opus packet of {len(frames)} frames: {_text(library, result)}")
            size = library.opus_repacketizer_out(packer, self._out, _LARGEST_PACKET)
            if size < 0:
                raise ValueError(f"Opus packet of {len(frames)} frames: {_text(library, size)}")
            return self._view[:size]  # type: ignore[no-any-return]
        finally:
            library.opus_repacketizer_destroy(packer)

    @property
    def silence(self) -> bytes:
        """A packet without sound, of the mode and duration of the one before it: its first octet alone (RFC 6716
        section 3.1, a frame of length zero); b"" before the first.
        """
        return self._last and bytes([self._last[0] & 0xFC])

    def close(self) -> None:
        if self._state is not None:
            self._library.opus_encoder_destroy(self._state)
            self._state = None


def _made(library: Any, state: Any) -> Any:
    if state == ffi.NULL:
        raise ValueError(f"libopus: {_text(library, _error[0])}")
    return state


def _text(library: Any, code: int) -> str:
    return ffi.string(library.opus_strerror(code)).decode("ascii", "replace")  # type: ignore[no-any-return]
