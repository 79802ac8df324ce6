"""Which connection takes a number, and what is said about the others."""

from __future__ import annotations

import pytest

from siperb_core.routing import PatternError, Route, compile_pattern, explain, fails_over, lost_backslash

OFFICE = Route("office", 5)


def whys(*routes: Route, number: str = "600", user: str = "bob", method: str = "INVITE") -> dict[str, str]:
    return {item.connection: item.why for item in explain(routes, number, user, method).candidates}


def test_the_lowest_weight_that_matches_takes_the_call() -> None:
    routes = [Route("late", 20), Route("two", 10, r"^2\d{2}$"), Route("six", 15, "^6")]
    explanation = explain(routes, "600", "bob", "INVITE")
    assert explanation.taken == "six"
    assert [(item.connection, item.taken) for item in explanation.candidates] == [
        ("two", False),
        ("six", True),
        ("late", False),
    ]


def test_ties_go_by_name() -> None:
    assert explain([Route("b"), Route("a")], "1").taken == "a"


def test_every_candidate_says_why() -> None:
    assert whys(OFFICE, Route("x", 10)) == {
        "office": "pattern . matches 600, and no connection before it does",
        "x": "weight 10 comes after office (5), which took it: shadowed",
    }
    assert whys(Route("x", 0, r"^2\d{2}$"))["x"] == r"pattern ^2\d{2}$ does not match 600: ^2 already fails"
    assert whys(Route("x", users=("alice",)))["x"] == "user bob is not among its users"
    assert whys(Route("x", methods=("INVITE",)), method="MESSAGE")["x"] == (
        "method MESSAGE is not among its methods (INVITE)"
    )
    assert whys(Route("x", enabled=False))["x"] == "it is disabled"
    assert whys(Route("x", unusable="its configuration has a mistake"))["x"] == "its configuration has a mistake"
    assert "not a pattern" in whys(Route("x", dial_pattern="("))["x"]


def test_the_pattern_is_searched_not_matched_whole() -> None:
    assert explain([Route("x", dial_pattern="00")], "1002").taken == "x"
    assert explain([Route("x", dial_pattern="^00")], "1002").taken is None


def test_no_match_has_no_order() -> None:
    explanation = explain([Route("x", dial_pattern="^9")], "600")
    assert explanation.taken is None
    assert explanation.order == ()


def test_a_failed_call_goes_on_only_where_the_connection_that_failed_allows_it() -> None:
    first, second, third = Route("a", 1, failover=True), Route("b", 2), Route("c", 3)
    assert explain([first, second, third], "1").order == ("a", "b")
    assert explain([Route("a", 1), second], "1").order == ("a",)
    assert "takes over if the call fails there" in whys(first, second)["b"]
    assert "which took it" in whys(first, second, third)["c"]


def test_any_user_may_be_asked_for() -> None:
    assert explain([Route("x", users=("alice",))], "1").taken == "x"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 580, 599])
def test_failures_of_network_and_server_fail_over(status: int) -> None:
    assert fails_over(status)


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404, 480, 486, 487, 488, 501, 505, 513, 600, 603])
def test_answers_of_people_and_blame_of_the_request_do_not(status: int) -> None:
    assert not fails_over(status)


@pytest.mark.parametrize("text", ["", "(", "(?=a)", r"(a)\1", "a{1000}{1000}", "x" * 501, "\ud800"])
def test_hostile_patterns_are_refused_in_plain_words(text: str) -> None:
    with pytest.raises(PatternError, match=r"^(is|holds) "):
        compile_pattern(text)


def test_a_pattern_that_others_choke_on_is_linear() -> None:
    assert explain([Route("x", dial_pattern="^(a+)+$")], "a" * 5000 + "!").taken is None


def test_a_number_that_is_no_text_matches_nothing() -> None:
    assert explain([Route("x")], "\udcff").taken is None


@pytest.mark.parametrize(
    ("text", "meant"), [("^2d{2}$", r"^2\d{2}$"), ("^0d+$", r"^0\d+$"), ("d", r"\d"), ("[0-9]d*", r"[0-9]\d*")]
)
def test_a_lost_backslash_is_noticed(text: str, meant: str) -> None:
    assert lost_backslash(text) == meant


@pytest.mark.parametrize("text", [r"^2\d{2}$", ".", "^add$", "^[0-9]{3}$", "door", r"^\+49"])
def test_nothing_is_noticed_where_nothing_is_amiss(text: str) -> None:
    assert lost_backslash(text) is None
