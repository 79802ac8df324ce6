"""Media sections of either leg: which one carries the call, how refused ones and codecs are written (RFC 3264)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import attrs

from siperb_core.sdp.codecs import Format
from siperb_core.sdp.description import Media, SdpError, SessionDescription

_PTIMES = (
    10,
    20,
    40,
    60,
)  # milliseconds an Opus frame can last (RFC 6716 section 2.1.4); a packet is never cut


@attrs.frozen
class Line:
    """An m= line's place in a dialog: once there it stays, refused or not (RFC 3264 section 8)."""

    kind: str
    proto: str
    format: str  # its first, for the line of a refusal
    mid: str = ""


def lines_of(description: SessionDescription) -> tuple[Line, ...]:
    """The places of a description, in order."""
    return tuple(Line(media.kind, media.proto, media.formats[0], media.mid) for media in description.media)


def rejected_line(line: Line) -> str:
    """The m= line of a refused section: port 0, and one format, since none is not allowed (RFC 3264 section 6)."""
    return f"m={line.kind} 0 {line.proto} {line.format}"


def find_audio(
    description: SessionDescription, protocols: Collection[str], *, who: str, wanted: str, usual: int | None = None
) -> int:
    """The section that carries the call: the one that did so far, or else the first audio we can speak.

    Raises `SdpError` 488, saying what `who` ("the phone", "the PBX") has instead of `wanted`.
    """
    order = list(range(len(description.media)))
    if usual is not None and usual < len(order):
        order.insert(0, order.pop(usual))
    audio = [index for index in order if description.media[index].kind == "audio"]
    for index in audio:
        media = description.media[index]
        if not media.disabled and media.proto.upper() in protocols:
            return index
    if not audio:
        raise SdpError(f"{who} has no audio in its SDP", warning_code=304)
    alive = [description.media[index].proto for index in audio if not description.media[index].disabled]
    if not alive:
        raise SdpError(f"{who} has switched its audio off (port 0)", warning_code=304)
    raise SdpError(
        f"{who} has audio over {', '.join([*dict.fromkeys(alive)][:4])} only; it must be {wanted}", warning_code=302
    )


def codec_lines(formats: Iterable[Format]) -> list[str]:
    """The rtpmap and fmtp lines."""
    lines: list[str] = []
    for entry in formats:
        codec = entry.codec
        channels = f"/{codec.channels}" if codec.channels > 1 else ""
        lines.append(f"a=rtpmap:{entry.payload_type} {codec.name}/{codec.clock}{channels}")
        if codec.fmtp:
            lines.append(f"a=fmtp:{entry.payload_type} {codec.fmtp}")
    return lines


def ptime_of(media: Media) -> int:
    """Milliseconds of sound a packet to this end should hold: at most its ptime and its maxptime, 20 by default."""
    limit = min(_milliseconds(media.get("ptime"), 20), _milliseconds(media.get("maxptime"), 60))
    return max((ptime for ptime in _PTIMES if ptime <= limit), default=10)


def _milliseconds(text: str | None, default: int) -> int:
    if text is None or not (text.isascii() and text.isdigit() and 1 <= len(text) <= 4):
        return default
    return int(text) or default


def version_of(address: str) -> int:
    """4 or 6, of an IP address."""
    return 6 if ":" in address else 4


class Origin:
    """The o= line of one dialog: the version counts descriptions unlike the one before (RFC 3264 section 8)."""

    def __init__(self, session_id: int, address: str) -> None:
        self._session_id = session_id
        self._address = address
        self._version = 0
        self._last: Sequence[str] = ()

    def stamp(self, text: Sequence[str]) -> bytes:
        """The whole description as octets."""
        if text != self._last:
            self._version += 1
            self._last = text
        origin = f"o=- {self._session_id} {self._version} IN IP{version_of(self._address)} {self._address}"
        return "".join(f"{line}\r\n" for line in ("v=0", origin, *text)).encode()
