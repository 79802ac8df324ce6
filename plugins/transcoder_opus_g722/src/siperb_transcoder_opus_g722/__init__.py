"""Transcoders between Opus and G.722, PCMA, PCMU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siperb_core import hookimpl

from .libraries import library_names
from .transcoder import OpusG722

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from siperb_core import TranscoderType

__all__ = ["OpusG722", "siperb_diagnostics", "siperb_transcoders"]


@hookimpl
def siperb_transcoders() -> Sequence[TranscoderType]:
    """Raises OSError where libopus cannot be found."""
    return (OpusG722(),)


@hookimpl
def siperb_diagnostics() -> Mapping[str, Any]:
    """Which libraries do the work: they decide what it costs."""
    return library_names()
