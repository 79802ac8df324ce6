"""Codes, users and hooks, without a gateway."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from siperb_connection_feature_code import FeatureCode, FeatureCodePlugin
from siperb_connection_feature_code.voice import LINGER_SECONDS, PATIENCE_SECONDS, Echo, Switch, confirmation
from siperb_core import (
    AnswerWith,
    CallAttempt,
    CallEvent,
    ConnectionConfigError,
    Device,
    DialNumber,
    Digit,
    Entry,
    OutboundCall,
    Refusal,
    Route,
    Secret,
)
from siperb_core.routing import Rewriting, explain
from siperb_core.sip import Message
from siperb_core.testing import FakeEntry, settings_of, tones

REQUEST = Message.request("INVITE", "sip:x@gw.example", [])
UNKNOWN, NOTHING = Refusal(404, "No Such Code"), Refusal(404, "Nothing To Redial")
ALICE, DESK, BOB = (
    Device(name, user, Secret("secret"))
    for name, user in (("alice-web", "alice"), ("alice-desk", "alice"), ("bob-web", "bob"))
)


class Line:
    """What an endpoint hears and says, without a network. Packets come every 20 ms, digits every 200 ms, once anybody
    listens.
    """

    def __init__(self, *packets: bytes, keys: str = "") -> None:
        self.packets = list(packets)
        self.keys = list(keys)
        self.said: list[tuple[float, bytes]] = []
        self.pressed: list[Digit] = []

    async def receive(self) -> bytes:
        if not self.packets:
            await trio.sleep_forever()
        await trio.sleep(0.02)
        return self.packets.pop(0)

    async def send(self, samples: bytes) -> None:
        self.said.append((trio.current_time(), samples))
        await trio.sleep(len(samples) / 16000)

    async def receive_digit(self) -> Digit:
        if not self.keys:
            await trio.sleep_forever()
        await trio.sleep(0.2)
        return Digit(self.keys.pop(0), 120)

    async def send_digit(self, digit: Digit) -> None:
        self.pressed.append(digit)
        await trio.sleep(digit.milliseconds / 1000)


class House:
    """A plugin with entries that are loaded."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.plugin = FeatureCodePlugin()
        (kind,) = self.plugin.siperb_connection_types()
        assert isinstance(kind, FeatureCode)
        self.kind = kind

    async def load(self, ctx: FakeEntry, **settings: Any) -> Any:
        return await ctx.load(self.nursery, self.kind, settings_of(self.kind, settings))

    def ring(self, *devices: Device, method: str = "INVITE") -> Sequence[Device] | Refusal | None:
        call = CallAttempt("c", "inbound", method, "100", "sip:x@y", REQUEST, "office", users=("*",))
        return self.plugin.siperb_ring(call, devices)

    def dialled(self, number: str, user: str = "alice", **other: Any) -> None:
        event = CallEvent("started", 0.0, "c", "outbound", "office", user, "d", "sip:x@y", "sip:x@y", number=number)
        self.plugin.siperb_call_event(attrs.evolve(event, **other))


@pytest.fixture
def house(nursery: trio.Nursery) -> House:
    return House(nursery)


def codes(**fields: Any) -> FakeEntry:
    return FakeEntry(Entry("codes", "feature_code", **fields))


def call(number: str, user: str = "alice", method: str = "INVITE") -> OutboundCall:
    return OutboundCall(number, method, user, f"{user}-web", REQUEST)


async def turn(live: Any, number: str, user: str = "alice") -> bytes:
    """Dial a switch and listen to what it says."""
    way = live.outbound_leg(call(number, user))
    assert isinstance(way, AnswerWith)
    line = Line(bytes(320))
    await way.endpoint.run(line)
    ((_, said),) = line.said
    return said


# ---- codes


async def test_usual_codes_and_their_actions(house: House) -> None:
    live = await house.load(codes())
    assert live.outbound_leg(call("*43")) == AnswerWith(Echo(300))
    assert live.outbound_leg(call("*66")) == NOTHING
    for number in ("*76", "*78", "*79"):
        assert isinstance(live.outbound_leg(call(number)).endpoint, Switch)
    for unknown in (call("*44"), call(""), call("600"), call("*430"), call("*43", method="MESSAGE")):
        assert live.outbound_leg(unknown) == UNKNOWN
    assert live.claims(REQUEST, None) is None


async def test_asking_turns_nothing(house: House) -> None:
    live = await house.load(ctx := codes())
    for number in ("*76", "*78"):
        live.outbound_leg(call(number))
    assert ctx.kept == {}
    assert house.ring(ALICE) is None


@pytest.mark.parametrize(
    ("fields", "wrong"), [({"srtp": "sdes"}, "leave it out"), ({"codecs": ("G722",)}, "neither PCMA nor PCMU")]
)
async def test_media_that_cannot_be_are_told(fields: dict[str, Any], wrong: str) -> None:
    kind, ctx = FeatureCode(), codes(**fields)
    config = settings_of(kind, {})
    with pytest.raises(ConnectionConfigError, match=wrong):
        await kind.probe(ctx, config)
    with pytest.raises(ConnectionConfigError, match=wrong):
        await kind.serve(ctx, config, task_status=trio.TASK_STATUS_IGNORED)
    assert not kind.live


@pytest.mark.parametrize(
    ("fields", "issue"),
    [
        ({"dial_pattern": r"^\*"}, ""),
        ({"dial_pattern": r"^\*(43|66|76|78)$"}, "*79: the dial pattern"),
        ({"dial_pattern": "^0", "strip": 1}, ""),  # what is dialled is another number
    ],
)
async def test_codes_the_pattern_does_not_take_are_an_issue(house: House, fields: dict[str, Any], issue: str) -> None:
    await house.load(ctx := codes(**fields))
    assert [text[: len(issue)] for text, _ in ctx.issues.values()] == ([issue] if issue else [])


# ---- what is heard


async def test_an_echo_is_what_was_heard_and_ends(autojump_clock: trio.testing.MockClock) -> None:
    packets = [bytes([number]) * 320 for number in range(100)]
    line = Line(*packets)
    began = trio.current_time()
    await Echo(1.0).run(line)
    assert trio.current_time() - began == pytest.approx(1.0)
    said = [samples for _, samples in line.said]
    assert said == packets[: len(said)]
    assert 20 <= len(said) <= 50


async def test_digits_come_back_and_one_ends_the_echo(autojump_clock: trio.testing.MockClock) -> None:
    line = Line(*[bytes(320)] * 100, keys="1*#2")
    began = trio.current_time()
    await Echo(60.0).run(line)
    assert line.pressed == [Digit("1", 120), Digit("*", 120)]
    assert line.keys == ["2"]
    assert trio.current_time() - began == pytest.approx(3 * 0.2 + 2 * 0.12)


@pytest.mark.parametrize("on", [True, False])
async def test_two_tones_say_how_a_switch_stands(autojump_clock: trio.testing.MockClock, on: bool) -> None:
    said = confirmation(on)
    heard = [tones.analyse(said[:6400], 8000), tones.analyse(said[-6400:], 8000)]
    assert [item.is_tone(hz) for item, hz in zip(heard, (600, 900) if on else (900, 600), strict=True)] == [True] * 2
    assert all(abs(item.dbfs + 12) < 1 for item in heard)
    began = trio.current_time()
    line = Line()  # a caller who is muted, and sends nothing
    await Switch(lambda: on).run(line)
    assert line.said == [(pytest.approx(began + PATIENCE_SECONDS), said)]
    seconds = PATIENCE_SECONDS + len(said) / 16000 + LINGER_SECONDS
    assert trio.current_time() - began == pytest.approx(seconds), "the caller's jitter buffer is heard out"


# ---- do-not-disturb


async def test_who_is_not_to_be_disturbed_is_not_rung(house: House, autojump_clock: trio.testing.MockClock) -> None:
    live = await house.load(codes())
    assert house.ring(ALICE, DESK, BOB) is None
    assert await turn(live, "*78") == confirmation(True)
    assert house.ring(ALICE, DESK, BOB) == [BOB]
    assert house.ring(ALICE, DESK) == Refusal(486, "Busy Here")
    assert house.ring(BOB) is None
    assert house.ring() is None, "nobody there is not busy"
    assert house.ring(ALICE, method="MESSAGE") is None
    assert await turn(live, "*78") == confirmation(True)
    assert await turn(live, "*79") == confirmation(False)
    assert house.ring(ALICE) is None
    assert [await turn(live, "*76") for _ in range(3)] == [confirmation(on) for on in (True, False, True)]
    assert house.ring(ALICE) == Refusal(486, "Busy Here")


async def test_it_is_one_switch_whichever_entry_turns_it(house: House, autojump_clock: trio.testing.MockClock) -> None:
    one = await house.load(first := codes())
    other = await house.load(second := FakeEntry(Entry("more", "feature_code")))
    await turn(one, "*78")
    assert (list(first.kept), list(second.kept)) == (["dnd:alice"], [])
    assert await turn(other, "*76") == confirmation(False)
    assert first.kept == second.kept == {}
    await turn(other, "*78")
    await turn(one, "*78")
    await turn(one, "*79")
    assert first.kept == second.kept == {}
    assert house.ring(ALICE) is None


async def test_an_entry_that_is_gone_silences_nobody_until_it_is_back(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    house, ctx = House(nursery), codes()
    async with trio.open_nursery() as inner:
        house.nursery = inner
        live = await house.load(ctx)
        await turn(live, "*78")
        inner.cancel_scope.cancel()
    assert house.ring(ALICE) is None
    assert house.plugin.siperb_diagnostics("codes") is None
    house.nursery = nursery
    await house.load(again := ctx.restarted())
    assert house.ring(ALICE) == Refusal(486, "Busy Here")
    again.entry = attrs.evolve(again.entry, users=("bob",))  # alice could not switch it off any more
    assert house.ring(ALICE) is None


# ---- redial


async def test_the_number_dialled_last_is_redialled(house: House) -> None:
    live = await house.load(ctx := codes(users=("alice", "bob")))
    for number in ("600", "+4930#1", "*43", "*66"):
        house.dialled(number)
    house.dialled("601", "bob")
    house.dialled("602", "carol")
    for other in ({"direction": "inbound"}, {"what": "ended"}, {"user": ""}):
        house.dialled("603", **other)
    house.dialled("6\r\n3")
    house.dialled("6" * 300)
    house.dialled("")
    assert live.outbound_leg(call("*66")) == DialNumber("+4930#1")
    assert live.outbound_leg(call("*66", "bob")) == DialNumber("601")
    assert live.outbound_leg(call("*66", "carol")) == NOTHING
    assert ctx.kept == {"dialled:alice": "+4930#1", "dialled:bob": "601"}


# ---- hooks


def test_siperb_routes() -> None:
    """Out of the settings alone: the same for calls and, where no gateway runs, for `siperb route`."""
    settings = settings_of(FeatureCode(), {})
    mine, pbx = Route("codes", -1, settings=settings), Route("office")
    marked = partial(FeatureCodePlugin().siperb_routes, [mine, pbx])
    assert [route.note for route in marked("*43", "INVITE")] == ["its code for echo", ""]
    found = explain(marked("*97", "INVITE"), "*97", "alice", "INVITE")
    assert (found.taken, found.order) == ("office", ("office",))
    assert [candidate.why for candidate in found.candidates][:1] == ["*97 is none of its codes"]
    assert explain(marked("*43", "MESSAGE"), "*43", "alice", "MESSAGE").taken == "office"
    cut = attrs.evolve(mine, rewriting=Rewriting(strip=1))
    (route,) = FeatureCodePlugin().siperb_routes([cut], "0*43", "INVITE")
    assert route.note == "its code for echo"
    wrong = attrs.evolve(mine, unusable="it has a mistake")
    assert list(FeatureCodePlugin().siperb_routes([wrong], "*97", "INVITE")) == [wrong]


async def test_diagnostics_say_who_is_not_to_be_disturbed(house: House, autojump_clock: trio.testing.MockClock) -> None:
    live = await house.load(ctx := codes(), codes={"1": "dnd_on"})
    await turn(live, "1")
    found = house.plugin.siperb_diagnostics("codes")
    assert found is not None
    assert found["codes"] == {"1": "dnd_on"}
    assert found["do_not_disturb"] == {"alice": pytest.approx(ctx.now(), abs=10)}
    assert house.plugin.siperb_diagnostics("office") is None
