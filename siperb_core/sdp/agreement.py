"""What an answer settles (RFC 3264 section 6.1): codec, telephone-event, their numbers, and the stream they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from siperb_core.sdp.codecs import Format, codec_named, names_of, telephone_event
from siperb_core.sdp.description import SdpError
from siperb_core.sdp.plan import Direction, Stream


def usable(formats: Iterable[Format]) -> dict[str, Format]:
    """By name, the first format of every codec that runs at the clock we know it by."""
    found: dict[str, Format] = {}
    for entry in formats:
        if entry.codec.clock == codec_named(entry.codec.name).clock and entry.codec.name != "telephone-event":
            found.setdefault(entry.codec.name, entry)
    return found


def agreed(formats: Iterable[Format], sent: Sequence[Format], who: str) -> tuple[Format, Format]:
    """The first codec of an answer that was offered: under the answerer's number, and under ours."""
    offered = {entry.key: entry for entry in sent if entry.codec.name != "telephone-event"}
    for entry in formats:
        if entry.key in offered:
            return entry, offered[entry.key]
    raise SdpError(
        f"no common codec: {who} answers with {names_of(formats)}, but was offered {names_of(sent)}", warning_code=305
    )


def event_for(formats: Iterable[Format], clock: int) -> Format | None:
    """The telephone-event that goes with a codec: at its clock (RFC 4733 section 2.1), else at any."""
    events = [entry for entry in formats if entry.codec.name == "telephone-event"]
    return next((entry for entry in events if entry.codec.clock == clock), events[0] if events else None)


def agreed_event(formats: Iterable[Format], sent: Sequence[Format], clock: int) -> tuple[Format | None, Format | None]:
    """The telephone-event of an answer: under the answerer's number, and under ours."""
    offered = {entry.key: entry for entry in sent}
    theirs = event_for((entry for entry in formats if entry.key in offered), clock)
    return theirs, theirs and offered[theirs.key]


def answer_formats(chosen: Format, event: Format | None) -> tuple[Format, ...]:
    """One codec and telephone-event, so that nothing is left to choose (RFC 3264 section 10.2)."""
    formats = [Format(chosen.payload_type, codec_named(chosen.codec.name))]
    if event is not None:
        formats.append(Format(event.payload_type, telephone_event(event.codec.clock)))
    return tuple(formats)


def stream_of(
    send: Format,
    receive: Format,
    event_send: Format | None,
    event_receive: Format | None,
    direction: Direction,
    ptime: int,
) -> Stream:
    """The stream of one leg: packets go out under the far end's numbers and come in under ours."""
    return Stream(
        codec=send.codec,
        send=send.payload_type,
        receive=receive.payload_type,
        direction=direction,
        dtmf_send=event_send.payload_type if event_send else None,
        dtmf_receive=event_receive.payload_type if event_receive else None,
        dtmf_clock=event_send.codec.clock if event_send else 8000,
        ptime=ptime,
    )
