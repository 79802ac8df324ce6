"""The demo's two phones call each other without its PBX, as its printed numbers say."""

from __future__ import annotations

import json
import os
import socket
from functools import partial
from pathlib import Path

import pytest
import trio

from siperb_core.cli.demo import demo
from siperb_core.testing import open_softphone


def free_base() -> int:
    """A port base whose ports look free: those that are always bound are tried."""
    for base in range(33_000 + os.getpid() % 20 * 500, 60_000, 500):
        try:
            for offset in (60, 62, 80, 88):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(socket.AF_INET, kind) as probe:
                        probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        return base
    raise OSError("no 500 free ports")


async def test_the_two_phones_of_the_demo_call_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announced = trio.Event()
    said: list[str] = []

    def printed(text: str, flush: bool = False) -> None:
        said.append(text)
        announced.set()

    monkeypatch.setattr("siperb_core.cli.demo.print", printed, raising=False)
    monkeypatch.setattr("siperb_core.cli.demo.configure_log", lambda level: None)  # the log is the test run's
    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(demo, free_base(), as_json=True, directory=tmp_path))
            await announced.wait()
            facts = json.loads(said[0])
            second = facts["second"]
            assert facts["inside"] == {"1001": "demo", "1002": "second"}
            async with (
                open_softphone(facts["ws"], facts["device"], facts["domain"], facts["password"]) as one,
                open_softphone(facts["ws"], second["device"], facts["domain"], second["password"], answers=True) as two,
            ):
                call = await one.call("1002")
                call.play(700)
                await call.answered()
                (back,) = two.calls
                back.play(1500)
                await back.hears(700)
                await call.hears(1500)
                assert back.remote.uri == "sip:1001@siperb.demo"
                await call.hangup()
                await back.ended.wait()
                echo = await two.call("600")
                echo.play(900)
                await echo.answered()
                await echo.hears(900)
                await echo.hangup()
            nursery.cancel_scope.cancel()
