"""The numbers of the demo PBX: each is what happens in one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from siperb_core.sdp.description import SdpError

if TYPE_CHECKING:
    from siperb_core.testing.pbx import PbxCall

RINGING_HZ: Final = 425
_PAUSE: Final = 3.0  # seconds without a digit that end a number (as `#` does)
_BEEP: Final = 0.25
_UNANSWERED: Final = 180.0
_CALLBACK_DELAY: Final = 0.5

_DIGIT_TONES: Final = {digit: 500 + 100 * index for index, digit in enumerate("0123456789*#ABCD")}


def digit_tone(digit: str) -> int:
    """The tone in Hz by which 602 reads a digit back: 500 for 0, 100 more for each next key of 0123456789*#ABCD."""
    return _DIGIT_TONES[digit]


async def pick_up(call: PbxCall) -> bool:
    """Ring as long as the settings say, then answer. False when the caller is gone by then."""
    settings = call.pbx.settings
    if settings.early_media_seconds:
        call.play(RINGING_HZ, -12.0)
        try:
            await call.progress()
        except SdpError as error:
            call.reject(error.status)
            return False
        await _unless_ended(call, settings.early_media_seconds)
        call.media.stop()
    elif settings.ring_seconds:
        call.ring()
        await _unless_ended(call, settings.ring_seconds)
    if not call.ended.is_set():
        await call.accept()
    return not call.ended.is_set()


async def _unless_ended(call: PbxCall, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await call.ended.wait()


async def echo(call: PbxCall) -> None:
    """600: what is said comes back."""
    call.media.echo()
    if await pick_up(call):
        call.media.echo()


async def tone(call: PbxCall) -> None:
    """601: a tone, as long as anybody listens."""
    settings = call.pbx.settings
    call.play(settings.tone_hz, settings.tone_dbfs)
    if await pick_up(call):
        call.play(settings.tone_hz, settings.tone_dbfs)


async def read_back(call: PbxCall) -> None:
    """602: takes digits until `#` or a pause of three seconds, then beeps each and sends it back."""
    if not await pick_up(call):
        return
    async with trio.open_nursery() as nursery:

        async def stop_at_the_end() -> None:
            await call.ended.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(stop_at_the_end)
        read = 0
        while True:
            read = await _read_number(call, read)


async def _read_number(call: PbxCall, start: int) -> int:
    """Wait for digits after the first `start`, read them back; gives how many there have been by then."""
    media = call.media
    while len(media.ear.digits) == start:
        await media.ear.next_event()
    count = start
    while count < len(media.ear.digits) or media.ear.digits[-1].digit != "#":
        count = len(media.ear.digits)
        if media.ear.digits[-1].digit == "#":
            break
        with trio.move_on_after(_PAUSE):
            while len(media.ear.digits) == count:
                await media.ear.next_event()
        if len(media.ear.digits) == count:
            break
    digits = [heard.digit for heard in media.ear.digits[start:]]
    for digit in digits:
        call.play(digit_tone(digit))
        await trio.sleep(_BEEP)
        media.stop()
        await trio.sleep(_BEEP / 2)
    if media.agreed is not None and media.agreed.events is not None:
        await media.send_digits("".join(digits))
    return start + len(digits)


async def busy(call: PbxCall) -> None:
    """603: is on the phone."""
    call.reject(486)


async def unanswered(call: PbxCall) -> None:
    """604: rings, and nobody comes."""
    call.ring()
    await _unless_ended(call, _UNANSWERED)
    call.reject(480)


async def call_back(call: PbxCall) -> None:
    """605: calls back after the caller has hung up."""
    pbx = call.pbx
    if await pick_up(call):
        call.play(pbx.settings.tone_hz, pbx.settings.tone_dbfs)
        await call.ended.wait()
    if call.ended_by != "them" or not call.was_answered:
        return
    await trio.sleep(_CALLBACK_DELAY)
    user = call.remote.parsed_uri.user_unescaped
    try:
        await pbx.call(call.account or user, caller=call.number)
    except LookupError:
        # A trunk has nobody registered: the call goes back to where it came from.
        host, port = call.source.remote
        await pbx.call(f"sip:{user}@{host}:{port}", caller=call.number)


NUMBERS: Final[dict[str, Callable[[PbxCall], Awaitable[None]]]] = {
    "600": echo,
    "601": tone,
    "602": read_back,
    "603": busy,
    "604": unanswered,
    "605": call_back,
}
