"""Who fails too often is not listened to; who is right is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.lockout import MOST_SOURCES, MOST_USERS, Bounds, Lockout, OncePerMinute, source_of

HERE, THERE = "203.0.113.7", "198.51.100.9"


def fail(lockout: Lockout, times: int, *, host: str = HERE, user: str = "200", now: float = 0.0) -> str:
    return [lockout.failed(host, user, now + index) for index in range(times)][-1]


def test_ten_failures_in_five_minutes_lock_the_source_out() -> None:
    lockout = Lockout()
    assert fail(lockout, 9) == ""
    assert not lockout.is_locked(HERE, 9)
    assert lockout.failed(HERE, "200", 299) == "source"
    assert lockout.is_locked(HERE, 300)
    assert not lockout.is_locked(THERE, 300), "the right user elsewhere is unharmed"


def test_slow_failures_do_not_add_up() -> None:
    lockout = Lockout()
    assert not any(lockout.failed(HERE, "200", index * 34.0) for index in range(100))


def test_names_tried_one_after_the_other_add_up() -> None:
    lockout = Lockout()
    assert [lockout.failed(HERE, f"{index}", index) for index in range(10)][-1] == "source"


def test_the_lock_ends() -> None:
    lockout = Lockout()
    fail(lockout, 10)
    assert lockout.is_locked(HERE, 608)
    assert not lockout.is_locked(HERE, 610)
    assert lockout.failed(HERE, "200", 1000) == ""


def test_behind_a_shared_address_only_the_user_is_locked_out() -> None:
    lockout = Lockout()
    lockout.proved(HERE, "alice", 0)
    assert fail(lockout, 10, user="bob") == "user"
    assert not lockout.is_locked(HERE, 10)
    assert lockout.is_locked_user(HERE, "bob", 10)
    assert not lockout.is_locked_user(HERE, "alice", 10)
    assert not lockout.is_locked_user(THERE, "bob", 10)


def test_a_shared_address_has_a_higher_bound() -> None:
    lockout = Lockout()
    lockout.proved(HERE, "alice", 0)
    results = [lockout.failed(HERE, f"user{index}", index) for index in range(100)]
    assert results.index("source") == 99


def test_a_right_password_forgives_that_user_s_mistakes() -> None:
    lockout = Lockout()
    lockout.proved(HERE, "alice", 0)
    fail(lockout, 9, user="bob")
    lockout.proved(HERE, "bob", 10)
    assert lockout.failed(HERE, "bob", 11) == ""


def test_a_proof_is_forgotten() -> None:
    lockout = Lockout(Bounds(proven=60))
    lockout.proved(HERE, "alice", 0)
    assert fail(lockout, 10, now=100) == "source"


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1%eth0", "2001:db8::/64"),
        ("nonsense", "nonsense"),
    ],
)
def test_what_counts_as_one_source(host: str, source: str) -> None:
    assert source_of(host) == source


def test_memory_is_bounded() -> None:
    lockout, quiet = Lockout(), OncePerMinute()
    for index in range(MOST_SOURCES + 50):
        lockout.failed(f"source{index}", "x", index)
        quiet.due(f"source{index}", index)
    for index in range(MOST_USERS + 50):
        lockout.failed(HERE, f"user{index}", index * 1000.0)
    assert len(lockout._sources) == len(quiet._heard) == MOST_SOURCES
    assert len(lockout._sources[HERE].users) == MOST_USERS


def test_one_line_a_minute() -> None:
    quiet = OncePerMinute()
    assert [quiet.due(HERE, now) for now in (0, 1, 59, 60, 61)] == [0, None, None, 2, None]
    assert quiet.due(THERE, 61) == 0


@given(st.lists(st.tuples(st.sampled_from([HERE, THERE]), st.sampled_from("ab"), st.floats(0, 100)), max_size=60))
def test_never_locked_below_the_bound_nor_let_in_above_it(steps: list[tuple[str, str, float]]) -> None:
    lockout = Lockout()
    now, times = 0.0, {HERE: [], THERE: []}  # type: dict[str, list[float]]
    for host, user, step in steps:
        now += step
        lockout.failed(host, user, now)
        times[host].append(now)
    for host, failures in times.items():
        runs = [
            failures[index + 9] for index in range(len(failures) - 9) if failures[index + 9] - failures[index] <= 300
        ]
        assert lockout.is_locked(host, now) == any(now < end + 600 for end in runs)
