"""The PBX's leg as text: RTP (RFC 3551), plain or with SDES keys, as a desk phone writes it and as PBXs answer it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

import attrs

from siperb_core.sdp.codecs import Format
from siperb_core.sdp.crypto import Crypto, read_crypto
from siperb_core.sdp.description import Media, SdpError, SessionDescription, bad
from siperb_core.sdp.direction import direction_of, narrow
from siperb_core.sdp.plan import Direction
from siperb_core.sdp.section import Line, codec_lines, find_audio, rejected_line, version_of
from siperb_core.sdp.settings import BridgeSettings

PROTOCOL: Final = "RTP/AVP"
PROTOCOLS: Final = frozenset({"RTP/AVP", "RTP/AVPF"})
SECURE_PROTOCOL: Final = "RTP/SAVP"
SECURE_PROTOCOLS: Final = frozenset({"RTP/SAVP", "RTP/SAVPF"})


@attrs.frozen
class PeerRemote:
    """Where the PBX wants its packets; None while it wants none (hold in the old way, c=0.0.0.0)."""

    rtp: tuple[str, int] | None
    rtcp: tuple[str, int] | None
    direction: Direction  # the PBX's
    crypto: tuple[Crypto, ...] = ()


def peer_audio(settings: BridgeSettings, description: SessionDescription, usual: int | None) -> int:
    """The section that carries the call. Raises `SdpError` 488; plain and SDES never stand in for one another."""
    if settings.peer_keys:
        wanted, protocols = f"SDES-SRTP ({SECURE_PROTOCOL})", SECURE_PROTOCOLS
    else:
        wanted, protocols = f"plain RTP ({PROTOCOL})", PROTOCOLS
    return find_audio(description, protocols, who="the PBX", wanted=wanted, usual=usual)


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
    crypto = read_crypto(media)
    if address is None:
        return PeerRemote(None, None, narrow(direction, "sendonly"), crypto)
    return PeerRemote((address, media.port), _rtcp(media, address), direction, crypto)


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
    crypto: Sequence[Crypto] = (),
) -> list[str]:
    """Everything after the o= line of a description for the PBX; every section but the audio one is refused."""
    text = ["s=-", f"c=IN IP{version_of(settings.peer_address)} {settings.peer_address}", "t=0 0"]
    for index, line in enumerate(lines):
        if index != audio:
            text.append(rejected_line(line))
            continue
        numbers = " ".join(str(entry.payload_type) for entry in formats)
        text += [f"m=audio {settings.peer_port} {line.proto} {numbers}", *codec_lines(formats)]
        text += [f"a=crypto:{entry}" for entry in crypto]
        text += [f"a=ptime:{ptime}", f"a={direction}"]
    return text
