"""Who rings for a number that was called: the `did` table of a connection. Pure.

The same function rings and explains, so `siperb route NUMBER --from CONNECTION` cannot disagree with what the gateway
does.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from siperb_core.routing.pattern import PatternError, compile_pattern, where_it_fails

Did = tuple[tuple[str, tuple[str, ...]], ...]
"""Number patterns, each with the users who ring; the first that matches decides."""


@attrs.frozen
class DidRow:
    """One row's part in an explanation. `users` are those who ring for it."""

    pattern: str
    users: tuple[str, ...]
    taken: bool
    why: str


@attrs.frozen
class InboundExplanation:
    """Whom a called number rings, and why: `rows` are those of the `did` table, in order; where none is taken the
    connection's own users ring.
    """

    number: str
    users: tuple[str, ...]
    rows: tuple[DidRow, ...]


def rung_users(did: Did, number: str, users: Sequence[str]) -> tuple[str, ...]:
    """The users a called number rings: those of the first pattern found in it, else the connection's own."""
    row = _deciding(did, number)
    return tuple(users) if row is None else did[row][1]


def explain_inbound(did: Did, number: str, users: Sequence[str]) -> InboundExplanation:
    """Whom `rung_users` rings, with the reason for every row. Total: never raises."""
    taken = _deciding(did, number)
    rows = tuple(
        DidRow(pattern, rung, index == taken, _why(pattern, number, index, taken))
        for index, (pattern, rung) in enumerate(did)
    )
    return InboundExplanation(number, rung_users(did, number, users), rows)


def _deciding(did: Did, number: str) -> int | None:
    return next((index for index, (pattern, _) in enumerate(did) if _found(pattern, number)), None)


def _found(pattern: str, number: str) -> bool:
    try:
        return compile_pattern(pattern).search(number) is not None
    except (PatternError, UnicodeEncodeError):
        return False


def _why(pattern: str, number: str, index: int, taken: int | None) -> str:
    if index == taken:
        return f"pattern {pattern} matches {number}, and none before it does"
    if _found(pattern, number):
        return f"pattern {pattern} matches too, but comes after the one that decides"
    try:
        compile_pattern(pattern)
    except PatternError as error:
        return f"pattern {pattern} {error}"
    return f"pattern {pattern} does not match {number}" + where_it_fails(pattern, number)
