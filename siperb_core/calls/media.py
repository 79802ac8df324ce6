"""The media of one call: the offer/answer machine, the session that carries it, and the randomness they need.

Offers and answers go through here as bytes. What comes back is written for the other leg, and the worker has been told.
A call without bridged media has no `CallMedia`: its SDP passes untouched.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Literal

from siperb_core.media.messages import MediaEvent
from siperb_core.media.pool import MediaSession, MediaUnavailableError
from siperb_core.media.ports import PortsExhaustedError
from siperb_core.sdp import Bridge, LegIdentity, describe
from siperb_core.sip import Message

Origin = Literal["client", "peer"]
"""Who wrote an SDP: the softphone, or the PBX."""


DtmfWay = Literal["auto", "rfc4733", "info", "inband"]
"""How the PBX of a connection gets digits."""

NO_MEDIA = (MediaUnavailableError, PortsExhaustedError)
"""What opening a session or a branch may raise: no worker runs, or no port is free."""

_FATAL = frozenset({"rtp_timeout", "dtls_failed", "ice_failed", "worker_died", "codec_failed"})
_CAUSES = {
    ("rtp_timeout", "client"): "the softphone sent no RTP",
    ("rtp_timeout", "peer"): "PBX sent no RTP",
    ("one_way", "client"): "one-way audio: the softphone sent no RTP",
    ("one_way", "peer"): "one-way audio: PBX sent no RTP",
    ("ice_failed", "client"): "the softphone's ICE never connected",
    ("dtls_failed", "client"): "DTLS with the softphone failed",
    ("worker_died", ""): "the media worker died",
}


class CallMedia:
    """The SDP of a bridged call, both ways."""

    def __init__(self, bridge: Bridge, session: MediaSession, *, policy: str = "", dtmf: DtmfWay = "auto") -> None:
        self.bridge = bridge
        self.policy, self.dtmf = policy, dtmf
        self.session = session
        self.on_dead: Callable[[str], None] = lambda cause: None
        """Called with the cause, in plain words, when the call cannot go on."""
        self.diagnosis = ""
        """What is wrong with the media of this call, in plain words; empty where nothing is."""
        self.answered_by: object | None = None
        """Which dialog's answer is in force; early dialogs of a fork may answer one offer each."""
        self._branches: dict[str, LegIdentity] = {}
        session.on_event = self._happened

    def offer(self, origin: Origin, branch: str, sdp: bytes) -> bytes:
        """An offer of one leg as the other leg's. Raises `SdpError`, and one of `NO_MEDIA` for a new branch."""
        identity = self._identity(branch, sdp if origin == "client" else b"")
        if origin == "client":
            offer = self.bridge.offer_from_client(sdp, branch, identity)
        else:
            offer = self.bridge.offer_from_peer(sdp, branch, identity)
        self.session.apply(self.bridge.plan)
        return offer

    def answer(self, origin: Origin, branch: str, sdp: bytes) -> bytes:
        """An answer of one leg as the other leg's. Raises `SdpError`."""
        if origin == "client":
            answer = self.bridge.answer_from_client(sdp, branch)
        else:
            answer = self.bridge.answer_from_peer(sdp)
        self.session.apply(self.bridge.plan)
        return answer

    def reject(self) -> None:
        """The outstanding offer was refused: all stays as it was before it (RFC 3264 section 4)."""
        self.bridge.reject()
        self.session.apply(self.bridge.plan)

    def drop_branch(self, branch: str) -> None:
        """A branch of the fork is gone."""
        if branch in self._branches:
            del self._branches[branch]
            self.bridge.drop_branch(branch)
            self.session.drop_branch(branch)
            self.session.apply(self.bridge.plan)

    def statistics(self) -> dict[str, Any]:
        """The `media{...}` of the contract."""
        bridge = self.bridge
        return {
            **self.session.stats,
            "mode": bridge.mode,
            "why": "; ".join(filter(None, (self.policy, bridge.why))),
            "client_codec": bridge.client_codec,
            "peer_codec": bridge.peer_codec,
        }

    def close(self) -> None:
        """The call is over."""
        self.session.close()

    def _identity(self, branch: str, client_offer: bytes) -> LegIdentity | None:
        """Port and credentials of a new branch; fresh credentials where the softphone restarts ICE; else None."""
        known = self._branches.get(branch)
        if known is None:
            identity = LegIdentity(*_credentials(), port=self.session.add_branch(branch), ssrc=new_ssrc())
        elif client_offer and self.bridge.restarts_ice(client_offer, branch):
            identity = LegIdentity(*_credentials(), port=known.port, ssrc=known.ssrc)
        else:
            return None
        self._branches[branch] = identity
        return identity

    def _happened(self, event: MediaEvent) -> None:
        if event.kind == "connected":
            return
        if event.branch and event.branch != self.bridge.active:
            return  # of a branch that lost, or has not answered
        cause = _CAUSES.get((event.kind, event.leg)) or _CAUSES.get((event.kind, "")) or event.detail or event.kind
        self.diagnosis = f"{cause} ({event.detail})" if event.detail and event.detail != cause else cause
        if event.kind in _FATAL:
            self.on_dead(cause)


def passed_through(why: str, offer: bytes) -> dict[str, Any]:
    """The `media{...}` of a call whose SDP is not touched: nothing is known of its packets."""
    offered = ", ".join(describe(offer))
    return {
        "mode": "passthrough",
        "why": f"{why}; offered are {offered}" if offered else why,
        "client_codec": "",
        "peer_codec": "",
        "client": None,
        "peer": None,
    }


def _credentials() -> tuple[str, str]:
    """ICE ufrag and password (RFC 8839 section 5.4)."""
    return secrets.token_hex(4), secrets.token_hex(16)


def new_ssrc() -> int:
    """A random SSRC (RFC 3550 section 8.1), never 0."""
    return secrets.randbits(32) or 1


def new_session_id() -> int:
    """A random `sess-id` for o= (RFC 4566 section 5.2), small enough for every parser."""
    return secrets.randbits(48)


def is_sdp(message: Message) -> bool:
    """Whether the body is a session description and not something to be passed on as it is."""
    if not message.body:
        return False
    content_type = message.get("Content-Type") or ""
    return content_type.partition(";")[0].strip().lower() == "application/sdp"
