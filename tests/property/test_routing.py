"""Routing is total and deterministic, keeps to the weights, and explains what it does."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from siperb_core.routing import PatternError, Route, compile_pattern, explain
from siperb_core.testing import strategies

METHODS = st.sampled_from(["INVITE", "MESSAGE", "SUBSCRIBE"])
ROUTES = strategies.routing_tables()
NUMBERS = st.one_of(
    st.text("0123456789+*#", max_size=6),
    st.text(max_size=6),
    st.binary(max_size=4).map(lambda octets: octets.decode("utf-8", "surrogateescape")),
)
USERS = st.sampled_from(["alice", "bob", "carol", "*"])


def matches(route: Route, number: str, user: str, method: str) -> bool:
    """The rule of the manual, written down once more without looking at the code."""
    try:
        found = compile_pattern(route.dial_pattern).search(number)
    except (PatternError, UnicodeEncodeError):
        return False
    return bool(
        route.enabled
        and found
        and (user == "*" or "*" in route.users or user in route.users)
        and ("*" in route.methods or method in route.methods)
    )


@given(ROUTES, NUMBERS, USERS, METHODS)
def test_the_first_match_by_weight_and_name_takes_it(routes: list[Route], number: str, user: str, method: str) -> None:
    explanation = explain(routes, number, user, method)
    ranked = sorted(routes, key=lambda route: (route.weight, route.connection))
    fitting = [route for route in ranked if matches(route, number, user, method)]
    may_be_tried = fitting[: 1 + next((i for i, route in enumerate(fitting) if not route.failover), len(fitting))]
    up = [route for route in may_be_tried if not route.down] or may_be_tried
    assert explanation.taken == (up[0].connection if up else None)
    assert [item.connection for item in explanation.candidates] == [route.connection for route in ranked]


@given(ROUTES, NUMBERS, USERS, METHODS)
def test_the_explanation_agrees_with_the_order_that_routes(
    routes: list[Route], number: str, user: str, method: str
) -> None:
    explanation = explain(routes, number, user, method)
    taken = [item.connection for item in explanation.candidates if item.taken]
    assert taken == ([explanation.taken] if explanation.taken else [])
    assert explanation.order[:1] == tuple(taken)
    by_name = {route.connection: route for route in routes}
    assert all(by_name[name].failover for name in explanation.order[:-1])
    assert all(item.why for item in explanation.candidates)
    ranks = [item.connection for item in explanation.candidates]
    places = [(bool(by_name[name].down), ranks.index(name)) for name in explanation.order]
    assert places == sorted(places), "by weight, and those that are down after those that are not"


@given(ROUTES, NUMBERS, USERS, METHODS, st.randoms(use_true_random=False))
def test_the_order_of_the_file_does_not_matter(
    routes: list[Route], number: str, user: str, method: str, shuffle: random.Random
) -> None:
    shuffled = list(routes)
    shuffle.shuffle(shuffled)
    assert explain(shuffled, number, user, method) == explain(routes, number, user, method)
