"""Codes dialled in a whole gateway, with a PBX beside it: what is heard, who is rung, and what a restart leaves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_connection_feature_code import voice
from siperb_core.cli import main
from siperb_core.testing import Pbx, PbxCall, PhoneCall, Softphone, open_gateway, open_softphone, websocket_url

CONNECTIONS = """
[[device]]
name = "desk-web"
user = "alice"
password = "desk-secret"

[[device]]
name = "carol-web"
user = "carol"
password = "carol-secret"

[[connection]]
name = "codes"
type = "feature_code"
weight = -10
users = ["alice", "bob"]
dial_pattern = '^\\*'

[[connection]]
name = "office"
type = "outbound_trunk"
allow_from = ["127.0.0.1"]
users = ["alice", "bob"]
did = {{ "^201$" = ["alice"] }}
dial_pattern = '^(6\\d\\d|\\*97|\\*79)$'
[connection.settings]
server = "127.0.0.1"
port = {port}
transport = "udp"
qualify = 0
"""
PLUGINS = ["connection_feature_code", "connection_trunk", "transcoder_opus_g722"]
LEVEL = -6.0  # dBFS, as the kit's softphones play


@pytest.fixture(autouse=True)
def a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tones wait for ICE and DTLS as long as those take here."""
    monkeypatch.setattr(voice, "PATIENCE_SECONDS", 80.0)


class World:
    """A gateway, its PBX, and whoever is registered."""

    def __init__(self, gateway: Any, pbx: Pbx, phone: Callable[[str], Awaitable[Softphone]]) -> None:
        self.gateway = gateway
        self.pbx = pbx
        self.phone = phone

    async def rung(self, number: str) -> PbxCall:
        """A call of the PBX's to a number of the gateway."""
        host, port = self.gateway.listeners["udp"][0].local
        return await self.pbx.call(f"sip:{number}@{host}:{port}")

    async def diagnostics(self) -> dict[str, Any]:
        """What `siperb diagnostics codes` prints."""
        found: dict[str, Any] = await self.gateway.operations.call("diagnostics", {"name": "codes"})
        return found

    async def command(self, capsys: pytest.CaptureFixture[str], *words: str) -> str:
        """What a command prints that is asked beside the gateway."""
        capsys.readouterr()
        line = [*words, "--config", str(self.gateway.config_path)]
        assert await trio.to_thread.run_sync(main, line) == 0
        return capsys.readouterr().out


async def voicemail(call: PbxCall) -> None:
    """A code of the PBX's own."""
    await call.accept()


@pytest.fixture
async def office(pbx: Callable[..., Awaitable[Pbx]]) -> Pbx:
    plain = await pbx()
    return await pbx(numbers={**plain.settings.numbers, "*97": voicemail, "*79": voicemail})


@pytest.fixture
async def world(
    gateway: Callable[..., Awaitable[Any]], softphone: Callable[..., Awaitable[Softphone]], office: Pbx
) -> AsyncIterator[World]:
    with trio.fail_after(90):
        running = await gateway(CONNECTIONS.format(port=office.local[1]), plugins=PLUGINS)

        async def phone(name: str) -> Softphone:
            return await softphone(running, name)

        yield World(running, office, phone)


@asynccontextmanager
async def running(directory: Path, pbx: Pbx) -> AsyncIterator[World]:
    """A gateway that can be started again where it stopped."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(open_gateway(directory, CONNECTIONS.format(port=pbx.local[1])))

        async def phone(name: str) -> Softphone:
            opened = open_softphone(websocket_url(gateway), f"{name}-web", gateway.domain, f"{name}-secret")
            return await stack.enter_async_context(opened)

        yield World(gateway, pbx, phone)


async def refused(call: PhoneCall | PbxCall) -> tuple[int, str]:
    """How a call was refused."""
    await call.ended.wait()
    assert not call.was_answered
    return call.status, call.reason


async def turned(phone: Softphone, code: str) -> str:
    """Dial a switch, listen to the end, and say how it stands by the last tone that was heard."""
    call = await phone.call(code)
    await call.ended.wait()
    assert call.was_answered
    assert call.ended_by == "them"
    heard = call.heard
    for hz, how in ((900, "on"), (600, "off")):
        if heard.is_tone(hz):
            assert abs(heard.dbfs + 12) < 3, heard
            return how
    raise AssertionError(f"no tone: {heard}")


# ---- echo


@pytest.mark.parametrize("codecs", [("opus",), ("PCMU",)])
async def test_the_echo_is_what_was_said_and_as_loud(
    world: World, softphone: Callable[..., Awaitable[Softphone]], codecs: tuple[str, ...]
) -> None:
    alice = await softphone(world.gateway, "alice", codecs=codecs)
    call = await alice.call("*43")
    await call.answered()
    for hz in (1300, 700):
        call.play(hz, LEVEL)
        await call.hears(hz)
        heard = await call.listen(0.4)
        assert heard.is_tone(hz), heard
        assert abs(heard.dbfs - LEVEL) < 2, heard
    await call.hangup()
    await world.gateway.calls.wait_idle()
    (row,) = world.gateway.calls.as_json()
    assert (row["connection"], row["state"], row["diagnosis"]) == ("codes", "ended", "")
    assert not world.pbx.calls


@pytest.mark.parametrize("way", ["event", "info"])
async def test_digits_come_back_as_digits_and_one_ends_the_echo(world: World, way: str) -> None:
    alice = await world.phone("alice")
    call = await alice.call("*43")
    await call.answered()
    call.play(700, LEVEL)
    await call.hears(700)
    for count, key in enumerate("4*4", 1):
        await (call.send_digits(key) if way == "event" else call.send_info(key))
        assert await call.media.ear.heard_digits(count) == "4*4"[:count]
    call.play(1300, LEVEL)
    await call.hears(1300)  # what is said is an echo as before
    await (call.send_digits("#") if way == "event" else call.send_info("#"))
    await call.ended.wait()
    assert call.ended_by == "them"
    assert [digit.digit for digit in call.digits] == list("4*4")
    await world.gateway.calls.wait_idle()
    (row,) = world.gateway.calls.as_json()
    assert (row["state"], row["diagnosis"]) == ("ended", "")


# ---- codes


def test_siperb_route_knows_the_codes_without_a_gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "siperb.toml"
    file.write_text('[gateway]\ndomain = "gw.example"\n' + CONNECTIONS.format(port=5060))
    for number, taken, why in (
        ("*43", "codes", "its code for echo"),
        ("*97", "office", "and no connection before it does"),
        ("*44", None, "*44 is none of its codes"),
    ):
        assert main(["route", number, "--json", "--config", str(file)]) == (0 if taken else 1)
        found = json.loads(capsys.readouterr().out)
        assert found["taken"] == taken
        whys = [row["why"] for row in found["candidates"] if row["connection"] == (taken or "codes")]
        assert whys[0].endswith(why)


async def test_what_is_no_code_goes_to_the_next_connection(world: World) -> None:
    alice = await world.phone("alice")
    call = await alice.call("*97")
    await call.answered()
    assert [there.number for there in world.pbx.calls] == ["*97"]
    await call.hangup()
    assert await refused(await alice.call("*44")) == (404, "No Connection Takes This Number")
    assert len(world.pbx.calls) == 1


async def test_who_is_no_user_of_the_connection_has_no_codes(world: World) -> None:
    carol = await world.phone("carol")
    for code in ("*43", "*78"):
        assert (await refused(await carol.call(code)))[0] == 404
    assert (await world.diagnostics())["plugins"]["connection_feature_code"]["do_not_disturb"] == {}


async def test_the_pbx_dials_no_code(world: World) -> None:
    alice, bob = await world.phone("alice"), await world.phone("bob")
    assert await turned(alice, "*78") == "on"
    incoming = await world.rung("*79")
    there = await bob.next_call()  # a number like any other: who is not to be disturbed is not rung for it
    there.reject(603)
    assert (await refused(incoming))[0] == 603
    incoming = await world.rung("*43")
    (await bob.next_call()).reject(603)
    assert (await refused(incoming))[0] == 603
    assert (await refused(await world.rung("201")))[0] == 486
    assert [call.direction for call in alice.calls] == ["outgoing"]


# ---- do-not-disturb


async def test_who_is_not_to_be_disturbed_is_busy_and_others_ring(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    alice, desk, bob = [await world.phone(name) for name in ("alice", "desk", "bob")]
    assert await turned(alice, "*78") == "on"
    assert await refused(await world.rung("201")) == (486, "Busy Here")
    assert [row["direction"] for row in world.gateway.calls.as_json()] == ["outbound"], "it rang nowhere: no call"
    incoming = await world.rung("200")
    back = await bob.next_call()
    await back.accept()
    await incoming.answered()
    await back.hangup()
    await incoming.ended.wait()
    for phone in (alice, desk):
        assert [call.direction for call in phone.calls if call.direction == "incoming"] == []
    found = await world.diagnostics()
    since = found["plugins"]["connection_feature_code"]["do_not_disturb"]
    assert list(since) == ["alice"]
    assert json.loads(await world.command(capsys, "show", "do-not-disturb", "--json")) == [
        {"user": "alice", "since": since["alice"], "connection": "codes"}
    ]
    assert "alice" in await world.command(capsys, "show", "do-not-disturb")

    out = await alice.call("601")  # her own calls go on as ever
    await out.answered()
    await out.hangup()

    assert await turned(desk, "*79") == "off", "it is the user's, whichever device turns it"
    incoming = await world.rung("201")
    for phone in (alice, desk):
        while not any(call.direction == "incoming" for call in phone.calls):
            await phone.next_call()
    back = next(call for call in desk.calls if call.direction == "incoming")
    await back.accept()
    await incoming.answered()
    await incoming.hangup()
    await back.ended.wait()
    assert (await world.diagnostics())["plugins"]["connection_feature_code"]["do_not_disturb"] == {}
    assert await world.command(capsys, "show", "do-not-disturb") == "Nobody has do-not-disturb on.\n"


async def test_the_toggle_turns_it_over(world: World) -> None:
    alice = await world.phone("alice")
    for how, status in (("on", 486), ("off", 603)):
        assert await turned(alice, "*76") == how
        incoming = await world.rung("201")
        if how == "off":
            (await alice.next_call()).reject(603)
        assert (await refused(incoming))[0] == status


async def test_a_caller_who_hangs_up_at_once_has_turned_it_all_the_same(world: World) -> None:
    alice = await world.phone("alice")
    call = await alice.call("*78")
    await call.answered()
    await call.hangup()
    await world.gateway.calls.wait_idle()
    assert (await refused(await world.rung("201")))[0] == 486


async def test_do_not_disturb_survives_a_restart(tmp_path: Path, office: Pbx) -> None:
    with trio.fail_after(90):
        async with running(tmp_path, office) as world:
            assert await turned(await world.phone("alice"), "*78") == "on"
        async with running(tmp_path, office) as world:
            alice = await world.phone("alice")
            assert (await refused(await world.rung("201")))[0] == 486
            assert not alice.calls
            assert await turned(alice, "*76") == "off"
        async with running(tmp_path, office) as world:
            alice = await world.phone("alice")
            incoming = await world.rung("201")
            (await alice.next_call()).reject(603)
            assert (await refused(incoming))[0] == 603


# ---- redial


async def redialled(world: World, phone: Softphone) -> str:
    """Dial *66, and say which number reached the PBX."""
    before = len(world.pbx.calls)
    call = await phone.call("*66")
    await call.answered()
    (there,) = list(world.pbx.calls)[before:]
    await call.hangup()
    await there.ended.wait()
    return there.number


async def test_the_last_number_reaches_the_pbx_again_after_a_restart_too(tmp_path: Path, office: Pbx) -> None:
    with trio.fail_after(90):
        async with running(tmp_path, office) as world:
            alice, bob = await world.phone("alice"), await world.phone("bob")
            assert await refused(await alice.call("*66")) == (404, "Nothing To Redial")
            for number in ("600", "601"):
                call = await alice.call(number)
                await call.answered()
                await call.hangup()
            assert await turned(alice, "*79") == "off"
            for _ in range(2):
                assert await redialled(world, alice) == "601"
            assert await refused(await bob.call("*66")) == (404, "Nothing To Redial")
        async with running(tmp_path, office) as world:
            alice, bob = await world.phone("alice"), await world.phone("bob")
            assert await redialled(world, alice) == "601"
            assert await refused(await bob.call("*66")) == (404, "Nothing To Redial")


async def test_a_number_that_was_busy_is_dialled_again(world: World) -> None:
    alice = await world.phone("alice")
    assert (await refused(await alice.call("603")))[0] == 486
    assert (await refused(await alice.call("*66")))[0] == 486
    assert [call.number for call in world.pbx.calls] == ["603", "603"]
