"""Offer and answer in INVITE, PRACK, UPDATE and ACK, and early dialogs (RFC 3262, RFC 3311, RFC 6337)."""

from __future__ import annotations

from siperb_core.entries.contract import Credentials

from .fake_media import SDP, FakeMedia
from .world import EndPoint, World

RELIABLE = (("Require", "100rel"), ("RSeq", "71"))
CHALLENGE = ("Proxy-Authenticate", 'Digest realm="pbx", nonce="n1", algorithm=MD5, qop="auth"')


async def test_reliable_provisionals_end_to_end(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow, credentials=Credentials("200", "pw"))
    sent = phone.invite("600", ("Supported", "100rel"))
    pbx.respond(pbx.flow.next(), 407, CHALLENGE)
    invite = pbx.flow.next_of("INVITE")
    pbx.respond(invite, 180, *RELIABLE)
    ringing = phone.learn(phone.flow.next_of(180))
    assert (ringing.get("Require"), ringing.get("RSeq")) == ("100rel", "71")
    phone.request("PRACK", ("RAck", f"71 {sent.cseq.number} INVITE"))
    prack = pbx.flow.next_of("PRACK")
    assert prack.get("RAck") == f"71 {invite.cseq.number} INVITE"
    pbx.respond(prack, 407, CHALLENGE)
    again = pbx.flow.next_of("PRACK")
    assert again.cseq.number > prack.cseq.number
    pbx.respond(again, 200)
    assert phone.flow.next_of(200).cseq.method == "PRACK"
    # The PRACK's own challenge has moved the CSeq on, not the INVITE's number.
    pbx.respond(invite, 183, ("Require", "100rel"), ("RSeq", "72"))
    phone.flow.next_of(183)
    phone.request("PRACK", ("RAck", f"72 {sent.cseq.number} INVITE"))
    assert pbx.flow.next_of("PRACK").get("RAck") == f"72 {invite.cseq.number} INVITE"


async def test_an_answer_that_went_out_reliably_is_not_changed_by_the_200(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600", SDP, body=b"offer")
    invite = pbx.flow.next()
    assert invite.body == b"peer:offer"
    pbx.respond(invite, 183, SDP, *RELIABLE, body=b"answer")
    early = phone.learn(phone.flow.next_of(183))
    assert early.body == b"client:answer"
    phone.request("PRACK", ("RAck", f"71 {phone.cseq} INVITE"))
    pbx.respond(pbx.flow.next_of("PRACK"), 200)
    pbx.respond(invite, 200, SDP, body=b"something else")
    assert phone.flow.next_of(200).cseq.method == "PRACK"
    assert phone.flow.next_of(200).body == b"client:answer"
    assert [what for what, *_ in media.log] == ["offer", "answer"]


async def test_an_unreliable_answer_may_change_until_the_200(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600", SDP, body=b"offer")
    invite = pbx.flow.next()
    pbx.respond(invite, 183, SDP, body=b"early")
    assert phone.flow.next_of(183).body == b"client:early"
    pbx.respond(invite, 200, SDP, body=b"late")
    pbx.respond(invite, 200, SDP, body=b"late")
    assert phone.flow.next_of(200).body == b"client:late"
    assert phone.flow.next_of(200).body == b"client:late"


async def test_update_in_an_early_dialog_then_the_200(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600", SDP, body=b"offer")
    invite = pbx.flow.next()
    pbx.respond(invite, 183, SDP, *RELIABLE, body=b"answer")
    phone.learn(phone.flow.next_of(183))
    phone.request("PRACK", SDP, ("RAck", f"71 {phone.cseq} INVITE"), body=b"offer2")
    prack = pbx.flow.next_of("PRACK")
    assert prack.body == b"peer:offer2"
    pbx.respond(prack, 200, SDP, body=b"answer2")
    assert phone.flow.next_of(200).body == b"client:answer2"
    pbx.request("UPDATE", SDP, body=b"offer3")
    update = phone.flow.next_of("UPDATE")
    assert update.body == b"client:offer3"
    phone.respond(update, 200, SDP, body=b"answer3")
    assert pbx.flow.next_of(200).body == b"peer:answer3"
    pbx.respond(invite, 200, SDP, body=b"answer")
    assert phone.flow.next_of(200).body == b"client:offer3", "what the phone has been given last"
    assert media.answered


async def test_a_refused_update_leaves_the_early_answer(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600", SDP, body=b"offer")
    invite = pbx.flow.next()
    pbx.respond(invite, 183, SDP, body=b"early")
    phone.learn(phone.flow.next_of(183))
    phone.request("UPDATE", SDP, body=b"offer2")
    pbx.respond(pbx.flow.next_of("UPDATE"), 488)
    assert phone.flow.next_of(488)
    media.offerer = "client"  # of the first offer, which is answered: a real bridge has kept it
    pbx.respond(invite, 200, SDP, body=b"answer")
    assert phone.flow.next_of(200).body == b"client:answer"


async def test_an_offer_while_one_is_out_is_491(world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600", SDP, body=b"offer")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    phone.learn(phone.flow.next_of(180))
    phone.request("UPDATE", SDP, body=b"offer2")
    assert phone.flow.next().status == 491
    assert not pbx.flow.sent


async def test_a_delayed_offer_is_answered_in_the_prack(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia
) -> None:
    world.connect("office", pbx.flow)
    sent = phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 183, SDP, *RELIABLE, body=b"offer")
    assert phone.learn(phone.flow.next_of(183)).body == b"client:offer"
    phone.request("PRACK", SDP, ("RAck", f"71 {phone.cseq} INVITE"), body=b"answer")
    prack = pbx.flow.next_of("PRACK")
    assert prack.body == b"peer:answer"
    pbx.respond(prack, 200)
    phone.flow.next_of(200)
    pbx.respond(invite, 200)
    assert phone.flow.next_of(200).body == b""
    phone.request("ACK", SDP, cseq=sent.cseq.number, body=b"stray")
    assert pbx.flow.next_of("ACK").body == b"", "there is nothing left to answer"


async def test_a_delayed_offer_is_answered_in_the_ack_and_again(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next()
    for _ in range(2):
        pbx.respond(invite, 200, SDP, body=b"offer")
        assert phone.learn(phone.flow.next_of(200)).body == b"client:offer"
        phone.request("ACK", SDP, cseq=phone.cseq, body=b"answer")
        assert pbx.flow.next_of("ACK").body == b"peer:answer"
    assert media.log == [("offer", "peer", b"offer"), ("answer", "client", b"answer")]


async def test_two_ends_answer_early_and_the_first_to_do_so_wins(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600", SDP, body=b"offer")
    invite = pbx.flow.next()
    for tag in ("one", "two"):
        pbx.tag = tag
        pbx.respond(invite, 183, SDP, *RELIABLE, body=tag.encode())
        assert phone.flow.next_of(183).body == f"client:{tag}".encode()
    pbx.tag = "one"
    pbx.respond(invite, 200)
    assert phone.flow.next_of(200).to_tag == "one"
    assert media.log[-1] == ("answer", "peer", b"one"), "media come back to the end that has the call"


async def test_glare(world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600", SDP, body=b"offer")
    pbx.respond(pbx.flow.next(), 200, SDP, body=b"answer")
    phone.learn(phone.flow.next_of(200))
    phone.request("ACK", cseq=phone.cseq)
    pbx.flow.next_of("ACK")
    phone.request("INVITE", SDP, body=b"hold")
    reinvite = pbx.flow.next_of("INVITE")
    pbx.request("INVITE", SDP, body=b"resume")
    assert pbx.flow.next_of(491)
    pbx.respond(reinvite, 491)
    assert phone.flow.next_of(491)
    assert media.answered, "both may try again"
    phone.request("INVITE", SDP, body=b"hold")
    pbx.respond(pbx.flow.next_of("INVITE"), 200, SDP, body=b"held")
    assert phone.flow.next_of(200).body == b"client:held"
