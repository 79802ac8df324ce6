"""The media of one call: the offer/answer machine, the session that carries it, and the randomness they need.

Offers and answers go through here as bytes. What comes back is written for the other leg, and the worker has been told.
A call without bridged media has no `CallMedia`: its SDP passes untouched.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any, Literal

import attrs
import trio

from siperb_core.media.engine import EngineSession
from siperb_core.media.messages import CONSENT_LOST, MediaEvent
from siperb_core.media.pool import MediaUnavailableError
from siperb_core.media.ports import PortsExhaustedError
from siperb_core.rtp.events import DIGITS, Digit
from siperb_core.rtp.twins import Twins, Way
from siperb_core.sdp import Bridge, LegIdentity, describe
from siperb_core.sdp.plan import ClientLeg
from siperb_core.sip import Message

Origin = Literal["client", "peer"]
"""Who wrote an SDP: the softphone, or the PBX."""


DtmfWay = Literal["auto", "rfc4733", "info", "inband"]
"""How the PBX of a connection gets digits."""

PhoneDtmfWay = Literal["auto", "rfc4733", "info"]
"""How softphones get the digits of a connection's PBX."""

NO_MEDIA = (MediaUnavailableError, PortsExhaustedError)
"""What opening a session or a branch may raise: no worker runs, or no port is free."""

_FATAL = frozenset({"rtp_timeout", "dtls_failed", "ice_failed", "worker_died", "codec_failed"})
_CAUSES = {
    ("rtp_timeout", "client"): "the softphone sent no RTP",
    ("rtp_timeout", "peer"): "PBX sent no RTP",
    ("one_way", "client"): "one-way audio: the softphone sent no RTP",
    ("one_way", "peer"): "one-way audio: PBX sent no RTP",
    ("dtls_failed", "client"): "DTLS with the softphone failed",
    ("worker_died", ""): "the media worker died",
}


class CallMedia:
    """The SDP of a bridged call, both ways."""

    def __init__(
        self,
        bridge: Bridge,
        session: EngineSession,
        *,
        policy: str = "",
        dtmf: DtmfWay = "auto",
        phone_dtmf: PhoneDtmfWay = "auto",
        blame: Callable[[str], None] = lambda transcoder: None,
    ) -> None:
        """`blame` is told of each transcoder that fails."""
        self.bridge = bridge
        self.policy, self.dtmf, self.phone_dtmf = policy, dtmf, phone_dtmf
        self.session = session
        self.on_dead: Callable[[str], None] = lambda cause: None
        """Called with the cause, in plain words, when the call cannot go on."""
        self.diagnosis = ""
        """What is wrong with the media of this call, in plain words; empty where nothing is."""
        self.answered_by: object | None = None
        """Which dialog's answer is in force; early dialogs of a fork may answer one offer each."""
        self.on_digit: Callable[[Origin, Digit], None] = lambda leg, digit: None
        """Called with a digit that a leg is to be told of in a SIP INFO."""
        self._blame = blame
        self._peer_takes_info = False
        self._twins: dict[Origin, Twins] = {"client": Twins(), "peer": Twins()}  # of digits that go on in an INFO
        self._mdns = False  # the softphone hides its addresses behind names (RFC 8828)
        self._branches: dict[str, LegIdentity] = {}
        session.on_event = self._happened

    def offer(self, origin: Origin, branch: str, sdp: bytes) -> bytes:
        """An offer of one leg as the other leg's. Raises `SdpError`, and one of `NO_MEDIA` for a new branch."""
        identity = self._identity(branch, sdp if origin == "client" else b"")
        self._note_candidates(origin, sdp)
        if origin == "client":
            offer = self.bridge.offer_from_client(sdp, branch, identity)
        else:
            offer = self.bridge.offer_from_peer(sdp, branch, identity)
        self._apply()
        return offer

    def answer(self, origin: Origin, branch: str, sdp: bytes) -> bytes:
        """An answer of one leg as the other leg's. Raises `SdpError`."""
        self._note_candidates(origin, sdp)
        if origin == "client":
            answer = self.bridge.answer_from_client(sdp, branch)
        else:
            answer = self.bridge.answer_from_peer(sdp)
        self._apply()
        return answer

    def reject(self) -> None:
        """The outstanding offer was refused: all stays as it was before it (RFC 3264 section 4)."""
        self.bridge.reject()
        self._apply()

    def drop_branch(self, branch: str) -> None:
        """A branch of the fork is gone."""
        if branch in self._branches:
            del self._branches[branch]
            self.bridge.drop_branch(branch)
            self.session.drop_branch(branch)
            self._apply()

    def withdraw(self) -> None:
        """The request that carried the last offer has failed: all is as before it, even where a provisional response
        had answered (RFC 6141 section 3).
        """
        self.bridge.withdraw()
        self._apply()

    # --- digits

    def learn_allow(self, message: Message) -> None:
        """Take note of whether the PBX takes INFO: a message of its own, with an Allow header or without."""
        methods = message.values("Allow")
        if methods:
            self._peer_takes_info = any(method.upper() == "INFO" for method in methods)

    @property
    def digits(self) -> Literal["event", "info", "inband"]:
        """How the PBX gets digits now."""
        match self.dtmf:
            case "rfc4733":
                return "event"
            case "info" | "inband":
                return self.dtmf
        peer = self.bridge.plan.peer
        if peer is None or peer.stream is None or peer.stream.dtmf_send is not None:
            return "event"
        return "info" if self._peer_takes_info else "inband"

    def phone_digits(self, leg: ClientLeg) -> Literal["event", "info"]:
        """How this softphone gets the PBX's digits."""
        if self.phone_dtmf == "auto":
            return "info" if leg.stream is not None and leg.stream.dtmf_send is None else "event"
        return "info" if self.phone_dtmf == "info" else "event"

    def take_info(self, origin: Origin, request: Message) -> bool:
        """Whether a SIP INFO was a digit that does not go on as one: because it goes on in the audio's stream, or has
        gone on already, as it came in that stream, too.
        """
        plan, digit = self.bridge.plan, read_info(request)
        client = plan.clients.get(plan.active or "")
        if digit is None or plan.peer is None or plan.peer.stream is None or client is None or client.stream is None:
            return False
        way = self.digits if origin == "client" else self.phone_digits(client)
        if way == "info":
            return not self._pressed(origin, "info", digit)
        target, source = (plan.peer.stream, client.stream) if origin == "client" else (client.stream, plan.peer.stream)
        if way == "event" and target.dtmf_send is None:
            return False
        if target.direction not in ("sendrecv", "sendonly") or source.direction not in ("sendrecv", "recvonly"):
            return False  # no stream goes that way now
        self.session.send_digit("peer" if origin == "client" else "client", digit)
        return True

    def _pressed(self, origin: Origin, way: Way, digit: Digit) -> bool:
        """Whether a digit that is to go on in an INFO has not come in another way."""
        now, lasts = trio.current_time(), digit.milliseconds / 1000
        return self._twins[origin].fresh(way, digit.key, now - lasts, now + lasts if way == "info" else now)

    def _apply(self) -> None:
        plan = self.bridge.plan
        if plan.peer is not None:
            plan = attrs.evolve(plan, peer=attrs.evolve(plan.peer, dtmf=self.digits))
        clients = {name: attrs.evolve(leg, dtmf=self.phone_digits(leg)) for name, leg in plan.clients.items()}
        self.session.apply(attrs.evolve(plan, clients=clients))

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

    def diagnose(self, seconds: float) -> str:
        """What was wrong with the media of a call that was answered for so long, by the figures at its end; "" where
        nothing was.
        """
        if self.diagnosis:
            return self.diagnosis
        stats, plan = self.session.stats, self.bridge.plan
        ice = stats.get("ice", "")
        if ice == "dtls":
            return "DTLS with the softphone was not done when the call ended"
        if ice not in ("", "connected"):
            return self._ice_failed()
        both_ways = plan.peer is not None and plan.peer.stream is not None and plan.peer.stream.direction == "sendrecv"
        if ice == "connected" and seconds >= _ONE_WAY_SECONDS and both_ways:
            silent = [leg for leg in ("client", "peer") if not stats[leg]["packets_in"]]
            if silent:
                return "; ".join(_CAUSES["rtp_timeout", leg] for leg in silent)
        lossy = [
            f"{name} lost {100 * lost / (lost + came):.0f} % of its packets on the way here"
            for leg, name in (("client", "the softphone"), ("peer", "PBX"))
            if (lost := stats[leg]["lost"]) > _MUCH_LOSS * (lost + (came := stats[leg]["packets_in"])) and came
        ]
        return "; ".join(lossy)

    def _ice_failed(self) -> str:
        """The browser's ICE did not connect: why, by the candidates it gave."""
        plan = self.bridge.plan
        active = plan.clients.get(plan.active or "")
        if active is None or active.remote_candidates:
            return "browser's ICE never connected"
        which = "only mDNS candidates" if self._mdns else "it gave no candidates that can be used"
        return f"browser's ICE never connected: {which}"

    def close(self, then: Callable[[], None] = lambda: None) -> None:
        """The call is over; `then` is called once its last figures are there."""
        self.session.close(then)

    def _note_candidates(self, origin: Origin, sdp: bytes) -> None:
        if origin == "client":
            self._mdns = _MDNS.search(sdp) is not None

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
        if event.kind == "digit":
            leg: Origin = "peer" if event.leg == "peer" else "client"
            digit = Digit(event.digit, event.milliseconds)
            if self._pressed("client" if leg == "peer" else "peer", "event", digit):
                self.on_digit(leg, digit)
            return
        if event.transcoder:
            self._blame(event.transcoder)
        if event.branch and event.branch != self.bridge.active:
            return  # of a branch that lost, or has not answered
        if event.kind == "ice_failed":
            cause = _GONE if event.detail == CONSENT_LOST else self._ice_failed()
            event = attrs.evolve(event, detail="")
        else:
            cause = _CAUSES.get((event.kind, event.leg)) or _CAUSES.get((event.kind, "")) or event.detail or event.kind
        self.diagnosis = f"{cause} ({event.detail})" if event.detail and event.detail != cause else cause
        if event.kind in _FATAL:
            self.on_dead(cause)


_MDNS = re.compile(rb"^a=candidate:\S+ \d+ udp \d+ [0-9A-Za-z-]+\.local ", re.IGNORECASE | re.MULTILINE)
_GONE = "the browser no longer answers: it is gone, or its network is"
_ONE_WAY_SECONDS = 5.0
_MUCH_LOSS = 0.05

_SIGNAL = re.compile(r"^\s*signal\s*=\s*(\S+)\s*$", re.IGNORECASE | re.MULTILINE)
_DURATION = re.compile(r"^\s*duration\s*=\s*([0-9]{1,5})\s*$", re.IGNORECASE | re.MULTILINE)
_LARGEST_INFO = 1000  # octets


def read_info(request: Message) -> Digit | None:
    """The digit in an INFO: application/dtmf-relay (`Signal=5`, `Duration=160`) or application/dtmf (`5`)."""
    kind = (request.get("Content-Type") or "").partition(";")[0].strip().lower()
    text = request.body[:_LARGEST_INFO].decode("ascii", "replace")
    duration = _DURATION.search(text)
    if kind == "application/dtmf-relay":
        found = _SIGNAL.search(text)
        key = found[1].upper() if found else ""
    elif kind == "application/dtmf":
        key = text.strip().upper()
    else:
        return None
    key = {"10": "*", "11": "#"}.get(key, key)
    if len(key) != 1 or key not in DIGITS:
        return None
    return Digit(key, int(duration[1]) if duration else 160)


def written_info(digit: Digit) -> tuple[bytes, str]:
    """Body and Content-Type of an INFO with a digit, as telephones and PBXs write it."""
    return f"Signal={digit.key}\r\nDuration={digit.milliseconds}\r\n".encode(), "application/dtmf-relay"


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
