"""Two demo PBXs call each other over loopback: real SIP, real RTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from siperb_core.sip import Message
from siperb_core.testing.pbx import Pbx, PbxSettings, open_pbx
from siperb_core.testing.pbx_numbers import digit_tone
from siperb_core.testing.session import CallFailed
from siperb_core.testing.user_agent import Credentials

ACCOUNTS = {"200": "two-hundred", "201": "two-hundred-and-one"}


@pytest.fixture
async def pbx() -> AsyncIterator[Pbx]:
    async with open_pbx(PbxSettings(accounts=ACCOUNTS)) as running:
        yield running


@pytest.fixture
async def phone() -> AsyncIterator[Pbx]:
    """A second PBX in the part of a desk phone."""
    async with open_pbx(PbxSettings(credentials=Credentials("200", "two-hundred"))) as running:
        yield running


def uri(number: str, pbx: Pbx) -> str:
    return f"sip:{number}@{pbx.host_port}"


@pytest.mark.parametrize("codec", ["G722", "PCMA", "PCMU"])
async def test_601_plays_a_tone_in_every_codec(pbx: Pbx, codec: str) -> None:
    settings = PbxSettings(codecs=(codec,), credentials=Credentials("200", "two-hundred"))
    async with open_pbx(settings) as phone:
        call = await phone.call(uri("601", pbx), caller="200")
        await call.answered()
        heard = await call.listen()
        assert heard.is_tone(1000, within=2, above_rest=30)
        assert heard.dbfs == pytest.approx(-6, abs=0.5)
        there = pbx.calls[0]
        assert there.media.agreed is not None
        assert there.media.agreed.codec == codec
        assert there.account == "200"
        await call.hangup()
        await there.ended.wait()
        assert there.ended_by == "them"


async def test_600_returns_what_it_hears(pbx: Pbx, phone: Pbx) -> None:
    call = await phone.call(uri("600", pbx), caller="200", play_hz=770)
    await call.answered()
    await call.media.ear.listened(10)
    heard = await call.listen()
    assert heard.is_tone(770, within=2)
    assert heard.dbfs == pytest.approx(-6, abs=0.5)
    await call.hangup()


@pytest.mark.parametrize("way", ["rtp", "info"])
async def test_602_reads_digits_back(pbx: Pbx, phone: Pbx, way: str) -> None:
    call = await phone.call(uri("602", pbx), caller="200")
    await call.answered()
    if way == "rtp":
        await call.send_digits("42#")
    else:
        for digit in "42#":
            await call.send_info(digit)
    there = pbx.calls[0]
    assert await there.media.ear.heard_digits(3) == "42#"
    assert {heard.way for heard in there.digits} == {way}
    for digit in "42#":
        await call.hears(digit_tone(digit))
    assert await call.media.ear.heard_digits(3) == "42#"
    await call.hangup()


async def test_602_takes_a_pause_for_the_end(pbx: Pbx, phone: Pbx) -> None:
    call = await phone.call(uri("602", pbx), caller="200")
    await call.answered()
    await call.send_digits("7")
    assert await call.media.ear.heard_digits(1) == "7"
    await call.send_digits("8#")
    assert await call.media.ear.heard_digits(3) == "78#"
    await call.hangup()


@pytest.mark.parametrize(("number", "status"), [("603", 486), ("699", 404)])
async def test_numbers_that_refuse(pbx: Pbx, phone: Pbx, number: str, status: int) -> None:
    call = await phone.call(uri(number, pbx), caller="200")
    with pytest.raises(CallFailed) as refused:
        await call.answered()
    assert refused.value.status == status
    assert call.ended.is_set()


async def test_604_rings_until_the_caller_gives_up(pbx: Pbx, phone: Pbx) -> None:
    call = await phone.call(uri("604", pbx), caller="200")
    await call.rang.wait()
    await call.hangup()
    assert call.status == 487
    assert pbx.calls[0].status == 487


async def test_605_calls_the_trunk_back(pbx: Pbx) -> None:
    async with (
        open_pbx(PbxSettings(numbers={"200": pbx.settings.numbers["600"]})) as phone,
        open_pbx(PbxSettings()) as trunk,
    ):
        call = await phone.call(uri("605", trunk), caller="200")
        await call.answered()
        await call.hangup()
        back = await phone.next_call()
        assert back.number == "200"
        await back.answered()
        assert (await back.listen()).is_tone(1000)
        await back.hangup()


async def test_605_calls_a_registered_contact_back(pbx: Pbx) -> None:
    settings = PbxSettings(credentials=Credentials("200", "two-hundred"), numbers={"200": pbx.settings.numbers["600"]})
    async with open_pbx(settings) as phone:
        registration = await phone.register(pbx.local, Credentials("200", "two-hundred"))
        assert registration.status == 200
        call = await phone.call(uri("605", pbx), caller="anybody")
        await call.answered()
        await call.hangup()
        back = await phone.next_call()
        await back.answered()
        assert back.invite is not None
        assert back.invite.uri == f"sip:200@{phone.host_port}"
        await back.hangup()


async def test_registration_comes_and_goes(pbx: Pbx, phone: Pbx) -> None:
    with pytest.raises(LookupError, match="200 is not registered"):
        await pbx.call("200")
    registration = await phone.register(pbx.local, Credentials("200", "two-hundred"), expires=120)
    assert (registration.status, registration.expires) == (200, 120)
    assert [binding.contact for binding in pbx.registrar.bindings("200")] == [f"sip:200@{phone.host_port}"]
    await registration.unregister()
    assert not pbx.registrar.bindings("200")


async def test_a_shorter_or_longer_expiry_is_imposed(phone: Pbx) -> None:
    async with open_pbx(PbxSettings(accounts=ACCOUNTS, max_expires=60)) as pbx:
        registration = await phone.register(pbx.local, Credentials("200", "two-hundred"), expires=300)
        assert registration.expires == 60
    async with open_pbx(PbxSettings(accounts=ACCOUNTS, min_expires=90)) as pbx:
        registration = await phone.register(pbx.local, Credentials("200", "two-hundred"), expires=10)
        assert (registration.status, registration.expires) == (200, 90)


@pytest.mark.parametrize("credentials", [Credentials("200", "wrong"), Credentials("nobody", "x")])
async def test_wrong_credentials_register_nothing(pbx: Pbx, phone: Pbx, credentials: Credentials) -> None:
    registration = await phone.register(pbx.local, credentials)
    assert registration.status == 401
    assert not pbx.registrar.bindings(credentials.username)


async def test_nobody_registers_as_another(pbx: Pbx, phone: Pbx) -> None:
    registration = await phone.register(pbx.local, Credentials("200", "two-hundred"))
    assert registration.status == 200
    await registration.register(60, user="201")
    assert registration.status == 403
    assert not pbx.registrar.bindings("201")


@pytest.mark.parametrize("status", [401, 407])
async def test_calls_are_challenged(status: int) -> None:
    settings = PbxSettings(accounts=ACCOUNTS, challenge_status=status)
    async with open_pbx(settings) as pbx, open_pbx() as stranger:
        call = await stranger.call(uri("601", pbx))
        with pytest.raises(CallFailed) as refused:
            await call.answered()
        assert refused.value.status == status
        assert not pbx.calls


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_hold_and_resume(pbx: Pbx, phone: Pbx, who: str) -> None:
    call = await phone.call(uri("601", pbx), caller="200", play_hz=650)
    await call.answered()
    await call.confirmed.wait()
    there = pbx.calls[0]
    await there.confirmed.wait()
    await call.media.ear.listened(5)
    holder, held = (call, there) if who == "caller" else (there, call)
    await holder.hold()
    assert holder.media.agreed is not None
    assert held.media.agreed is not None
    assert (holder.media.agreed.direction, held.media.agreed.direction) == ("sendonly", "recvonly")
    sent = held.media.packets_out
    await held.media.ear.listened(5)
    assert held.media.packets_out == sent
    await holder.resume()
    assert (holder.media.agreed.direction, held.media.agreed.direction) == ("sendrecv", "sendrecv")
    assert (await call.listen(0.6)).is_tone(1000)
    assert (await there.listen(0.6)).is_tone(650)
    await there.hangup()
    await call.ended.wait()
    assert call.ended_by == "them"


async def test_an_update_may_offer_too(pbx: Pbx, phone: Pbx) -> None:
    call = await phone.call(uri("601", pbx), caller="200")
    await call.answered()
    call.media.hold(True)
    await call.update()
    there = pbx.calls[0]
    assert there.media.agreed is not None
    assert there.media.agreed.direction == "recvonly"
    await call.hangup()


async def test_early_media_is_heard_before_the_answer(phone: Pbx) -> None:
    async with open_pbx(PbxSettings(early_media_seconds=1.0)) as pbx:
        call = await phone.call(uri("601", pbx))
        await call.rang.wait()
        heard = await call.listen(0.6)
        assert not call.was_answered
        assert heard.is_tone(425)
        await call.answered()
        assert (await call.listen(0.6)).is_tone(1000)
        assert [r.status for r in call.responses if r.status > 100] == [183, 200]
        await call.hangup()


async def test_no_common_codec_is_said_in_plain_words(phone: Pbx) -> None:
    async with open_pbx(PbxSettings(codecs=("PCMU",))) as pbx, open_pbx(PbxSettings(codecs=("PCMA",))) as caller:
        call = await caller.call(uri("601", pbx))
        with pytest.raises(CallFailed) as refused:
            await call.answered()
        assert refused.value.status == 488
        assert refused.value.response is not None
        assert "no common codec" in (refused.value.response.get("Warning") or "")


async def test_the_pbx_may_insist_on_its_own_order(phone: Pbx) -> None:
    async with open_pbx(PbxSettings(codecs=("PCMU", "G722"), own_order=True)) as pbx:
        call = await phone.call(uri("601", pbx))
        await call.answered()
        assert call.media.agreed is not None
        assert call.media.agreed.codec == "PCMU"
        await call.hangup()


async def test_lost_messages_are_sent_again(pbx: Pbx, phone: Pbx) -> None:
    lost: set[str] = set()

    def lose_the_first(message: Message) -> bool:
        kind = message.method or f"{message.status} {message.cseq.method}"
        first = kind not in lost
        lost.add(kind)
        return first

    phone.agent.swallow = pbx.agent.swallow = lose_the_first
    call = await phone.call(uri("601", pbx), caller="200")
    await call.answered()
    await pbx.calls[0].confirmed.wait()
    await call.hangup()
    await pbx.calls[0].ended.wait()
    assert {"INVITE", "200 INVITE", "ACK", "BYE"} <= lost


async def test_options_and_messages(pbx: Pbx, phone: Pbx) -> None:
    flow = phone._flow_to(*pbx.local)
    for method in ("OPTIONS", "MESSAGE", "PUBLISH"):
        request = Message.request(
            method,
            f"sip:{pbx.host_port}",
            [
                ("Max-Forwards", "70"),
                ("From", "<sip:a@b.example>;tag=1"),
                ("To", "<sip:c@d.example>"),
                ("Call-ID", f"{method}@b"),
                ("CSeq", f"1 {method}"),
            ],
        )
        response = await phone.agent.request(request, flow)
        assert response.status == (405 if method == "PUBLISH" else 200)
    assert [message.call_id for message in pbx.messages] == ["MESSAGE@b"]


async def test_garbage_is_ignored(pbx: Pbx, phone: Pbx) -> None:
    flow = phone._flow_to(*pbx.local)
    for data in (b"garbage" * 9, b"INVITE sip:600@x SIP/2.0\r\n\r\n", b"\x00" * 40, b"SIP/2.0 200 OK\r\n\r\n"):
        flow.send(data)
    call = await phone.call(uri("601", pbx), caller="200")
    await call.answered()
    await call.hangup()


async def test_an_invite_without_an_offer_gets_one(pbx: Pbx, phone: Pbx) -> None:
    call = await phone.call(uri("601", pbx), caller="200", play_hz=650, late_offer=True)
    await call.answered()
    assert (await call.listen(0.6)).is_tone(1000)
    assert (await pbx.calls[0].listen(0.6)).is_tone(650)
    await call.hangup()


async def test_a_pbx_that_closes_hangs_up(phone: Pbx) -> None:
    async with open_pbx(PbxSettings()) as pbx:
        call = await phone.call(uri("601", pbx))
        await call.answered()
        await call.media.ear.listened(3)
    await call.ended.wait()
    assert call.ended_by == "them"
