"""Who may speak in a dialog without being asked for a password: ACKs, instances of a device, calls lost in a crash."""

from __future__ import annotations

import json

import attrs
import trio
import trio.testing

from siperb_core.calls.directory import LOST_SECONDS
from siperb_core.sip.dialog import Leg

from .fake_media import SDP, FakeMedia
from .world import EndPoint, FakeFlow, World, established


async def test_an_ack_counts_only_where_its_invite_came_from(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia
) -> None:
    """With the right token, tags and number it carries an answer: a stranger's is not to be the one that counts."""
    world.connect("office", pbx.flow)
    phone.invite("600")
    pbx.respond(pbx.flow.next(), 200, SDP, body=b"offer")
    phone.learn(phone.flow.next_of(200))
    home = phone.flow
    for flow in (
        FakeFlow("udp", ("198.51.100.66", 5060)),
        FakeFlow("ws", ("198.51.100.66", 40000)),
        FakeFlow("tcp", ("192.0.2.98", 5060)),
    ):
        phone.flow = flow
        phone.request("ACK", SDP, cseq=phone.cseq, body=b"forged")
        assert not pbx.flow.sent
        assert not flow.sent, "an ACK is never answered"
    (call,) = world.calls.active()
    assert not call.record.acknowledged
    phone.flow = home
    phone.request("ACK", SDP, cseq=phone.cseq, body=b"answer")
    assert pbx.flow.next_of("ACK").body == b"peer:answer"
    assert call.record.acknowledged
    assert [body for what, _, body in media.log if what == "answer"] == [b"answer"]


async def test_an_ack_is_the_asker_s(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    """Who has been asked owes none; nor does an INVITE that never was."""
    world.connect("office", pbx.flow)
    phone.invite("600")
    pbx.respond(pbx.flow.next_of("INVITE"), 200)
    phone.learn(phone.flow.next_of(200))
    pbx.request("ACK", cseq=1)
    assert not phone.flow.sent
    phone.request("ACK", cseq=phone.cseq + 7)
    assert not pbx.flow.sent
    (call,) = world.calls.active()
    assert not call.record.acknowledged
    phone.request("ACK", cseq=phone.cseq)
    assert pbx.flow.next_of("ACK")
    # A re-INVITE's is its own, in either direction, also where the ACK of the one before comes late.
    pbx.request("INVITE")
    first = phone.flow.next_of("INVITE")
    phone.respond(first, 200)
    pbx.flow.next_of(200)
    early = pbx.cseq
    pbx.request("INVITE")
    second = phone.flow.next_of("INVITE")
    pbx.request("ACK", cseq=early)
    assert phone.flow.next_of("ACK").cseq.number == first.cseq.number
    phone.respond(second, 200)
    pbx.request("ACK", cseq=pbx.cseq)
    assert phone.flow.next_of("ACK").cseq.number == second.cseq.number


async def test_an_ack_over_the_connection_that_came_after(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    """The WebSocket broke between 200 and ACK: the device is back on another one, and is reached there from then on."""
    world.connect("office", pbx.flow)
    phone.invite("600")
    pbx.respond(pbx.flow.next_of("INVITE"), 200)
    phone.learn(phone.flow.next_of(200))
    again = FakeFlow("ws", (phone.flow.remote[0], 50099))
    phone.flow = again
    phone.request("ACK", cseq=phone.cseq)
    assert pbx.flow.next_of("ACK")
    pbx.request("INFO")
    assert again.next().method == "INFO"


def crashed(world: World, *flows: FakeFlow) -> World:
    """Another gateway with what the first one had on disk, calls' media included, which it has not."""
    after = Instances()
    after.reachable = {(flow.transport, *flow.remote): flow for flow in flows}
    for token, data in json.loads(json.dumps(world.saved)).items():
        data["bridged"] = True
        after.calls.restore(token, data)
    return after


class Instances(World):
    """A world in which a softphone is reached by its instance."""

    def leg_flow(self, leg: Leg, *more: str) -> FakeFlow | None:
        if not leg.device:
            return super().leg_flow(leg, *more)  # type: ignore[return-value]
        found = (binding.flow for binding in self.bindings if binding.instance == leg.instance)
        return next(found, None)  # type: ignore[arg-type]

    def registers(self, device: str, flow: FakeFlow, instance: str) -> None:
        self.bind(device, flow)
        self.bindings[-1] = attrs.evolve(self.bindings[-1], instance=instance)
        self.calls.on_registered(device)


async def test_after_a_crash_the_bye_is_the_tab_s_that_had_the_call(
    world: World, phone: EndPoint, pbx: EndPoint, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world.bind("alice", phone.flow)
    world.bindings[-1] = attrs.evolve(world.bindings[-1], instance="<urn:uuid:one>")
    established(world, phone, pbx)
    after = crashed(world, pbx.flow)
    assert isinstance(after, Instances)
    nursery.start_soon(after.run)
    assert pbx.flow.next_of("BYE")
    other, same = FakeFlow("ws", ("198.51.100.7", 50001)), FakeFlow("ws", ("198.51.100.7", 50002))
    after.registers("alice", other, "<urn:uuid:two>")
    await trio.sleep(LOST_SECONDS / 2)
    assert not other.sent
    assert len(after.calls.active()) == 1
    after.registers("alice", same, "<urn:uuid:one>")
    assert same.next().method == "BYE"
    await trio.sleep(LOST_SECONDS)
    assert not other.sent
    assert after.calls.kept == 0
    assert after.saved == {}


async def test_a_tab_that_never_comes_back_is_not_waited_for(
    world: World, phone: EndPoint, pbx: EndPoint, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """After the deadline the device is told by whichever instance is there; with none the call is over all the same."""
    world.bind("alice", phone.flow)
    world.bindings[-1] = attrs.evolve(world.bindings[-1], instance="<urn:uuid:one>")
    established(world, phone, pbx)
    pbx.flow.sent.clear()
    other = FakeFlow("ws", ("198.51.100.7", 50001))
    for binds in (True, False):
        after = crashed(world, pbx.flow)
        assert isinstance(after, Instances)
        nursery.start_soon(after.run)
        if binds:
            after.registers("alice", other, "<urn:uuid:two>")
        await trio.sleep(LOST_SECONDS + 10)
        assert [message.method for message in other.sent] == (["BYE"] if binds else [])
        other.sent.clear()
        assert after.calls.kept == 0
        assert after.calls.active() == []
        assert after.calls._lost == {}
