"""Digits through a whole gateway, however each end has them: once at the PBX, with their duration."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_core.rtp.dtmf_tones import ToneDetector, tone
from siperb_core.rtp.events import Digit, EventReader
from siperb_core.sip import Message
from siperb_core.testing import codecs
from siperb_core.testing.gateway import open_gateway, trunk_to, websocket_url
from siperb_core.testing.pbx import Pbx, PbxCall, PbxSettings, open_pbx
from siperb_core.testing.session import Call
from siperb_core.testing.softphone import PhoneCall, open_softphone


@asynccontextmanager
async def calling(
    directory: Path, keys: str = "", number: str = "601", *, phone_codecs: tuple[str, ...] = (), **settings: Any
) -> AsyncIterator[tuple[PhoneCall, PbxCall, Pbx]]:
    """A call from a softphone, answered, audio flowing."""
    async with open_pbx(PbxSettings(**settings)) as pbx:
        text = trunk_to(pbx.local[1], keys)
        async with (
            open_gateway(directory, text) as gateway,
            open_softphone(
                websocket_url(gateway),
                "alice-web",
                gateway.domain,
                "alice-secret",
                **({"codecs": phone_codecs} if phone_codecs else {}),
            ) as phone,
        ):
            with trio.fail_after(60):
                call = await phone.call(number)
                await call.answered()
                await call.connected()
                await pbx.calls[0].listen(0.2)
                yield call, pbx.calls[0], pbx
                await call.hangup()


def events_of(call: PbxCall) -> list[Digit]:
    """The digits that come in as telephone-events from now on, with their durations."""
    reader, found, take = EventReader(), list[Digit](), call.media.ear.take_event

    def read(payload: bytes, timestamp: int) -> None:
        found.extend(reader.take(payload, timestamp, 8000))
        take(payload, timestamp)

    call.media.ear.take_event = read  # type: ignore[method-assign]
    return found


async def until(done: Callable[[], bool]) -> None:
    while not done():  # noqa: ASYNC110
        await trio.sleep(0.02)


async def pressed(call: PhoneCall) -> None:
    await call.send_digits("1359#*")


async def informed(call: PhoneCall) -> None:
    for key in "1359#*":
        await call.send_info(key, milliseconds=100)


async def informed_shortly(call: PhoneCall) -> None:
    """In the other dialect, which has no duration: the key alone."""
    for key in "1359#*":
        response = await call.request("INFO", [("Content-Type", "application/dtmf")], key.encode())
        assert response.status == 200


WAYS = pytest.mark.parametrize("send", [pressed, informed, informed_shortly])


@WAYS
@pytest.mark.parametrize("keys", ['dtmf = "auto"', 'dtmf = "rfc4733"'])
async def test_telephone_event_and_info_become_telephone_event(
    tmp_path: Path, keys: str, send: Callable[[PhoneCall], Awaitable[None]]
) -> None:
    async with calling(tmp_path, keys) as (call, peer, _):
        found = events_of(peer)
        await send(call)
        await until(lambda: len(found) >= 6)
        await peer.listen(0.5)
        lasts = 160 if send is informed_shortly else 100
        assert [(digit.key, digit.milliseconds) for digit in found] == [(key, lasts) for key in "1359#*"]
        assert [(heard.digit, heard.way) for heard in peer.digits] == [(key, "rtp") for key in "1359#*"]
        assert (await peer.listen()).is_tone(440, within=2), "the audio goes on"


@WAYS
@pytest.mark.parametrize(("keys", "events"), [('dtmf = "info"', True), ("", False)])
async def test_both_become_info_where_the_pbx_has_that(
    tmp_path: Path, keys: str, events: bool, send: Callable[[PhoneCall], Awaitable[None]]
) -> None:
    async with calling(tmp_path, keys, telephone_event=events) as (call, peer, _):
        await send(call)
        await until(lambda: len(peer.digits) >= 6)
        await peer.listen(0.3)
        assert [(heard.digit, heard.way) for heard in peer.digits] == [(key, "info") for key in "1359#*"]
        await call.reinvite()  # requests of the phone's own are in order after those of the gateway


@WAYS
async def test_both_become_tones_where_the_pbx_has_nothing_else(
    tmp_path: Path, send: Callable[[PhoneCall], Awaitable[None]]
) -> None:
    async with calling(tmp_path, 'dtmf = "inband"', codecs=("PCMA",)) as (call, peer, _):
        detector, found, take = ToneDetector(), list[Digit](), peer.media.ear.take

        def hear(payload: bytes) -> None:
            found.extend(detector.feed(codecs.decode("PCMA", [payload])))
            take(payload)

        peer.media.ear.take = hear  # type: ignore[method-assign]
        await send(call)
        await until(lambda: len(found) >= 6)
        await peer.listen(0.5)
        assert "".join(digit.key for digit in found) == "1359#*"
        lasts = 160 if send is informed_shortly else 100
        assert all(digit.milliseconds == pytest.approx(lasts, abs=52) for digit in found)
        assert not peer.digits


@pytest.mark.parametrize("codec", ["PCMA", "G722"])
async def test_tones_of_the_pbx_become_digits_of_the_phone(tmp_path: Path, codec: str) -> None:
    async with calling(tmp_path, 'dtmf = "inband"', codecs=(codec,)) as (call, peer, _):
        pcm = b"".join(tone(key, 0, 1600) + bytes(1600) for key in "74*") + bytes(8000)
        if codec == "G722":  # 16 kHz by repetition: what that adds lies above the tones
            pcm = b"".join(pcm[at : at + 2] * 2 for at in range(0, len(pcm), 2))
        peer.media._loop = codecs.encode(codec, pcm)
        await until(lambda: len(call.digits) >= 6)
        heard = "".join(digit.digit for digit in call.digits)
        assert heard[:6] in ("74*74*", "4*74*7", "*74*74")


@pytest.mark.parametrize("where", ["from the softphone", "to the PBX"])
@pytest.mark.parametrize(("codec", "clock"), [("opus", 48000), ("PCMU", 8000)])
async def test_every_digit_arrives_once_under_five_per_cent_loss(
    tmp_path: Path, codec: str, clock: int, where: str
) -> None:
    dice, lost = random.Random(1), 0

    def loses() -> bool:
        nonlocal lost
        lost += (unlucky := dice.random() < 0.05)
        return unlucky

    async with calling(tmp_path, phone_codecs=(codec,)) as (call, peer, _):
        phone: Any = call.media._peer
        assert phone.sending.events_clock == clock
        found = events_of(peer)
        if where == "to the PBX":
            media: Any = peer.media
            take = media._take
            media._take = lambda packet: None if loses() else take(packet)
        else:
            send = phone._dtls._send_rtp

            async def lossy(data: bytes) -> None:
                if not loses():
                    await send(data)

            phone._dtls._send_rtp = lossy
        wanted = "0123456789*#" * 4
        await call.send_digits(wanted)
        await peer.listen(0.5)
        assert lost > 10
        assert "".join(digit.key for digit in found) == wanted
        assert "".join(heard.digit for heard in peer.digits) == wanted
        assert [digit.milliseconds for digit in found] == [100] * len(wanted)


@pytest.mark.parametrize("codec", ["PCMA", "G722"])
async def test_tones_of_the_pbx_are_each_one_digit_under_five_per_cent_loss(tmp_path: Path, codec: str) -> None:
    dice, lost, last, woken = random.Random(2), 0, 0, 0
    async with calling(tmp_path, 'dtmf = "inband"', codecs=(codec,)) as (call, peer, _):
        media: Any = peer.media
        send = media._send

        def lossy(payload_type: int, payload: bytes, timestamp: int, marker: bool, agreed: Any) -> None:
            nonlocal lost, last, woken
            if last and (timestamp - last) & 0xFFFFFFFF > 2 * media._ticks:
                woken = len(call.digits)  # the machine slept, and the PBX has left out digits: count from here
            last = timestamp
            send_it = dice.random() >= 0.05
            lost += not send_it
            if send_it:
                send(payload_type, payload, timestamp, marker, agreed)
            else:
                media._sequence = (media._sequence + 1) & 0xFFFF

        media._send = lossy
        keys = "1155990"  # each pressed for 120 ms, with 120 ms between
        pcm = b"".join(tone(key, 0, 960) + bytes(1920) for key in keys) + bytes(16000)
        if codec == "G722":
            pcm = b"".join(pcm[at : at + 2] * 2 for at in range(0, len(pcm), 2))
        media._loop = codecs.encode(codec, pcm)
        await until(lambda: len(call.digits) >= woken + 4 * len(keys))
        heard = "".join(digit.digit for digit in call.digits[woken:])
        start = heard.index("0") + 1
        assert heard[start : start + 3 * len(keys)] == keys * 3, (heard, lost)


async def by_info(call: Call, content: str = "application/dtmf-relay", body: str = "Signal={}\r\nDuration=120") -> None:
    for key in "1359#*":
        response = await call.request("INFO", [("Content-Type", content)], body.format(key).encode())
        assert response.status == 200


def events_at(call: PhoneCall) -> list[Digit]:
    """The digits that come in at the softphone as telephone-events from now on, with their durations."""
    reader, found, take = EventReader(), list[Digit](), call.media.ear.take_event

    def read(payload: bytes, timestamp: int) -> None:
        found.extend(reader.take(payload, timestamp, 48000))
        take(payload, timestamp)

    call.media.ear.take_event = read  # type: ignore[method-assign]
    return found


@pytest.mark.parametrize(
    ("content", "body", "lasts"),
    [("application/dtmf-relay", "Signal={}\r\nDuration=120", 120), ("application/dtmf", "{}", 160)],
)
async def test_info_of_the_pbx_becomes_telephone_event_at_the_softphone(
    tmp_path: Path, content: str, body: str, lasts: int
) -> None:
    async with calling(tmp_path) as (call, peer, _):
        found = events_at(call)
        await by_info(peer, content, body)
        await until(lambda: len(found) >= 6)
        await call.listen(0.5)
        assert [(digit.key, digit.milliseconds) for digit in found] == [(key, lasts) for key in "1359#*"]
        assert [(heard.digit, heard.way) for heard in call.digits] == [(key, "rtp") for key in "1359#*"]
        heard = await call.listen()
        assert heard.is_tone(1000, within=2), "the audio goes on"
        assert heard.dbfs == pytest.approx(-6, abs=0.5)


async def test_both_of_the_pbx_become_info_where_the_connection_says_so(tmp_path: Path) -> None:
    async with calling(tmp_path, 'phone_dtmf = "info"') as (call, peer, _):
        await by_info(peer)
        await peer.send_digits("246")
        await until(lambda: len(call.digits) >= 9)
        await call.listen(0.5)
        assert [(heard.digit, heard.way) for heard in call.digits] == [(key, "info") for key in "1359#*246"]


async def test_an_info_that_is_no_digit_goes_on_as_it_is(tmp_path: Path) -> None:
    async with calling(tmp_path) as (call, peer, _):
        got: list[Message] = []
        media: Any = call.media
        handle = call._handle_request

        async def note(transaction: Any, request: Message) -> None:
            got.append(request)
            await handle(transaction, request)

        call._handle_request = note  # type: ignore[method-assign]
        for content, body in (("application/dtmf-relay", b"Signal=!"), ("text/plain", b"hello")):
            await peer.request("INFO", [("Content-Type", content)], body)
        assert [(request.get("Content-Type"), request.body) for request in got] == [
            ("application/dtmf-relay", b"Signal=!"),
            ("text/plain", b"hello"),
        ]
        assert not media.ear.digits


async def in_both_ways(call: PhoneCall | PbxCall) -> None:
    """Each key as telephone-event and as INFO; one of them twice."""
    for key in "1559#":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.send_digits, key)
            nursery.start_soon(call.send_info, key)


@pytest.mark.parametrize("keys", ['dtmf = "auto"', 'dtmf = "info"'])
async def test_a_softphone_that_sends_both_dialects_is_heard_once(tmp_path: Path, keys: str) -> None:
    async with calling(tmp_path, keys) as (call, peer, _):
        await in_both_ways(call)
        await peer.listen(1.0)
        assert "".join(heard.digit for heard in peer.digits) == "1559#"


async def test_a_softphone_that_sends_both_dialects_is_heard_once_in_tones(tmp_path: Path) -> None:
    async with calling(tmp_path, 'dtmf = "inband"', codecs=("PCMA",)) as (call, peer, _):
        detector, found, take = ToneDetector(), list[Digit](), peer.media.ear.take

        def hear(payload: bytes) -> None:
            found.extend(detector.feed(codecs.decode("PCMA", [payload])))
            take(payload)

        peer.media.ear.take = hear  # type: ignore[method-assign]
        await in_both_ways(call)
        await peer.listen(1.0)
        assert "".join(digit.key for digit in found) == "1559#"


@pytest.mark.parametrize("keys", ["", 'phone_dtmf = "info"'])
async def test_a_pbx_that_sends_both_dialects_is_heard_once(tmp_path: Path, keys: str) -> None:
    async with calling(tmp_path, keys) as (call, peer, _):
        await in_both_ways(peer)
        await call.listen(1.0)
        assert "".join(heard.digit for heard in call.digits) == "1559#"
