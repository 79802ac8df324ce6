"""Finds the transcoders in a media worker: plugins are loaded here apart from the gateway's, each by itself."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable

import pluggy

from siperb_core.media.contract import TranscoderType
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


def same_payload(source: Codec, target: Codec) -> bool:
    """Whether payloads of one codec may be passed on as the other's: relay."""
    return (
        source.name.lower() == target.name.lower()
        and source.clock == target.clock
        and source.channels == target.channels
    )
