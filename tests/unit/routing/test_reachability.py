"""Connections that are down, that shadow others, and numbers that must get through."""

from __future__ import annotations

import pytest

from siperb_core.routing import Rewriting, Route, explain, explain_emergency, rung_users, shadowed

DOWN = "down now: the PBX does not answer"


@pytest.mark.parametrize("failover", [False, True])
def test_one_that_is_down_is_passed_over_where_it_allows_failover(failover: bool) -> None:
    """It comes last, unless the call ends with a connection that lets no other have it."""
    explanation = explain([Route("a", 1, failover=True, down=DOWN), Route("b", 2, failover=failover)], "600")
    assert (explanation.taken, explanation.order) == ("b", ("b", "a") if failover else ("b",))
    assert [item.why for item in explanation.candidates] == [
        f"passed over for b: {DOWN}",
        "pattern . matches 600, and what comes before it is down",
    ]


def test_one_between_others_is_passed_over_for_the_next() -> None:
    routes = [Route("a", 1, failover=True), Route("b", 2, failover=True, down=DOWN), Route("c", 3), Route("d", 4)]
    explanation = explain(routes, "600")
    assert explanation.order == ("a", "c")
    assert [item.why for item in explanation.candidates[1:]] == [
        f"passed over for c: {DOWN}",
        "weight 3 comes after a (1); takes over if the call fails there",
        "weight 4 comes after a (1), which took it: shadowed",
    ]


def test_without_failover_it_is_tried_all_the_same() -> None:
    explanation = explain([Route("a", 1, down=DOWN), Route("b", 2)], "600")
    assert explanation.order == ("a",)
    assert DOWN in explanation.candidates[0].why


def test_where_all_are_down_the_order_stays() -> None:
    assert explain([Route("a", 1, failover=True, down=DOWN), Route("b", 2, down=DOWN)], "600").order == ("a", "b")


def test_an_emergency_call_tries_all_the_user_has() -> None:
    routes = [
        Route("late", 9, rewriting=Rewriting(prefix="0")),
        Route("down", 1, down=DOWN),
        Route("first", 2),
        Route("elsewhere", 0, "^2"),
        Route("off", 0, enabled=False),
        Route("bob's", 0, users=("bob",)),
        Route("texts", 0, methods=("MESSAGE",)),
    ]
    explanation = explain_emergency(routes, "112", "alice")
    assert explanation.emergency
    assert explanation.order == ("first", "late", "elsewhere", "down")
    assert explanation.taken == "first"
    whys = {item.connection: item.why for item in explanation.candidates}
    assert whys["down"] == f"an emergency number: tried if the call fails before; {DOWN}"
    assert whys["off"] == "it is disabled"
    assert {item.connection: item.dials for item in explanation.candidates}["late"] == "0112"


def test_who_rings_for_a_number() -> None:
    did = ((r"^\+4930100$", ("alice",)), (r"100$", ("bob", "carol")), ("(", ("nobody",)))
    assert rung_users(did, "+4930100", ["*"]) == ("alice",)
    assert rung_users(did, "0100", ["*"]) == ("bob", "carol")
    assert rung_users(did, "200", ["dave"]) == ("dave",)
    assert rung_users(did, "\udcff", ["dave"]) == ("dave",)


def test_a_catch_all_shadows_what_comes_after_it() -> None:
    assert shadowed([Route("all", 1), Route("two", 2, "^2"), Route("before", 0, "^3")]) == {"all": ("two",)}


def test_only_what_has_no_call_left_is_shadowed() -> None:
    assert shadowed([Route("all", 1, users=("alice",)), Route("two", 2)]) == {}
    assert shadowed([Route("all", 1, methods=("INVITE",)), Route("two", 2)]) == {}
    assert shadowed([Route("all", 1, enabled=False), Route("two", 2)]) == {}
    assert shadowed([Route("anchored", 1, r"^\d+$"), Route("two", 2)]) == {}


@pytest.mark.parametrize("pattern", [r"\d", r"[0-9]+", "[0-9*#+]", "\\d*"])
def test_what_takes_every_number_shadows_those_that_want_numbers(pattern: str) -> None:
    routes = [Route("all", 1, pattern), Route("two", 2, r"^2\d{2}$"), Route("names", 3, "^[a-z]"), Route("last", 4)]
    expected = ("two", "names", "last") if pattern == "\\d*" else ("two",)
    assert shadowed(routes) == {"all": expected}
    number = explain(routes, "234", "alice")
    assert number.taken == "all", "what is said of calls is so"


def test_a_stand_in_is_not_shadowed() -> None:
    assert shadowed([Route("a", 1, failover=True), Route("b", 2)]) == {}
    assert shadowed([Route("a", 1, failover=True), Route("b", 2, "^2")]) == {"a": ("b",)}
