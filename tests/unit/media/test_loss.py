"""Opus is made robust while the phone reports loss, and no longer."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest

from siperb_core.media.session import SessionSettings, WorkerSession


class Robust:
    """A transcoder that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def expect_loss(self, percent: int) -> None:
        self.told.append(percent)


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
    rtp, rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with rtp, rtcp:
        session = WorkerSession(
            1,
            rtp,
            rtcp,
            settings=cast(SessionSettings, None),
            emit=lambda *_: None,
            serve=lambda *_: None,
            forget=lambda _: None,
        )
        robust = Robust()
        session.to_client.transcoder = cast(Any, robust)
        for fraction in reports:
            session._expect_loss(fraction)
        assert robust.told == told
