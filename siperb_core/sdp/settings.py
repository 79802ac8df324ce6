"""What an offer/answer machine is told from outside: addresses, ports, credentials, codecs. It picks none itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

import attrs

from siperb_core.sdp.codecs import codec_named
from siperb_core.sdp.crypto import Crypto
from siperb_core.sdp.pairing import CodecPolicy


def _registered(names: Iterable[str]) -> tuple[str, ...]:
    """Codec names as the registry spells them, each once; they are compared in any case (RFC 4855 section 3)."""
    return tuple(dict.fromkeys(codec_named(name).name for name in names))


def _is_address(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"{attribute.name}: {value!r} is not an IP address") from None


CLIENT_CODECS: Final = ("opus", "G722", "PCMA", "PCMU")
"""What softphones are offered, in this order, before what plugins have."""


@attrs.frozen
class BridgeSettings:
    """One call's settings, the same for all its branches."""

    address: str = attrs.field(validator=_is_address)  # IP of the softphones' leg: c= line and candidate
    peer_address: str = attrs.field(validator=_is_address)  # IP of the PBX's leg
    peer_port: int  # RTP; RTCP is on the next one
    peer_ssrc: int  # of the packets the gateway sends to the PBX
    fingerprint: tuple[str, str]  # of the gateway's certificate: ("sha-256", "AA:BB:...")
    session_id: int  # of the o= line; unique for each call (RFC 4566 section 5.2)
    peer_codecs: tuple[str, ...] = attrs.field(  # may be used towards the PBX, in the order they are offered
        default=("G722", "PCMA", "PCMU"), converter=_registered
    )
    client_codecs: tuple[str, ...] = attrs.field(  # may be used towards softphones
        default=CLIENT_CODECS, converter=_registered
    )
    codec_policy: CodecPolicy = "opus-first"
    transcodable: frozenset[tuple[str, str]] = frozenset()  # (source, target) names, one pair for each direction
    peer_keys: tuple[Crypto, ...] = ()  # the PBX's leg is SDES-SRTP with these, and nothing else; empty: plain RTP
    peer_events: bool = True  # telephone-event may be used towards the PBX
    symmetric: bool = True  # learn the PBX's RTP source from its first packet
    extra_addresses: tuple[str, ...] = attrs.field(  # more IPs of the softphones' ports: one more candidate each
        default=(), validator=attrs.validators.deep_iterable(_is_address)
    )


@attrs.frozen
class LegIdentity:
    """What makes one branch's leg its own. A new ICE generation takes the credentials of a fresh one, nothing else."""

    ufrag: str  # at least 4 ice-chars (RFC 8839 section 5.4)
    password: str = attrs.field(repr=False)  # at least 22
    port: int
    ssrc: int  # of the packets the gateway sends to this softphone
