"""Several branches, several answers (RFC 3261 section 16.7, 16.8, 16.10; RFC 3326; RFC 6228)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from siperb_core.entries.contract import Credentials
from siperb_core.sip import Message, response_to

from .world import EndPoint, FakeFlow, World

ELSEWHERE = 'SIP ;cause=200 ;text="Call completed elsewhere"'


def ends(world: World, count: int) -> list[EndPoint]:
    """Softphones that ring for the connection."""
    made = [EndPoint(world, FakeFlow("ws", ("198.51.100.7", 50000 + n)), f"d{n}") for n in range(count)]
    for end in made:
        world.bind(end.local.partition("@")[0].removeprefix("<sip:"), end.flow)
    return made


def cancel_of(sent: Message, *headers: tuple[str, str]) -> Message:
    """The CANCEL of a request."""
    repeated = [(name, sent.get(name) or "") for name in ("Via", "Max-Forwards", "From", "To", "Call-ID")]
    return Message.request("CANCEL", sent.uri, [*repeated, ("CSeq", f"{sent.cseq.number} CANCEL"), *headers])


@pytest.mark.parametrize(
    ("answers", "best"),
    [
        ([486, 404, 480], 404),
        ([486, 503, 408], 486),
        ([500, 302, 486], 302),
        ([486, 484, 404], 484),
        ([486, 415, 420], 415),
        ([503, 500, 501], 500),
        ([603, 486, 404], 603),
        ([408, 408, 408], 408),
    ],
)
async def test_the_best_response_goes_back(world: World, pbx: EndPoint, answers: list[int], best: int) -> None:
    phones = ends(world, len(answers))
    pbx.invite("alice")
    invites = [phone.flow.next() for phone in phones]
    for phone, invite, status in zip(phones, invites, answers, strict=True):
        assert not [message for message in pbx.flow.sent if message.status >= 200]
        phone.respond(invite, status)
    final = pbx.flow.next_of(best)
    assert final.to_tag
    assert world.calls.kept == 0


async def test_a_6xx_cancels_all_others_and_waits_for_them(world: World, pbx: EndPoint) -> None:
    phones = ends(world, 3)
    pbx.invite("alice")
    invites = [phone.flow.next() for phone in phones]
    phones[1].respond(invites[1], 180)
    phones[2].respond(invites[2], 180)
    phones[0].respond(invites[0], 603)
    for n in (1, 2):
        assert phones[n].flow.next_of("CANCEL")
        assert not [message for message in pbx.flow.sent if message.status >= 300]
        phones[n].respond(invites[n], 487)
    assert pbx.flow.next_of(603)


async def test_an_answer_after_a_6xx_is_still_the_callers(world: World, pbx: EndPoint) -> None:
    phones = ends(world, 2)
    pbx.invite("alice")
    invites = [phone.flow.next() for phone in phones]
    phones[1].respond(invites[1], 180)
    phones[0].respond(invites[0], 600)
    phones[1].respond(invites[1], 200)
    assert pbx.flow.next_of(200).to_tag == "tag-d1"


async def test_challenges_of_a_pbx_never_reach_a_softphone(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    challenge = ("WWW-Authenticate", 'Digest realm="pbx", nonce="n1"')
    phone.invite("600")
    pbx.respond(pbx.flow.next(), 401, challenge)
    refused = phone.flow.next_of(403)
    assert refused.get("WWW-Authenticate") is None

    world.candidates.clear()
    world.connect("office", pbx.flow, credentials=Credentials("200", "wrong"))
    other = EndPoint(world, phone.flow, "alice2")
    other.invite("600")
    pbx.respond(pbx.flow.next_of("INVITE"), 200)
    other.learn(phone.flow.next_of(200))
    other.request("INFO")
    for _ in range(2):
        pbx.respond(pbx.flow.next_of("INFO"), 401, challenge)
    refused = phone.flow.next_of(403)
    assert refused.cseq.method == "INFO"
    assert refused.get("WWW-Authenticate") is None
    assert not pbx.flow.sent, "a wrong password is not tried twice"


def fork(pbx: EndPoint, invite: Message, status: int, tag: str, *headers: tuple[str, str], body: bytes = b"") -> None:
    """A response of one of the ends behind a PBX that forks."""
    before = pbx.tag, pbx.contact
    pbx.tag, pbx.contact = tag, f"<sip:{tag}@192.0.2.99>"
    pbx.respond(invite, status, *headers, body=body)
    pbx.tag, pbx.contact = before


async def test_the_pbx_forks_and_every_end_has_its_early_dialog(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next()
    fork(pbx, invite, 180, "one", ("Record-Route", "<sip:r1;lr>"))
    fork(pbx, invite, 183, "two", ("Record-Route", "<sip:r2;lr>"))
    for status, tag in ((180, "one"), (183, "two")):
        early = phone.learn(phone.flow.next_of(status))
        assert early.to_tag == tag
    for tag in ("two", "one"):
        phone.remote = f"<sip:600@gw.example>;tag={tag}"
        phone.request("UPDATE")
        update = pbx.flow.next_of("UPDATE")
        assert (update.to_tag, update.uri) == (tag, f"sip:{tag}@192.0.2.99")
        assert update.values("Route") == [f"<sip:r{1 if tag == 'one' else 2};lr>"]
        pbx.respond(update, 200)
        assert phone.flow.next_of(200).cseq.method == "UPDATE"

    # 199: one of them is gone; the caller hears of it, and the dialog with it.
    fork(pbx, invite, 199, "one")
    assert phone.flow.next_of(199).to_tag == "one"
    phone.request("UPDATE")
    assert phone.flow.next().status == 481

    fork(pbx, invite, 200, "two")
    answer = phone.flow.next_of(200)
    assert answer.to_tag == "two"


async def test_two_ends_of_one_branch_answer(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next()
    fork(pbx, invite, 200, "one")
    phone.learn(phone.flow.next_of(200))
    fork(pbx, invite, 200, "two")
    assert not phone.flow.sent, "the caller has one call"
    ack, bye = pbx.flow.next(), pbx.flow.next()
    assert (ack.method, ack.to_tag, ack.uri) == ("ACK", "two", "sip:two@192.0.2.99")
    assert (bye.method, bye.to_tag, bye.uri) == ("BYE", "two", "sip:two@192.0.2.99")
    assert bye.get("Reason") == ELSEWHERE
    fork(pbx, invite, 200, "two")
    assert pbx.flow.next().method == "ACK"
    assert not pbx.flow.sent, "one BYE is enough"
    pbx.respond(bye, 200)
    phone.request("ACK", cseq=phone.cseq)
    assert pbx.flow.next().to_tag == "one"
    assert len(world.calls.active()) == 1


async def test_a_2xx_again_is_passed_again(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 200)
    pbx.respond(invite, 200)
    first, second = phone.flow.next_of(200), phone.flow.next_of(200)
    assert bytes(first) == bytes(second)


@pytest.mark.parametrize("end", ["one", "two"])
async def test_a_2xx_long_after_the_first(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: trio.testing.MockClock, end: str
) -> None:
    """The transaction has let go of most of its request by then. From another end of a fork it is hung up."""
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next()
    pbx.tag = "one"
    pbx.respond(invite, 200)
    phone.learn(phone.flow.next_of(200))
    phone.request("ACK", cseq=phone.cseq)
    pbx.flow.next_of("ACK")
    phone.request("INFO")
    await trio.sleep(20)  # the INFO is sent again: time has been looked at
    pbx.flow.sent.clear()
    phone.flow.sent.clear()
    pbx.tag = end
    pbx.deliver(response_to(invite, 200, to_tag=end, headers=[("Contact", pbx.contact)]))
    assert world.signalling.rejected["bug"] == 0
    if end == "one":
        assert phone.flow.next().status == 200
        phone.request("ACK", cseq=phone.cseq - 1)
        assert pbx.flow.next_of("ACK").to_tag == "one"
    else:
        methods = [message.method for message in pbx.flow.sent if message.to_tag == "two"]
        assert methods == ["ACK", "BYE"], (methods, phone.flow.sent)
    assert len(world.calls.active()) == 1


async def test_the_callers_reason_goes_with_the_cancel(world: World, pbx: EndPoint) -> None:
    phones = ends(world, 2)
    sent = pbx.invite("alice")
    invites = [phone.flow.next() for phone in phones]
    for phone, invite in zip(phones, invites, strict=True):
        phone.respond(invite, 180)
    pbx.deliver(cancel_of(sent, ("Reason", ELSEWHERE)))
    for phone, invite in zip(phones, invites, strict=True):
        cancel = phone.flow.next()
        assert (cancel.method, cancel.get("Reason")) == ("CANCEL", ELSEWHERE)
        phone.respond(invite, 487)
    assert pbx.flow.next_of(487)
    assert world.calls.kept == 0


@pytest.mark.parametrize("transport", ["tcp", "tls", "udp"])
async def test_a_caller_whose_connection_died_calls_no_more(world: World, transport: str) -> None:
    pbx = EndPoint(world, FakeFlow(transport, ("192.0.2.99", 5060)), "pbx")
    (phone,) = ends(world, 1)
    pbx.invite("alice")
    invite = phone.flow.next()
    phone.respond(invite, 180)
    pbx.flow.dead = True
    world.signalling.closed(pbx.flow, "gone")
    assert phone.flow.next().method == "CANCEL"
    phone.respond(invite, 487)
    assert world.calls.kept == 0


async def test_a_caller_that_died_before_anything_rang(world: World, pbx: EndPoint) -> None:
    caller = EndPoint(world, FakeFlow("tcp", ("192.0.2.99", 5060)), "pbx")
    (phone,) = ends(world, 1)
    caller.invite("alice")
    invite = phone.flow.next()
    world.signalling.closed(caller.flow, "gone")
    assert not phone.flow.sent
    phone.respond(invite, 200)
    assert [phone.flow.next().method for _ in range(2)] == ["ACK", "BYE"], "an answer nobody waits for is hung up"


async def test_timer_c_is_put_off_by_every_provisional(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: trio.testing.MockClock
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("604")
    invite = pbx.flow.next()
    for _ in range(5):
        pbx.respond(invite, 180)
        await trio.sleep(170)
        assert not [message for message in phone.flow.sent if message.status >= 300]
    await trio.sleep(15)
    assert pbx.flow.next_of("CANCEL")
    assert phone.flow.next_of(408)
    pbx.respond(invite, 487)
    assert world.calls.kept == 0


async def test_an_answer_after_timer_c_is_hung_up(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: trio.testing.MockClock
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("604")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    await trio.sleep(181)
    assert phone.flow.next_of(408)
    pbx.respond(invite, 200)
    assert pbx.flow.next_of("ACK").to_tag == "tag-pbx"
    assert pbx.flow.next_of("BYE")
    assert not [message for message in phone.flow.sent if message.status]


@pytest.mark.parametrize("order", [("cancel", "200"), ("200", "cancel")])
async def test_cancel_against_200(world: World, phone: EndPoint, pbx: EndPoint, order: tuple[str, str]) -> None:
    world.connect("office", pbx.flow)
    sent = phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    for step in order:
        if step == "cancel":
            phone.deliver(cancel_of(sent))
        else:
            pbx.respond(invite, 200)
    answer = phone.flow.next_of(200)
    if answer.cseq.method == "CANCEL":
        answer = phone.flow.next_of(200)
    assert answer.cseq.method == "INVITE", "who answered has answered"
    phone.learn(answer)
    phone.request("ACK", cseq=phone.cseq)
    phone.request("BYE")
    pbx.respond(pbx.flow.next_of("BYE"), 200)
    assert world.calls.kept == 0


async def test_200_after_487(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    """Two ends behind a PBX: one was cancelled, the other had answered."""
    world.connect("office", pbx.flow)
    sent = phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    phone.deliver(cancel_of(sent))
    pbx.respond(invite, 487)
    assert phone.flow.next_of(487)
    pbx.flow.sent.clear()
    fork(pbx, invite, 200, "late")
    assert [pbx.flow.next().method for _ in range(2)] == ["ACK", "BYE"]
    assert not phone.flow.sent


async def test_redirections_are_passed_back(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    pbx.contact = "<sip:601@pbx.example>;q=0.5, <sip:602@elsewhere.example>"
    pbx.respond(pbx.flow.next(), 302)
    moved = phone.flow.next_of(302)
    assert [contact.uri for contact in moved.contacts] == ["sip:601@pbx.example", "sip:602@elsewhere.example"]


async def test_redirections_are_followed_at_the_same_host_only(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow, redirects="follow")
    sent = phone.invite("600")
    first = pbx.flow.next()
    pbx.contact = (
        "<sip:601@pbx.example>;q=0.5, <sip:602@elsewhere.example>;q=1, <sip:603@PBX.example?Subject=x>;q=0.9,"
        " <tel:604>, <sip:605@192.0.2.99>;q=0.1"
    )
    pbx.respond(first, 302)
    pbx.contact = "<sip:pbx@pbx.example>"
    second = pbx.flow.next_of("INVITE")
    assert second.uri == "sip:603@PBX.example"
    assert second.cseq.number > first.cseq.number, "or the PBX takes it for a merged request"
    assert (second.get("To"), second.from_tag) == (first.get("To"), first.from_tag)
    pbx.respond(second, 486)
    third = pbx.flow.next_of("INVITE")
    assert third.uri == "sip:601@pbx.example"
    pbx.respond(third, 200)
    ok = phone.flow.next_of(200)
    assert ok.cseq == sent.cseq
    phone.learn(ok)
    phone.request("ACK", cseq=phone.cseq)
    assert pbx.flow.next_of("ACK").cseq.number == third.cseq.number


async def test_a_redirection_elsewhere_is_passed_even_so(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow, redirects="follow")
    phone.invite("600")
    pbx.contact = "<sip:602@elsewhere.example>"
    pbx.respond(pbx.flow.next(), 302)
    assert phone.flow.next_of(302).contacts[0].uri == "sip:602@elsewhere.example"


async def test_redirections_have_an_end(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow, redirects="follow")
    phone.invite("600")
    tried = []
    for n in range(6):
        invite = pbx.flow.next_of("INVITE")
        tried.append(invite.uri)
        pbx.contact = f"<sip:7{n}@pbx.example>"
        pbx.respond(invite, 302)
    assert phone.flow.next_of(302)
    assert len(set(tried)) == 6
    assert world.calls.kept == 0


async def test_a_redirection_in_a_circle_has_an_end(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow, redirects="follow")
    phone.invite("600")
    pbx.contact = "<sip:601@pbx.example>"
    pbx.respond(pbx.flow.next_of("INVITE"), 302)
    pbx.respond(pbx.flow.next_of("INVITE"), 302)
    assert phone.flow.next_of(302)


async def test_a_call_given_up_is_not_redirected(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow, redirects="follow")
    sent = phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    phone.deliver(cancel_of(sent))
    pbx.contact = "<sip:601@pbx.example>"
    pbx.respond(invite, 302)
    assert phone.flow.next_of(302)
    assert not [message for message in pbx.flow.sent if message.method == "INVITE"]
