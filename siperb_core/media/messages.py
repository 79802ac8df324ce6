"""What the main process and a media worker say to one another: JSON, one message per SOCK_SEQPACKET datagram, sockets
beside it.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any, Final, Literal

import attrs
from cattrs.preconf.json import make_converter

from siperb_core.media.encoding import EffortSetting
from siperb_core.sdp.plan import SessionPlan

MAX_MESSAGE: Final = 128 * 1024
MAX_SOCKETS: Final = 2

CONSENT_LOST: Final = "the client no longer answers"
"""Detail of `ice_failed` where ICE had connected, and consent has run out (RFC 7675)."""

converter = make_converter(forbid_extra_keys=True)

EventKind = Literal[
    "connected", "ice_failed", "dtls_failed", "rtp_timeout", "one_way", "codec_failed", "worker_died", "digit"
]


@attrs.frozen
class MediaEvent:
    """Something happened to a session's media.

    `connected`, `ice_failed` and `dtls_failed` are about `branch`; `rtp_timeout` and `one_way` about `leg`, "client" or
    "peer": the one nothing comes from; `digit` is one that `leg` is to be told of in a SIP INFO; `codec_failed` says
    that no plugin can transcode what was agreed, or that `transcoder` has failed. `detail` is for people.
    """

    kind: EventKind
    branch: str = ""
    leg: str = ""
    detail: str = ""
    digit: str = ""
    milliseconds: int = 0
    transcoder: str = ""


@attrs.frozen
class Settings:
    """What a worker is told once. Times in seconds, `tick_ms` in milliseconds."""

    certificate: str = attrs.field(repr=False)
    rtp_timeout: float = 60.0
    tick_ms: float = 2.0
    one_way_after: float = 5.0
    stats_interval: float = 1.0
    transcoder_plugins: tuple[str, ...] | None = None  # None: every installed one
    effort: EffortSetting = "auto"


def check_plan(plan: SessionPlan) -> None:
    """Raise ValueError when an address of the PBX is no literal IP address: a worker never resolves names."""
    if plan.peer is not None:
        for remote in (plan.peer.remote, plan.peer.remote_rtcp):
            if remote is not None:
                ipaddress.ip_address(remote[0])
                if not 0 <= remote[1] <= 65535:
                    raise ValueError(f"{remote[1]} is no port")


def encode(message: Mapping[str, Any]) -> bytes:
    """Write a message. Raises ValueError when it is too large."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE:
        raise ValueError(f"a message of {len(data)} octets to a media worker; {MAX_MESSAGE} are allowed")
    return data


def decode(data: bytes) -> dict[str, Any]:
    """Read a message. Raises ValueError."""
    message = json.loads(data)
    if not isinstance(message, dict):
        raise TypeError("a message is an object")
    return message
