"""How calls end whose media fail, and what is said of it afterwards: whole gateway, real sockets."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.testing import gateway as testing_gateway
from siperb_core.testing.gateway import address, open_gateway, trunk_to, websocket_url
from siperb_core.testing.pbx import Pbx, PbxSettings, open_pbx
from siperb_core.testing.pbx_sdp import PbxNegotiation
from siperb_core.testing.session import CallFailed
from siperb_core.testing.softphone import PhoneCall, Softphone, open_softphone
from siperb_core.testing.softphone_media import SoftphoneMedia
from siperb_core.testing.softphone_peer import Peer

Metrics = dict[tuple[str, ...], float]
"""Values by the metric's name and those of its labels."""
QUICK = testing_gateway._HEAD.replace("[media]", "[media]\nrtp_timeout = 3")


@attrs.frozen
class Office:
    gateway: Gateway
    pbx: Pbx
    phone: Softphone

    async def connected(self, number: str = "601") -> PhoneCall:
        call = await self.phone.call(number)
        await call.answered()
        await call.connected()
        await self.pbx.calls[0].listen(0.1)
        return call

    async def record(
        self, done: Callable[[dict[str, Any]], bool] = lambda row: row["state"] == "ended"
    ) -> dict[str, Any]:
        """The last call, as `siperb show calls` has it once it is so."""
        while True:
            rows = await self.gateway.operations.call("show.calls")
            if rows and done(rows[0]):
                row: dict[str, Any] = rows[0]
                return row
            await trio.sleep(0.05)


@asynccontextmanager
async def office(
    directory: Path, keys: str = "", *, pbx: dict[str, Any] | None = None, **phone: Any
) -> AsyncIterator[Office]:
    async with open_pbx(PbxSettings(**pbx or {})) as peer:
        text = trunk_to(peer.local[1], keys)
        async with (
            open_gateway(directory, text, head=QUICK) as gateway,
            open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret", **phone) as softphone,
        ):
            with trio.fail_after(60):
                yield Office(gateway, peer, softphone)


async def test_a_softphone_that_falls_silent_ends_the_call_on_both_sides_with_the_reason(tmp_path: Path) -> None:
    async with office(tmp_path) as world:
        call = await world.connected()
        media: Any = call.media
        media._thread.call(media._peer._task.cancel)
        await call.ended.wait()
        await world.pbx.calls[0].ended.wait()
        for end in (call, world.pbx.calls[0]):
            assert end.bye is not None
            assert end.bye.get("Reason") == 'SIP ;cause=503 ;text="the softphone sent no RTP"'
        row = await world.record()
        assert (row["cause"], row["diagnosis"][:26]) == ("the softphone sent no RTP", "the softphone sent no RTP ")
        assert world.gateway.media.sessions == [] or await _closed(world.gateway)
        assert world.gateway.media.ports.taken == 0


async def _closed(gateway: Gateway) -> bool:
    for session in gateway.media.sessions:
        await session.closed.wait()
    return True


async def test_a_pbx_that_sends_nothing_is_named(tmp_path: Path) -> None:
    async with office(tmp_path) as world:
        call = await world.phone.call("601")
        await call.answered()
        peer: Any = world.pbx.calls[0].media
        peer._send = lambda *args: None
        await call.connected()
        await call.ended.wait()
        row = await world.record()
        assert row["cause"] == "PBX sent no RTP"
        assert "PBX sent no RTP" in row["diagnosis"]
        assert row["media"]["peer"]["packets_in"] <= 2


async def test_the_figures_of_a_call_are_those_at_its_end(tmp_path: Path) -> None:
    async with office(tmp_path) as world:
        call = await world.connected()
        world.pbx.calls[0].play(1000, -10.0)
        await call.listen(0.5)
        sent_by_phone = call.media.packets_out
        await call.hangup()
        await _closed(world.gateway)
        row = await world.record()
        client, peer = row["media"]["client"], row["media"]["peer"]
        on_the_way = 5  # packets, 0.1 s, on a busy machine
        assert client["packets_in"] >= sent_by_phone - on_the_way, "less than a second old"
        assert peer["packets_out"] >= client["packets_in"] - on_the_way
        assert row["diagnosis"] == ""
        assert peer["level_dbfs"] == pytest.approx(-10, abs=1)
        assert (client["codec"], peer["codec"], row["media"]["ice"]) == ("opus", "G722", "connected")
        assert client["mos"] > 4
        assert 'media = "auto": bridged over UDP; opus-first' in row["media"]["why"]


async def test_the_metrics_tell_what_the_workers_have_done_also_those_that_died(tmp_path: Path) -> None:
    async with office(tmp_path) as world:

        async def metrics(done: Callable[[Metrics], bool]) -> Metrics:
            while True:
                found = {
                    (row["name"].removeprefix("siperb_"), *sample["labels"].values()): sample["value"]
                    for row in await world.gateway.operations.call("show.metrics")
                    for sample in row["samples"]
                    if "value" in sample
                }
                if done(found):
                    return found
                await trio.sleep(0.05)

        before = await metrics(lambda _: True)
        assert {key: before[key] for key in before if key[0] == "media_packets_total"} == {
            ("media_packets_total", leg, way): 0 for leg in ("client", "peer") for way in ("in", "out")
        }
        call = await world.connected()
        await call.listen(1.0)
        running = await metrics(lambda found: found["media_packets_total", "client", "in"] >= 50)
        modes = {key[1]: value for key, value in running.items() if key[0] == "media_sessions"}
        assert modes == {"passthrough": 0, "relay": 0, "transcode": 1}
        assert 0 < running["transcode_seconds_total",] < running["media_cpu_seconds_total",]
        row = await world.record(lambda row: row["state"] == "answered")
        assert row["media"]["mode"] == "transcode"
        before = await metrics(lambda found: found["media_packets_total", "peer", "in"] >= 50)
        os.kill(world.gateway.media.worker_pids[0], signal.SIGKILL)
        await call.ended.wait()
        await metrics(lambda found: bool(world.gateway.media.worker_pids))
        call = await world.phone.call("601")
        await call.answered()
        await call.listen(0.5)
        await call.hangup()
        after = await metrics(lambda found: found["media_sessions_opened_total",] == 2)
        for key in (("media_packets_total", "client", "in"), ("transcode_seconds_total",)):
            assert after[key] > before[key]
        assert after["media_sessions", "transcode"] == 0


async def test_relay_passes_the_codec_both_have_and_says_so(tmp_path: Path) -> None:
    async with office(tmp_path, 'media = "relay"', codecs=("opus", "G722", "PCMA")) as world:
        call = await world.connected()
        assert (await call.listen()).is_tone(1000, within=2)
        assert (await world.pbx.calls[0].listen()).is_tone(440, within=2)
        row = await world.record(lambda row: row["state"] == "answered")
        media = row["media"]
        assert (media["mode"], media["client_codec"], media["peer_codec"]) == ("relay", "G722", "G722")
        assert "relay" in media["why"]
        await call.hangup()


async def test_relay_without_a_common_codec_is_refused_with_both_lists(tmp_path: Path) -> None:
    async with office(tmp_path, 'media = "relay"', codecs=("opus",)) as world:
        call = await world.phone.call("601")
        with pytest.raises(CallFailed) as failed:
            await call.answered()
        assert failed.value.status == 488
        assert failed.value.response is not None
        warning = failed.value.response.get("Warning") or ""
        assert "no common codec: the phone offers only opus; this gateway bridges G722, PCMA, PCMU" in warning
        assert (await world.record())["diagnosis"].startswith("no common codec")


@pytest.mark.parametrize(
    ("phone", "peer", "mode"),
    [
        (("opus",), ("PCMA",), "transcode"),
        (("opus",), ("PCMU",), "transcode"),
        (("G722",), ("PCMA",), "transcode"),
        (("PCMU",), ("G722",), "transcode"),
        (("PCMA",), ("PCMU",), "transcode"),
        (("PCMU",), ("PCMU",), "relay"),
    ],
)
async def test_every_pair_of_codecs_is_heard_both_ways(
    tmp_path: Path, phone: tuple[str, ...], peer: tuple[str, ...], mode: str
) -> None:
    async with office(tmp_path, pbx={"codecs": peer}, codecs=phone) as world:
        call = await world.connected()
        world.pbx.calls[0].play(1000, -10.0)
        call.play(700, -10.0)
        await call.hears(1000)
        await world.pbx.calls[0].hears(700)
        for heard, hertz in ((await call.listen(), 1000), (await world.pbx.calls[0].listen(), 700)):
            assert heard.is_tone(hertz, within=1), heard
            assert heard.dbfs == pytest.approx(-10, abs=0.5)
        row = await world.record(lambda row: row["state"] == "answered")
        assert row["media"]["mode"] == mode
        await call.hangup()


async def test_a_browser_that_hides_its_addresses_and_never_comes_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = ["1 1 udp 2113937151 0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9.local 40000 typ host"]
    monkeypatch.setattr(Peer, "candidates", property(lambda self: hidden))
    monkeypatch.setattr(SoftphoneMedia, "_connect", lambda self, remote: None)
    async with office(tmp_path) as world:
        call = await world.phone.call("601")
        await call.answered()
        await world.record(lambda row: bool(row["media"]) and row["media"].get("ice") == "checking")
        await call.hangup()  # who hears nothing does not wait for long
        row = await world.record(lambda row: bool(row["diagnosis"]))
        assert row["diagnosis"] == "browser's ICE never connected: only mDNS candidates"
        assert await _closed(world.gateway)
        assert world.gateway.media.ports.taken == 0


async def test_a_pbx_that_has_only_g729_is_named_whoever_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = PbxNegotiation._write

    def only_g729(self: PbxNegotiation, *args: Any, **more: Any) -> bytes:
        body = write(self, *args, **more).decode()
        audio = re.sub(r"(?m)^a=rtpmap:(0|8|9) .*\r\n", "", body)
        return re.sub(r"(m=audio \d+ RTP/AVP) .*", r"\1 18", audio).encode()

    monkeypatch.setattr(PbxNegotiation, "_write", only_g729)
    async with office(tmp_path) as world:
        incoming = await world.pbx.call("sip:4711@{}:{}".format(*address(world.gateway, "udp")))
        with pytest.raises(CallFailed) as failed:
            await incoming.answered()
        assert failed.value.status == 488
        assert failed.value.response is not None
        text = "no common codec: the PBX offers only G729; this gateway bridges G722, PCMA, PCMU"
        assert text in (failed.value.response.get("Warning") or "")
        assert (await world.record())["diagnosis"] == text
        call = await world.phone.call("601")
        with pytest.raises(CallFailed) as refused:
            await call.answered()
        assert refused.value.status in (488, 500, 502)
        await world.pbx.calls[-1].ended.wait()
        row = await world.record()
        assert row["diagnosis"] == "no common codec: the PBX answers with G729, but was offered G722, PCMA, PCMU"
        assert await _closed(world.gateway)
        assert world.gateway.media.ports.taken == 0
