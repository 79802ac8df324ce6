"""The wheel all timers are on, against a plain list."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from siperb_core.sip.timers import Timer, TimerValues, TimerWheel

STEPS = st.lists(
    st.tuples(st.sampled_from(["start", "start", "stop", "postpone", "pass"]), st.integers(0, 30), st.integers(0, 50)),
    max_size=60,
)


@given(STEPS)
def test_every_timer_fires_once_at_its_time_unless_it_was_stopped(steps: list[tuple[str, int, int]]) -> None:
    wheel: TimerWheel[int] = TimerWheel()
    timers: list[Timer[int]] = []
    due: dict[int, float] = {}
    now = 0.0
    for what, index, seconds in [*steps, ("pass", 0, 1000)]:
        if what == "start":
            due[len(timers)] = now + seconds
            timers.append(wheel.start(len(timers), f"timer {len(timers)}", now + seconds))
        elif what == "pass":
            now += seconds
            fired = []
            while (popped := wheel.pop_due(now)) is not None:
                fired.append(popped[0])
                assert popped[1] == f"timer {popped[0]}"
            expected = sorted((number for number, when in due.items() if when <= now), key=lambda number: due[number])
            assert [due[number] for number in fired] == [due[number] for number in expected]
            assert sorted(fired) == sorted(expected)
            for number in fired:
                del due[number]
        elif index in due and what == "stop":
            wheel.stop(timers[index])
            wheel.stop(timers[index])
            del due[index]
        elif index in due:
            wheel.postpone(timers[index], now + seconds)
            due[index] = max(due[index], now + seconds)
        assert wheel.next_deadline == min(due.values(), default=None)
        assert len(wheel) == len(due)


def test_stopped_timers_do_not_pile_up() -> None:
    wheel: TimerWheel[str] = TimerWheel()
    kept = wheel.start("kept", "timer B", 32.0)
    for _ in range(10_000):
        wheel.stop(wheel.start("stopped", "timer B", 64.0))
    assert len(wheel) == 1
    assert len(wheel._heap) < 2000
    assert wheel.next_deadline == 32.0
    assert kept.owner == "kept"
    assert wheel.pop_due(32.0) == ("kept", "timer B")
    assert wheel.next_deadline is None


def test_values_of_the_rfc() -> None:
    """Table 4 of RFC 3261."""
    values = TimerValues()
    assert (values.t1, values.t2, values.t4, values.timeout, values.timer_d) == (0.5, 4, 5, 32, 32)
    assert TimerValues(t1=0.1).timer_d == 32
    assert TimerValues(t1=1).timer_d == 64
