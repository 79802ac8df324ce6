"""What plugins decide on the media of calls: refused, other codecs, ports on another machine (ADR 5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_core.testing import PbxSettings, open_gateway, open_pbx, open_softphone, websocket_url
from siperb_core.testing.gateway import address, trunk_to
from siperb_core.testing.session import CallFailed

PLUGIN = """
import attrs
from siperb_core import MediaPolicy, Refusal, hookimpl

SEEN, ELSEWHERE = [], []

class Around:
    def __init__(self, inner):
        self.inner = inner
        self.client_address, self.peer_address = "127.0.0.7", "127.0.0.8"
    def __getattr__(self, name): return getattr(self.inner, name)
    def __setattr__(self, name, value):
        if name in ("inner", "client_address", "peer_address"): object.__setattr__(self, name, value)
        else: setattr(self.inner, name, value)

class Engine:
    def __init__(self, inner): self.inner = inner
    def __getattr__(self, name): return getattr(self.inner, name)
    async def __aenter__(self):
        await self.inner.__aenter__()
        return self
    async def __aexit__(self, *error): return await self.inner.__aexit__(*error)
    def open(self, call_id, **families):
        session = self.inner.open(call_id, **families)
        return Around(session) if ELSEWHERE else session

@hookimpl
def siperb_media_policy(entry, transport, peer_offer, call):
    SEEN.append((call.direction, call.user, call.number, bool(peer_offer), b"m=audio" in call.request.body))
    if call.number == "601":
        return Refusal(488, "No Video Phones")
    return MediaPolicy(False, True, "opus-first", False, "mine", codecs=("PCMU",))

@hookimpl
def siperb_media_engine(settings):
    from siperb_core.media.pool import MediaPool
    return Engine(MediaPool(ports="{}-{}".format(*settings.ports), workers=1, rtp_timeout=settings.rtp_timeout,
                            transcoder_plugins=settings.transcoder_plugins))
"""


@pytest.fixture
def plugin(install_plugin: Callable[..., None]) -> Any:
    install_plugin("decides", PLUGIN)
    import siperb_decides_plugin  # type: ignore[import-not-found]

    return siperb_decides_plugin


async def test_codecs_and_refusals_of_a_plugin_both_ways(tmp_path: Path, plugin: Any) -> None:
    with trio.fail_after(60):
        async with (
            open_pbx(PbxSettings(codecs=("G722", "PCMU"))) as pbx,
            open_gateway(tmp_path, trunk_to(pbx.local[1])) as gateway,
            open_softphone(websocket_url(gateway), "alice-web", "gw.example", "alice-secret") as phone,
        ):
            call = await phone.call("600")
            await call.answered()
            offer = pbx.calls[0].invite.body
            assert b"PCMU/8000" in offer
            assert b"G722/8000" not in offer
            assert b"PCMA/8000" not in offer
            call.play(700)
            await call.hears(700)
            await call.hangup()
            refused = await phone.call("601")
            with pytest.raises(CallFailed):
                await refused.answered()
            assert (refused.status, refused.reason) == (488, "No Video Phones")
            assert len(pbx.calls) == 1, "the PBX was not asked"

            incoming = await pbx.call(f"sip:alice@{':'.join(map(str, address(gateway, 'udp')))}")
            here = await phone.next_call()
            await here.accept()
            await incoming.answered()
            (row,) = [row for row in await gateway.operations.call("show.calls") if row["direction"] == "inbound"]
            assert row["media"]["peer_codec"] == "PCMU", "G722 came first in the PBX's offer"
            assert row["media"]["why"].startswith("mine")
            await here.hangup()
            await incoming.ended.wait()
    assert plugin.SEEN == [
        ("outbound", "alice", "600", False, True),
        ("outbound", "alice", "601", False, True),
        ("inbound", "", "alice", True, True),
    ]


async def test_ports_on_another_machine(tmp_path: Path, plugin: Any) -> None:
    plugin.ELSEWHERE.append(True)
    with trio.fail_after(60):
        async with (
            open_pbx(PbxSettings()) as pbx,
            open_gateway(tmp_path, trunk_to(pbx.local[1])) as gateway,
            open_softphone(websocket_url(gateway), "alice-web", "gw.example", "alice-secret") as phone,
        ):
            call = await phone.call("600")
            await call.answered()
            assert b"c=IN IP4 127.0.0.8" in pbx.calls[0].invite.body
            answer = call.responses[-1].body
            assert b" 127.0.0.7 " in answer, "its candidate"
            assert b" 127.0.0.1 " not in answer
            await call.hangup()
            await gateway.calls.wait_idle()
            assert not gateway.plugins.errors
