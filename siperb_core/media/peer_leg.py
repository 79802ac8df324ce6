"""The PBX's leg in a worker: RTP on one socket, RTCP on the next, who may be heard on them, and SDES-SRTP where the
plan has keys.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from base64 import b64decode
from collections.abc import Callable
from typing import Final

from pylibsrtp import Error as SrtpError
from pylibsrtp import Policy, Session

from siperb_core.media.client_leg import MAX_DATAGRAM
from siperb_core.media.ice import Address
from siperb_core.media.srtp import SrtpSession
from siperb_core.rtp.packet import COMFORT_NOISE, HEADER_SIZE
from siperb_core.sdp.plan import PeerLeg, SrtpSuite

PROOF_PACKETS: Final = 3  # from a host SDP does not name: packets of one source before it is believed
_PROFILES: Final[dict[SrtpSuite, int]] = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
SETTLING: Final = 2.0  # seconds in which SDP's own address still takes precedence over a learned one


class PeerConnection:
    """Sends to the address SDP names or, where the plan says `symmetric`, to the one the PBX's packets come from (RFC
    4961).

    The source is learned once and then locked: it changes only when the plan names another remote address. Everybody
    else is dropped.
    """

    def __init__(
        self,
        rtp: socket.socket,
        rtcp: socket.socket,
        *,
        on_rtp: Callable[[bytes, float], None],
        on_rtcp: Callable[[bytes, float], None],
    ) -> None:
        self.rtp, self.rtcp = rtp, rtcp
        self.leg: PeerLeg | None = None
        self.remote: Address | None = None  # where we send, None until it is known
        self.filtered = 0
        self.send_errors = 0
        self.srtp_errors = 0
        self._outbound: SrtpSession | None = None
        self._inbound: SrtpSession | None = None
        self._keys: list[tuple[SrtpSuite, str] | None] = [None, None]  # of the two, as in force
        self._rtcp_remote: Address | None = None
        self._locked = False
        self._learned_at = 0.0
        self._claim: tuple[Address, bytes] | None = None
        self._claims = 0
        self._on_rtp, self._on_rtcp = on_rtp, on_rtcp

    def apply(self, leg: PeerLeg) -> None:
        """Take over the plan's addresses; a source that was learned is kept while SDP's address stays the same."""
        before = self.leg
        self.leg = leg
        self._rekey(leg)
        if (
            before is not None
            and before.remote == leg.remote
            and before.symmetric == leg.symmetric
            and before.remote_rtcp == leg.remote_rtcp
        ):
            return
        self.remote = _sendable(leg.remote)
        self._rtcp_remote = _sendable(leg.remote_rtcp) or _above(self.remote)
        self._locked = not leg.symmetric
        self._claim, self._claims, self._learned_at = None, 0, 0.0

    def _rekey(self, leg: PeerLeg) -> None:
        """Take over keys that have changed; the others keep their roll-over counter (RFC 3711 section 3.3.1)."""
        send = receive = None
        if leg.srtp is not None:
            send, receive = (leg.srtp.suite, leg.srtp.send), (leg.srtp.suite, leg.srtp.receive)
        if send != self._keys[0]:
            self._outbound = srtp_session(send, Policy.SSRC_ANY_OUTBOUND)
        if receive != self._keys[1]:
            self._inbound = srtp_session(receive, Policy.SSRC_ANY_INBOUND)
        self._keys = [send, receive]

    def readable(self) -> None:
        """Take one RTP packet that has come."""
        try:
            data, source = self.rtp.recvfrom(MAX_DATAGRAM)
        except OSError:  # none after all, or the answer to an earlier sending: port unreachable
            return
        now = time.monotonic()
        source = source[:2]
        known = self._locked and source == self.remote
        inbound = self._inbound
        if inbound is not None and (known or (self.leg is not None and self.leg.symmetric)):
            # Before anything is learned from it: who has the key is the PBX, wherever it sends from.
            try:
                data = inbound.unprotect(data)
            except (SrtpError, ValueError):
                self.srtp_errors += 1
                return
        if known or self._admit(data, source, now):
            self._on_rtp(data, now)
        else:
            self.filtered += 1

    def rtcp_readable(self) -> None:
        """Take RTCP that has come; only from the host RTP goes to."""
        try:
            data, source = self.rtcp.recvfrom(MAX_DATAGRAM)
        except OSError:
            return
        known = {a[0] for a in (self.remote, self._rtcp_remote) if a is not None}
        if source[0] not in known:
            self.filtered += 1
            return
        if self._inbound is not None:
            try:
                data = self._inbound.unprotect_rtcp(data)
            except (SrtpError, ValueError):
                self.srtp_errors += 1
                return
        self._on_rtcp(data, time.monotonic())

    def _admit(self, data: bytes, source: Address, now: float) -> bool:
        """Decide on a packet whose source is not, or not yet, locked."""
        leg = self.leg
        if leg is None or not leg.symmetric or leg.remote is None or leg.stream is None:
            return False
        if (
            len(data) < HEADER_SIZE
            or data[0] >> 6 != 2
            or data[1] & 0x7F not in (leg.stream.receive, leg.stream.dtmf_receive, COMFORT_NOISE)
        ):
            return False
        if self._locked:
            # A learned address gives way to SDP's own, if that speaks soon after.
            if source != leg.remote or now - self._learned_at > SETTLING:
                return False
        elif source != leg.remote and source[0] != leg.remote[0]:
            claim = (source, data[8:12])
            self._claims = self._claims + 1 if claim == self._claim else 1
            self._claim = claim
            if self._claims < PROOF_PACKETS:
                return False
        self._locked, self._learned_at = True, now
        self.remote = source
        if source == leg.remote:
            self._learned_at = 0.0
            self._rtcp_remote = _sendable(leg.remote_rtcp) or _above(source)
        else:
            self._rtcp_remote = _above(source)
        return True

    def send(self, packet: bytes) -> None:
        """Send an RTP packet."""
        if self.remote is not None:
            try:
                if self._outbound is not None:
                    packet = self._outbound.protect(packet)
                self.rtp.sendto(packet, self.remote)
            except (OSError, SrtpError, ValueError):
                self.send_errors += 1

    def send_rtcp(self, packet: bytes) -> None:
        """Send an RTCP packet."""
        if self._rtcp_remote is not None:
            try:
                if self._outbound is not None:
                    packet = self._outbound.protect_rtcp(packet)
                self.rtcp.sendto(packet, self._rtcp_remote)
            except (OSError, SrtpError, ValueError):
                self.send_errors += 1

    def close(self) -> None:
        """Close both sockets."""
        self.rtp.close()
        self.rtcp.close()


def srtp_session(key: tuple[SrtpSuite, str] | None, kind: int) -> SrtpSession | None:
    """libsrtp's session for one direction, of suite and key; `kind` is the policy's SSRC type. None for no key."""
    if key is None:
        return None
    policy = Policy(key=b64decode(key[1]), ssrc_type=kind, srtp_profile=_PROFILES[key[0]])
    policy.allow_repeat_tx = True
    policy.window_size = 1024
    return SrtpSession(Session(policy))


def _sendable(address: Address | None) -> Address | None:
    """None for the addresses old phones put on hold with: 0.0.0.0, port 0 (RFC 3264 section 8.4)."""
    if address is None or not address[1] or ipaddress.ip_address(address[0]).is_unspecified:
        return None
    return address[0], address[1]


def _above(address: Address | None) -> Address | None:
    return None if address is None or address[1] == 65535 else (address[0], address[1] + 1)
