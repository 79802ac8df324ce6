"""What a connection makes of a number, and what is said of patterns that do not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.routing import PatternError, Rewriting, Route, check_replacement, compile_pattern, explain
from siperb_core.routing.pattern import failing_part


@pytest.mark.parametrize(
    ("rewriting", "number", "dialled"),
    [
        (Rewriting(), "600", "600"),
        (Rewriting(strip=1), "0301234", "301234"),
        (Rewriting(prefix="0"), "301234", "0301234"),
        (Rewriting(strip=1, prefix="+49"), "0301234", "+49301234"),
        (Rewriting(pattern="^00", replacement="+"), "0049301", "+49301"),
        (Rewriting(pattern=r"^0(\d)", replacement=r"+49\1"), "0301", "+49301"),
        (Rewriting(1, "00", "^00", "+"), "949301", "+49301"),
        (Rewriting(pattern=r"[^\d]", replacement=""), "+49-30-1", "49301"),
        (Rewriting(pattern="^9", replacement="+"), "600", "600"),
        (Rewriting(strip=5), "600", ""),
        (Rewriting(pattern=r"^0(\d)", replacement=r"\10"), "0301", "3001"),
        (Rewriting(pattern=r"^(9)?(\d)", replacement=r"\1x\2é\0\\"), "30", "x3é3\\0"),
    ],
)
def test_strip_then_prefix_then_replace(rewriting: Rewriting, number: str, dialled: str) -> None:
    assert rewriting.apply(number) == dialled


@given(
    st.builds(
        Rewriting,
        st.integers(0, 5),
        st.sampled_from(["", "+49", "0"]),
        st.one_of(st.sampled_from(["", "^0", r"(\d)(\d)", "("]), st.text(max_size=5)),
        st.one_of(st.sampled_from(["", r"\1\2", r"\9", "\\"]), st.text(max_size=5)),
    ),
    st.one_of(st.text("0123456789+", max_size=8), st.text(max_size=5), st.just("\udcff")),
)
def test_rewriting_never_raises(rewriting: Rewriting, number: str) -> None:
    assert len(rewriting.apply(number)) <= 256


def test_a_replacement_that_explodes_dials_nothing() -> None:
    assert Rewriting(pattern="", prefix="1" * 60).apply("1" * 300) == ""


@pytest.mark.parametrize(
    ("pattern", "replacement"), [("(", "x"), ("a", r"\1"), ("(a)", r"\2"), ("a", "\\"), ("a", r"\g")]
)
def test_wrong_replacements_are_refused_in_plain_words(pattern: str, replacement: str) -> None:
    with pytest.raises(PatternError, match=r"^(is|has) "):
        check_replacement(pattern, replacement)


def test_the_explanation_shows_what_is_dialled() -> None:
    route = Route("carrier", rewriting=Rewriting(strip=1, prefix="+49"))
    (candidate,) = explain([route], "0301234").candidates
    assert candidate.dials == "+49301234"


def test_a_number_nothing_is_left_of_is_not_taken() -> None:
    explanation = explain([Route("carrier", rewriting=Rewriting(strip=3)), Route("office", 5)], "600")
    assert explanation.taken == "office"
    assert explanation.candidates[0].why == "its rewriting leaves nothing of 600 to dial"


@pytest.mark.parametrize(
    ("pattern", "number", "expected"),
    [
        (r"^2\d{2}$", "600", ("", "^2")),
        (r"^2\d{2}$", "2345", (r"^2\d{2}", "$")),
        (r"^2\d{2}$", "2x", ("^2", r"\d{2}")),
        (r"^(00|\+)49[1-9]", "00490", ("^(00|\\+)49", "[1-9]")),
        (r"^\x{31}\d", "1x", (r"^\x{31}", r"\d")),
        (r"[[:alpha:]]7", "a8", ("[[:alpha:]]", "7")),
        ("^1$|^2$", "3", None),
    ],
)
def test_the_part_that_fails(pattern: str, number: str, expected: tuple[str, str] | None) -> None:
    assert failing_part(pattern, number) == expected


@given(st.one_of(st.text("^$.[]()\\d{}1,2|*+?a", max_size=10), st.text(max_size=6)), st.text("012a", max_size=5))
def test_the_failing_part_fails_and_what_is_before_it_matches(pattern: str, number: str) -> None:
    try:
        compiled = compile_pattern(pattern)
    except PatternError:
        return
    if compiled.search(number):
        return
    failing = failing_part(pattern, number)
    if failing is not None:
        begin, part = failing
        assert pattern.startswith(begin + part)
        assert not compile_pattern(begin + part).search(number)
        assert not begin or compile_pattern(begin).search(number)
