"""The two kinds of legs as offer and answer have left them: immutable, so that an offer that is refused can go back."""

from __future__ import annotations

import attrs

from siperb_core.sdp import client, peer
from siperb_core.sdp.codecs import Numbers
from siperb_core.sdp.crypto import Crypto
from siperb_core.sdp.description import SdpError
from siperb_core.sdp.plan import ClientLeg, PeerKeys, PeerLeg, Stream
from siperb_core.sdp.section import Line
from siperb_core.sdp.settings import BridgeSettings, LegIdentity


@attrs.frozen
class AgreedClient:
    """A softphone's leg as agreed."""

    identity: LegIdentity
    lines: tuple[Line, ...] = (Line("audio", client.PROTOCOL, "0", "0"),)
    audio: int = 0
    bundle: bool = True
    numbers: Numbers = attrs.Factory(dict)
    remote: client.ClientRemote | None = None
    role: client.Role | None = None  # ours in DTLS; once chosen, for ever
    controlling: bool = True
    stream: Stream | None = None

    def plan(self) -> ClientLeg:
        """The leg for a media worker."""
        remote = self.remote or client.ClientRemote("", "", False, (), (), "")
        return ClientLeg(
            ufrag=self.identity.ufrag,
            password=self.identity.password,
            remote_ufrag=remote.ufrag,
            remote_password=remote.password,
            remote_candidates=remote.candidates,
            remote_fingerprints=remote.fingerprints,
            dtls=self.role or "server",  # who offered actpass waits for the other's ClientHello (RFC 8842 section 5.2)
            controlling=self.controlling,
            ssrc=self.identity.ssrc,
            stream=self.stream,
        )


@attrs.frozen
class AgreedPeer:
    """The PBX's leg as agreed."""

    lines: tuple[Line, ...] = (Line("audio", peer.PROTOCOL, "0"),)
    audio: int = 0
    numbers: Numbers = attrs.Factory(dict)
    rtp: tuple[str, int] | None = None
    rtcp: tuple[str, int] | None = None
    stream: Stream | None = None
    theirs: Crypto | None = None  # the PBX's SDES key, and ours that goes with it
    ours: Crypto | None = None

    @property
    def keys(self) -> PeerKeys | None:
        """The SDES keys as the plan has them."""
        if self.theirs is None or self.ours is None:
            return None
        return PeerKeys(self.ours.suite, self.ours.key, self.theirs.key)

    def plan(self, settings: BridgeSettings) -> PeerLeg:
        """The leg for a media worker."""
        return PeerLeg(
            remote=self.rtp,
            remote_rtcp=self.rtcp,
            symmetric=settings.symmetric,
            ssrc=settings.peer_ssrc,
            stream=self.stream,
            srtp=self.keys,
        )


def answerers_role(role: client.Role | None, setup: str) -> client.Role:
    """Our DTLS role as an answerer: active unless the phone wants to be (RFC 8842 section 5.3), and never changed."""
    wanted: client.Role = "server" if setup == "active" else "client"
    if role is None:
        return wanted
    if setup in ("active", "passive") and wanted != role:
        raise SdpError(f"the phone's a=setup:{setup} would change the DTLS roles in a running session")
    return role
