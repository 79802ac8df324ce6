"""Loss, order and jitter by RFC 3550, and the score made of them."""

from __future__ import annotations

import pytest

from siperb_core.rtp.quality import Reception, mean_opinion_score


def test_loss_is_what_did_not_come() -> None:
    reception = Reception(8000)
    for sequence in (65533, 65534, 0, 1, 4):
        reception.arrived(sequence)
    assert (reception.packets, reception.lost) == (5, 3)
    assert reception.interval_loss() == 3 * 256 // 8
    assert reception.interval_loss() == 0


def test_each_arrival_is_named() -> None:
    reception = Reception(8000)
    arrivals = [reception.arrived(s) for s in (10, 11, 11, 14, 12, 15)]
    assert arrivals == [("first", 0), ("next", 0), ("duplicate", 0), ("next", 2), ("late", 0), ("next", 0)]
    assert reception.lost == 1


def test_a_leap_is_believed_when_the_next_packet_follows_it() -> None:
    reception = Reception(8000)
    for sequence in range(100, 110):
        reception.arrived(sequence)
    assert reception.arrived(30000)[0] == "jump"
    assert reception.arrived(110)[0] == "next"
    assert reception.arrived(30000)[0] == "jump"
    assert reception.arrived(30001)[0] == "restart"
    assert (reception.lost, reception.packets) == (0, 12)


def test_jitter_is_that_of_appendix_a8() -> None:
    reception = Reception(8000)
    for n in range(1000):
        reception.timed(n * 160, n * 0.02 + (0.004 if n % 2 else 0.0))
    assert reception.jitter_ms == pytest.approx(4, abs=0.1)


def test_a_pause_is_no_jitter() -> None:
    reception = Reception(8000)
    for n in range(10):
        reception.timed(n * 160, n * 0.02)
    reception.timed(50 * 160, 90.0)
    reception.timed(51 * 160, 90.02)
    assert reception.jitter_ms < 0.1


def test_the_score_falls_with_loss_and_delay() -> None:
    assert mean_opinion_score("PCMA", 0, 0) == pytest.approx(4.4, abs=0.05)
    assert mean_opinion_score("PCMA", 0.05, 0) < 3
    assert mean_opinion_score("opus", 0.05, 0) > mean_opinion_score("PCMA", 0.05, 0)
    assert mean_opinion_score("opus", 0, 0, rtt_ms=800) < 4
    assert mean_opinion_score("opus", 1, 200, rtt_ms=5000) == 1.0
