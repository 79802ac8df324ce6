"""Whether what a plugin gives can be used, beyond its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from siperb_core.plugin_finding import Unusable, sentence
from siperb_core.routing import Explanation, Route

if TYPE_CHECKING:
    from siperb_core.media.contract import TranscoderType


def check_pairs(transcoder: TranscoderType) -> None:
    """Raises Unusable where a transcoder cannot say what it bridges: that is asked for in every call."""
    try:
        for source, target in transcoder.pairs():
            if not isinstance(source, str) or not isinstance(target, str):
                raise TypeError(f"{source!r} to {target!r} are no names of codecs")
    except Exception as error:
        raise Unusable(f"pairs() of transcoder {transcoder.name}: {sentence(error)}") from error


def can_be_followed(explanation: Explanation) -> bool:
    """Whether what a plugin calls an explanation names connections, and nothing else."""
    order: object = explanation.order
    taken: object = explanation.taken
    return (
        isinstance(order, tuple)
        and all(isinstance(name, str) for name in order)
        and (taken is None or isinstance(taken, str))
        and isinstance(explanation.candidates, tuple)
    )


def no_clash(what: str, names: list[str], taken: Mapping[str, object]) -> None:
    """Raises Unusable where a name is taken, or given twice."""
    for index, name in enumerate(names):
        if name in taken or name in names[:index]:
            raise Unusable(f"{what} {name} is taken by another plugin")


def are_routes(found: object, given: Sequence[Route]) -> bool:
    """Whether these are the connections that were given, each with something to be said of it perhaps."""
    return (
        isinstance(found, list | tuple)
        and all(isinstance(route, Route) for route in found)
        and [route.connection for route in found] == [route.connection for route in given]
        and all(isinstance(text, str) for route in found for text in (route.unusable, route.note))
    )
