"""2xx that nobody waits for: acknowledged and hung up, whether their transaction is still there or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from siperb_core.calls import strays
from siperb_core.sip import Message, parse
from siperb_core.sip.proxy import COMPLETED_ELSEWHERE

from .fake_media import SDP, FakeMedia
from .test_proxy_forks import cancel_of
from .world import EndPoint, FakeFlow, World, established

Clock = trio.testing.MockClock


async def times_out(phone: EndPoint, pbx: EndPoint) -> Message:
    """Timer B."""
    phone.invite("600")
    invite = pbx.flow.next()
    await trio.sleep(33)
    assert phone.flow.next_of(408)
    return invite


async def is_cancelled(phone: EndPoint, pbx: EndPoint) -> Message:
    """No 487, and the INVITE's transaction ends 64*T1 after the CANCEL (section 9.1)."""
    sent = phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    phone.deliver(cancel_of(sent))
    pbx.respond(pbx.flow.next_of("CANCEL"), 200)
    await trio.sleep(33)
    assert phone.flow.next_of(408)
    return invite


async def is_terminated(phone: EndPoint, pbx: EndPoint) -> Message:
    """A 487, and timer D."""
    sent = phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    phone.deliver(cancel_of(sent))
    pbx.respond(invite, 487)
    assert phone.flow.next_of(487)
    await trio.sleep(33)
    return invite


ENDINGS = [times_out, is_cancelled, is_terminated]


@pytest.mark.parametrize("ends", ENDINGS)
async def test_a_2xx_after_the_transaction_is_acknowledged_and_hung_up_once(
    world: World, phone: EndPoint, pbx: EndPoint, ends: Callable[..., object], autojump_clock: Clock
) -> None:
    world.connect("office", pbx.flow)
    invite = await ends(phone, pbx)  # type: ignore[misc]
    assert world.calls.kept == 0
    pbx.flow.sent.clear()
    phone.flow.sent.clear()
    for tag in ("one", "two"):
        pbx.tag = tag
        pbx.respond(invite, 200, ("Record-Route", f"<sip:{tag}.example;lr>"))
        ack, bye = pbx.flow.next(), pbx.flow.next()
        assert (ack.method, bye.method) == ("ACK", "BYE")
        for message in (ack, bye):
            assert (message.uri, message.to_tag) == ("sip:pbx@pbx.invalid;transport=udp", tag)
            assert message.get("Route") == f"<sip:{tag}.example;lr>"
        assert ack.cseq.number == invite.cseq.number < bye.cseq.number
        assert bye.get("Reason") == COMPLETED_ELSEWHERE
        pbx.respond(bye, 200)
        pbx.respond(invite, 200, ("Record-Route", f"<sip:{tag}.example;lr>"))
        again = pbx.flow.next()
        assert (again.method, again.uri) == ("ACK", ack.uri)
        assert again.via.branch != ack.via.branch
    assert not pbx.flow.sent
    assert not phone.flow.sent
    await trio.sleep(40)
    assert world.signalling.transactions == 0


async def test_a_2xx_behind_a_stream_s_487(world: World, phone: EndPoint) -> None:
    """On a reliable transport the transaction ends with the 487."""
    pbx = EndPoint(world, FakeFlow("tcp", ("192.0.2.99", 5060)), "pbx")
    world.connect("office", pbx.flow)
    sent = phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    phone.deliver(cancel_of(sent))
    pbx.respond(invite, 487)
    pbx.respond(pbx.flow.next_of("CANCEL"), 200)
    pbx.flow.sent.clear()
    assert phone.flow.next_of(487)
    pbx.respond(invite, 200)
    assert [pbx.flow.next().method for _ in range(2)] == ["ACK", "BYE"]
    again = FakeFlow("tcp", ("192.0.2.99", 40001))  # another connection of the PBX's
    pbx.flow = again
    pbx.respond(invite, 200)
    assert again.next().method == "ACK"


async def test_a_live_call_s_2xx_is_acknowledged_again_and_nothing_else(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia, autojump_clock: Clock
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 200, SDP, body=b"offer")
    phone.learn(phone.flow.next_of(200))
    phone.request("ACK", SDP, cseq=phone.cseq, body=b"answer")
    first = pbx.flow.next_of("ACK")
    await trio.sleep(60)
    assert world.signalling.transactions == 0
    pbx.respond(invite, 200, SDP, body=b"offer")
    ack = pbx.flow.next()
    assert (ack.method, ack.uri, ack.cseq, ack.body) == ("ACK", first.uri, first.cseq, b"peer:answer")
    assert not pbx.flow.sent
    assert not phone.flow.sent
    (call,) = world.calls.active()
    assert call.established
    phone.request("BYE")
    pbx.respond(pbx.flow.next_of("BYE"), 200)
    assert phone.flow.next_of(200).cseq.method == "BYE"


async def test_a_re_invite_answered_after_its_408_is_acknowledged(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: Clock
) -> None:
    established(world, phone, pbx)
    pbx.request("INVITE")
    reinvite = phone.flow.next_of("INVITE")
    await trio.sleep(33)
    assert pbx.flow.next_of(408)
    phone.respond(reinvite, 200)
    ack = phone.flow.next()
    assert (ack.method, ack.cseq.number, ack.to_tag) == ("ACK", reinvite.cseq.number, phone.tag)
    assert len(world.calls.active()) == 1


async def test_a_stranger_s_2xx_is_nobody_s(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: Clock
) -> None:
    world.connect("office", pbx.flow)
    invite = await times_out(phone, pbx)
    pbx.flow.sent.clear()
    home, pbx.flow = pbx.flow, FakeFlow("udp", ("198.51.100.66", 5060))
    pbx.respond(invite, 200)
    assert not pbx.flow.sent
    assert not home.sent
    pbx.flow = home
    for header, wrong in (("Call-ID", "other"), ("CSeq", "99 INVITE"), ("From", "<sip:a@b>;tag=other")):
        forged = parse(bytes(invite))
        forged.set(header, wrong)
        pbx.respond(forged, 200)
    assert not home.sent


async def test_early_strays_do_nothing(world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: Clock) -> None:
    world.connect("office", pbx.flow)
    invite = await times_out(phone, pbx)
    pbx.flow.sent.clear()
    for status in (100, 180, 183, 199, 404, 486):
        pbx.respond(invite, status, ("Require", "100rel"), ("RSeq", "1"))
    assert not pbx.flow.sent
    assert not phone.flow.sent
    assert world.calls.kept == 0


async def test_what_is_kept_has_an_end(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.connect("office", pbx.flow)
    invite = await times_out(phone, pbx)
    assert len(world.calls.strays) == 1
    await trio.sleep(strays.KEPT_SECONDS + 10)
    assert len(world.calls.strays) == 0
    pbx.flow.sent.clear()
    pbx.respond(invite, 200)
    assert not pbx.flow.sent
    monkeypatch.setattr(strays, "MOST_KEPT", 3)
    for number in range(5):
        phone.call_id = f"call-{number}"
        phone.invite("600")
        pbx.respond(pbx.flow.next_of("INVITE"), 486)
        pbx.flow.sent.clear()
    assert len(world.calls.strays) == 3


async def test_an_end_without_end_of_forks(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    """However many ends answer, and however often: so many are hung up, and nothing is kept of the call."""
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next()
    for number in range(3 * strays.MOST_ENDS):
        pbx.tag = f"end-{number}"
        pbx.respond(invite, 183)
        pbx.respond(invite, 199)
    (call,) = world.calls.active()
    pbx.tag = "pbx"
    pbx.respond(invite, 200)
    for number in range(3 * strays.MOST_ENDS):
        pbx.tag = f"end-{number}"
        pbx.respond(invite, 200)
    sent = [message.method for message in pbx.flow.sent]
    assert sent.count("BYE") == sent.count("ACK") == strays.MOST_ENDS
    for kept in (call.dialogs, call._branch_of, call._negotiations):
        assert len(kept) <= 1
    assert call.established
