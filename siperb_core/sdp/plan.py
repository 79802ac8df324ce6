"""What a media session should be: plain data, made by the offer/answer machine, carried out by a media worker.

A plan is declarative. After every offer and every answer the whole plan is sent again and the worker does what is
needed to get there, so a lost, repeated or late step cannot leave the two out of tune.
"""

from __future__ import annotations

from typing import Literal

import attrs

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
SrtpSuite = Literal["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM"]


@attrs.frozen
class Codec:
    """One codec as SDP names it (RFC 4566 section 6, rtpmap)."""

    name: str  # as in the IANA registry: opus, G722, PCMA, PCMU, telephone-event
    clock: int  # RTP clock in Hz; 8000 for G.722, by an old mistake kept for ever (RFC 3551 section 4.5.2)
    channels: int = 1
    fmtp: str = ""


@attrs.frozen
class Stream:
    """The audio stream of one leg, from the gateway's side.

    `send` and `receive` are RTP payload types of our packets out and of the packets that come in. `direction` is what
    the gateway may do on this leg: `recvonly` means the far end has put us on hold.
    """

    codec: Codec
    send: int
    receive: int
    direction: Direction = "sendrecv"
    dtmf_send: int | None = None  # payload type of telephone-event, None where the far end has none
    dtmf_receive: int | None = None
    dtmf_clock: int = 8000
    ptime: int = 20  # milliseconds


@attrs.frozen
class ClientLeg:
    """A softphone's leg: ICE, DTLS-SRTP, RTP and RTCP on one port (RFC 8829).

    Until the softphone's description is known (a branch that rings) the `remote_` fields are empty, and `dtls` is only
    what a softphone's usual answer would make it.
    """

    ufrag: str  # ours
    password: str
    remote_ufrag: str
    remote_password: str
    remote_candidates: tuple[str, ...]  # values of a=candidate, without the attribute's name
    remote_fingerprints: tuple[tuple[str, str], ...]  # (hash, value), as in a=fingerprint
    dtls: Literal["client", "server"]  # our role; chosen once
    controlling: bool  # our ICE role: the offerer's (RFC 8445 section 6.1.1)
    ssrc: int  # of the packets we send
    stream: Stream | None = None  # None until offer and answer are through: ICE and DTLS may start, no audio yet
    dtmf: Literal["event", "info"] = "event"  # how the softphone gets the PBX's digits


@attrs.frozen
class PeerKeys:
    """SDES-SRTP (RFC 4568): master key and salt of each way, in base64."""

    suite: SrtpSuite
    send: str = attrs.field(repr=False)  # protects what we send
    receive: str = attrs.field(repr=False)


@attrs.frozen
class PeerLeg:
    """The PBX's leg: RTP, plain or with SDES keys, RTCP on the next port."""

    remote: tuple[str, int] | None  # None until the PBX's SDP is known
    remote_rtcp: tuple[str, int] | None
    symmetric: bool  # learn the source of the first packet and lock to it, instead of the SDP's address alone
    ssrc: int
    stream: Stream | None = None
    srtp: PeerKeys | None = None  # None: plain RTP
    dtmf: Literal["event", "info", "inband"] = "event"  # how the PBX gets digits, and with tones, gives them


@attrs.frozen
class SessionPlan:
    """One call's media: the PBX's leg and one client leg per branch; `active` is the branch that is heard."""

    peer: PeerLeg | None
    clients: dict[str, ClientLeg] = attrs.field(factory=dict)
    active: str | None = None
