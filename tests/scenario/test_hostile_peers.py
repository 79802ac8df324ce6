"""What cannot be read, and what is not the sender's to say: it costs that message or that call, and nothing stays."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from siperb_core.sip import Message, parse, response_to

from .fake_media import FakeMedia
from .world import EndPoint, FakeFlow, World, established

UNREADABLE = "<sip:a@[>"


def raw(pbx: EndPoint, without: str = "", **headers: str) -> Message:
    """An INVITE of the PBX with these headers in place of its own."""
    written = {
        "Via": f"SIP/2.0/UDP {pbx.flow.remote[0]};branch=z9hG4bKraw",
        "Max-Forwards": "70",
        "From": f"<{pbx.uri}>;tag=raw",
        "To": "<sip:alice@gw.example>",
        "Call-ID": "raw",
        "CSeq": "1 INVITE",
        "Contact": pbx.contact,
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    return Message.request("INVITE", "sip:alice@gw.example", [pair for pair in written.items() if pair[0] != without])


@pytest.mark.parametrize(
    "message",
    [
        {"From": f"{UNREADABLE};tag=raw"},
        {"Contact": "<sip:a"},
        {"Record_Route": "garbage"},
        {"Record_Route": UNREADABLE},
        {"Max_Breadth": "many"},
        {"without": "Contact"},
    ],
)
async def test_an_invite_that_cannot_be_read_leaves_no_call(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia, message: dict[str, str]
) -> None:
    world.bind("alice", phone.flow)
    pbx.deliver(raw(pbx, **message))
    assert pbx.flow.next().status == 400
    assert world.calls.kept == 0
    assert not phone.flow.sent
    assert world.signalling.rejected["bug"] == 0


async def test_a_call_whose_media_were_opened_gives_them_back(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia
) -> None:
    world.bind("alice", phone.flow)
    world.bindings[0].path = (UNREADABLE,)
    pbx.deliver(raw(pbx))
    assert pbx.flow.next().status == 400
    assert world.calls.kept == 0
    assert media.closed


@pytest.mark.parametrize("header", [("Contact", "<sip:a"), ("Record-Route", "garbage"), ("Record-Route", "<sip:a")])
async def test_a_success_that_cannot_be_read_counts_as_502(
    autojump_clock: trio.testing.MockClock, world: World, phone: EndPoint, pbx: EndPoint, header: tuple[str, str]
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    pbx.deliver(response_to(pbx.flow.next_of("INVITE"), 200, to_tag="t", headers=[header]))
    assert phone.flow.next_of(502)
    assert world.calls.kept == 0
    await trio.sleep(200)
    assert world.signalling.transactions == 0
    assert world.signalling.rejected["bug"] == 0


async def test_a_provisional_response_that_cannot_be_read_is_passed_over(
    world: World, phone: EndPoint, pbx: EndPoint
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next_of("INVITE")
    pbx.deliver(response_to(invite, 180, to_tag="t", headers=[("Contact", "<sip:a")]))
    pbx.respond(invite, 200)
    assert [message.status for message in phone.flow.sent] == [200]


async def test_a_mistake_of_ours_is_answered_500(
    world: World, phone: EndPoint, pbx: EndPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(world.calls, "outbound", fail)
    phone.invite("600")
    assert phone.flow.next().status == 500
    assert world.signalling.rejected["bug"] == 1


async def test_tokens_and_tags_are_of_use_to_the_call_s_own_device_only(
    world: World, phone: EndPoint, pbx: EndPoint
) -> None:
    established(world, phone, pbx)
    mallory = FakeFlow("ws", ("198.51.100.66", 40000))
    bye = phone.request("BYE")
    pbx.respond(pbx.flow.next_of("BYE"), 481)
    phone.flow.sent.clear()
    forged = parse(bytes(bye).replace(b"sip:alice@gw.example>;tag", b"sip:mallory@gw.example>;tag", 1))
    forged.set("Via", "SIP/2.0/WS 198.51.100.66;branch=z9hG4bKmallory")
    world.signalling.received(bytes(forged), mallory)
    assert mallory.next().status == 481
    assert not pbx.flow.sent


async def test_a_softphone_cannot_speak_as_its_pbx_nor_the_pbx_as_its_softphone(
    world: World, phone: EndPoint, pbx: EndPoint
) -> None:
    established(world, phone, pbx)
    phone.flow, pbx.flow = pbx.flow, phone.flow
    phone.request("INFO")
    assert phone.flow.next().status == 481
    pbx.request("INFO")
    assert pbx.flow.next().status == 481


async def test_a_stranger_s_notify_opens_no_dialog(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    """It may come before the answer to its SUBSCRIBE, but from who was asked alone."""
    world.connect("office", pbx.flow)
    phone.invite("100", ("Event", "message-summary"), method="SUBSCRIBE")
    subscribe = pbx.flow.next()
    home, elsewhere = pbx.flow, FakeFlow("udp", ("198.51.100.66", 5060))
    pbx.target, pbx.call_id = subscribe.contacts[0].uri, subscribe.call_id
    pbx.local, pbx.remote = f"{subscribe.get('To')};tag={pbx.tag}", subscribe.get("From") or ""
    state = (("Event", "message-summary"), ("Subscription-State", "active"))
    pbx.flow = elsewhere
    pbx.request("NOTIFY", *state)
    assert elsewhere.next().status == 481
    assert not phone.flow.sent
    pbx.flow = home
    pbx.request("NOTIFY", *state)
    assert phone.flow.next().method == "NOTIFY"


async def test_another_call_id_is_another_dialog(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    pbx.call_id = "another"
    pbx.request("INFO")
    assert pbx.flow.next().status == 481
    assert not phone.flow.sent


async def test_methods_nobody_has_defined_are_counted_together(world: World, pbx: EndPoint) -> None:
    pbx.target, pbx.remote = "sip:nobody@gw.example", "<sip:nobody@gw.example>;tag=x"
    for number in range(50):
        pbx.request(f"M{number}")
    assert {kind for _, _, kind in world.signalling.messages} == {"other", "4xx"}
