"""A codec that the core knows nothing about, given by a plugin (`siperb_codecs`) with a transcoder to one that it
knows: softphones and PBXs are offered it, and calls with it are heard.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from siperb_core.cli import main
from siperb_core.cli.setup import load_all
from siperb_core.doctor import Examination
from siperb_core.gateway import Gateway
from siperb_core.testing import Pbx, PbxSettings, Softphone, open_gateway, open_pbx, open_softphone, websocket_url
from siperb_core.testing.gateway import address, trunk_to

PLUGIN = """
import array, sys
from siperb_core import Codec, g711, hookimpl

class Coder:
    def __init__(self, source): self.source, self.last = source, b""
    def transcode(self, payload):
        if len(payload) != {"L16": 640, "PCMA": 160}[self.source]: raise ValueError("not 20 ms")
        samples = array.array("h", payload if self.source == "L16" else g711.decode("PCMA", payload))
        if self.source == "L16":
            if sys.byteorder == "little": samples.byteswap()
            halves = array.array("h", ((a + b) // 2 for a, b in zip(samples[::2], samples[1::2])))
            self.last = g711.encode("PCMA", halves.tobytes())
        else:
            doubled = array.array("h", (sample for sample in samples for _ in range(2)))
            if sys.byteorder == "little": doubled.byteswap()
            self.last = doubled.tobytes()
        return self.last
    def conceal(self): return self.last
    def close(self): pass

class Wide:
    name = "wide"
    def pairs(self): return frozenset({("L16", "PCMA"), ("PCMA", "L16")})
    def create(self, source, target, *, ptime=20): return Coder(source.name)

class Turned:
    name = "turned"
    def pairs(self): return frozenset({("x-turned", "PCMA"), ("PCMA", "x-turned")})
    def create(self, source, target, *, ptime=20): return self
    def transcode(self, payload): return bytes(255 - octet for octet in payload)
    def close(self): pass

@hookimpl
def siperb_codecs(): return [Codec("L16", 16000), Codec("x-turned", 8000)]
@hookimpl
def siperb_transcoders(): return [Wide(), Turned()]
"""


@pytest.fixture
def plugin(install_plugin: Callable[..., None]) -> None:
    install_plugin("wide", PLUGIN)


@asynccontextmanager
async def world(
    folder: Path, phone_has: str, pbx_has: str, connection: str
) -> AsyncIterator[tuple[Gateway, Softphone, Pbx]]:
    with trio.fail_after(60):
        async with (
            open_pbx(PbxSettings(codecs=(pbx_has,))) as pbx,
            open_gateway(folder, trunk_to(pbx.local[1], f"codecs = {connection}")) as gateway,
            open_softphone(
                websocket_url(gateway), "alice-web", "gw.example", "alice-secret", codecs=(phone_has,)
            ) as phone,
        ):
            assert main(["check", "--config", str(folder / "siperb.toml")]) == 0, (
                "the command line knows the codec, too"
            )
            yield gateway, phone, pbx


CASES = [("L16", "PCMA", "transcode"), ("PCMA", "L16", "transcode"), ("L16", "L16", "relay")]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("phone_has", "pbx_has", "mode"), CASES)
async def test_a_softphone_calls(tmp_path: Path, phone_has: str, pbx_has: str, mode: str) -> None:
    async with world(tmp_path, phone_has, pbx_has, f'["{pbx_has}"]') as (gateway, phone, _):
        call = await phone.call("600")
        await call.answered()
        (row,) = await gateway.operations.call("show.calls")
        assert (row["media"]["client_codec"], row["media"]["peer_codec"]) == (phone_has, pbx_has)
        assert row["media"]["mode"] == mode
        call.play(700)
        await call.hears(700)  # the PBX's echo: there and back again
        heard = await call.listen()
        assert heard.is_tone(700, within=5, above_rest=15), heard
        await call.hangup()


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("phone_has", "pbx_has", "mode"), CASES)
async def test_a_pbx_calls(tmp_path: Path, phone_has: str, pbx_has: str, mode: str) -> None:
    async with world(tmp_path, phone_has, pbx_has, f'["{pbx_has}"]') as (gateway, phone, pbx):
        call = await pbx.call(f"sip:alice@{':'.join(map(str, address(gateway, 'udp')))}")
        here = await phone.next_call()
        assert b"L16/16000" in here.invite.body, "softphones are offered it"
        await here.accept()
        await call.answered()
        (row,) = await gateway.operations.call("show.calls")
        assert (row["media"]["client_codec"], row["media"]["peer_codec"]) == (phone_has, pbx_has)
        assert row["media"]["mode"] == mode
        here.play(700)
        await call.hears(700)
        call.play(440)
        await here.hears(440)
        await here.hangup()


async def test_without_the_plugin_nobody_is_offered_it(tmp_path: Path) -> None:
    async with world(tmp_path, "PCMA", "PCMA", '["PCMA"]') as (_, phone, pbx):
        with trio.fail_after(20):
            call = await phone.call("600")
            await call.answered()
            assert b"L16" not in pbx.calls[0].invite.body
            await call.hangup()


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("codec", ["L16", "x-turned"])
async def test_the_doctors_test_call_speaks_it(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "siperb.toml"
    async with open_pbx(PbxSettings(codecs=(codec,))) as pbx:
        path.write_text('[gateway]\ndomain = "gw.example"\n' + trunk_to(pbx.local[1], f'codecs = ["G722", "{codec}"]'))
        result, plugins = load_all(path)
        assert result.config is not None
        with trio.fail_after(60):
            found = await Examination(result, result.config, path, plugins, None).examine("office", "600")
    said = {finding.check: (finding.verdict, finding.text) for finding in found if finding.connection == "office"}
    assert said["call"][0] == "ok", said
    assert f"with {codec} by RTP" in said["call"][1]
    assert said["rtp out"] == ("ok", "the tone we sent came back: audio goes both ways")


@pytest.mark.usefixtures("plugin")
def test_commands_that_write_the_file_take_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "siperb.toml"
    path.write_text('[gateway]\ndomain = "gw.example"\n')
    config = ["--config", str(path)]
    add = [
        "connection",
        "add",
        "office",
        "--type",
        "outbound_trunk",
        "--server",
        "192.0.2.1",
        "--allow-from",
        "192.0.2.1",
    ]
    assert main([*add, "--codecs", "x-turned,PCMA", *config]) == 0
    assert main(["connection", "edit", "office", "--codecs", "L16,PCMA", *config]) == 0
    assert main([*add[:2], "other", *add[3:], "--codecs", "ilbc", *config]) == 2
    assert "use G722, PCMA, PCMU, opus, L16, x-turned" in capsys.readouterr().err
    foreign = tmp_path / "pjsip.conf"
    foreign.write_text(
        "[carrier]\ntype=endpoint\naors=carrier\nallow=!all,slin16,X-Turned,alaw,gsm\n\n"
        "[carrier]\ntype=aor\ncontact=sip:192.0.2.7:5060\n\n[carrier]\ntype=identify\nendpoint=carrier\nmatch=192.0.2.7\n"
    )
    assert main(["import", str(foreign), "--write", *config]) == 0
    assert (
        'codec "gsm" is not carried over: the gateway has G722, L16, opus, PCMA, PCMU, x-turned'
        in capsys.readouterr().err
    )
    assert main(["check", *config]) == 0
    text = path.read_text()
    assert 'codecs = ["L16", "PCMA"]' in text
    assert 'codecs = ["L16", "x-turned", "PCMA"]' in text
