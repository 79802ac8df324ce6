"""A transcoder of a plugin that raises, or returns nonsense, in any part of its contract: the call it was made for
ends, for both sides and with the reason; the fault is the plugin's; the worker and its other calls go on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from siperb_core.media.pool import MediaPool
from siperb_core.testing import PbxSettings, open_gateway, open_pbx, open_softphone, websocket_url
from siperb_core.testing.gateway import trunk_to

PLUGIN = """
from siperb_core import hookimpl
from siperb_transcoder_opus_g722.transcoder import OpusG722

def fails(*given, **named): raise ZeroDivisionError("not today")
def nonsense(*given, **named): return 5

class Around:
    def __init__(self, inner): self.inner = inner
    def __getattr__(self, name): return getattr(self.inner, name)

class Bad:
    name = "bad"
    def pairs(self): return frozenset({("opus", "G722"), ("G722", "opus")})
    def create(self, source, target, *, ptime=20):
        if "PART" == "create":
            return WRONG()
        made = Around(OpusG722().create(source, target, ptime=ptime))
        if hasattr(made, "PART"):
            made.PART = WRONG
        return made

@hookimpl
def siperb_transcoders(): return [Bad()]
"""


def trunks(port: int) -> str:
    """Alice's calls go by G.722, Bob's by G.711."""
    plain = trunk_to(port, 'codecs = ["PCMA"]').replace("office", "plain").replace("alice", "bob")
    return trunk_to(port, 'codecs = ["G722"]') + plain


@pytest.mark.parametrize(
    ("part", "wrong", "said"),
    [
        ("create", "fails", "ZeroDivisionError: not today"),
        ("transcode", "fails", "ZeroDivisionError: not today"),
        ("transcode", "nonsense", "TypeError: transcode returned a int"),
        ("level", "fails", "ZeroDivisionError: not today"),
        ("adjust_effort", "fails", "ZeroDivisionError: not today"),
    ],
)
async def test_the_call_ends_and_no_other(
    tmp_path: Path, install_plugin: Callable[..., None], part: str, wrong: str, said: str
) -> None:
    install_plugin("a_bad", PLUGIN.replace("PART", part).replace("WRONG", wrong))
    with trio.fail_after(60):
        async with (
            open_pbx(PbxSettings(codecs=("G722", "PCMA"))) as pbx,
            open_gateway(tmp_path, trunks(pbx.local[1])) as gateway,
            open_softphone(websocket_url(gateway), "alice-web", "gw.example", "alice-secret") as phone,
            open_softphone(websocket_url(gateway), "bob-web", "gw.example", "bob-secret") as other,
        ):
            neighbour = await other.call("600")
            await neighbour.answered()
            neighbour.play(700)
            await neighbour.hears(700)
            call = await phone.call("600")
            await call.answered()
            call.play(1000)
            await call.ended.wait()
            assert call.ended_by == "them"
            await pbx.calls[1].ended.wait()
            assert gateway.plugins.errors["a_bad"]
            (row,) = [row for row in await gateway.operations.call("show.calls") if row["connection"] == "office"]
            assert row["state"] == "ended"
            assert row["diagnosis"] == f"transcoder bad has failed: {said}"
            await neighbour.hears(700)
            assert not neighbour.ended.is_set()
            assert isinstance(gateway.media, MediaPool)
            assert gateway.media.restarts == 0
            await neighbour.hangup()


async def test_one_that_cannot_be_closed_costs_nothing(tmp_path: Path, install_plugin: Callable[..., None]) -> None:
    install_plugin("a_bad", PLUGIN.replace("PART", "close").replace("WRONG", "fails"))
    with trio.fail_after(60):
        async with (
            open_pbx(PbxSettings(codecs=("G722",))) as pbx,
            open_gateway(tmp_path, trunks(pbx.local[1])) as gateway,
            open_softphone(websocket_url(gateway), "alice-web", "gw.example", "alice-secret") as phone,
        ):
            assert isinstance(gateway.media, MediaPool)
            for _ in range(2):
                call = await phone.call("600")
                await call.answered()
                call.play(700)
                await call.hears(700)
                await call.hangup()
                for session in gateway.media.sessions:
                    await session.closed.wait()
            assert gateway.media.restarts == 0
            assert gateway.media.ports.taken == 0
