"""Who rings for a number that was called: the `did` table of a connection. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from siperb_core.routing.pattern import PatternError, compile_pattern

Did = tuple[tuple[str, tuple[str, ...]], ...]
"""Number patterns, each with the users who ring; the first that matches decides."""


def rung_users(did: Did, number: str, users: Sequence[str]) -> tuple[str, ...]:
    """The users a called number rings: those of the first pattern found in it, else the connection's own."""
    for pattern, rung in did:
        try:
            if compile_pattern(pattern).search(number):
                return rung
        except (PatternError, UnicodeEncodeError):
            continue
    return tuple(users)
