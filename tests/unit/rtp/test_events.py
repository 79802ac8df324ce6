"""telephone-event: payloads, and durations at another clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.rtp.events import Digit, EventReader, TelephoneEvent, build_event, parse_event, rescale_event
from siperb_core.rtp.packet import RtpError

events = st.builds(TelephoneEvent, st.integers(0, 255), st.booleans(), st.integers(0, 63), st.integers(0, 0xFFFF))


@given(events)
def test_what_is_written_is_read(event: TelephoneEvent) -> None:
    assert parse_event(build_event(event)) == event


def test_digits_are_named() -> None:
    assert "".join(TelephoneEvent(n, False, 0, 0).digit for n in range(17)) == "0123456789*#ABCD"


def test_a_short_payload_is_refused() -> None:
    with pytest.raises(RtpError):
        parse_event(b"\x01\x0a\x00")


@given(events)
def test_duration_and_segment_together_are_the_scaled_duration(event: TelephoneEvent) -> None:
    payload, offset = rescale_event(build_event(event), 8000, 48000)
    scaled = parse_event(payload)
    assert scaled.duration + offset == event.duration * 6
    assert (scaled.event, scaled.end, scaled.volume) == (event.event, event.end, event.volume)
    assert scaled.duration > 0 or event.duration == 0


def test_down_and_same_clock() -> None:
    event = build_event(TelephoneEvent(5, True, 10, 4800))
    assert rescale_event(event, 48000, 8000) == (build_event(TelephoneEvent(5, True, 10, 800)), 0)
    assert rescale_event(event + b"more", 8000, 8000) == (event, 0)


def test_a_key_that_is_held_for_long_is_one_digit() -> None:
    """Its duration needs more than 16 bits, so it comes in segments (section 2.5.1.3)."""
    reader, start = EventReader(), 0xFFFFFF00
    found: list[Digit] = []
    for segment in range(3):
        for duration in (160, 0xFFFF) if segment < 2 else (160, 8000):
            payload = build_event(TelephoneEvent(5, segment == 2 and duration == 8000, 10, duration))
            found += reader.take(payload, (start + segment * 0xFFFF) & 0xFFFFFFFF, 8000)
    assert found == [Digit("5", (2 * 0xFFFF + 8000) // 8)]
    again = build_event(TelephoneEvent(5, True, 10, 800))
    assert reader.take(again, (start + 3 * 0xFFFF) & 0xFFFFFFFF, 8000) == [Digit("5", 100)], "a new press"
