"""The PBX's leg as text: plain RTP (RFC 3551), as a desk phone writes it and as PBXs answer it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

import attrs

from siperb_core.sdp.codecs import Format
from siperb_core.sdp.description import Media, SdpError, SessionDescription, bad
from siperb_core.sdp.direction import direction_of, narrow
from siperb_core.sdp.plan import Direction
from siperb_core.sdp.section import Line, codec_lines, rejected_line, version_of
from siperb_core.sdp.settings import BridgeSettings

PROTOCOL: Final = "RTP/AVP"
PROTOCOLS: Final = frozenset({"RTP/AVP", "RTP/AVPF"})


@attrs.frozen
class PeerRemote:
    """Where the PBX wants its packets; None while it wants none (hold in the old way, c=0.0.0.0)."""

    rtp: tuple[str, int] | None
    rtcp: tuple[str, int] | None
    direction: Direction  # the PBX's


def read_peer(description: SessionDescription, media: Media) -> PeerRemote:
    """The transport and direction of the PBX's audio section.

    0.0.0.0 means it does not want to hear us (RFC 2543 section B.5, RFC 3264 section 8.4). Raises `SdpError`: 400
    without an address, 488 for one that is a name or a group.
    """
    text = description.connection_of(media)
    if text is None:
        raise bad("no c= line")
    address = _address(text)
    direction = direction_of(description, media)
    if address is None:
        return PeerRemote(None, None, narrow(direction, "sendonly"))
    return PeerRemote((address, media.port), _rtcp(media, address), direction)


def _address(text: str) -> str | None:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        parsed = None
    if parsed is None or "%" in text or parsed.is_multicast or text == "255.255.255.255":
        raise SdpError(
            f"the PBX wants its audio at {text[:60]}, which is not the address of one host", warning_code=301
        )
    return None if parsed.is_unspecified else str(parsed)


def _rtcp(media: Media, address: str) -> tuple[str, int] | None:
    """RFC 3605, else the next port."""
    port, host = media.port + 1, address
    written = (media.get("rtcp") or "").split()
    if written and written[0].isascii() and written[0].isdigit() and len(written[0]) <= 5:
        port = int(written[0])
        if len(written) == 4:
            try:
                host = _address(written[3]) or address
            except SdpError:
                return None
    return (host, port) if 0 < port <= 65535 else None


def write_peer(
    settings: BridgeSettings,
    *,
    lines: Sequence[Line],
    audio: int,
    formats: Sequence[Format],
    direction: Direction,
    ptime: int,
) -> list[str]:
    """Everything after the o= line of a description for the PBX; every section but the audio one is refused."""
    text = ["s=-", f"c=IN IP{version_of(settings.peer_address)} {settings.peer_address}", "t=0 0"]
    for index, line in enumerate(lines):
        if index != audio:
            text.append(rejected_line(line))
            continue
        numbers = " ".join(str(entry.payload_type) for entry in formats)
        text += [f"m=audio {settings.peer_port} {line.proto} {numbers}", *codec_lines(formats)]
        text += [f"a=ptime:{ptime}", f"a={direction}"]
    return text
