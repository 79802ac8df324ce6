"""The softphone's leg as text: what a browser needs to read (RFC 8829), and what must be in what it sends."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from itertools import islice
from typing import Final, Literal

import attrs

from siperb_core.sdp.codecs import Format
from siperb_core.sdp.description import Media, SdpError, SessionDescription
from siperb_core.sdp.plan import Direction
from siperb_core.sdp.section import Line, codec_lines, rejected_line, version_of
from siperb_core.sdp.settings import BridgeSettings, LegIdentity

Role = Literal["client", "server"]
Setup = Literal["actpass", "active", "passive"]

PROTOCOL: Final = "UDP/TLS/RTP/SAVPF"
PROTOCOLS: Final = frozenset(  # RFC 8829 section 5.1.2, whose answer echoes what was offered
    f"{transport}RTP/SAVP{feedback}"
    for transport in ("UDP/TLS/", "TCP/DTLS/", "TCP/TLS/", "")
    for feedback in ("F", "")
)
MAX_CANDIDATES: Final = 32  # as many as ICE looks at
MAX_FINGERPRINTS: Final = 8

_CREDENTIAL: Final = re.compile(r"[!-9;-~]+")
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_FOUNDATION: Final = re.compile(r"[A-Za-z0-9+/\-_]{1,32}")
_HEX_PAIRS: Final = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})+")
_DIGEST_OCTETS: Final = {"sha-256": 32, "sha-384": 48, "sha-512": 64}


@attrs.frozen
class ClientRemote:
    """How the softphone is reached and known: ICE (RFC 8839) and DTLS (RFC 8842)."""

    ufrag: str
    password: str
    lite: bool
    candidates: tuple[str, ...]
    fingerprints: tuple[tuple[str, str], ...]
    setup: str  # "" where it is missing


def read_client(description: SessionDescription, media: Media) -> ClientRemote:
    """The transport of a softphone's audio section.

    An attribute is looked for in the section, in the one its bundle's transport is described in, then in the session.
    Raises `SdpError` 488 unless it is ICE with DTLS-SRTP on one port: plain RTP is never spoken towards a browser.
    """
    bundle = description.bundle_of(media)
    tagged = (other for other in description.media if bundle and other.mid == bundle[0])
    places: list[Media | SessionDescription] = [media, *islice(tagged, 1), description]

    def first(name: str) -> str | None:
        return next((value for place in places if (value := place.get(name)) is not None), None)

    def every(name: str) -> list[str]:
        return next((values for place in places if (values := place.get_all(name))), [])

    ufrag, password = first("ice-ufrag"), first("ice-pwd")
    if ufrag is None or password is None:
        raise _refused("no ICE credentials (a=ice-ufrag, a=ice-pwd)")
    if not (_CREDENTIAL.fullmatch(ufrag) and 4 <= len(ufrag) <= 256):
        raise _refused("an a=ice-ufrag that RFC 8839 does not allow")
    if not (_CREDENTIAL.fullmatch(password) and 22 <= len(password) <= 256):
        raise _refused("an a=ice-pwd that RFC 8839 does not allow")
    written = every("fingerprint")
    if not written:
        raise _refused("no a=fingerprint, which DTLS-SRTP needs")
    known = filter(None, map(_fingerprint, dict.fromkeys(written)))
    fingerprints = tuple(dict.fromkeys(islice(known, MAX_FINGERPRINTS)))
    if not fingerprints:
        raise _refused("no a=fingerprint of sha-256 or better")
    if first("rtcp-mux") is None:
        raise _refused("no a=rtcp-mux; RTP and RTCP share one port here")
    setup = (first("setup") or "").lower()
    if setup not in ("", "actpass", "active", "passive"):
        raise _refused("an a=setup that starts no DTLS")
    return ClientRemote(
        ufrag=ufrag,
        password=password,
        lite=description.get("ice-lite") is not None,
        candidates=_candidates(every("candidate")),
        fingerprints=fingerprints,
        setup=setup,
    )


def _refused(what: str) -> SdpError:
    return SdpError(f"the phone's audio has {what}", warning_code=302)


def _fingerprint(value: str) -> tuple[str, str] | None:
    algorithm, _, digest = value.partition(" ")
    digest = digest.strip()
    octets = _DIGEST_OCTETS.get(algorithm.lower())
    if octets is None or len(digest) != 3 * octets - 1 or not _HEX_PAIRS.fullmatch(digest):
        return None
    return algorithm.lower(), digest.upper()


def _candidates(values: Sequence[str]) -> tuple[str, ...]:
    """Candidates we can use: UDP, component 1, an IP address. Others (TCP, mDNS names) are no mistake, and left out."""
    found: dict[tuple[str, str], str] = {}
    for value in values:
        parts = value.split()
        if len(parts) < 8 or parts[1] != "1" or parts[2].lower() != "udp" or parts[6] != "typ":
            continue
        foundation, priority, address, port, kind = parts[0], parts[3], parts[4], parts[5], parts[7]
        if not (_FOUNDATION.fullmatch(foundation) and kind in ("host", "srflx", "prflx", "relay")):
            continue
        if not (_within(priority, 2**32 - 1) and _within(port, 65535) and _is_unicast(address)):
            continue
        found.setdefault((address, port), f"{foundation} 1 udp {priority} {address} {port} typ {kind}")
        if len(found) == MAX_CANDIDATES:
            break
    return tuple(found.values())


def _within(text: str, high: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= high


def _is_unicast(address: str) -> bool:
    if _IPV4.fullmatch(address):  # most are, and `ipaddress` takes ten times as long
        return address != "0.0.0.0" and not 224 <= int(address.partition(".")[0]) <= 239
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return "%" not in address and not parsed.is_multicast and not parsed.is_unspecified


def write_client(
    settings: BridgeSettings,
    identity: LegIdentity,
    *,
    lines: Sequence[Line],
    audio: int,
    formats: Sequence[Format],
    direction: Direction,
    setup: Setup,
    bundle: bool,
    ptime: int,
) -> list[str]:
    """Everything after the o= line of a description for a softphone; every section but the audio one is refused."""
    version = version_of(settings.address)
    line = lines[audio]
    text = ["s=-", "t=0 0"]
    if bundle:
        text.append(f"a=group:BUNDLE {line.mid}")
    text.append("a=msid-semantic: WMS siperb")
    for index, other in enumerate(lines):
        if index != audio:
            text += [rejected_line(other), f"c=IN IP{version} {settings.address}", "a=inactive"]
            if other.mid:
                text.append(f"a=mid:{other.mid}")
            continue
        numbers = " ".join(str(entry.payload_type) for entry in formats)
        text += [
            f"m=audio {identity.port} {line.proto} {numbers}",
            f"c=IN IP{version} {settings.address}",
            f"a=rtcp:{identity.port} IN IP{version} {settings.address}",
            f"a=ice-ufrag:{identity.ufrag}",
            f"a=ice-pwd:{identity.password}",
            "a=fingerprint:{} {}".format(*settings.fingerprint),
            f"a=setup:{setup}",
        ]
        if line.mid:
            text.append(f"a=mid:{line.mid}")
        text += [f"a={direction}", "a=rtcp-mux", "a=msid:siperb audio", *codec_lines(formats), f"a=ptime:{ptime}"]
        # A source of our own, whatever the PBX says of its: a browser that is told another one plays silence.
        text += [f"a=ssrc:{identity.ssrc} cname:s{identity.ssrc:08x}", f"a=ssrc:{identity.ssrc} msid:siperb audio"]
        for place, address in enumerate((settings.address, *settings.extra_addresses)):
            # RFC 8445 section 5.1.2.1: type preference 126 of host candidates, the first address preferred, component 1
            priority = (126 << 24) + ((65535 - place) << 8) + 255
            text.append(f"a=candidate:{place + 1} 1 udp {priority} {address} {identity.port} typ host")
        text.append("a=end-of-candidates")
    return text
