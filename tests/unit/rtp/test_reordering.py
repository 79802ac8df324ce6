"""The window that puts packets back in order."""

from __future__ import annotations

from siperb_core.rtp.reordering import PATIENCE, WINDOW, Reordering


def test_over_the_wrap() -> None:
    window = Reordering[str]()
    window.restart(65534)
    assert window.put(0, "b", 0)
    assert window.take(0) == []
    assert window.put(65535, "a", 0)
    assert window.take(0) == [(0, "a"), (0, "b")]
    assert window.last == 0


def test_a_gap_is_given_up_when_the_window_is_full_or_its_time_is_over() -> None:
    window = Reordering[int]()
    for n in range(2, 1 + WINDOW):
        window.put(n, n, 0)
        assert window.take(0) == []
    window.put(1 + WINDOW, 1 + WINDOW, 0)
    assert window.take(0) == [(1, 2)] + [(0, n) for n in range(3, 2 + WINDOW)]
    window.put(9, 9, 1)
    assert window.take(1 + PATIENCE / 2) == []
    assert window.take(1 + PATIENCE) == [(9 - WINDOW - 2, 9)]


def test_what_was_here_already_is_refused() -> None:
    window = Reordering[int]()
    assert window.put(3, 3, 0)
    assert not window.put(3, 3, 0)
    assert not window.put(0, 0, 0)
    assert not window.put(65000, 0, 0)
