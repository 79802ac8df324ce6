"""The transcoders: one packet in, one packet of the same duration out, no timer and no resampling.

Two wideband codecs meet at 16 kHz; as soon as one side is G.711, at 8 kHz.
"""

from __future__ import annotations

import math
import re
from array import array
from itertools import permutations
from operator import mul
from typing import TYPE_CHECKING, Final, cast

from siperb_core import g711

from . import libraries
from .codecs import LONGEST_G711, NAMES, decoder, encoder
from .opus import BITRATE, OpusDecoder, OpusEncoder

if TYPE_CHECKING:
    from siperb_core import Codec, Transcoder

_G711: Final = ("PCMA", "PCMU")
_LOWEST_BITRATE = 6_000  # RFC 7587 section 6.1, maxaveragebitrate
_MAXAVERAGEBITRATE = re.compile(r"(?:^|;)\s*maxaveragebitrate\s*=\s*(\d{1,6})\s*(?:;|$)", re.IGNORECASE)


class PcmTranscoder:
    """Decodes and encodes again. Meets `siperb_core.Transcoder`."""

    def __init__(self, source: Codec, target: Codec, *, ptime: int) -> None:
        rate = 8000 if source.name in _G711 or target.name in _G711 else 16000
        self._decoder = decoder(source.name, rate, ptime=ptime)
        self._encoder = encoder(target.name, rate, bitrate=_bitrate(target.fmtp))
        self._decode, self._encode = self._decoder.decode, self._encoder.encode
        self._pcm = b""

    def transcode(self, payload: bytes) -> bytes:
        pcm = self._pcm = self._decode(payload)
        return self._encode(pcm)

    def conceal(self) -> bytes:
        return self._encode(self._decoder.conceal())

    def recover(self, following: bytes) -> bytes:
        """The packet lost just before this one: Opus may carry it (forward error correction)."""
        if isinstance(self._decoder, OpusDecoder) and following:
            return self._encode(self._decoder.recover(following))
        return self.conceal()

    def level(self) -> float:
        """Of the packet heard last, in dBFS (that of a full-scale sine is 0); -100 for silence."""
        samples = array("h", self._pcm)
        energy = sum(map(mul, samples, samples)) * 2 / (len(samples) or 1)
        return max(10 * math.log10(energy / 32768**2), -100.0) if energy else -100.0

    def close(self) -> None:
        self._decoder.close()
        self._encoder.close()


class ToOpus(PcmTranscoder):
    """Towards Opus, which leaves a choice: how well, how robustly, and how to say silence."""

    _encoder: OpusEncoder

    def noise(self, level: int) -> bytes:
        """What Opus says when it keeps silent (DTX): its decoder makes the noise by itself, as loud as it was last."""
        return self._encoder.silence

    def adjust_effort(self, *, high: bool) -> None:
        """How much CPU it is worth."""
        self._encoder.adjust_effort(high=high)

    def expect_loss(self, percent: int) -> None:
        """What the receiver's RTCP reports as lost, in per cent: above 0, with forward error correction."""
        self._encoder.expect_loss(percent)


class G711Transcoder:
    """PCMA to PCMU or back: octet by octet, without state but for what was heard last."""

    def __init__(self, source: g711.Law, target: g711.Law, *, ptime: int) -> None:
        self._source, self._target = source, target
        self._decoder = decoder(source, 8000, ptime=ptime)
        self._last = bytes([g711.SILENCE[source]]) * (8 * ptime)

    def transcode(self, payload: bytes) -> bytes:
        if not 0 < len(payload) <= LONGEST_G711:
            raise ValueError(f"a {self._source} payload of {len(payload)} octets: 1 to {LONGEST_G711} are taken")
        self._last = payload
        return g711.translate(self._source, self._target, payload)

    def conceal(self) -> bytes:
        if self._last:
            self._decoder.decode(self._last)
            self._last = b""
        return g711.encode(self._target, self._decoder.conceal())

    def close(self) -> None:
        self._decoder.close()


class OpusG722:
    """All pairs among Opus, G.722, PCMA and PCMU. Meets `siperb_core.media.contract.TranscoderType`."""

    name = "opus_g722"

    def __init__(self) -> None:
        """Raises OSError where there is no libopus: the plugin is then set aside with that reason."""
        libraries.opus()

    def pairs(self) -> frozenset[tuple[str, str]]:
        return frozenset(permutations(NAMES, 2))

    def create(self, source: Codec, target: Codec, *, ptime: int = 20) -> Transcoder:
        """Raises ValueError on a pair that is not among `pairs`."""
        if (source.name, target.name) not in self.pairs():
            raise ValueError(f"cannot transcode {source.name} to {target.name}")
        if source.name in _G711 and target.name in _G711:
            return G711Transcoder(cast("g711.Law", source.name), cast("g711.Law", target.name), ptime=ptime)
        made = ToOpus if target.name == "opus" else PcmTranscoder
        return made(source, target, ptime=ptime)


def _bitrate(fmtp: str) -> int:
    """32 kbit/s, or less where the receiver asked for less (RFC 7587 section 6.1)."""
    asked = _MAXAVERAGEBITRATE.search(fmtp)
    return max(_LOWEST_BITRATE, min(BITRATE, int(asked[1]))) if asked else BITRATE
