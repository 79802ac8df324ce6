"""What is drawn by the shipped strategies is what they say."""

from __future__ import annotations

from hypothesis import find, given
from hypothesis import strategies as st

from siperb_core.events import CallEvent
from siperb_core.routing import PatternError, Route, compile_pattern, explain
from siperb_core.sdp import describe, parse_sdp
from siperb_core.testing import strategies


@given(strategies.sdps())
def test_descriptions_can_be_read(sdp: bytes) -> None:
    description = parse_sdp(sdp)
    assert description.media[0].kind == "audio"
    assert description.media[0].port
    assert describe(sdp)


@given(strategies.sdps(webrtc=True), strategies.sdps(webrtc=False))
def test_a_browsers_is_told_from_a_telephones(browser: bytes, telephone: bytes) -> None:
    assert all(word in browser for word in (b"SAVPF", b"a=ice-ufrag:", b"a=fingerprint:", b"a=setup:"))
    assert not any(word in telephone for word in (b"SAVPF", b"a=ice-ufrag:", b"a=fingerprint:"))


def compiles(pattern: str) -> bool:
    try:
        compile_pattern(pattern)
    except PatternError:
        return False
    return True


def test_dial_patterns_are_of_both_kinds() -> None:
    assert compiles(find(strategies.dial_patterns(), compiles))
    assert not compiles(find(strategies.dial_patterns(), lambda pattern: not compiles(pattern)))


@given(strategies.routing_tables(), strategies.numbers())
def test_routing_tables_can_be_routed_by(routes: list[Route], number: str) -> None:
    assert len(explain(routes, number).candidates) == len(routes)


def test_numbers_are_taken_by_tables() -> None:
    pair = st.tuples(strategies.routing_tables(), strategies.numbers())
    routes, number = find(pair, lambda drawn: explain(*drawn).taken is not None)
    assert explain(routes, number).order


@given(strategies.event_orders())
def test_orders_of_events_are_those_of_calls(events: list[CallEvent]) -> None:
    assert [event.when for event in events] == sorted(event.when for event in events)
    for call_id in {event.call_id for event in events}:
        mine = [event for event in events if event.call_id == call_id]
        said = [event.what for event in mine]
        order = ("started", "ringing", "answered", "ended")
        assert said == [what for what in order if what in said]
        assert (said[0], said[-1]) == ("started", "ended")
        assert (mine[-1].status is None) == ("answered" in said) == (mine[-1].answered is not None)
        assert {event.started for event in mine} == {mine[0].when}


def test_calls_are_told_in_between_one_another() -> None:
    def mixed(events: list[CallEvent]) -> bool:
        ids = [event.call_id for event in events]
        return len(set(ids)) > 1 and ids != sorted(ids)

    assert find(strategies.event_orders(), mixed)
