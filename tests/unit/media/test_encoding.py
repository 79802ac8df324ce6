"""How well Opus is encoded follows what the worker has to carry."""

from __future__ import annotations

import pytest

from siperb_core.media.encoding import FEWER_CALLS, MOST_CALLS, EffortChoice, next_loss


def measure(choice: EffortChoice, share: float, second: int) -> None:
    """A second in which this share of a core was used."""
    choice.measured(100.0, second - 1.0)
    choice.measured(100.0 + share, float(second))


def test_few_calls_get_high_effort_from_the_first_on() -> None:
    choice = EffortChoice()
    assert [choice.weigh(calls, 0.0) for calls in (0, 1, MOST_CALLS)] == ["high"] * 3


def test_one_call_too_many_ends_it_at_once_and_for_all() -> None:
    choice = EffortChoice()
    assert choice.weigh(MOST_CALLS + 1, 0.0) == "low"
    assert choice.weigh(MOST_CALLS, 0.1) == "low", "no wavering"


def test_it_begins_again_after_ten_seconds_of_few_calls() -> None:
    choice = EffortChoice()
    choice.weigh(MOST_CALLS + 1, 0.0)
    assert choice.weigh(FEWER_CALLS, 1.0) == "low"
    assert choice.weigh(FEWER_CALLS, 10.9) == "low"
    assert choice.weigh(FEWER_CALLS, 11.0) == "high"
    assert choice.weigh(MOST_CALLS, 11.1) == "high"


def test_a_call_more_in_these_ten_seconds_and_they_begin_anew() -> None:
    choice = EffortChoice()
    choice.weigh(MOST_CALLS + 1, 0.0)
    choice.weigh(FEWER_CALLS, 1.0)
    choice.weigh(FEWER_CALLS + 1, 6.0)
    assert choice.weigh(FEWER_CALLS, 7.0) == "low"
    assert choice.weigh(FEWER_CALLS, 16.0) == "low"
    assert choice.weigh(FEWER_CALLS, 17.0) == "high"


def test_a_slow_machine_has_no_room_for_as_many() -> None:
    choice = EffortChoice()
    measure(choice, 0.6, 1)
    assert choice.weigh(3, 1.0) == "low"
    for second in range(2, 30):
        choice.measured(100.0 + 0.2 * second, float(second))
        assert choice.weigh(3, float(second)) == "low", "a fifth of a core with low effort is more than half with high"
    for second in range(30, 42):
        choice.measured(106.0 + 0.1 * (second - 30), float(second))
        assert choice.weigh(3, float(second)) == ("low" if second < 41 else "high")


def test_a_share_is_taken_over_a_second_or_more() -> None:
    choice = EffortChoice()
    choice.measured(5.0, 0.0)
    choice.measured(5.4, 0.5)  # eight tenths of a core, for half a second
    assert choice.weigh(1, 0.5) == "high"
    choice.measured(5.45, 1.0)
    assert choice.weigh(1, 1.0) == "high"


@pytest.mark.parametrize("setting", ["low", "high"])
def test_the_administrators_word_holds_whatever_the_load(setting: str) -> None:
    choice = EffortChoice(setting)  # type: ignore[arg-type]
    measure(choice, 0.9, 1)
    assert choice.weigh(500, 1.0) == setting
    measure(choice, 0.0, 2)
    assert [choice.weigh(0, float(second)) for second in range(2, 60)] == [setting] * 58


@pytest.mark.parametrize(
    ("expected", "fraction", "then"),
    [(0, 0.0, 0), (0, 0.015, 2), (0, 0.014, 0), (0, 0.9, 50), (9, 0.0, 4), (3, 0.0, 0), (9, 0.03, 3)],
)
def test_the_loss_to_expect_follows_the_reports(expected: int, fraction: float, then: int) -> None:
    assert next_loss(expected, fraction) == then
