"""Whole calls through a worker: a real browser's ICE, DTLS and Opus on one side, RTP on the other.

What is asserted is sound.
"""

from __future__ import annotations

import itertools
import os
import signal
from typing import Any

import attrs
import pytest
import trio
from media_browser import tone_of

FULL_SCALE_QUARTER = -12.04  # dBFS of a sine of amplitude 0.25


async def test_a_tone_crosses_both_ways_at_its_pitch_and_level(call: Any) -> None:
    await call.connect()
    call.nursery.start_soon(call.phone.talk, ("127.0.0.1", call.session.peer_port), 700.0)
    await call.phone.heard(20)
    await call.phone.heard(50)
    hertz, level, purity = tone_of(call.phone.decode(), call.phone.rate)
    assert hertz == pytest.approx(1000, abs=0.2)
    assert level == pytest.approx(FULL_SCALE_QUARTER, abs=0.5)
    assert purity > 30
    await call.browser.hear(0.5)
    hertz, level, purity = tone_of(await call.browser.hear(1), 48000)
    assert hertz == pytest.approx(700, abs=0.2)
    assert level == pytest.approx(FULL_SCALE_QUARTER, abs=0.5)
    assert purity > 25


async def test_the_stream_to_the_pbx_is_one_stream_without_gaps(call: Any) -> None:
    await call.connect()
    await call.phone.heard(50)
    packets = call.phone.packets
    assert {(p.ssrc, p.payload_type) for p in packets} == {(777, 9)}
    steps = {
        ((b.sequence - a.sequence) & 0xFFFF, (b.timestamp - a.timestamp) & 0xFFFFFFFF)
        for a, b in itertools.pairwise(packets)
    }
    assert steps == {(1, 160)}


async def test_figures_are_told_and_ports_come_back(call: Any) -> None:
    await call.connect()
    call.nursery.start_soon(call.phone.talk, ("127.0.0.1", call.session.peer_port), 700.0)
    while call.session.stats["peer"]["packets_in"] < 20 or call.session.stats["client"]["packets_in"] < 20:  # noqa: ASYNC110
        await trio.sleep(0.05)
    stats = call.session.stats
    assert (stats["mode"], stats["client_codec"], stats["peer_codec"]) == ("transcode", "opus", "G722")
    assert stats["client"]["mos"] > 4
    assert stats["client"]["packets_out"] > 0
    call.session.close()
    await call.closed()


async def test_hold_stops_the_sound_and_resume_brings_it_back_on_the_same_stream(call: Any) -> None:
    await call.connect()
    await call.phone.heard(10)
    call.session.apply(call.plan(call.leg, direction="recvonly"))
    await trio.sleep(0.2)
    last = call.phone.packets[-1]
    count = len(call.phone.packets)
    await trio.sleep(0.3)
    assert len(call.phone.packets) == count
    call.session.apply(call.plan(call.leg))
    await call.phone.heard(20)
    first = call.phone.packets[0]
    assert first.ssrc == last.ssrc
    assert (first.sequence - last.sequence) & 0xFFFF == 1
    assert (first.timestamp - last.timestamp) & 0xFFFFFFFF == pytest.approx(0.5 * 8000, rel=0.5)
    assert not [e for e in call.events if e.kind != "connected"]


async def test_a_silent_pbx_is_noticed(call: Any) -> None:
    await call.connect()
    assert (await call.event("one_way")).leg == "peer"
    assert (await call.event("rtp_timeout")).leg == "peer"


async def test_a_dead_worker_costs_its_calls_and_is_replaced(call: Any) -> None:
    await call.connect()
    [pid] = call.pool.worker_pids
    os.kill(pid, signal.SIGKILL)
    await call.event("worker_died")
    assert call.session.ended
    assert call.pool.ports.taken == 0
    while not call.pool.worker_pids:  # noqa: ASYNC110
        await trio.sleep(0.02)
    assert call.pool.restarts == 1
    await call.pool.wait_ready()
    assert call.pool.open("next").peer_port


async def test_a_wrong_fingerprint_is_refused(call: Any) -> None:
    leg = attrs.evolve(await call.browser.offer(), remote_fingerprints=(("sha-256", ":".join(["00"] * 32)),))
    call.session.apply(call.plan(leg))
    await call.browser.answered(leg, call.port, call.pool.fingerprint)
    await call.event("dtls_failed")
    assert not call.phone.packets
