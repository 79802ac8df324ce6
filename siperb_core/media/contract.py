"""The contract between the core and a transcoder: pure objects, payload in, payload out."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from siperb_core.sdp.plan import Codec


class Transcoder(Protocol):
    """One direction of one call. Keeps the codecs' state; touches no clock and no socket.

    What it raises besides ValueError ends the call, and is its plugin's fault.
    """

    def transcode(self, payload: bytes) -> bytes:
        """One packet's payload in, the other codec's payload of the same duration out.

        Raises ValueError on a payload that cannot be decoded.
        """

    def conceal(self) -> bytes:
        """A payload that stands for one packet that was lost."""

    def close(self) -> None:
        """Give the codecs' memory back. Nothing may be called afterwards."""


@runtime_checkable
class ExpectsLoss(Protocol):
    """A transcoder whose target codec can send more robustly (optional)."""

    def expect_loss(self, percent: int) -> None:
        """What the receiver reports as lost, in per cent; 0 is the cheap mode."""


@runtime_checkable
class AdjustsEffort(Protocol):
    """A transcoder whose target codec sounds better for more CPU (optional). Before it is told, it is cheap."""

    def adjust_effort(self, *, high: bool) -> None:
        """Encode as well as pays, or as cheaply, from the next packet on."""


@runtime_checkable
class Recovers(Protocol):
    """A transcoder whose source codec may carry a packet's sound in the next one, too (forward error correction;
    optional).
    """

    def recover(self, following: bytes) -> bytes:
        """As `conceal`, for the one packet lost just before this one, which is transcoded next."""


@runtime_checkable
class MakesNoise(Protocol):
    """A transcoder whose target codec has a word for silence (optional)."""

    def noise(self, level: int) -> bytes:
        """A payload that stands for comfort noise of `level`, in -dBov (RFC 3389 section 3.1), until the next packet;
        b"" where there is none.
        """


@runtime_checkable
class Levels(Protocol):
    """A transcoder that can tell how loud its source is (optional)."""

    def level(self) -> float:
        """Of the packet heard last, in dBFS: 0 is a full-scale sine."""


class TranscoderType(Protocol):
    """What a plugin gives for some pairs of codecs (hook `siperb_transcoders`)."""

    name: str

    def pairs(self) -> frozenset[tuple[str, str]]:
        """The (source, target) codec names this can do, as SDP spells them: opus, G722, PCMA, PCMU."""

    def create(self, source: Codec, target: Codec, *, ptime: int = 20) -> Transcoder:
        """A transcoder for one direction of one call; `ptime` is the packets' duration in milliseconds."""
