"""What a connection type may do with a call beside sending it to a PBX, in a whole gateway: ring other softphones, dial
another number, answer by itself; and what plugins decide of calls to softphones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_core.faults import MOST_FAULTS
from siperb_core.gateway import Gateway
from siperb_core.testing import PhoneCall, Softphone, open_gateway, open_softphone, websocket_url
from siperb_core.testing.session import CallFailed

PLUGIN = """
import attrs, trio
from siperb_core import AnswerWith, DialNumber, Refusal, RingUsers, hookimpl

@attrs.frozen
class Settings:
    pass

class Echo:
    async def run(self, audio):
        while True:
            await audio.send(await audio.receive())

class Short:
    async def run(self, audio):
        await audio.send(bytes(1600))

class Fails:
    async def run(self, audio):
        raise ZeroDivisionError

class Live:
    credentials = None
    def outbound_leg(self, call):
        return {
            "600": AnswerWith(Echo()), "601": AnswerWith(Short()), "602": AnswerWith(Fails()),
            "9": DialNumber("600"), "8": DialNumber("8"), "7": DialNumber("*"),
        }.get(call.number) or RingUsers((call.number,), caller="boss", display="The Boss")
    def claims(self, request, source): return None
    def answer(self, request, source): return None

class House:
    kind, title, version, config_class, allow_from_required = "house", "House", 1, Settings, False
    def unique_id(self, config): return None
    def migrate(self, data, old): return data
    async def probe(self, ctx, config): pass
    async def serve(self, ctx, config, *, task_status):
        task_status.started(Live())
        await trio.sleep_forever()

class Plugin:
    def __init__(self):
        self.quiet, self.gate, self.events, self.records = set(), None, [], []
    @hookimpl
    def siperb_connection_types(self): return [House()]
    @hookimpl
    def siperb_ring(self, call, devices): return [d for d in devices if d.user not in self.quiet]
    @hookimpl
    def siperb_call_event(self, event): self.events.append(event)
    @hookimpl
    def siperb_call_record(self, record): self.records.append(record)
    name, seconds, admits_when_failing = "gate", 5.0, True
    @hookimpl
    def siperb_call_gates(self): return [self]
    def concerns(self, call): return self.gate is not None
    async def admit(self, call):
        await self.gate.wait()
        return Refusal(403, "Not Now")
"""

HOUSE = '[[connection]]\nname = "house"\ntype = "house"\ndial_pattern = "^[^*]"\n[connection.settings]\n'


class World:
    def __init__(self, gateway: Gateway, alice: Softphone, bob: Softphone) -> None:
        self.gateway, self.alice, self.bob = gateway, alice, bob
        self.plugin: Any = gateway.plugins._pm.get_plugin("house")

    async def idle(self) -> None:
        await self.gateway.calls.wait_idle()


@pytest.fixture
def house(install_plugin: Callable[..., None]) -> None:
    """The plugin, installed."""
    install_plugin("house", PLUGIN, "Plugin")


@pytest.fixture
async def world(tmp_path: Path, house: None) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(_world(tmp_path, HOUSE))


@asynccontextmanager
async def _world(tmp_path: Path, connections: str) -> AsyncIterator[World]:
    with trio.fail_after(60):
        async with (
            open_gateway(tmp_path, connections) as gateway,
            open_softphone(websocket_url(gateway), "alice-web", "gw.example", "alice-secret") as alice,
            open_softphone(websocket_url(gateway), "bob-web", "gw.example", "bob-secret") as bob,
        ):
            yield World(gateway, alice, bob)


async def test_users_ring_and_talk_without_a_pbx(world: World) -> None:
    call = await world.alice.call("bob")
    back = await world.bob.next_call()
    assert "The Boss" in (back.invite.get("From") or "")
    assert "sip:boss@gw.example" in (back.invite.get("From") or "")
    back.ring()
    await back.accept()
    await call.answered()
    call.play(700)
    back.play(1500)
    await back.hears(700)
    await call.hears(1500)
    await call.hangup()
    await back.ended.wait()
    await world.idle()
    said = [(event.what, event.direction, event.connection, event.user, event.device) for event in world.plugin.events]
    assert said == [(what, "outbound", "house", "alice", "alice-web") for what in SAID]
    (ended,) = world.plugin.events[-1:]
    assert (ended.number, ended.status) == ("bob", None)
    assert ended.started <= ended.answered <= ended.when
    assert [record["state"] for record in world.plugin.records] == ["ended"]


async def refused(call: PhoneCall) -> int:
    with pytest.raises(CallFailed):
        await call.answered()
    return call.status


SAID = ("started", "ringing", "answered", "ended")


async def test_who_is_rung_hangs_up_and_the_caller_hears_of_it(world: World) -> None:
    call = await world.alice.call("bob")
    back = await world.bob.next_call()
    await back.accept()
    await call.answered()
    await back.hangup()
    await call.ended.wait()
    await world.idle()


async def test_nobody_to_ring_is_480_and_so_is_do_not_disturb(world: World) -> None:
    for number, quiet in (("carol", ()), ("bob", ("bob",))):
        world.plugin.quiet = set(quiet)
        call = await world.alice.call(number)
        assert await refused(call) == 480
    await world.idle()
    assert [event.status for event in world.plugin.events if event.what == "ended"] == [480, 480]


async def test_the_gateway_answers_by_itself_and_echoes(world: World) -> None:
    call = await world.alice.call("600")
    await call.answered()
    call.play(1300)
    await call.hears(1300)
    assert len(world.gateway.choices._answering.agents) == 1
    await call.hangup()
    await world.idle()
    assert not world.gateway.choices._answering.agents


@pytest.mark.parametrize("number", ["601", "602"])
async def test_an_endpoint_that_returns_or_raises_hangs_up(world: World, number: str) -> None:
    call = await world.alice.call(number)
    await call.answered()
    await call.ended.wait()
    await world.idle()
    assert not world.gateway.choices._answering.agents
    (row,) = [row for row in await world.gateway.operations.call("show.plugins") if row["name"] == "house"]
    assert row["errors"] == (number == "602"), "counted, and shown"


async def test_an_endpoint_that_raises_again_and_again_takes_its_entry_down(world: World) -> None:
    for _ in range(MOST_FAULTS):
        call = await world.alice.call("602")
        await call.answered()
        await call.ended.wait()
        await world.idle()
    (issue,) = await world.gateway.operations.call("show.issues")
    assert (issue["connection"], issue["id"]) == ("house", "faults")
    assert "ZeroDivisionError in its endpoint" in issue["text"]


async def test_another_number_is_dialled_once(world: World) -> None:
    call = await world.alice.call("9")
    await call.answered()
    await call.hangup()
    await world.idle()
    assert world.plugin.events[-1].number == "600"
    for number, status in (("8", 482), ("7", 404)):
        assert await refused(await world.alice.call(number)) == status


async def test_a_gate_holds_a_call_and_refuses_it(world: World) -> None:
    world.plugin.gate = trio.Event()
    call = await world.alice.call("600")
    while not world.plugin.events:
        await trio.lowlevel.checkpoint()
    assert [event.what for event in world.plugin.events] == ["started"]
    world.plugin.gate.set()
    assert (await refused(call), call.reason) == (403, "Not Now")


async def test_a_caller_who_does_not_wait_for_the_gate_is_gone(world: World) -> None:
    world.plugin.gate = trio.Event()
    call = await world.alice.call("600")
    while not call.status:  # 100 Trying: only then a CANCEL may go out
        await trio.lowlevel.checkpoint()
    call.cancel()
    assert await refused(call) == 487
    world.plugin.gate.set()
    await world.idle()
    assert not world.gateway.choices._answering.agents


NOWHERE = """
[[connection]]
name = "nowhere"
type = "outbound_trunk"
weight = -1
failover = true
allow_from = ["192.0.2.1"]
[connection.settings]
server = "nothing.invalid"
qualify = 0
"""


@pytest.mark.usefixtures("house")
async def test_what_cannot_be_read_after_a_look_up_costs_that_call_alone(tmp_path: Path) -> None:
    """DNS was asked, so nobody is left to catch it: the next connection cannot ring anybody with two Refer-To."""
    async with _world(tmp_path, NOWHERE + HOUSE.replace("^[^*]", "^bob")) as world:
        call = await world.alice.call("bob", headers=[("Refer-To", "<sip:a@gw.example>")] * 2)
        assert await refused(call) == 400
        await world.idle()
        call = await world.alice.call("bob")
        await (await world.bob.next_call()).accept()
        await call.answered()
        await call.hangup()
        await world.idle()
