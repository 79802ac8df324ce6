"""Transcoders between Opus and G.722, PCMA, PCMU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siperb_core.hookspecs import hookimpl

from .transcoder import OpusG722

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siperb_core.media.contract import TranscoderType

__all__ = ["OpusG722", "siperb_transcoders"]


@hookimpl
def siperb_transcoders() -> Sequence[TranscoderType]:
    """Raises OSError where libopus cannot be found."""
    return (OpusG722(),)
