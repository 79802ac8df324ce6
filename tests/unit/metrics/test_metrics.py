"""Metrics as plain data, and what the gateway makes of calls."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from siperb_core import CallEvent, Histogram, Metric
from siperb_core.media.counters import Counters
from siperb_core.own_metrics import LEGS, OUTCOMES, OWN, Measures, outcome

EVENT = CallEvent("ended", 20.0, "id", "outbound", "office", "alice", "laptop", "a", "b", started=10.0)


def test_a_value_is_in_the_first_bucket_that_has_room_for_it() -> None:
    sizes = Histogram((1, 2.5, 10))
    for value in (0, 1, 1.1, 2.5, 10, 11):
        sizes.observe(value)
    assert sizes.counts == [2, 2, 1, 1]
    (sample,) = Metric("sizes", "histogram", "Sizes.", {(): sizes}).as_json("siperb_")["samples"]  # type: ignore[misc]
    assert sample == {
        "labels": {},
        "buckets": {"1": 2, "2.5": 4, "10": 5, "+Inf": 6},
        "sum": 25.6,
        "count": 6,
    }


def test_labels_are_named() -> None:
    metric = Metric("seen_total", "counter", "Seen.", {("a", "b"): 1, ("c", "d"): 2}, labels=("x", "y"))
    assert metric.as_json("siperb_") == {
        "name": "siperb_seen_total",
        "type": "counter",
        "help": "Seen.",
        "labels": ["x", "y"],
        "samples": [{"labels": {"x": "a", "y": "b"}, "value": 1}, {"labels": {"x": "c", "y": "d"}, "value": 2}],
    }


@pytest.mark.parametrize(
    ("status", "said"),
    [
        *(
            (None, "cancelled"),
            (487, "cancelled"),
            (486, "busy"),
            (600, "busy"),
            (480, "no_answer"),
            (408, "no_answer"),
        ),
        *((302, "rejected"), (403, "rejected"), (488, "rejected"), (603, "rejected"), (500, "failed"), (503, "failed")),
    ],
)
def test_a_call_has_one_outcome(status: int | None, said: str) -> None:
    assert outcome(attrs.evolve(EVENT, status=status)) == said
    assert said in OUTCOMES
    assert outcome(attrs.evolve(EVENT, status=status, answered=15.0)) == "answered"


def measures() -> Measures:
    gateway: Any = None
    return Measures(gateway)


def test_setup_is_over_when_it_rings_or_is_answered_whatever_comes_first() -> None:
    counted = measures()
    for call_id, *steps in (
        ("rings", ("ringing", 10.5), ("ringing", 11.0), ("answered", 25.0), ("ended", 30.0)),
        ("answers", ("answered", 10.25), ("ended", 11.0)),
        ("fails", ("ended", 12.0)),
        ("clock", ("answered", 9.0), ("ended", 11.0)),
    ):
        for what, when in steps:
            counted.siperb_call_event(attrs.evolve(EVENT, what=what, when=when, call_id=call_id))
    assert (sum(counted._setup.counts), counted._setup.sum) == (3, 0.75)
    assert counted._heard_of == set()


def record(**media: Any) -> dict[str, Any]:
    return {"media": media or None}


def test_quality_is_counted_of_legs_that_were_heard() -> None:
    counted = measures()
    client = {"packets_in": 50, "lost": 3, "jitter_ms": 4.0, "mos": 4.1}
    counted.siperb_call_record(record(client=client, peer=client | {"mos": None, "lost": 0}))
    counted.siperb_call_record(record(client=client, peer=client | {"packets_in": 0}))
    counted.siperb_call_record(record(client=None, peer=None))
    counted.siperb_call_record(record())
    assert {leg: sum(counted._jitter[leg].counts) for leg in LEGS} == {"client": 2, "peer": 1}
    assert {leg: sum(counted._mos[leg].counts) for leg in LEGS} == {"client": 2, "peer": 0}
    assert counted._lost == {"client": 6, "peer": 0}
    assert counted._jitter["client"].sum == pytest.approx(0.008)


def test_totals_never_go_back() -> None:
    shown = Counters(lost=5, client_in=100, transcode_seconds=1.5)
    shown.advance(Counters(lost=4, client_in=120, transcode_seconds=1.5))
    assert shown == Counters(lost=5, client_in=120, transcode_seconds=1.5)


def test_names_say_what_they_are() -> None:
    for own in OWN:
        assert own.name.endswith("_total") is (own.kind == "counter"), own.name
        assert own.help.endswith(".")
        assert own.help[0].isupper() or own.help[0].isdigit()
    assert len({own.name for own in OWN}) == len(OWN)
