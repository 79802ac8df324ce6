"""The transcoders in a media worker: found, with each plugin loaded by itself and apart from the gateway's; and used
with care, as one that raises is to cost its call and no other.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from typing import Any

import pluggy

from siperb_core.media.contract import Transcoder, TranscoderType
from siperb_core.sdp.plan import Codec

Pairs = dict[tuple[str, str], TranscoderType]


def load_transcoders(names: Iterable[str] | None) -> tuple[Pairs, list[str]]:
    """Load the named plugins of group `siperb.plugins`, all when None, in order of their names.

    Returns which type serves which pair of codecs, the first plugin that knows a pair keeping it, and why plugins were
    set aside: one that raises costs itself only.
    """
    wanted = None if names is None else set(names)
    pairs: Pairs = {}
    set_aside: list[str] = []
    for entry_point in sorted(importlib.metadata.entry_points(group="siperb.plugins"), key=lambda e: e.name):
        if wanted is not None and entry_point.name not in wanted:
            continue
        try:
            manager = pluggy.PluginManager("siperb")
            found = entry_point.load()
            manager.register(found() if isinstance(found, type) else found, entry_point.name)
            hook = getattr(manager.hook, "siperb_transcoders", None)
            for types in hook() if hook is not None else []:
                for transcoder in types:
                    for pair in sorted(transcoder.pairs()):
                        pairs.setdefault((pair[0].lower(), pair[1].lower()), transcoder)
        except Exception as error:
            set_aside.append(f"{entry_point.name}: {error!r}")
    return pairs, set_aside


class GuardedTranscoder:
    """A plugin's transcoder. `failed` is told what it returns in a payload's place, or raises besides ValueError, for
    which a peer's broken packet may be the reason; the packet then counts as one that cannot be decoded.

    It has those optional parts of the contract that the transcoder has.
    """

    def __init__(self, transcoder: Transcoder, failed: Callable[[Exception], None]) -> None:
        self._transcoder, self._failed = transcoder, failed

    def transcode(self, payload: bytes) -> bytes:
        """As `Transcoder.transcode`."""
        found = self._asked(self._transcoder.transcode, payload)
        if not isinstance(found, bytes):
            raise self._fault(TypeError(f"transcode returned a {type(found).__name__}"))
        return found

    def conceal(self) -> bytes:
        """As `Transcoder.conceal`, and raises ValueError."""
        found: bytes = self._asked(self._transcoder.conceal)
        return found

    def close(self) -> None:
        """As `Transcoder.close`."""
        try:
            self._transcoder.close()
        except Exception as error:
            self._failed(error)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """An optional part, which raises ValueError where it fails."""
        part = getattr(self._transcoder, name)
        return lambda *values, **named: self._asked(part, *values, **named)

    def _asked(self, part: Callable[..., Any], *values: Any, **named: Any) -> Any:
        try:
            return part(*values, **named)
        except ValueError:
            raise
        except Exception as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> ValueError:
        self._failed(error)
        return ValueError("the transcoder has failed")


def same_payload(source: Codec, target: Codec) -> bool:
    """Whether payloads of one codec may be passed on as the other's: relay."""
    return (
        source.name.lower() == target.name.lower()
        and source.clock == target.clock
        and source.channels == target.channels
    )
