"""Messages that cross: whatever comes first, both ends come to the same end, and nothing is left over.

The commonest are where their matter is: CANCEL against 200, two 200s of a fork and a 200 after 487 in test_proxy_forks,
BYE against BYE, glare without media and a re-INVITE after BYE in test_proxy_methods, glare with media in
test_proxy_offers.
"""

from __future__ import annotations

import pytest
import trio

from siperb_core.sip import Message

from .test_proxy_forks import cancel_of, ends
from .world import EndPoint, World, established


def drain(end: EndPoint) -> list[tuple[str, str]]:
    """All that was sent to an end, as (method or status, method of CSeq)."""
    found = [(message.method or str(message.status), message.cseq.method) for message in end.flow.sent]
    end.flow.sent.clear()
    return found


def acknowledge(end: EndPoint, answer: Message) -> None:
    end.learn(answer)
    end.request("ACK", cseq=end.cseq)


@pytest.mark.parametrize("order", [("cancel", "200"), ("200", "cancel")])
async def test_cancel_of_the_pbx_against_200_of_a_softphone(
    world: World, pbx: EndPoint, order: tuple[str, str]
) -> None:
    (phone,) = ends(world, 1)
    sent = pbx.invite("alice")
    invite = phone.flow.next()
    phone.respond(invite, 180)
    for step in order:
        if step == "cancel":
            pbx.deliver(cancel_of(sent))
        else:
            phone.respond(invite, 200)
    finals = [message for message in pbx.flow.sent if message.status >= 200 and message.cseq.method == "INVITE"]
    assert [message.status for message in finals] == [200], "who answered has answered"
    acknowledge(pbx, finals[0])
    phone.flow.next_of("ACK")
    pbx.flow.sent.clear()
    pbx.request("BYE")
    phone.respond(phone.flow.next_of("BYE"), 200)
    assert drain(pbx) == [("200", "BYE")]
    assert world.calls.kept == 0
    assert [record.state for record in world.records] == ["ended"]


@pytest.mark.parametrize("order", [("cancel", "486"), ("486", "cancel")])
async def test_cancel_against_a_refusal(world: World, phone: EndPoint, pbx: EndPoint, order: tuple[str, str]) -> None:
    world.connect("office", pbx.flow)
    sent = phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    for step in order:
        if step == "cancel":
            phone.deliver(cancel_of(sent))
        else:
            pbx.respond(invite, 486)
    finals = [status for status, method in drain(phone) if method == "INVITE" and status >= "2"]
    assert finals in (["486"], ["487"]), "one final response, whoever came first"
    assert ("ACK", "ACK") in drain(pbx), "and the PBX's own is acknowledged"
    assert world.calls.kept == 0


async def test_two_softphones_answer_before_either_could_be_cancelled(world: World, pbx: EndPoint) -> None:
    """Neither has rung, so no CANCEL could be sent (RFC 3261 section 9.1)."""
    first, second = ends(world, 2)
    pbx.invite("alice")
    invites = first.flow.next(), second.flow.next()
    first.respond(invites[0], 200)
    second.respond(invites[1], 200)
    answers = [message for message in pbx.flow.sent if message.status >= 200]
    assert [message.to_tag for message in answers] == [first.tag], "the caller has one call"
    acknowledge(pbx, answers[0])
    assert drain(first) == [("ACK", "ACK")]
    ack, bye = second.flow.next(), second.flow.next()
    assert (ack.method, bye.method) == ("ACK", "BYE")
    second.respond(bye, 200)
    assert not second.flow.sent
    assert len(world.calls.active()) == 1
    pbx.flow.sent.clear()
    pbx.request("BYE")
    first.respond(first.flow.next_of("BYE"), 200)
    assert drain(pbx) == [("200", "BYE")]
    assert world.calls.kept == 0


async def test_bye_crosses_a_reinvite_of_the_other_side(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    phone.request("BYE")
    pbx.request("INVITE")
    bye = pbx.flow.next_of("BYE")
    for message in list(phone.flow.sent):  # a user agent that has sent BYE knows of no dialog
        if message.method == "INVITE":
            phone.respond(message, 481)
    pbx.respond(bye, 200)
    assert ("200", "BYE") in drain(phone)
    finals = [status for status, method in drain(pbx) if method == "INVITE" and status >= "2"]
    assert finals in (["481"], ["487"]), "the re-INVITE is answered"
    assert world.calls.kept == 0
    assert [record.state for record in world.records] == ["ended"]


@pytest.mark.parametrize("answer", [487, 200])
async def test_bye_while_the_own_reinvite_is_open(world: World, phone: EndPoint, pbx: EndPoint, answer: int) -> None:
    established(world, phone, pbx)
    phone.request("INVITE")
    reinvite = pbx.flow.next_of("INVITE")
    phone.request("BYE")
    pbx.respond(pbx.flow.next_of("BYE"), 200)
    pbx.respond(reinvite, answer)
    told = drain(phone)
    assert ("200", "BYE") in told
    assert [method for status, method in told if status >= "2" and method == "INVITE"] == ["INVITE"]
    if answer == 200:
        phone.request("ACK", cseq=phone.cseq - 1)
    assert ("ACK", "ACK") in drain(pbx), "whatever it was answered with is acknowledged"
    assert world.calls.kept == 0


async def test_bye_crosses_the_200_to_the_own_reinvite(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    """The call is forgotten with the BYE, and the ACK finds nobody: the 200 that is repeated is acknowledged."""
    established(world, phone, pbx)
    phone.request("INVITE")
    reinvite = pbx.flow.next_of("INVITE")
    pbx.respond(reinvite, 200)
    assert ("200", "INVITE") in drain(phone)
    phone.request("BYE")
    pbx.respond(pbx.flow.next_of("BYE"), 200)
    phone.request("ACK", cseq=phone.cseq - 1)
    drain(pbx)
    for _ in range(2):
        pbx.respond(reinvite, 200)
        ack = pbx.flow.next_of("ACK")
        assert ack.cseq.number == reinvite.cseq.number
        assert not pbx.flow.sent
    assert drain(phone) == [("200", "BYE")], "the phone has heard all there is"
    assert world.calls.kept == 0


async def test_bye_overtakes_the_ack(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: trio.testing.MockClock
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 200)
    phone.learn(phone.flow.next_of(200))
    invite_cseq = phone.cseq
    phone.request("BYE")
    pbx.respond(pbx.flow.next_of("BYE"), 200)
    assert ("200", "BYE") in drain(phone)
    phone.request("ACK", cseq=invite_cseq)
    await trio.sleep(60)
    assert world.calls.kept == 0
    assert not [message for message in phone.flow.sent if message.method], "nobody is hung up twice"
    assert not [message for message in pbx.flow.sent if message.method == "BYE"]
