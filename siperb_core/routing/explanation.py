"""Choose a connection for a request, and say in plain words why it and no other."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from siperb_core.routing.pattern import PatternError, compile_pattern

ALL = "*"
"""In `users` and `methods`: everyone, every method."""


@attrs.frozen
class Route:
    """A connection as routing sees it; keys and defaults are the configuration's.

    `unusable` says in plain words why it takes no calls whatever their number; empty where nothing keeps it from that.
    """

    connection: str
    weight: int = 0
    dial_pattern: str = "."
    enabled: bool = True
    users: tuple[str, ...] = (ALL,)
    methods: tuple[str, ...] = (ALL,)
    failover: bool = False
    unusable: str = ""


@attrs.frozen
class Candidate:
    """One connection's part in an explanation."""

    connection: str
    weight: int
    dial_pattern: str
    taken: bool
    why: str


@attrs.frozen
class Explanation:
    """What becomes of a request, and why.

    `order` are the connections to try: the one taken and, as long as each allows failover, those that follow it.
    """

    number: str
    user: str
    method: str
    taken: str | None
    candidates: tuple[Candidate, ...]
    order: tuple[str, ...] = ()


def explain(connections: Sequence[Route], number: str, user: str = ALL, method: str = "INVITE") -> Explanation:
    """Route a number: connections in ascending weight, ties by name, the first that matches takes it.

    `user` `*` asks for any user: no connection is left out for its list of users. Total: never raises; a pattern that
    cannot be compiled matches nothing and says so.
    """
    candidates: list[Candidate] = []
    order: list[str] = []
    first: Route | None = None
    chain = True  # every connection in `order` so far lets a failed call go on
    for route in sorted(connections, key=lambda route: (route.weight, route.connection)):
        why = _against(route, number, user, method)
        taken = False
        if why is None:
            if first is None:
                first, taken = route, True
                why = f"pattern {route.dial_pattern} matches {number}, and no connection before it does"
            elif chain:
                why = f"{_after(route, first)}; takes over if the call fails there"
            else:
                why = f"{_after(route, first)}, which took it"
            if chain:
                order.append(route.connection)
                chain = route.failover
        candidates.append(Candidate(route.connection, route.weight, route.dial_pattern, taken, why))
    return Explanation(number, user, method, first.connection if first else None, tuple(candidates), tuple(order))


def _after(route: Route, first: Route) -> str:
    return f"weight {route.weight} comes after {first.connection} ({first.weight})"


def _against(route: Route, number: str, user: str, method: str) -> str | None:
    """What speaks against a connection; None when nothing does."""
    if not route.enabled:
        return "it is disabled"
    if route.unusable:
        return route.unusable
    if user != ALL and ALL not in route.users and user not in route.users:
        return f"user {user} is not among its users"
    if ALL not in route.methods and method not in route.methods:
        return f"method {method} is not among its methods ({', '.join(route.methods)})"
    try:
        found = compile_pattern(route.dial_pattern).search(number)
    except PatternError as error:
        return f"pattern {route.dial_pattern} {error}"
    except UnicodeEncodeError:  # surrogates of a number that was not UTF-8: RE2 reads UTF-8 only
        return f"{number!a} is not text a pattern can match"
    return None if found else f"pattern {route.dial_pattern} does not match {number}"
