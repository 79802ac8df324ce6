"""Offer and answer through the real bridge: PRACK, UPDATE, forks, refusals, delayed offers (RFC 3262, 3311, 6337).

After every exchange both ends and the media worker have to have the same session in mind.
"""

from __future__ import annotations

import pytest

from .bridged import UNUSABLE, BridgedMedia, Talker, agree, offered
from .fake_media import SDP
from .world import EndPoint, FakeFlow, World

RELIABLE = (("Require", "100rel"), ("RSeq", "71"))


@pytest.fixture
def media(world: World) -> BridgedMedia:
    """Media of the world's one call."""
    media = BridgedMedia()
    world.media = lambda *_: media
    return media


@pytest.fixture
def caller(phone: EndPoint) -> Talker:
    return Talker(phone, "phone")


@pytest.fixture
def callee(pbx: EndPoint) -> Talker:
    return Talker(pbx, "pbx", 30000)


def prack(phone: EndPoint, pbx: EndPoint, invite: int, rseq: int = 71, *headers: tuple[str, str]) -> None:
    """A PRACK without offer."""
    phone.request("PRACK", ("RAck", f"{rseq} {invite} INVITE"))
    pbx.respond(pbx.flow.next_of("PRACK"), 200)
    assert phone.flow.next_of(200).cseq.method == "PRACK"


def called(world: World, caller: Talker, callee: Talker) -> None:
    """A call from the phone, offered, answered, acknowledged."""
    phone, pbx = caller.end, callee.end
    world.connect("office", pbx.flow)
    phone.invite("600", SDP, body=caller.offers())
    invite = pbx.flow.next()
    pbx.respond(invite, 200, SDP, body=callee.answers(invite.body))
    answer = phone.learn(phone.flow.next_of(200))
    caller.hears(answer.body)
    phone.request("ACK", cseq=phone.cseq)
    pbx.flow.next_of("ACK")


def exchange(
    asker: Talker, answerer: Talker, method: str = "INVITE", ways: tuple[str, str] = ("sendrecv", "sendrecv")
) -> None:
    """A re-INVITE or UPDATE with an offer, and its answer."""
    sent = offered(asker.end, method, asker.offers(ways[0]))
    request = answerer.end.flow.next_of(method)
    answerer.end.respond(request, 200, SDP, body=answerer.answers(request.body, ways[1]))
    answer = asker.end.flow.next_of(200)
    assert answer.cseq == sent.cseq
    asker.hears(answer.body)
    if method == "INVITE":
        asker.end.request("ACK", cseq=sent.cseq.number)
        answerer.end.flow.next_of("ACK")


async def test_a_reliable_183_with_the_answer(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia, caller: Talker, callee: Talker
) -> None:
    world.connect("office", pbx.flow)
    sent = phone.invite("600", SDP, body=caller.offers())
    invite = pbx.flow.next()
    pbx.respond(invite, 183, SDP, *RELIABLE, body=callee.answers(invite.body))
    caller.hears(phone.learn(phone.flow.next_of(183)).body)
    agree(media, caller, callee)
    prack(phone, pbx, sent.cseq.number)
    pbx.respond(invite, 200)
    assert phone.flow.next_of(200).body == b""
    phone.request("ACK", cseq=sent.cseq.number)
    assert pbx.flow.next_of("ACK").body == b""
    agree(media, caller, callee)
    exchange(callee, caller, ways=("sendonly", "recvonly"))
    agree(media, caller, callee)


async def test_another_answer_in_the_200_than_in_the_reliable_183(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia, caller: Talker, callee: Talker
) -> None:
    """It is none (RFC 3261 section 13.2.1): the phone sees once more what it has."""
    world.connect("office", pbx.flow)
    sent = phone.invite("600", SDP, body=caller.offers())
    invite = pbx.flow.next()
    pbx.respond(invite, 183, SDP, *RELIABLE, body=callee.answers(invite.body))
    early = phone.learn(phone.flow.next_of(183))
    caller.hears(early.body)
    prack(phone, pbx, sent.cseq.number)
    pbx.respond(invite, 200, SDP, body=callee.writes("sendonly"))
    assert phone.flow.next_of(200).body == early.body
    agree(media, caller, callee)


async def test_another_answer_in_the_200_than_in_the_unreliable_183(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia, caller: Talker, callee: Talker
) -> None:
    """PBXs do that, and mean the last one."""
    world.connect("office", pbx.flow)
    phone.invite("600", SDP, body=caller.offers())
    invite = pbx.flow.next()
    pbx.respond(invite, 183, SDP, body=callee.answers(invite.body))
    caller.hears(phone.flow.next_of(183).body)
    agree(media, caller, callee)
    pbx.respond(invite, 200, SDP, body=callee.answers(invite.body))
    caller.hears(phone.flow.next_of(200).body)
    agree(media, caller, callee)


async def test_offers_in_prack_and_update_of_an_early_dialog(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia, caller: Talker, callee: Talker
) -> None:
    world.connect("office", pbx.flow)
    sent = phone.invite("600", SDP, body=caller.offers())
    invite = pbx.flow.next()
    pbx.respond(invite, 183, SDP, *RELIABLE, body=callee.answers(invite.body))
    caller.hears(phone.learn(phone.flow.next_of(183)).body)
    offered(phone, "PRACK", caller.offers("sendonly"), ("RAck", f"71 {sent.cseq.number} INVITE"))
    request = pbx.flow.next_of("PRACK")
    pbx.respond(request, 200, SDP, body=callee.answers(request.body, "recvonly"))
    caller.hears(phone.flow.next_of(200).body)
    agree(media, caller, callee)
    exchange(callee, caller, "UPDATE")
    agree(media, caller, callee)
    exchange(caller, callee, "UPDATE", ("recvonly", "sendonly"))
    agree(media, caller, callee)
    # One that is refused changes nothing.
    offered(phone, "UPDATE", caller.writes("inactive"))
    pbx.respond(pbx.flow.next_of("UPDATE"), 488)
    assert phone.flow.next_of(488)
    agree(media, caller, callee)
    pbx.respond(invite, 200)
    assert phone.flow.next_of(200).body == b""
    agree(media, caller, callee)


async def test_a_delayed_offer_in_a_reliable_183(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia, caller: Talker, callee: Talker
) -> None:
    world.connect("office", pbx.flow)
    sent = phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 183, SDP, *RELIABLE, body=callee.offers())
    offer = phone.learn(phone.flow.next_of(183)).body
    offered(phone, "PRACK", caller.answers(offer), ("RAck", f"71 {sent.cseq.number} INVITE"))
    request = pbx.flow.next_of("PRACK")
    callee.hears(request.body)
    pbx.respond(request, 200)
    phone.flow.next_of(200)
    agree(media, caller, callee)
    exchange(caller, callee, "UPDATE")
    pbx.respond(invite, 200)
    assert phone.flow.next_of(200).body == b""
    agree(media, caller, callee)


async def test_an_early_answer_that_cannot_be_used(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia, caller: Talker
) -> None:
    """Reliably it was the answer, and no other will come; otherwise the 200's still counts."""
    world.connect("office", pbx.flow)
    phone.invite("600", SDP, body=caller.offers())
    invite = pbx.flow.next()
    pbx.respond(invite, 183, SDP, body=UNUSABLE)
    assert phone.flow.next_of(183).body == b""
    pbx.respond(invite, 183, SDP, *RELIABLE, body=UNUSABLE)
    assert phone.flow.next_of(488).get("Warning")
    assert pbx.flow.next_of("CANCEL")
    assert media.session.closed
    pbx.respond(invite, 200, SDP, body=UNUSABLE)  # it has crossed the CANCEL
    assert [pbx.flow.next().method for _ in range(2)] == ["ACK", "BYE"]
    assert world.calls.active() == []


async def test_two_ends_answer_early_each_by_its_own_port(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia, caller: Talker
) -> None:
    """What is heard is the one that answered last; in the end the one that has the call."""
    world.connect("office", pbx.flow)
    sent = phone.invite("600", SDP, body=caller.offers())
    invite = pbx.flow.next()
    ends = {tag: Talker(pbx, "pbx", port) for tag, port in (("one", 40000), ("two", 50000))}
    heard = {}
    for tag, talker in ends.items():
        pbx.tag = tag
        pbx.respond(invite, 183, SDP, *RELIABLE, body=talker.answers(invite.body))
        heard[tag] = phone.learn(phone.flow.next_of(183))
        prack(phone, pbx, sent.cseq.number)
        caller.hears(heard[tag].body)
        agree(media, caller, talker)
    pbx.tag = "one"
    pbx.respond(invite, 200)
    assert phone.learn(phone.flow.next_of(200)).to_tag == "one"
    caller.hears(heard["one"].body)
    agree(media, caller, ends["one"])
    phone.request("ACK", cseq=sent.cseq.number)
    pbx.flow.sent.clear()
    exchange(ends["one"], caller, ways=("inactive", "inactive"))
    agree(media, caller, ends["one"])


@pytest.mark.parametrize("early", [(), RELIABLE])
async def test_two_softphones_ring_and_each_answers_an_offer_of_its_own(
    world: World, pbx: EndPoint, media: BridgedMedia, callee: Talker, early: tuple[tuple[str, str], ...]
) -> None:
    phones = [EndPoint(world, FakeFlow("ws", ("198.51.100.7", 50000 + n)), f"d{n}") for n in range(2)]
    for phone in phones:
        world.bind(phone.uri.partition(":")[2].partition("@")[0], phone.flow)
    talkers = [Talker(phone, "phone", 20000 + 100 * n) for n, phone in enumerate(phones)]
    sent = pbx.invite("alice", SDP, body=callee.offers())
    invites = [phone.flow.next_of("INVITE") for phone in phones]
    for phone, talker, invite in zip(phones, talkers, invites, strict=True):
        phone.respond(invite, 183, SDP, *early, body=talker.answers(invite.body))
        callee.hears(pbx.learn(pbx.flow.next_of(183)).body)
        agree(media, talker, callee)
    phones[0].respond(invites[0], 200, SDP, body=talkers[0].agreed[0])
    callee.hears(pbx.learn(pbx.flow.next_of(200)).body)
    pbx.request("ACK", cseq=sent.cseq.number)
    phones[0].flow.next_of("ACK")
    agree(media, talkers[0], callee)
    assert phones[1].flow.next_of("CANCEL")
    phones[1].respond(invites[1], 487)
    agree(media, talkers[0], callee)
    exchange(talkers[0], callee, ways=("sendonly", "recvonly"))
    agree(media, talkers[0], callee)


@pytest.mark.parametrize("asking", ["phone", "pbx"])
@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
async def test_a_refused_offer_leaves_the_session(
    world: World, media: BridgedMedia, caller: Talker, callee: Talker, asking: str, method: str
) -> None:
    called(world, caller, callee)
    exchange(caller, callee, ways=("sendonly", "recvonly"))
    agree(media, caller, callee)
    asker, answerer = (caller, callee) if asking == "phone" else (callee, caller)
    for status in (488, 491, 500):
        offered(asker.end, method, asker.writes("inactive"))
        answerer.end.respond(answerer.end.flow.next_of(method), status)
        assert asker.end.flow.next_of(status)
        agree(media, caller, callee)
    exchange(asker, answerer, method)
    agree(media, caller, callee)
    assert (caller.direction, callee.direction) == ("sendrecv", "sendrecv")


@pytest.mark.parametrize("reliable", [False, True])
async def test_a_re_invite_that_is_answered_early_and_then_refused_is_rolled_back(
    world: World, media: BridgedMedia, caller: Talker, callee: Talker, reliable: bool
) -> None:
    """RFC 6141 section 3.1: all is as before it."""
    called(world, caller, callee)
    phone, pbx = caller.end, callee.end
    sent = offered(phone, "INVITE", caller.writes("sendonly"))
    request = pbx.flow.next_of("INVITE")
    pbx.respond(request, 183, SDP, *(RELIABLE if reliable else ()), body=callee.writes("recvonly"))
    assert phone.flow.next_of(183).body
    if reliable:
        prack(phone, pbx, sent.cseq.number)
    pbx.respond(request, 488)
    assert phone.flow.next_of(488)
    agree(media, caller, callee)
    exchange(callee, caller)
    agree(media, caller, callee)


@pytest.mark.parametrize("asking", ["phone", "pbx"])
async def test_a_re_invite_without_sdp_is_offered_to_and_answered_in_the_ack(
    world: World, media: BridgedMedia, caller: Talker, callee: Talker, asking: str
) -> None:
    called(world, caller, callee)
    asker, answerer = (caller, callee) if asking == "phone" else (callee, caller)
    for ways in (("sendonly", "recvonly"), ("sendrecv", "sendrecv")):
        sent = asker.end.request("INVITE")
        request = answerer.end.flow.next_of("INVITE")
        assert request.body == b""
        answerer.end.respond(request, 200, SDP, body=answerer.offers(ways[0]))
        offer = asker.end.flow.next_of(200)
        asker.end.request("ACK", SDP, cseq=sent.cseq.number, body=asker.answers(offer.body, ways[1]))
        answerer.hears(answerer.end.flow.next_of("ACK").body)
        agree(media, caller, callee)


@pytest.mark.parametrize("asking", ["phone", "pbx"])
@pytest.mark.parametrize(("method", "delayed"), [("INVITE", False), ("INVITE", True), ("UPDATE", False)])
async def test_a_2xx_whose_sdp_cannot_be_used_is_acknowledged_and_the_call_ended(
    world: World, media: BridgedMedia, caller: Talker, callee: Talker, asking: str, method: str, delayed: bool
) -> None:
    called(world, caller, callee)
    asker, answerer = (caller, callee) if asking == "phone" else (callee, caller)
    if delayed:
        asker.end.request(method)
    else:
        offered(asker.end, method, asker.offers())
    request = answerer.end.flow.next_of(method)
    answerer.end.respond(request, 200, SDP, body=UNUSABLE)
    if method == "INVITE":
        ack = answerer.end.flow.next()
        assert (ack.method, ack.cseq.number) == ("ACK", request.cseq.number)
    bye = answerer.end.flow.next()
    assert bye.method == "BYE"
    assert bye.cseq.number > request.cseq.number
    refusal = asker.end.flow.next_of(488)
    assert refusal.get("Warning")
    other = asker.end.flow.next()
    assert other.method == "BYE"
    for message in (bye, other):
        assert (message.get("Reason") or "").startswith("SIP ;cause=488 ;text=")
    assert media.session.closed
    assert world.calls.active() == []
    # The 2xx comes again, as our ACK was lost: another one, and nothing else.
    asker.end.flow.sent.clear()
    answerer.end.respond(request, 200, SDP, body=UNUSABLE)
    sent = [message.method for message in answerer.end.flow.sent]
    assert sent == (["ACK"] if method == "INVITE" else [])
    assert not asker.end.flow.sent


async def test_a_reliable_answer_to_a_re_invite_that_cannot_be_used(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia, caller: Talker, callee: Talker
) -> None:
    called(world, caller, callee)
    offered(phone, "INVITE", caller.writes("sendonly"))
    request = pbx.flow.next_of("INVITE")
    pbx.respond(request, 183, SDP, body=UNUSABLE)
    assert phone.flow.next_of(183).body == b""
    pbx.respond(request, 183, SDP, *RELIABLE, body=UNUSABLE)
    assert phone.flow.next_of(488)
    assert pbx.flow.next_of("CANCEL")
    pbx.respond(request, 487)
    agree(media, caller, callee)
    exchange(callee, caller)
    agree(media, caller, callee)
    # Where the CANCEL comes too late the two would not agree any more.
    offered(phone, "INVITE", caller.writes("sendonly"))
    request = pbx.flow.next_of("INVITE")
    pbx.respond(request, 183, SDP, *RELIABLE, body=UNUSABLE)
    assert phone.flow.next_of(488)
    pbx.respond(request, 200)
    assert pbx.flow.next_of("ACK").cseq.number == request.cseq.number
    assert pbx.flow.next_of("BYE")
    assert phone.flow.next().method == "BYE"
    assert world.calls.active() == []


async def test_a_re_invite_whose_2xx_cannot_be_read(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia, caller: Talker, callee: Talker
) -> None:
    called(world, caller, callee)
    offered(phone, "INVITE", caller.offers())
    request = pbx.flow.next_of("INVITE")
    pbx.contact = "<sip:broken"
    pbx.respond(request, 200, SDP, body=callee.answers(request.body))
    assert [pbx.flow.next().method for _ in range(2)] == ["ACK", "BYE"]
    assert [phone.flow.next().status for _ in range(1)] == [502]
    assert phone.flow.next().method == "BYE"
    assert world.calls.active() == []


async def test_who_asks_is_gone_when_the_answer_comes(
    world: World, phone: EndPoint, pbx: EndPoint, media: BridgedMedia, caller: Talker, callee: Talker
) -> None:
    """A re-INVITE's 2xx is acknowledged all the same: the call goes on when the phone is back."""
    called(world, caller, callee)
    offered(phone, "INVITE", caller.offers("sendonly"))
    request = pbx.flow.next_of("INVITE")
    pbx.respond(request, 180)
    world.signalling.closed(phone.flow, "gone")
    pbx.respond(request, 200, SDP, body=callee.answers(request.body, "recvonly"))
    assert pbx.flow.next_of("ACK").cseq.number == request.cseq.number
    (call,) = world.calls.active()
    assert call.established
    exchange(caller, callee)
    agree(media, caller, callee)
