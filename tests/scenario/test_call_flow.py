"""What a call looks like on both sides of the gateway (RFC 3261 sections 12 and 16)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import trio

from siperb_core.entries.contract import Credentials, Refusal
from siperb_core.sip import Message

from .world import EndPoint, FakeFlow, World

CHALLENGE = ("Proxy-Authenticate", 'Digest realm="pbx", nonce="n1", algorithm=MD5, qop="auth"')


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    world = World()
    nursery.start_soon(world.signalling.run_timers)
    return world


@pytest.fixture
def phone(world: World) -> EndPoint:
    return EndPoint(world, FakeFlow("ws", ("198.51.100.7", 50000)), "alice")


@pytest.fixture
def pbx(world: World) -> EndPoint:
    return EndPoint(world, FakeFlow("udp", ("192.0.2.99", 5060)), "pbx")


def established(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    """A call from the phone to the PBX, answered and acknowledged."""
    world.connect("office", pbx.flow)
    phone.invite("600")
    pbx.respond(pbx.flow.next_of("INVITE"), 200)
    phone.learn(phone.flow.next_of(200))
    phone.request("ACK", cseq=phone.cseq)
    pbx.flow.next_of("ACK")


async def test_one_call_id_and_no_topology(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    sent = phone.invite(
        "600", ("X-Siperb-Token", "secret"), ("Record-Route", "<sip:inner.example;lr>"), ("X-Odd", "a,b")
    )
    invite = pbx.flow.next()
    assert invite.uri == "sip:600@pbx.example"
    assert invite.call_id == sent.call_id
    assert invite.from_tag == sent.from_tag
    assert invite.from_.uri == "sip:200@pbx.example"
    assert invite.to.uri == "sip:600@pbx.example"
    assert len(invite.values("Via")) == 1
    assert "invalid" not in str(bytes(invite))
    assert invite.max_forwards == 69
    assert invite.get("Record-Route") is None
    assert invite.get("X-Siperb-Token") is None
    assert invite.get("X-Odd") == "a,b"

    pbx.respond(invite, 180)
    pbx.respond(invite, 200, ("Record-Route", "<sip:pbx-edge.example;lr>"))
    ringing, ok = phone.flow.next_of(180), phone.flow.next_of(200)
    for response in (ringing, ok):
        assert response.get("Via") == sent.get("Via") or response.via.branch == sent.via.branch
        assert response.to_tag == pbx.tag
        assert response.get("From") == sent.get("From")
        assert response.contacts[0].parsed_uri.host == "192.0.2.1"
        assert response.values("Record-Route") == ["<sip:inner.example;lr>"]

    phone.learn(ok)
    phone.request("ACK", cseq=phone.cseq)
    ack = pbx.flow.next()
    assert (ack.method, ack.uri, ack.cseq.number) == ("ACK", "sip:pbx@pbx.invalid;transport=udp", invite.cseq.number)
    assert ack.values("Route") == ["<sip:pbx-edge.example;lr>"]
    assert [event.what for event in world.events] == ["started", "ringing", "answered"]
    assert len(world.saved) == 1


async def test_bye_from_either_side_ends_the_call(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    phone.request("BYE")
    bye = pbx.flow.next()
    assert bye.to_tag == pbx.tag
    pbx.respond(bye, 200)
    assert phone.flow.next().status == 200
    assert world.calls.active() == []
    assert world.saved == {}

    second = EndPoint(world, phone.flow, "alice2")
    world.candidates.clear()
    established(world, second, pbx)
    pbx.request("BYE")
    bye = phone.flow.next()
    assert (bye.from_tag, bye.to_tag) == (pbx.tag, second.tag)
    assert bye.uri == "sip:alice2@alice2.invalid;transport=ws"
    second.respond(bye, 200)
    assert pbx.flow.next_of(200).cseq.method == "BYE"
    assert world.calls.active() == []


async def test_the_gateway_answers_the_challenge_and_keeps_count(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow, credentials=Credentials("200", "pw"))
    sent = phone.invite("600")
    first = pbx.flow.next()
    pbx.respond(first, 407, CHALLENGE)
    assert pbx.flow.next().method == "ACK"
    second = pbx.flow.next()
    assert second.cseq.number == sent.cseq.number + 1
    assert second.from_tag == first.from_tag
    assert second.via.branch != first.via.branch
    assert 'username="200"' in (second.get("Proxy-Authorization") or "")
    pbx.respond(second, 200)
    ok = phone.flow.next_of(200)
    assert ok.cseq.number == sent.cseq.number
    phone.learn(ok)
    phone.request("ACK", cseq=phone.cseq)
    ack = pbx.flow.next()
    assert ack.cseq.number == second.cseq.number
    assert ack.get("Proxy-Authorization") == second.get("Proxy-Authorization")

    info = phone.request("INFO", ("RAck", f"1 {phone.cseq} INVITE"))
    carried = pbx.flow.next()
    assert carried.cseq.number == info.cseq.number + 1
    assert carried.get("RAck") == f"1 {info.cseq.number} INVITE"
    pbx.respond(carried, 200)
    assert phone.flow.next().cseq.number == info.cseq.number
    pbx.request("INFO")
    assert phone.flow.next().cseq.number == pbx.cseq


async def test_a_wrong_password_is_not_tried_twice(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow, credentials=Credentials("200", "wrong"))
    phone.invite("600")
    pbx.respond(pbx.flow.next(), 407, CHALLENGE)
    pbx.respond(pbx.flow.next_of("INVITE"), 407, ("Proxy-Authenticate", 'Digest realm="pbx", nonce="n2", qop="auth"'))
    refused = phone.flow.next_of(403)
    assert refused.get("Proxy-Authenticate") is None
    assert pbx.flow.next().method == "ACK"
    assert not pbx.flow.sent


@pytest.mark.parametrize("provisional", [False, True])
async def test_cancel(world: World, phone: EndPoint, pbx: EndPoint, provisional: bool) -> None:
    world.connect("office", pbx.flow)
    sent = phone.invite("604")
    invite = pbx.flow.next()
    if provisional:
        pbx.respond(invite, 180)
        phone.flow.next_of(180)
    repeated = [(name, sent.get(name) or "") for name in ("Via", "Max-Forwards", "From", "To", "Call-ID")]
    cancel = Message.request("CANCEL", sent.uri, [*repeated, ("CSeq", f"{sent.cseq.number} CANCEL")])
    phone.deliver(cancel)
    assert phone.flow.next_of(200).cseq.method == "CANCEL"
    if not provisional:
        assert not pbx.flow.sent, "a CANCEL may not overtake the first provisional response (section 9.1)"
        pbx.respond(invite, 100)
    cancelled = pbx.flow.next()
    assert cancelled.method == "CANCEL"
    assert cancelled.via.branch == invite.via.branch
    pbx.respond(cancelled, 200)
    pbx.respond(invite, 487)
    assert phone.flow.next_of(487).cseq.method == "INVITE"
    assert world.calls.active() == []


async def test_an_answer_that_crosses_the_cancel_is_the_callers(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    call = world.calls.active()[0]
    call.give_up()
    pbx.respond(invite, 200)
    phone.learn(phone.flow.next_of(200))
    assert call.established


async def test_all_devices_ring_and_the_first_wins(world: World, pbx: EndPoint) -> None:
    phones = [EndPoint(world, FakeFlow("ws", ("198.51.100.7", 50000 + n)), f"d{n}") for n in range(3)]
    for n, phone in enumerate(phones):
        world.bind(f"d{n}", phone.flow)
    pbx.invite("alice")
    invites = [phone.flow.next() for phone in phones]
    assert {invite.uri for invite in invites} == {f"sip:d{n}@abc.invalid;transport=ws" for n in range(3)}
    assert {invite.call_id for invite in invites} == {pbx.call_id}
    for phone, invite in zip(phones, invites, strict=True):
        phone.respond(invite, 180)
    phones[1].respond(invites[1], 200)
    answer = pbx.flow.next_of(200)
    assert answer.to_tag == "tag-d1"
    pbx.learn(answer)
    pbx.request("ACK", cseq=pbx.cseq)
    assert phones[1].flow.next().method == "ACK"
    for n in (0, 2):
        cancel = phones[n].flow.next()
        assert cancel.method == "CANCEL"
        assert cancel.get("Reason") == 'SIP ;cause=200 ;text="Call completed elsewhere"'

    # The CANCEL came too late for one of them: it is answered with ACK and BYE, and the call goes on.
    phones[2].respond(invites[2], 200)
    assert phones[2].flow.next().method == "ACK"
    bye = phones[2].flow.next()
    assert (bye.method, bye.to_tag, bye.from_tag) == ("BYE", "tag-d2", pbx.tag)
    pbx.request("BYE")
    bye = phones[1].flow.next()
    assert bye.method == "BYE"
    phones[1].respond(bye, 200)
    assert pbx.flow.next_of(200).cseq.method == "BYE"
    assert world.calls.active() == []


async def test_busy_everywhere_is_busy_and_nobody_is_480(world: World, pbx: EndPoint) -> None:
    pbx.invite("alice")
    assert pbx.flow.next_of(480).to_tag
    phones = [EndPoint(world, FakeFlow("ws", ("198.51.100.7", 50000 + n)), f"d{n}") for n in range(2)]
    for n, phone in enumerate(phones):
        world.bind(f"d{n}", phone.flow)
    caller = EndPoint(world, pbx.flow, "other")
    caller.invite("alice")
    phones[0].respond(phones[0].flow.next(), 486)
    assert not [m for m in pbx.flow.sent if m.status >= 200]
    phones[1].respond(phones[1].flow.next(), 603)
    assert pbx.flow.next_of(603)


async def test_failover_is_for_failures_not_for_answers(world: World, phone: EndPoint) -> None:
    flows = [FakeFlow("udp", (f"192.0.2.{n}", 5060)) for n in range(4)]
    pbxs = [EndPoint(world, flow, f"p{n}") for n, flow in enumerate(flows)]
    world.connect("refusing", flows[0], failover=True, refusal=Refusal(503, "not registered"))
    world.connect("down", flows[1], failover=True)
    world.connect("busy", flows[2], failover=True)
    world.connect("unused", flows[3], failover=True)
    phone.invite("600")
    pbxs[1].respond(flows[1].next_of("INVITE"), 500)
    pbxs[2].respond(flows[2].next_of("INVITE"), 486)
    assert phone.flow.next_of(486)
    assert not flows[0].sent
    assert not flows[3].sent


async def test_without_failover_the_first_answer_stands(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("down", pbx.flow)
    world.connect("spare", FakeFlow("udp", ("192.0.2.3", 5060)))
    phone.invite("600")
    pbx.respond(pbx.flow.next(), 503)
    assert phone.flow.next_of(503)


async def test_a_silent_pbx_is_408(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: trio.testing.MockClock
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    await trio.sleep(33)
    assert phone.flow.next_of(408).to_tag
    assert {message.method for message in pbx.flow.sent} == {"INVITE"}
    assert len(pbx.flow.sent) == 7, "timer A: 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 s"


async def test_a_subscription_is_routed_both_ways(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("100", ("Event", "dialog"), ("Expires", "600"), method="SUBSCRIBE")
    subscribe = pbx.flow.next()
    assert subscribe.method == "SUBSCRIBE"
    pbx.respond(subscribe, 200, ("Expires", "600"))
    phone.learn(phone.flow.next())
    pbx.request("NOTIFY", ("Event", "dialog"), ("Subscription-State", "active"), body=b"<xml/>")
    notify = phone.flow.next()
    assert (notify.method, notify.body) == ("NOTIFY", b"<xml/>")
    phone.respond(notify, 200)
    assert pbx.flow.next().status == 200
    phone.request("SUBSCRIBE", ("Event", "dialog"), ("Expires", "0"))
    pbx.respond(pbx.flow.next(), 200)
    pbx.request("NOTIFY", ("Event", "dialog"), ("Subscription-State", "terminated;reason=timeout"))
    phone.respond(phone.flow.next_of("NOTIFY"), 200)
    assert world.saved == {}


async def test_a_notify_may_come_before_the_answer(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("100", ("Event", "message-summary"), method="SUBSCRIBE")
    subscribe = pbx.flow.next()
    pbx.target, pbx.call_id = subscribe.contacts[0].uri, subscribe.call_id
    pbx.local, pbx.remote = f"{subscribe.get('To')};tag={pbx.tag}", subscribe.get("From") or ""
    pbx.request("NOTIFY", ("Event", "message-summary"), ("Subscription-State", "active"))
    assert phone.flow.next().method == "NOTIFY"


async def test_a_message_opens_no_dialog(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("100", ("Content-Type", "text/plain"), body=b"hello", method="MESSAGE")
    message = pbx.flow.next()
    assert message.body == b"hello"
    pbx.respond(message, 202)
    assert phone.flow.next().status == 202
    assert world.saved == {}


async def test_a_lost_dialog_is_481(world: World, phone: EndPoint) -> None:
    phone.target, phone.remote = "sip:nothing@192.0.2.1", "<sip:x@y>;tag=z"
    phone.request("BYE")
    assert phone.flow.next().status == 481


async def test_a_phone_that_vanishes_while_dialling_cancels(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("604")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    phone.flow.dead = True
    world.signalling.closed(phone.flow, "gone")
    assert pbx.flow.next().method == "CANCEL"
    pbx.respond(invite, 487)
    assert world.calls.active() == []


async def test_the_bye_for_a_phone_that_is_gone_is_answered(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    world.dead.add(phone.flow)
    pbx.request("BYE")
    assert pbx.flow.next_of(200).cseq.method == "BYE"
    assert world.calls.active() == []


async def test_the_gateway_can_end_a_call_on_both_sides(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    last = phone.cseq
    world.calls.active()[0].end("the media worker died")
    to_pbx, to_phone = pbx.flow.next(), phone.flow.next()
    assert (to_pbx.method, to_phone.method) == ("BYE", "BYE")
    assert to_pbx.cseq.number == last + 1
    assert (to_phone.from_tag, to_phone.to_tag) == (pbx.tag, phone.tag)
    assert "media worker died" in (to_pbx.get("Reason") or "")


def restarted(world: World, *flows: FakeFlow) -> World:
    """Another gateway with what the first one had on disk, and the same flows to reach everybody."""
    after = World()
    after.reachable = {(flow.transport, *flow.remote): flow for flow in flows}
    after.candidates = world.candidates
    for token, data in json.loads(json.dumps(world.saved)).items():
        after.calls.restore(token, data)
    return after


async def test_a_passthrough_call_outlives_a_restart(
    world: World, phone: EndPoint, pbx: EndPoint, nursery: trio.Nursery
) -> None:
    world.connect("office", pbx.flow, credentials=Credentials("200", "pw"))
    phone.invite("600")
    pbx.respond(pbx.flow.next(), 407, CHALLENGE)
    pbx.respond(pbx.flow.next_of("INVITE"), 200)
    pbx.flow.sent.clear()
    phone.learn(phone.flow.next_of(200))
    phone.request("ACK", cseq=phone.cseq)
    acknowledged = pbx.flow.next()
    phone.request("INFO")
    pbx.respond(pbx.flow.next(), 200)
    phone.flow.next()

    after = restarted(world, phone.flow, pbx.flow)
    nursery.start_soon(after.signalling.run_timers)
    phone.world = pbx.world = after
    pbx.request("INVITE", body=b"re-offer")
    reinvite = phone.flow.next()
    assert (reinvite.method, reinvite.uri) == ("INVITE", "sip:alice@alice.invalid;transport=ws")
    phone.respond(reinvite, 200)
    pbx.flow.next_of(200)
    bye = phone.request("BYE")
    carried = pbx.flow.next_of("BYE")
    assert carried.cseq.number == bye.cseq.number + 1 > acknowledged.cseq.number
    pbx.respond(carried, 407, CHALLENGE)
    again = pbx.flow.next_of("BYE")
    assert 'username="200"' in (again.get("Proxy-Authorization") or "")
    pbx.respond(again, 200)
    assert phone.flow.next_of(200).cseq == bye.cseq
    assert after.calls.active() == []
    assert after.saved == {}


async def test_a_bridged_call_ends_on_both_sides_after_a_restart(
    world: World, phone: EndPoint, pbx: EndPoint, nursery: trio.Nursery
) -> None:
    established(world, phone, pbx)
    (data,) = world.saved.values()
    data["bridged"] = True
    after = restarted(world, pbx.flow)
    nursery.start_soon(after.signalling.run_timers)
    bye = pbx.flow.next()
    assert bye.method == "BYE"
    assert "restart" in (bye.get("Reason") or "")
    assert not phone.flow.sent, "the phone is not back yet"
    after.reachable["ws", *phone.flow.remote] = phone.flow
    after.calls.on_registered("alice")
    assert phone.flow.next().method == "BYE"
    assert after.calls.active() == []


async def test_a_stream_is_framed_by_content_length(world: World, phone: EndPoint) -> None:
    pbx = FakeFlow("tcp", ("192.0.2.99", 5060))
    world.connect("office", pbx)
    unframed = (
        b"MESSAGE sip:600@gw.example SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bKm\r\nMax-Forwards: 70\r\n"
        b"From: <sip:alice@gw.example>;tag=1\r\nTo: <sip:600@gw.example>\r\nCall-ID: m\r\nCSeq: 1 MESSAGE\r\n\r\nhello"
    )
    world.signalling.received(unframed, phone.flow)
    assert pbx.next().get("Content-Length") == "5"
