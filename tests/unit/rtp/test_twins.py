"""The same digit in several ways is one; pressed again it is another."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.rtp.twins import Twins, Way

WAYS: tuple[Way, ...] = ("event", "info", "tone")


@pytest.mark.parametrize("order", list(itertools.permutations(WAYS)))
def test_one_press_in_three_ways_is_one(order: tuple[Way, ...]) -> None:
    twins = Twins()
    assert [twins.fresh(way, "5", 10 + n / 2, 10.1 + n / 2) for n, way in enumerate(order)] == [True, False, False]


def test_a_key_pressed_twice_in_two_ways_is_two_however_they_mix() -> None:
    ways: list[Way] = ["event", "event", "info", "info"]
    for order in set(itertools.permutations(ways)):
        twins = Twins()
        assert sum(twins.fresh(way, "5", 10 + n / 5, 10.1 + n / 5) for n, way in enumerate(order)) == 2, order


def test_other_keys_and_other_times_are_other_presses() -> None:
    twins = Twins()
    assert twins.fresh("event", "5", 10.0, 10.1)
    assert twins.fresh("info", "6", 10.1, 10.1)
    assert twins.fresh("info", "5", 12.5, 12.5), "two seconds later"


def test_a_long_press_is_the_same_at_its_end() -> None:
    twins = Twins()
    assert twins.fresh("event", "5", 10.0, 10.0)
    for n in range(300):
        twins.lasts("event", 10 + n / 50)
    assert not twins.fresh("info", "5", 17.0, 17.0)


@given(st.lists(st.tuples(st.sampled_from("12"), st.sets(st.sampled_from(WAYS), min_size=1)), max_size=20))
def test_every_press_counts_once(presses: list[tuple[str, set[Way]]]) -> None:
    twins, now, told = Twins(), 0.0, ""
    for key, ways in presses:
        now += 5.0
        told += "".join(key for way in sorted(ways) if twins.fresh(way, key, now, now + 0.1))
    assert told == "".join(key for key, _ in presses)
