"""Which leg has gone, and which has never sent anything, in simulated time."""

from __future__ import annotations

import pytest

from siperb_core.media.silence import LegWatch

TIMEOUT = 60.0
ONE_WAY = 5.0


def test_a_leg_that_sends_nothing_is_silent_and_then_gone_and_each_is_told_once() -> None:
    watch = LegWatch()
    watch.expect(True, 100.0)
    assert [t for t in range(100, 200) if watch.silent(t, ONE_WAY)] == [106]
    assert [t for t in range(100, 200) if watch.gone(t, TIMEOUT)] == [161]


@pytest.mark.parametrize("heard", [True, False])
def test_reports_keep_a_leg_there_but_are_no_sound(heard: bool) -> None:
    watch = LegWatch(heard=heard, last=100.0 if heard else 0.0)
    watch.expect(True, 100.0)
    for now in range(100, 1000, 5):
        watch.reported = now
        assert not watch.gone(now + 4, TIMEOUT)
    assert bool(watch.silent(1000.0, ONE_WAY)) is not heard
    assert watch.gone(995 + TIMEOUT + 1, TIMEOUT) == 995 + TIMEOUT + 1 - 100, "seconds without RTP"


def test_on_hold_nothing_is_owed_and_resumed_the_time_begins_anew() -> None:
    watch = LegWatch(heard=True, last=100.0)
    watch.expect(True, 90.0)
    watch.expect(False, 101.0)
    assert not watch.gone(10_000.0, TIMEOUT)
    assert not watch.silent(10_000.0, ONE_WAY)
    watch.expect(True, 10_000.0)
    assert not watch.gone(10_000 + TIMEOUT, TIMEOUT)
    assert not watch.silent(10_000 + ONE_WAY, ONE_WAY)
    assert watch.silent(10_000 + ONE_WAY + 1, ONE_WAY)
    assert watch.gone(10_000 + TIMEOUT + 1, TIMEOUT) == TIMEOUT + 1


def test_a_leg_that_comes_back_may_go_again() -> None:
    watch = LegWatch(heard=True, last=100.0)
    watch.expect(True, 100.0)
    assert watch.gone(161.0, TIMEOUT)
    watch.last = 170.0
    assert not watch.gone(170.5, TIMEOUT)
    assert watch.gone(231.0, TIMEOUT) == 61


def test_an_offer_in_between_does_not_begin_the_time_anew() -> None:
    watch = LegWatch()
    watch.expect(True, 100.0)
    watch.expect(True, 150.0)
    assert watch.gone(161.0, TIMEOUT) == 61
