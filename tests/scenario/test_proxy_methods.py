"""Every method on its way through: inside dialogs, outside, and when two of them meet."""

from __future__ import annotations

import trio

from siperb_core.sip import Message, parse

from .fake_media import SDP, FakeMedia
from .world import EndPoint, FakeFlow, World, established

CHALLENGE = ("Proxy-Authenticate", 'Digest realm="pbx", nonce="n1", algorithm=MD5, qop="auth"')


# ---- OPTIONS


async def test_options_in_a_dialog_is_for_the_other_side(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    phone.request("OPTIONS")
    pbx.respond(pbx.flow.next_of("OPTIONS"), 200, ("Allow", "INVITE, X"))
    assert phone.flow.next_of(200).get("Allow") == "INVITE, X"


async def test_a_list_of_capabilities_is_not_a_description_of_the_session(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia
) -> None:
    established(world, phone, pbx)
    phone.request("OPTIONS")
    pbx.respond(pbx.flow.next_of("OPTIONS"), 200, SDP, body=b"capabilities")
    assert phone.flow.next_of(200).body == b""


# ---- when two meet


async def test_glare_without_media_of_ours_is_theirs_to_see(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    phone.request("INVITE", SDP, body=b"hold")
    pbx.request("INVITE", SDP, body=b"resume")
    to_pbx, to_phone = pbx.flow.next_of("INVITE"), phone.flow.next_of("INVITE")
    assert (to_pbx.body, to_phone.body) == (b"hold", b"resume")
    phone.respond(to_phone, 491)
    pbx.respond(to_pbx, 491)
    assert phone.flow.next_of(491)
    assert pbx.flow.next_of(491)


async def test_bye_against_bye(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    phone.request("BYE")
    pbx.request("BYE")
    to_pbx, to_phone = pbx.flow.next_of("BYE"), phone.flow.next_of("BYE")
    phone.respond(to_phone, 200)
    assert pbx.flow.next_of(200).cseq.method == "BYE"
    pbx.respond(to_pbx, 481)
    assert phone.flow.next_of(481).cseq.method == "BYE"
    assert world.calls.kept == 0
    assert [record.state for record in world.records] == ["ended"]


async def test_reinvite_after_bye(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    phone.request("BYE")
    pbx.respond(pbx.flow.next_of("BYE"), 200)
    pbx.request("INVITE")
    assert pbx.flow.next_of(481).cseq.method == "INVITE"
    phone.request("BYE")
    assert phone.flow.next_of(481).cseq.method == "BYE"


async def test_bye_in_an_early_dialog(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next()
    pbx.respond(invite, 180)
    phone.learn(phone.flow.next_of(180))
    phone.request("BYE")
    bye = pbx.flow.next_of("BYE")
    assert (bye.to_tag, bye.uri) == (pbx.tag, "sip:pbx@pbx.invalid;transport=udp")
    pbx.respond(bye, 200)
    assert phone.flow.next_of(200).cseq.method == "BYE"
    pbx.respond(invite, 487)
    assert phone.flow.next_of(487).cseq.method == "INVITE", "the INVITE is still answered"
    assert world.calls.kept == 0


async def test_a_cancelled_reinvite_leaves_the_call(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    sent = phone.request("INVITE")
    invite = pbx.flow.next_of("INVITE")
    pbx.respond(invite, 180)
    repeated = [(name, sent.get(name) or "") for name in ("Via", "Max-Forwards", "From", "To", "Call-ID")]
    phone.deliver(Message.request("CANCEL", sent.uri, [*repeated, ("CSeq", f"{sent.cseq.number} CANCEL")]))
    assert pbx.flow.next_of("CANCEL")
    pbx.respond(invite, 487)
    assert phone.flow.next_of(487)
    assert len(world.calls.active()) == 1


async def test_a_200_that_is_never_acknowledged_ends_the_call(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: trio.testing.MockClock
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    pbx.respond(pbx.flow.next(), 200)
    phone.learn(phone.flow.next_of(200))
    await trio.sleep(50)
    pbx.respond(pbx.flow.next_of("BYE"), 200)
    assert phone.flow.next_of("BYE")
    assert world.calls.kept == 0
    assert world.records[0].diagnosis == "200 OK was never ACKed"


# ---- transfers


async def test_a_blind_transfer(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    phone.request(
        "REFER", ("Refer-To", "<sip:603@gw.example;user=phone>"), ("Referred-By", '"A" <sip:alice@gw.example>')
    )
    refer = pbx.flow.next_of("REFER")
    assert refer.get("Refer-To") == "<sip:603@pbx.example;user=phone>"
    assert refer.get("Referred-By") == '"A" <sip:200@pbx.example>'
    pbx.respond(refer, 407, CHALLENGE)
    again = pbx.flow.next_of("REFER")
    pbx.respond(again, 202)
    accepted = phone.flow.next_of(202)
    # The phone hangs up as soon as it may; what comes of the transfer is told it all the same (RFC 5057 section 4.2).
    phone.request("BYE")
    pbx.respond(pbx.flow.next_of("BYE"), 200)
    assert phone.flow.next_of(200)
    assert world.calls.active() == []
    for state, body in (
        ("active;expires=60", b"SIP/2.0 100 Trying"),
        ("terminated;reason=noresource", b"SIP/2.0 200 OK"),
    ):
        assert world.saved, "a restart would not lose it"
        pbx.request("NOTIFY", ("Event", f"refer;id={again.cseq.number}"), ("Subscription-State", state), body=body)
        notify = phone.flow.next_of("NOTIFY")
        assert notify.get("Event") == f"refer;id={accepted.cseq.number}", "the number the phone gave its REFER"
        assert notify.body == body
        phone.respond(notify, 200)
        assert pbx.flow.next_of(200)
    assert world.calls.kept == 0
    assert world.saved == {}
    pbx.request("NOTIFY", ("Event", "refer"), ("Subscription-State", "active"))
    assert pbx.flow.next_of(481)


async def test_a_transfer_nobody_reports_on_is_forgotten(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: trio.testing.MockClock
) -> None:
    established(world, phone, pbx)
    phone.request("REFER", ("Refer-To", "<sip:603@gw.example>"))
    pbx.respond(pbx.flow.next_of("REFER"), 202)
    phone.request("BYE")
    pbx.respond(pbx.flow.next_of("BYE"), 200)
    assert world.calls.kept == 1
    await trio.sleep(220)
    assert world.calls.kept == 0


async def test_a_transfer_without_subscription(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    phone.request("REFER", ("Refer-To", "<sip:603@gw.example>"), ("Refer-Sub", "false"))
    pbx.respond(pbx.flow.next_of("REFER"), 202, ("Refer-Sub", "false"))
    phone.request("BYE")
    pbx.respond(pbx.flow.next_of("BYE"), 200)
    assert world.calls.kept == 0


async def test_an_attended_transfer(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    """The phone has two calls, and joins their far ends."""
    established(world, phone, pbx)
    carol = EndPoint(world, pbx.flow, "carol")
    second = EndPoint(world, phone.flow, "alice")
    second.tag, second.local, second.call_id = "tag-2", "<sip:alice@gw.example>;tag=tag-2", "call-2"
    second.invite("602")
    carol.respond(pbx.flow.next_of("INVITE"), 200)
    contact = second.learn(phone.flow.next_of(200)).contacts[0].uri
    second.request("ACK", cseq=second.cseq)
    pbx.flow.next_of("ACK")
    replaces = "call-2%3Bto-tag%3Dtag-carol%3Bfrom-tag%3Dtag-2"
    phone.request("REFER", ("Refer-To", f"<sip:602@gw.example?Replaces={replaces}>"))
    refer = pbx.flow.next_of("REFER")
    assert refer.get("Refer-To") == f"<sip:602@pbx.example?Replaces={replaces}>"
    # JsSIP and others put the Contact there: what the PBX gets is a Contact it can reach, its own.
    phone.request("REFER", ("Refer-To", f"<{contact}?Replaces={replaces}>"))
    refer = pbx.flow.next_of("REFER")
    assert refer.get("Refer-To") == f"<sip:carol@carol.invalid;transport=udp?Replaces={replaces}>"

    # The call that comes of it: Replaces matches as it is, since Call-ID and tags are the same on both legs.
    third = EndPoint(world, phone.flow, "dora")
    third.invite("602", ("Replaces", "call-2;to-tag=tag-carol;from-tag=tag-2"), ("Referred-By", "<sip:600@gw.example>"))
    invite = pbx.flow.next_of("INVITE")
    assert invite.get("Replaces") == "call-2;to-tag=tag-carol;from-tag=tag-2"
    assert invite.get("Referred-By") == "<sip:600@pbx.example>"


async def test_the_pbx_transfers_a_phone(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    pbx.request(
        "REFER", ("r", "<sip:603@192.0.2.99:5060;transport=udp?Replaces=x>;p=1"), ("Referred-By", "<sip:9@pbx.example>")
    )
    refer = phone.flow.next_of("REFER")
    assert refer.get("Refer-To") == "<sip:603@gw.example?Replaces=x>;p=1"
    assert refer.get("Referred-By") == "<sip:9@gw.example>"
    phone.respond(refer, 202)
    assert pbx.flow.next_of(202)
    phone.request("NOTIFY", ("Event", "refer"), ("Subscription-State", "terminated"), body=b"SIP/2.0 200 OK")
    notify = pbx.flow.next_of("NOTIFY")
    assert notify.get("Event") == "refer"
    pbx.respond(notify, 200)
    assert len(world.calls.active()) == 1


async def test_a_refer_with_two_targets_is_400(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    phone.request("REFER", ("Refer-To", "<sip:603@gw.example>"), ("Refer-To", "<sip:604@gw.example>"))
    assert phone.flow.next_of(400)
    assert not pbx.flow.sent
    other = EndPoint(world, phone.flow, "bob")
    other.invite("600", ("Refer-To", "nonsense<"), method="REFER")
    assert phone.flow.next_of(400)


async def test_a_refer_outside_any_dialog(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600", ("Refer-To", "<sip:603@gw.example>"), method="REFER")
    refer = pbx.flow.next()
    assert refer.get("Refer-To") == "<sip:603@pbx.example>"
    pbx.respond(refer, 202)
    phone.learn(phone.flow.next_of(202))
    pbx.request("NOTIFY", ("Event", "refer"), ("Subscription-State", "active;expires=60"))
    phone.respond(phone.flow.next_of("NOTIFY"), 200)
    phone.request("SUBSCRIBE", ("Event", "refer"), ("Expires", "0"))
    pbx.respond(pbx.flow.next_of("SUBSCRIBE"), 200, ("Expires", "0"))
    pbx.request("NOTIFY", ("Event", "refer"), ("Subscription-State", "terminated;reason=timeout"))
    phone.respond(phone.flow.next_of("NOTIFY"), 200)
    assert world.calls.kept == 0


# ---- subscriptions and the rest


async def test_a_subscription_that_runs_out_is_forgotten(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: trio.testing.MockClock
) -> None:
    world.connect("office", pbx.flow)
    phone.invite("100", ("Event", "dialog"), ("Expires", "600"), method="SUBSCRIBE")
    pbx.respond(pbx.flow.next(), 200, ("Expires", "300"))
    phone.learn(phone.flow.next())
    await trio.sleep(290)
    phone.request("SUBSCRIBE", ("Event", "dialog"), ("Expires", "600"))
    pbx.respond(pbx.flow.next_of("SUBSCRIBE"), 200, ("Expires", "300"))
    await trio.sleep(320)
    assert world.calls.kept == 1, "refreshed, and there is some grace"
    await trio.sleep(20)
    assert world.calls.kept == 0
    assert world.saved == {}


async def test_a_subscription_that_ended_before_its_200(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("100", ("Event", "dialog"), ("Expires", "0"), method="SUBSCRIBE")
    subscribe = pbx.flow.next()
    pbx.target, pbx.call_id = subscribe.contacts[0].uri, subscribe.call_id
    pbx.local, pbx.remote = f"{subscribe.get('To')};tag={pbx.tag}", subscribe.get("From") or ""
    pbx.request("NOTIFY", ("Event", "dialog"), ("Subscription-State", "terminated;reason=timeout"))
    phone.respond(phone.flow.next_of("NOTIFY"), 200)
    pbx.respond(subscribe, 200, ("Expires", "0"))
    assert phone.flow.next_of(200).cseq.method == "SUBSCRIBE"
    assert world.calls.kept == 0


async def test_a_pbx_subscribes_to_all_softphones(world: World, pbx: EndPoint) -> None:
    phones = [EndPoint(world, FakeFlow("ws", ("198.51.100.7", 50000 + n)), f"d{n}") for n in range(2)]
    for n, phone in enumerate(phones):
        world.bind(f"d{n}", phone.flow)
    pbx.invite("alice", ("Event", "presence"), method="SUBSCRIBE")
    subscribes = [phone.flow.next() for phone in phones]
    for phone, subscribe in zip(phones, subscribes, strict=True):
        phone.respond(subscribe, 200, ("Expires", "60"))
    pbx.learn(pbx.flow.next_of(200))
    assert not pbx.flow.sent, "one 2xx goes back"
    for phone in reversed(phones):
        phone.request("NOTIFY", ("Event", "presence"), ("Subscription-State", "active;expires=60"))
        notify = pbx.flow.next_of("NOTIFY")
        assert notify.from_tag == phone.tag
        pbx.flow.sent.clear()
        pbx.deliver(answer(notify, 200))
        assert phone.flow.next_of(200).cseq.method == "NOTIFY"
    phones[1].request("NOTIFY", ("Event", "presence"), ("Subscription-State", "active"))
    pbx.deliver(answer(pbx.flow.next_of("NOTIFY"), 481))
    assert phones[1].flow.next_of(481)
    phones[1].request("NOTIFY", ("Event", "presence"), ("Subscription-State", "terminated"))
    pbx.deliver(answer(pbx.flow.next_of("NOTIFY"), 481))
    phones[0].request("NOTIFY", ("Event", "presence"), ("Subscription-State", "terminated"))
    pbx.deliver(answer(pbx.flow.next_of("NOTIFY"), 200))
    assert world.calls.kept == 0


def answer(request: Message, status: int) -> Message:
    """A response as plain as can be."""
    headers = [(name, value) for name, value in request.items() if name in ("Via", "From", "To", "Call-ID", "CSeq")]
    return parse(bytes(Message.response(status, "x", headers)))


async def test_publish_and_its_etag(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite(
        "alice", ("Event", "presence"), ("SIP-If-Match", "e1"), ("Expires", "60"), method="PUBLISH", body=b"<p/>"
    )
    publish = pbx.flow.next()
    assert (publish.get("SIP-If-Match"), publish.body) == ("e1", b"<p/>")
    pbx.respond(publish, 200, ("SIP-ETag", "e2"), ("Expires", "60"))
    assert phone.flow.next_of(200).get("SIP-ETag") == "e2"
    assert world.calls.kept == 0


async def test_info_and_message_in_a_dialog_pass_whole(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    for method in ("INFO", "MESSAGE"):
        pbx.request(method, ("Content-Type", "application/x"), ("X-Own", "1"), body=b"\x00\xff")
        passed = phone.flow.next_of(method)
        assert (passed.body, passed.get("X-Own")) == (b"\x00\xff", "1")
        phone.respond(passed, 200, ("X-Back", "2"))
        assert pbx.flow.next_of(200).get("X-Back") == "2"


async def test_only_what_refreshes_the_target_moves_it(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    established(world, phone, pbx)
    pbx.contact = "<sip:elsewhere@192.0.2.98>"
    pbx.request("INFO")
    phone.respond(phone.flow.next_of("INFO"), 200)
    phone.request("INFO")
    assert pbx.flow.next_of("INFO").uri == "sip:pbx@pbx.invalid;transport=udp"
    pbx.request("UPDATE")
    phone.respond(phone.flow.next_of("UPDATE"), 200)
    phone.request("INFO")
    assert pbx.flow.next_of("INFO").uri == "sip:elsewhere@192.0.2.98"


# ---- session timers


async def test_a_session_nobody_refreshes_is_ended_on_both_sides(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: trio.testing.MockClock
) -> None:
    established(world, phone, pbx, ("Session-Expires", "90;refresher=uas"), ("Require", "timer"))
    await trio.sleep(80)
    pbx.request("UPDATE", ("Session-Expires", "90;refresher=uac"))
    update = phone.flow.next_of("UPDATE")
    assert update.get("Session-Expires") == "90;refresher=uac"
    phone.respond(update, 200, ("Session-Expires", "90;refresher=uac"))
    await trio.sleep(110)
    assert len(world.calls.active()) == 1
    await trio.sleep(20)
    assert "session expired" in (pbx.flow.next_of("BYE").get("Reason") or "")
    assert phone.flow.next_of("BYE")
    assert world.calls.kept == 0


async def test_a_session_without_timer_lasts(
    world: World, phone: EndPoint, pbx: EndPoint, autojump_clock: trio.testing.MockClock
) -> None:
    established(world, phone, pbx, ("x", "90"))
    phone.request("INVITE")
    pbx.respond(pbx.flow.next_of("INVITE"), 200)
    phone.flow.next_of(200)
    phone.request("ACK", cseq=phone.cseq)
    await trio.sleep(4000)
    assert len(world.calls.active()) == 1


async def test_of_a_bridged_call_the_media_know_best(
    world: World, phone: EndPoint, pbx: EndPoint, media: FakeMedia, autojump_clock: trio.testing.MockClock
) -> None:
    established(world, phone, pbx, ("Session-Expires", "90"))
    await trio.sleep(4000)
    assert len(world.calls.active()) == 1
    media.on_dead("PBX sent no RTP")
    assert pbx.flow.next_of("BYE")
    assert phone.flow.next_of("BYE")
    assert media.closed


async def test_too_short_a_session_is_theirs_to_settle(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600", ("Session-Expires", "30"), ("Min-SE", "30"))
    pbx.respond(pbx.flow.next(), 422, ("Min-SE", "90"))
    assert phone.flow.next_of(422).get("Min-SE") == "90"
