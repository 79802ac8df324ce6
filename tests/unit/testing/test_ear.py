"""What a test peer's ear takes for a steady tone."""

from __future__ import annotations

import itertools

import pytest
import trio
import trio.testing

from siperb_core.testing import codecs
from siperb_core.testing.ear import Ear


def packets(codec: str, hz: int, seconds: float) -> list[bytes]:
    return list(itertools.islice(itertools.cycle(codecs.looped_tone(codec, hz, -6.0)), round(50 * seconds)))


async def play(ear: Ear, payloads: list[bytes]) -> None:
    for payload in payloads:
        ear.take(payload)
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("codec", ["opus", "G722", "PCMA"])
async def test_a_tone_is_steady_once_a_whole_second_of_it_is_clean(codec: str) -> None:
    ear = Ear()
    ear.tune(codec)
    whole = packets(codec, 1000, 4.0)
    done = trio.Event()

    async def listen() -> None:
        heard = await ear.hears_steadily(1000, within=2)
        assert heard.dbfs == pytest.approx(-6, abs=0.5)
        done.set()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            silence = list(codecs.silence(codec))[:1]
            await play(ear, whole[:40] + silence * 3 + whole[40:75])
            assert not done.is_set(), "0.8 s, a gap of three frames, 0.7 s"
            await play(ear, whole[75:140])
            assert done.is_set()


async def test_another_tone_and_what_was_heard_before_count_for_nothing() -> None:
    ear = Ear()
    ear.tune("PCMA")
    for payload in packets("PCMA", 1000, 2.0):
        ear.take(payload)
    with trio.move_on_after(5) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ear.hears_steadily, 1000)
            await trio.testing.wait_all_tasks_blocked()
            await play(ear, packets("PCMA", 700, 3.0))
            nursery.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert round(ear.heard.hz) == 700
