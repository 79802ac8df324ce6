"""Softphones that call each other through a whole gateway, with no PBX anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio

from siperb_core.testing import PhoneCall, Softphone

CONNECTIONS = """
[[device]]
name = "desk-web"
user = "bob"
password = "desk-secret"

[[device]]
name = "carol-web"
user = "carol"
password = "carol-secret"

[[device]]
name = "dave-web"
user = "dave"
password = "dave-secret"

[[connection]]
name = "house"
type = "direct"
users = ["alice", "bob", "carol", "ghost"]
dial_pattern = '^1\\d{3}$|^[a-z]+$'
[connection.settings.numbers]
1000 = ["alice", "bob"]
1001 = "alice"
1002 = "bob"
1004 = "dave"
1009 = "ghost"

[[connection]]
name = "closed"
type = "direct"
weight = -1
dial_pattern = '^2\\d{3}$'
[connection.settings]
names = false
numbers = { 2003 = "carol" }
"""

LEVEL = -6.0  # dBFS, as the kit's softphones play


class World:
    """The gateway and whoever is registered."""

    def __init__(self, gateway: Any, softphone: Callable[..., Awaitable[Softphone]]) -> None:
        self.gateway = gateway
        self._softphone = softphone

    async def phone(self, name: str) -> Softphone:
        """The registered softphone NAME-web."""
        return await self._softphone(self.gateway, name)

    async def rows(self) -> list[dict[str, Any]]:
        """What is left of all calls, once none is active."""
        await self.gateway.calls.wait_idle()
        return [dict(row) for row in self.gateway.calls.as_json()]


@pytest.fixture
async def world(
    gateway: Callable[..., Awaitable[Any]], softphone: Callable[..., Awaitable[Softphone]]
) -> AsyncIterator[World]:
    with trio.fail_after(90):
        yield World(await gateway(CONNECTIONS, plugins=["connection_direct"]), softphone)


async def talk(one: PhoneCall, other: PhoneCall) -> None:
    """Both hear the other: its tone, and as loud as it is played."""
    one.play(700)
    other.play(1500)
    for call, hz in ((one, 1500), (other, 700)):
        await call.hears(hz)
        heard = await call.listen(0.4)
        assert heard.is_tone(hz), heard
        assert abs(heard.dbfs - LEVEL) < 3, heard


async def refused(call: PhoneCall) -> tuple[int, str]:
    """How a call was refused."""
    await call.ended.wait()
    assert not call.was_answered
    return call.status, call.reason


async def answered(caller: Softphone, number: str, callee: Softphone) -> tuple[PhoneCall, PhoneCall]:
    """A call that is answered: both ends of it."""
    async with trio.open_nursery() as nursery:
        ends: list[PhoneCall] = []

        async def take() -> None:
            back = await callee.next_call()
            await back.accept()
            ends.append(back)

        nursery.start_soon(take)
        await trio.lowlevel.checkpoint()
        call = await caller.call(number)
        await call.answered()
    return call, ends[0]


@pytest.mark.parametrize("number", ["1002", "bob"])
@pytest.mark.parametrize("who_ends", ["caller", "callee"])
async def test_two_softphones_talk_and_either_hangs_up(world: World, number: str, who_ends: str) -> None:
    alice, bob = await world.phone("alice"), await world.phone("bob")
    call, back = await answered(alice, number, bob)
    await talk(call, back)
    first, last = (call, back) if who_ends == "caller" else (back, call)
    await first.hangup()
    await last.ended.wait()
    assert last.bye is not None
    (row,) = await world.rows()
    assert (row["connection"], row["user"], row["device"], row["state"]) == ("house", "alice", "alice-web", "ended")


async def test_sdp_passes_byte_for_byte_and_no_media_pass_through_the_gateway(world: World) -> None:
    alice, bob = await world.phone("alice"), await world.phone("bob")
    call, back = await answered(alice, "1002", bob)
    assert call.invite is not None
    assert back.invite is not None
    assert back.invite.body == call.invite.body != b""
    assert back.media.offers == [call.invite.body]
    assert call.media.answers == [call.responses[-1].body]
    fingerprint = bob._certificate.getFingerprints()[0].value  # as no bridge could write it
    assert fingerprint.encode() in call.media.answers[0]
    await call.hangup()
    (row,) = await world.rows()
    assert row["media"]["mode"] == "passthrough"
    assert "between softphones" in row["media"]["why"]


async def test_who_is_called_sees_a_number_that_leads_back(world: World) -> None:
    alice, bob = await world.phone("alice"), await world.phone("bob")
    call, back = await answered(alice, "1002", bob)
    assert back.invite is not None
    seen = back.invite.from_.uri
    assert seen == "sip:1001@gw.example"
    await call.hangup()
    await back.ended.wait()
    again, there = await answered(bob, seen, alice)
    assert there.invite is not None
    assert there.invite.from_.uri == "sip:1002@gw.example"
    await again.hangup()
    await there.ended.wait()


async def test_all_devices_ring_the_first_to_answer_has_the_call(world: World) -> None:
    alice, bob = await world.phone("alice"), await world.phone("bob")
    desk = await world.phone("desk")
    cancels: list[Any] = []
    _overhear(bob, cancels)
    call = await alice.call("1002")
    back, other = await ringing(desk), await ringing(bob)
    await back.accept()
    await call.answered()
    await other.ended.wait()
    assert (other.status, other.ended_by) == (487, "them")
    assert [cancel.get("Reason") for cancel in cancels] == ['SIP ;cause=200 ;text="Call completed elsewhere"']
    await talk(call, back)
    await back.hangup()
    await call.ended.wait()


def _overhear(phone: Softphone, cancels: list[Any]) -> None:
    """Keep the CANCELs that reach a softphone."""
    from siperb_core.sip import parse

    received = phone.agent.received

    def overheard(data: bytes, flow: Any) -> None:
        if data.startswith(b"CANCEL "):
            cancels.append(parse(data))
        received(data, flow)

    phone.agent.received = overheard  # type: ignore[method-assign]


async def ringing(phone: Softphone) -> PhoneCall:
    """The call that rings there, which may have come already."""
    return phone.calls[-1] if phone.calls else await phone.next_call()


async def test_hold_and_resume(world: World) -> None:
    alice, bob = await world.phone("alice"), await world.phone("bob")
    call, back = await answered(alice, "1002", bob)
    await talk(call, back)
    await back.hold()
    assert b"a=sendonly" in call.media.offers[-1]
    await back.resume()
    await talk(call, back)
    await call.hold()
    await call.resume()
    await talk(call, back)
    await call.hangup()
    await back.ended.wait()


async def test_busy_is_486_once_every_device_is(world: World) -> None:
    alice, bob = await world.phone("alice"), await world.phone("bob")
    desk = await world.phone("desk")
    call = await alice.call("1002")
    (await ringing(bob)).reject(486)
    other = await ringing(desk)
    assert not call.ended.is_set()
    other.reject(486)
    assert (await refused(call))[0] == 486
    assert [(row["state"], row["cause"]) for row in await world.rows()] == [("ended", "486 Busy Here")]


async def test_a_caller_who_gives_up_stops_the_ringing(world: World) -> None:
    alice, bob = await world.phone("alice"), await world.phone("bob")
    call = await alice.call("1002")
    back = await ringing(bob)
    await call.rang.wait()
    call.cancel()
    assert (await refused(call))[0] == 487
    await back.ended.wait()
    assert back.ended_by == "them"


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("1002", (480, "Temporarily Unavailable")),  # bob is not registered
        ("bob", (480, "Temporarily Unavailable")),
        ("1001", (480, "No Other Device")),  # alice has but the one she calls from
        ("1003", (404, "No Such User")),  # nobody's number
        ("zoe", (404, "No Such User")),  # nobody's name
        ("ghost", (404, "No Such User")),
        ("1009", (404, "No Such User")),  # a number of somebody who has no device at all
        ("1004", (404, "No Such User")),  # dave is none of this connection's users
        ("dave", (404, "No Such User")),
    ],
)
async def test_nobody_rings(world: World, number: str, answer: tuple[int, str]) -> None:
    alice, dave = await world.phone("alice"), await world.phone("dave")
    assert await refused(await alice.call(number)) == answer
    await world.gateway.calls.wait_idle()
    assert not dave.calls


async def test_a_user_reaches_all_his_other_devices(world: World) -> None:
    bob, desk = await world.phone("bob"), await world.phone("desk")
    call, back = await answered(bob, "1002", desk)
    await talk(call, back)
    await call.hangup()
    await back.ended.wait()
    assert len(bob.calls) == len(desk.calls) == 1, "the phone that calls does not ring"


async def test_a_group_rings_but_not_its_member_who_calls(world: World) -> None:
    bob, desk = await world.phone("bob"), await world.phone("desk")
    alice, carol = await world.phone("alice"), await world.phone("carol")
    call, back = await answered(bob, "1000", alice)
    await call.hangup()
    await back.ended.wait()
    assert not desk.calls
    call = await carol.call("1000")
    ring = [await ringing(phone) for phone in (desk, bob)]
    await alice.calls[-1].hangup()
    call.cancel()
    for end in (call, *ring):
        await end.ended.wait()


async def test_weight_and_pattern_choose_among_connections(world: World) -> None:
    bob, carol = await world.phone("bob"), await world.phone("carol")
    call, back = await answered(bob, "2003", carol)
    await call.hangup()
    await back.ended.wait()
    assert (await refused(await bob.call("2004")))[0] == 404
    assert (await refused(await bob.call("+4930"))) == (404, "No Connection Takes This Number")
    assert sorted(row["connection"] for row in await world.rows()) == ["closed", "closed"]


async def test_who_is_no_user_of_a_connection_does_not_call_through_it(world: World) -> None:
    dave, bob = await world.phone("dave"), await world.phone("bob")
    assert (await refused(await dave.call("1002")))[0] == 404
    assert not bob.calls


async def test_a_message_goes_the_same_way(world: World) -> None:
    alice, bob = await world.phone("alice"), await world.phone("bob")
    response = await alice.request("MESSAGE", "1002", [("Content-Type", "text/plain")], "hello")
    assert response.status == 200
    assert [message.body for message in bob.messages] == [b"hello"]


async def test_a_blind_transfer_between_softphones(world: World) -> None:
    alice, bob, carol = [await world.phone(name) for name in ("alice", "bob", "carol")]
    call, back = await answered(alice, "1002", bob)
    call.takes_transfers = True
    response = await back.request("REFER", [("Refer-To", "<sip:carol@gw.example>")])
    assert response.status == 202
    assert call.refer is not None
    target = (call.refer.get("Refer-To") or "").strip("<>")
    assert target == "sip:carol@gw.example"
    # As a phone does that was sent there: it calls, says how that went, and is hung up on.
    third, there = await answered(alice, target, carol)
    told = await call.request(
        "NOTIFY",
        [
            ("Event", "refer"),
            ("Subscription-State", "terminated;reason=noresource"),
            ("Content-Type", "message/sipfrag"),
        ],
        b"SIP/2.0 200 OK\r\n",
    )
    assert told.status == 200
    await back.hangup()
    await call.ended.wait()
    await talk(third, there)
    await there.hangup()
    await third.ended.wait()


def gruu(phone: Softphone) -> str:
    """The public GRUU of a softphone of the kit's."""
    return f"sip:{phone.settings.device}@gw.example;gr={phone.settings.instance}"


async def test_a_gruu_rings_its_instance_alone(world: World) -> None:
    alice, bob, again = await world.phone("alice"), await world.phone("bob"), await world.phone("bob")
    desk = await world.phone("desk")
    call, back = await answered(alice, gruu(again), again)
    await talk(call, back)
    assert back.invite is not None
    assert back.invite.from_.uri == "sip:1001@gw.example"
    await back.hangup()
    await call.ended.wait()
    assert not bob.calls
    assert not desk.calls
    (row,) = await world.rows()
    assert row["connection"] == "house"


async def test_a_gruu_is_called_by_who_may_call_its_user(world: World) -> None:
    alice, bob, dave = [await world.phone(name) for name in ("alice", "bob", "dave")]
    assert (await refused(await dave.call(gruu(alice))))[0] == 404, "dave is no user of the connection"
    assert (await refused(await alice.call(gruu(dave))))[0] == 404
    uri = gruu(bob)
    await bob.close()
    await bob.disconnected.wait()
    assert (await refused(await alice.call(uri)))[0] == 480
    assert not alice.calls[0].was_answered
    assert not dave.calls[-1].was_answered


async def test_diagnostics_have_the_numbers_and_count_how_calls_end(world: World) -> None:
    alice, bob = await world.phone("alice"), await world.phone("bob")
    await refused(await alice.call("1003"))
    call, back = await answered(alice, "1002", bob)
    await call.hangup()
    await back.ended.wait()
    await world.gateway.calls.wait_idle()
    found = world.gateway.plugins.diagnostics("house")["connection_direct"]
    assert found["calls"] == {"404": 1, "answered": 1}
    assert found["numbers"]["1000"] == ["alice", "bob"]
    assert world.gateway.plugins.diagnostics("elsewhere") == {}


async def test_numbers_that_lead_nowhere_are_an_issue(world: World) -> None:
    found = [(issue.connection, issue.id, issue.text) for issue in world.gateway.entries.issues.all()]
    assert found == [
        ("house", "numbers_closed", "1004: nobody these are for is among the users of house, so it is 404")
    ]
