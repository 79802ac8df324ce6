"""SDP and offer/answer (RFC 4566, 3264) as a pure library."""

from siperb_core.sdp.bridge import Bridge
from siperb_core.sdp.codecs import describe
from siperb_core.sdp.description import Media, SdpError, SessionDescription, parse_sdp
from siperb_core.sdp.pairing import CodecPolicy
from siperb_core.sdp.plan import ClientLeg, Codec, Direction, PeerLeg, SessionPlan, Stream
from siperb_core.sdp.settings import BridgeSettings, LegIdentity

__all__ = [
    "Bridge",
    "BridgeSettings",
    "ClientLeg",
    "Codec",
    "CodecPolicy",
    "Direction",
    "LegIdentity",
    "Media",
    "PeerLeg",
    "SdpError",
    "SessionDescription",
    "SessionPlan",
    "Stream",
    "describe",
    "parse_sdp",
]
