"""Codecs in SDP: payload types and their names (RFC 3551, RFC 4566 section 6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from siperb_core.sdp.description import Media, SdpError, parse_sdp
from siperb_core.sdp.plan import Codec

Numbers = Mapping[tuple[str, int], int]  # (codec name, clock) -> payload type, on one leg

_KNOWN: Final = {
    codec.name.lower(): codec
    for codec in (
        Codec("opus", 48000, 2, "minptime=10;useinbandfec=1"),
        Codec("G722", 8000),
        Codec("PCMA", 8000),
        Codec("PCMU", 8000),
        Codec("GSM", 8000),
        Codec("G729", 8000),
        Codec("iLBC", 8000),
    )
}
_STATIC: Final = {0: "PCMU", 3: "GSM", 4: "G723", 8: "PCMA", 9: "G722", 13: "CN", 15: "G728", 18: "G729"}
_STATIC_NUMBERS: Final = {name: number for number, name in _STATIC.items()}
_USUAL_NUMBERS: Final = {("opus", 48000): 111, ("telephone-event", 48000): 110, ("telephone-event", 8000): 101}
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_DYNAMIC: Final = (*range(96, 128), *range(35, 64))  # RFC 3551 section 6, and what RFC 8088 adds
_NO_AUDIO: Final = frozenset({"telephone-event", "cn", "red", "ulpfec", "flexfec-03", "rtx"})


CODECS: Final = tuple(_KNOWN.values())
"""The codecs this package knows by itself."""


def learn_codecs(codecs: Iterable[Codec]) -> None:
    """Know these codecs, too, in this process: all of them or, where it raises, none.

    Raises TypeError for what is no codec, ValueError for a name that stands for another codec already, or is no name.
    """
    fresh: dict[str, Codec] = {}
    for codec in codecs:
        if not isinstance(codec, Codec):
            raise TypeError(f"a {type(codec).__name__} is no codec")
        if not _NAME.fullmatch(codec.name) or codec.name.lower() in _NO_AUDIO:
            raise ValueError(f"{codec.name!r} is no name of a codec")
        if (fresh.get(codec.name.lower()) or _KNOWN.get(codec.name.lower()) or codec) != codec:
            raise ValueError(f"codec {codec.name} is known as another")
        fresh[codec.name.lower()] = codec
    _KNOWN.update(fresh)


def learnt() -> tuple[str, ...]:
    """The names of the codecs that `learn_codecs` has brought."""
    return tuple(codec.name for codec in _KNOWN.values() if codec not in CODECS)


def codec_named(name: str) -> Codec:
    """The codec of that name as we write it; one we know nothing about is taken for mono at 8 kHz."""
    return _KNOWN.get(name.lower()) or Codec(name, 8000)


def telephone_event(clock: int) -> Codec:
    """DTMF in RTP (RFC 4733): the 16 keys and the hook flash."""
    return Codec("telephone-event", clock, 1, "0-16")


@attrs.frozen
class Format:
    """A codec under the number it has on one leg."""

    payload_type: int
    codec: Codec

    @property
    def key(self) -> tuple[str, int]:
        """What stays the same when the number changes."""
        return self.codec.name, self.codec.clock


def _codec(rtpmap: str, fmtp: str) -> Codec | None:
    name, _, rest = rtpmap.partition("/")
    clock_text, _, channels_text = rest.partition("/")
    if not (_NAME.fullmatch(name) and clock_text.isascii() and clock_text.isdigit() and len(clock_text) <= 6):
        return None
    channels = int(channels_text) if channels_text in ("1", "2") else 1
    clock = int(clock_text)
    known = _KNOWN.get(name.lower())
    if known is None:
        spelled = name.lower() if name.lower() == "telephone-event" else name
        return Codec(spelled, clock, channels, fmtp)
    if known.name == "G722" and clock == 16000:
        clock = 8000  # its sampling rate, written by devices that have not heard of RFC 3551 section 4.5.2
    if known.name == "opus":
        channels = 2  # RFC 7587 section 7: always, whatever is sent
    return Codec(known.name, clock, channels, fmtp)


def formats_of(media: Media, ours: Iterable[Format] = ()) -> tuple[Format, ...]:
    """The codecs of an audio section, in its order; numbers that nothing explains are left out.

    A number without rtpmap is one of `ours`, which were explained before, or else a static one.
    """
    names: dict[str, str] = {}
    for value in media.get_all("rtpmap"):
        number, _, encoding = value.partition(" ")
        names.setdefault(number, encoding.strip())
    parameters: dict[str, str] = {}
    for value in media.get_all("fmtp"):
        number, _, text = value.partition(" ")
        parameters.setdefault(number, text.strip())
    offered = {entry.payload_type: entry.codec for entry in ours}
    formats: dict[int, Format] = {}
    for text in media.formats:
        if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 127):
            continue
        payload_type = int(text)
        codec: Codec | None = None
        if text in names:
            codec = _codec(names[text], parameters.get(text, ""))
        elif payload_type in offered:
            codec = attrs.evolve(offered[payload_type], fmtp=parameters.get(text, ""))
        elif payload_type in _STATIC:
            codec = Codec(_STATIC[payload_type], 8000, 1, parameters.get(text, ""))
        if codec is not None:
            formats.setdefault(payload_type, Format(payload_type, codec))
    return tuple(formats.values())


def audio_formats(formats: Iterable[Format]) -> tuple[Format, ...]:
    """Without telephone-event, comfort noise and redundancy; each codec once."""
    found: dict[tuple[str, int], Format] = {}
    for entry in formats:
        if entry.codec.name.lower() not in _NO_AUDIO:
            found.setdefault(entry.key, entry)
    return tuple(found.values())


def names_of(formats: Iterable[Format]) -> str:
    """The codecs' names as a list for people."""
    names = list(dict.fromkeys(entry.codec.name for entry in audio_formats(formats)))
    return ", ".join(names[:12]) + (", ..." if names[12:] else "") or "nothing known"


def describe(data: bytes) -> tuple[str, ...]:
    """The names of the audio codecs in a description, for diagnostics; empty where it is none or has no audio."""
    try:
        description = parse_sdp(data)
    except SdpError:
        return ()
    names: dict[str, None] = {}
    for media in description.media:
        if media.kind == "audio" and not media.disabled:
            names.update(dict.fromkeys(entry.codec.name for entry in audio_formats(formats_of(media))))
    return tuple(names)


def formats_under(numbers: Numbers) -> tuple[Format, ...]:
    """The codecs of a leg's numbers, for devices that explain a number once and then no more."""
    return tuple(
        Format(
            number,
            telephone_event(clock) if name == "telephone-event" else attrs.evolve(codec_named(name), clock=clock),
        )
        for (name, clock), number in numbers.items()
    )


def numbers_with(numbers: Numbers, formats: Iterable[Format]) -> Numbers:
    """A leg's numbers after a description: what it says is valid from now on, a number it reuses has one meaning."""
    fresh: dict[tuple[str, int], int] = {}
    for entry in formats:
        fresh.setdefault(entry.key, entry.payload_type)
    used = set(fresh.values())
    return fresh | {key: number for key, number in numbers.items() if key not in fresh and number not in used}


def numbered(codecs: Iterable[Codec], taken: Numbers) -> tuple[Format, ...]:
    """Give codecs their numbers on a leg. A number once used for a codec stays its own (RFC 3264 section 8.3.2).

    Raises `SdpError` 488 where the far end uses so many that none is left.
    """
    formats: list[Format] = []
    used = set(taken.values())
    for codec in codecs:
        key = (codec.name, codec.clock)
        number = taken.get(key)
        if number is None:
            wished = [_STATIC_NUMBERS.get(codec.name), _USUAL_NUMBERS.get(key)]
            number = next((n for n in (*wished, *_DYNAMIC) if n is not None and n not in used), None)
            if number is None:
                raise SdpError("no payload type is left for the codecs", warning_code=305)
            used.add(number)
        formats.append(Format(number, codec))
    return tuple(formats)
