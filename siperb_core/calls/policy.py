"""What is done with a call's media before its codecs are known: pass it by, relay it, transcode it.

By the connection's keys `media`, `codec_policy` and `srtp`, the transport to the PBX, and what the PBX offers.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from siperb_core.entries.contract import Refusal
from siperb_core.entries.model import Entry
from siperb_core.sdp import SdpError, parse_sdp
from siperb_core.sdp.pairing import CodecPolicy

_WEBRTC: Final = frozenset({"UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP"})


@attrs.frozen
class MediaPolicy:
    """One call's policy. `why` is one sentence for people. `codecs` are those the PBX is offered, or may have of its
    own offer, in this order; empty for the connection's.
    """

    passthrough: bool
    transcodes: bool
    codec_policy: CodecPolicy
    srtp: bool  # SDES towards the PBX (RFC 4568), and nothing else
    why: str
    codecs: tuple[str, ...] = ()


MediaDecision = MediaPolicy | Refusal
"""What hook `siperb_media_policy` gives."""


def media_policy(entry: Entry, transport: str, peer_offer: bytes = b"") -> MediaPolicy:
    """The policy of a call between a softphone and this entry's PBX, reached by `transport`.

    `peer_offer` is the PBX's SDP where the PBX calls. Raises `SdpError` 488 where SDES keys would go over a transport
    that anybody can read.
    """
    wanted, secure = entry.media, transport == "tls"
    if entry.srtp == "sdes" and not secure:
        raise SdpError(f'srtp = "sdes" needs a TLS connection to the PBX, and this one is {transport.upper()}')
    mode: Literal["auto", "passthrough", "relay", "transcode"] = wanted
    why = f'media = "{wanted}"'
    if wanted == "passthrough" and not secure:
        mode, why = "auto", f"{why} needs TLS; over {transport.upper()} media are always bridged"
    elif wanted == "auto" and secure and entry.srtp == "off" and _is_webrtc(peer_offer):
        mode, why = "passthrough", f"{why} over TLS, and the PBX offers ICE with DTLS-SRTP itself"
    elif wanted == "auto":
        why = f"{why}: bridged over {transport.upper()}"
    return MediaPolicy(
        passthrough=mode == "passthrough",
        transcodes=mode != "relay",
        codec_policy="opus-first" if mode == "transcode" else entry.codec_policy,
        srtp=entry.srtp == "sdes",
        why=why,
    )


def _is_webrtc(offer: bytes) -> bool:
    """Whether a browser could answer this as it is (RFC 8829): ICE, a fingerprint, and a protocol with both."""
    if not offer:
        return False
    try:
        description = parse_sdp(offer)
    except SdpError:
        return False
    for media in description.media:
        if media.kind == "audio" and media.proto.upper() in _WEBRTC:
            places = (media, description)
            return all(any(place.get(name) for place in places) for name in ("ice-ufrag", "fingerprint"))
    return False
