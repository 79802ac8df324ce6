"""What a session tells its transcoders: Opus is robust while the phone reports loss, and no longer; and its effort."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from siperb_core.media.session import SessionSettings, WorkerSession


class Robust:
    """A transcoder that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.high: list[bool] = []

    def adjust_effort(self, *, high: bool) -> None:
        self.high.append(high)

    def expect_loss(self, percent: int) -> None:
        self.told.append(percent)


@contextmanager
def session() -> Iterator[WorkerSession]:
    rtp, rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with rtp, rtcp:
        yield WorkerSession(
            1,
            rtp,
            rtcp,
            settings=SessionSettings(cast(Any, None), cast(Any, None), {}, 60, 5, lambda *_: None),
            emit=lambda *_: None,
            serve=lambda *_: None,
            forget=lambda _: None,
        )


@pytest.mark.parametrize(
    ("reports", "told"),
    [
        ([0.0, 0.01, 0.0], []),
        ([0.05, 0.05, 0.1], [5, 10]),
        ([0.08, 0.0, 0.0, 0.0], [8, 4, 2, 0]),
        ([0.9], [50]),
    ],
)
def test_the_mode_follows_the_reports(reports: list[float], told: list[int]) -> None:
    with session() as call:
        robust = Robust()
        call.to_client.transcoder = cast(Any, robust)
        for fraction in reports:
            call._expect_loss(fraction)
        assert robust.told == told


def test_both_directions_are_told_the_effort_and_a_call_without_a_choice_has_none() -> None:
    with session() as call:
        call.spend("high")
        assert call.stats()["effort"] == ""
        one, other = Robust(), Robust()
        call.to_client.transcoder, call.to_peer.transcoder = cast(Any, one), cast(Any, other)
        call.spend("high")
        assert call.stats()["effort"] == "high"
        call.spend("low")
        assert call.stats()["effort"] == "low"
        assert one.high == other.high == [True, False]
