"""Choose a connection for a request, and say in plain words why it and no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from siperb_core.routing.pattern import PatternError, compile_pattern, where_it_fails
from siperb_core.routing.rewriting import UNCHANGED, Rewriting

ALL = "*"
"""In `users` and `methods`: everyone, every method."""


@attrs.frozen
class Route:
    """A connection as routing sees it; keys and defaults are the configuration's.

    `unusable` says in plain words why it takes no calls whatever their number; empty where nothing keeps it from that.
    `down` says why it cannot be used just now, as far as a running gateway knows. `settings` are those of its type
    (`siperb_core.Entry.settings`), for the plugin whose type it is. `note` is what a plugin has to say of this number,
    told where the connection takes it.
    """

    connection: str
    weight: int = 0
    dial_pattern: str = "."
    enabled: bool = True
    users: tuple[str, ...] = (ALL,)
    methods: tuple[str, ...] = (ALL,)
    failover: bool = False
    unusable: str = ""
    rewriting: Rewriting = UNCHANGED
    down: str = ""
    settings: Any = attrs.field(default=None, eq=False, repr=False)
    note: str = ""

    def dials(self, number: str) -> str:
        """The number as it is dialled through this connection; as it is where rewriting leaves nothing of it."""
        return self.rewriting.apply(number) or number


@attrs.frozen
class Candidate:
    """One connection's part in an explanation. `dials` is the number as this connection dials it, where it may come to
    that.
    """

    connection: str
    weight: int
    dial_pattern: str
    taken: bool
    why: str
    dials: str = ""


@attrs.frozen
class Explanation:
    """What becomes of a request, and why.

    `order` are the connections to try: the one taken and, as long as each allows failover, those that follow it. An
    `emergency` call goes to all of them, one after the other, whether they allow failover or not.
    """

    number: str
    user: str
    method: str
    taken: str | None
    candidates: tuple[Candidate, ...]
    order: tuple[str, ...] = ()
    emergency: bool = False


def ranked(connections: Sequence[Route]) -> list[Route]:
    """In the order in which they are asked: by ascending weight, ties by name."""
    return sorted(connections, key=lambda route: (route.weight, route.connection))


def explain(connections: Sequence[Route], number: str, user: str = ALL, method: str = "INVITE") -> Explanation:
    """Route a number: connections in ascending weight, ties by name, the first that matches takes it.

    One that is down and allows failover is passed over as long as another is left to try, and tried last where those
    that are up allow failover too. `user` `*` asks for any user: no connection is left out for its list of users.
    Total: never raises; a pattern that cannot be compiled matches nothing and says so.
    """
    routes = ranked(connections)
    against = {route.connection: _against(route, number, user, method) for route in routes}
    chain: list[Route] = []  # those to try: all but the last let a failed call go on
    for route in routes:
        if against[route.connection] is None and (not chain or chain[-1].failover):
            chain.append(route)
    order = [route for route in chain if not route.down]
    if not order or order[-1].failover:
        order += [route for route in chain if route.down]
    first = order[0] if order else None
    candidates = []
    for route in routes:
        why = against[route.connection]
        if why is None and first is not None:
            why = _place(route, chain, order, number) + (f"; {route.note}" if route.note and route in order else "")
        candidates.append(_candidate(route, number, route is first, why or "", route in order))
    return Explanation(number, user, method, first.connection if first else None, tuple(candidates), _names(order))


def explain_emergency(
    connections: Sequence[Route], number: str, user: str = ALL, method: str = "INVITE"
) -> Explanation:
    """Route an emergency number: every connection the user may use is tried until one takes the call, first those whose
    pattern matches, then the others, those that are down last of all; `failover` is not asked.
    """
    routes = ranked(connections)
    against = {route.connection: _barred(route, user, method) for route in routes}
    mismatch = {route.connection: _against(route, number, user, method) for route in routes}
    usable = [route for route in routes if against[route.connection] is None]
    order = sorted(usable, key=lambda route: (bool(route.down), mismatch[route.connection] is not None))
    first = order[0] if order else None
    candidates = []
    for route in routes:
        why = against[route.connection]
        if why is None:
            why = "an emergency number: " + ("tried first" if route is first else "tried if the call fails before")
            why += f"; {route.down}" if route.down else ""
        candidates.append(_candidate(route, number, route is first, why, route in order))
    return Explanation(
        number, user, method, first.connection if first else None, tuple(candidates), _names(order), True
    )


def _names(routes: Sequence[Route]) -> tuple[str, ...]:
    return tuple(route.connection for route in routes)


def _candidate(route: Route, number: str, taken: bool, why: str, tried: bool) -> Candidate:
    dials = route.dials(number) if tried else ""
    return Candidate(route.connection, route.weight, route.dial_pattern, taken, why, dials)


def _place(route: Route, chain: Sequence[Route], order: Sequence[Route], number: str) -> str:
    """What becomes of a connection nothing speaks against."""
    first = order[0]
    if route is first:
        why = f"pattern {route.dial_pattern} matches {number}, and no connection before it does"
        if any(other.down and _before(other, route) for other in chain):
            why = f"pattern {route.dial_pattern} matches {number}, and what comes before it is down"
        return why + (f"; {route.down}" if route.down else "")
    if route in chain and (_before(route, first) or route not in order):
        instead = next(other for other in order if _before(route, other))
        return f"passed over for {instead.connection}: {route.down}"
    after = f"weight {route.weight} comes after {first.connection} ({first.weight})"
    if route in order:
        return f"{after}; takes over if the call fails there" + (f"; {route.down}" if route.down else "")
    return f"{after}, which took it: shadowed"


def _before(route: Route, other: Route) -> bool:
    return (route.weight, route.connection) < (other.weight, other.connection)


def _barred(route: Route, user: str, method: str) -> str | None:
    """What speaks against a connection whatever the number; None when nothing does."""
    if not route.enabled:
        return "it is disabled"
    if route.unusable:
        return route.unusable
    if user != ALL and ALL not in route.users and user not in route.users:
        return f"user {user} is not among its users"
    if ALL not in route.methods and method not in route.methods:
        return f"method {method} is not among its methods ({', '.join(route.methods)})"
    return None


def _against(route: Route, number: str, user: str, method: str) -> str | None:
    """What speaks against a connection; None when nothing does."""
    barred = _barred(route, user, method)
    if barred is not None:
        return barred
    try:
        found = compile_pattern(route.dial_pattern).search(number)
    except PatternError as error:
        return f"pattern {route.dial_pattern} {error}"
    except UnicodeEncodeError:  # surrogates of a number that was not UTF-8: RE2 reads UTF-8 only
        return f"{number!a} is not text a pattern can match"
    if not found:
        return f"pattern {route.dial_pattern} does not match {number}" + where_it_fails(route.dial_pattern, number)
    if number and not route.rewriting.apply(number):
        return f"its rewriting leaves nothing of {number} to dial"
    return None
