"""REGISTERs of all connections together leave at a pace, and answers to challenges do not queue behind first tries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.entries.pacing import REGISTERS_PER_SECOND, Pace
from siperb_core.sip import Message, parse


def register(*, answers: bool = False, expires: int = 300, method: str = "REGISTER") -> Message:
    credentials = 'Authorization: Digest username="200", realm="r", nonce="n", uri="sip:p", response="0"\r\n'
    return parse(
        (
            f"{method} sip:pbx SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:200@pbx>;tag=1\r\n"
            f"To: <sip:200@pbx>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\nExpires: {expires}\r\n"
            f"{credentials if answers else ''}Content-Length: 0\r\n\r\n"
        ).encode()
    )


@given(st.lists(st.tuples(st.floats(0, 0.3), st.booleans()), min_size=1, max_size=200))
def test_no_second_has_more_than_the_pace_allows(arrivals: list[tuple[float, bool]]) -> None:
    pace, now, leaving = Pace(), 0.0, []
    for pause, answers in arrivals:
        now += pause
        leaving.append(now + pace.wait_for(register(answers=answers), now))
    leaving.sort()
    for first, start in enumerate(leaving):
        within = sum(start <= at < start + 1 - 1e-9 for at in leaving[first:])
        assert within <= REGISTERS_PER_SECOND


def test_a_thousand_at_once_are_spread_and_an_answer_goes_at_once() -> None:
    pace = Pace()
    waits = [pace.wait_for(register(), 0.0) for _ in range(1000)]
    assert waits == pytest.approx([number / 10 for number in range(1000)])
    assert pace.wait_for(register(answers=True), 0.0) == 0.0


@pytest.mark.parametrize("message", [register(expires=0), register(method="OPTIONS")], ids=["un-REGISTER", "OPTIONS"])
def test_what_is_not_held_up(message: Message) -> None:
    pace = Pace()
    for _ in range(5):
        pace.wait_for(register(), 0.0)
    assert pace.wait_for(message, 0.0) == 0.0
