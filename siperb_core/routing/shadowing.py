"""Which connections never get a turn, because one before them takes every number. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from siperb_core.routing.explanation import ALL, Route, ranked
from siperb_core.routing.pattern import PatternError, compile_pattern

_PROBES = ("0", "7", "123456", "004930123456", "+4930123456", "*1", "#21#")
"""What matches all of these is meant to match every number."""
_NAMES = ("alice", "Bob")
"""What matches these too is meant to match everything."""


def takes_everything(pattern: str) -> bool:
    """Whether a dial pattern is a catch-all."""
    return _takes(pattern, _PROBES) and _takes(pattern, _NAMES)


def _takes(pattern: str, probes: Sequence[str]) -> bool:
    try:
        compiled = compile_pattern(pattern)
    except PatternError:
        return False
    return all(compiled.search(number) for number in probes)


def _leaves_nothing(pattern: str, other: str) -> bool:
    """Whether what `other` matches is taken by `pattern`: everything, or every number where it matches no names."""
    if not _takes(pattern, _PROBES):
        return False
    return _takes(pattern, _NAMES) or not any(_takes(other, (name,)) for name in _NAMES)


def shadowed(connections: Sequence[Route]) -> dict[str, tuple[str, ...]]:
    """Catch-all connections with the names of those behind them that they leave no call.

    One that allows failover leaves them the calls that fail: a second catch-all behind it is meant as its stand-in, a
    pattern of its own is not.
    """
    routes = [route for route in ranked(connections) if route.enabled and not route.unusable]
    found: dict[str, tuple[str, ...]] = {}
    for index, route in enumerate(routes):
        if _takes(route.dial_pattern, _PROBES):
            behind = [
                other.connection
                for other in routes[index + 1 :]
                if _covers(route.users, other.users)
                and _covers(route.methods, other.methods)
                and _leaves_nothing(route.dial_pattern, other.dial_pattern)
                and not (route.failover and _takes(other.dial_pattern, _PROBES))
            ]
            if behind:
                found[route.connection] = tuple(behind)
    return found


def _covers(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    return ALL in wide or set(narrow) <= set(wide)
