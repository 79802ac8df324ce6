"""The media of a call with the real offer/answer machine in them, and ends that keep count of what they agreed on."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, Literal

from siperb_core.calls import CallMedia
from siperb_core.media.messages import MediaEvent, check_plan
from siperb_core.rtp.events import Digit
from siperb_core.sdp import Bridge, BridgeSettings
from siperb_core.sdp.plan import SessionPlan
from siperb_core.sip import Message

from .fake_media import SDP
from .world import EndPoint

PBX_ADDRESS = "198.51.100.9"
UNUSABLE = b"v=0\r\no=- 1 1 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\n"
"""A description that is none anybody could talk by: the audio is refused."""

REVERSE = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}
_PAIRS = [pair for codec in ("G722", "PCMA", "PCMU") for pair in (("opus", codec), (codec, "opus"))]


class Session:
    """In place of a worker's session: what it would have been told last."""

    peer_port = 10000

    def __init__(self) -> None:
        self.on_event: Callable[[MediaEvent], None] | None = None
        self.stats: dict[str, Any] = {"client": {"packets_in": 0, "lost": 0}, "peer": {"packets_in": 0, "lost": 0}}
        self.plan = SessionPlan(None)
        self.branches: dict[str, int] = {}
        self.closed = False
        self._ports = itertools.count(10010, 2)

    def add_branch(self, branch: str) -> int:
        if branch in self.branches:
            raise ValueError(f"branch {branch!r} exists already")
        self.branches[branch] = next(self._ports)
        return self.branches[branch]

    def drop_branch(self, branch: str) -> None:
        self.branches.pop(branch, None)

    def apply(self, plan: SessionPlan) -> None:
        check_plan(plan)
        self.plan = plan

    def send_digit(self, leg: str, digit: Digit) -> None:
        raise AssertionError("nobody has pressed a key")

    def close(self, then: Callable[[], None] = lambda: None) -> None:
        self.closed = True
        then()


class BridgedMedia(CallMedia):
    """A call's media without worker."""

    session: Session  # type: ignore[assignment]

    def __init__(self) -> None:
        settings = BridgeSettings(
            address="203.0.113.5",
            peer_address="192.0.2.5",
            peer_port=Session.peer_port,
            peer_ssrc=1,
            fingerprint=("sha-256", ":".join(["AB"] * 32)),
            session_id=7,
            transcodable=frozenset(_PAIRS),
        )
        super().__init__(Bridge(settings), Session())  # type: ignore[arg-type]


class Talker:
    """Offer and answer as one end has them (RFC 3264): every description it writes is told apart by a port."""

    def __init__(self, end: EndPoint, kind: Literal["phone", "pbx"], first_port: int = 20000) -> None:
        self.end = end
        self.kind = kind
        self._ports = itertools.count(first_port, 2)
        self._offered = b""
        self.agreed = (b"", b"")
        """Its own description and the other's, of the last exchange that was complete."""

    def writes(self, direction: str = "sendrecv") -> bytes:
        """A description of its own."""
        port = next(self._ports)
        if self.kind == "pbx":
            return (
                f"v=0\r\no=- 1 {port} IN IP4 {PBX_ADDRESS}\r\ns=-\r\nc=IN IP4 {PBX_ADDRESS}\r\nt=0 0\r\n"
                f"m=audio {port} RTP/AVP 8 0\r\na={direction}\r\n"
            ).encode()
        return (
            f"v=0\r\no=- 1 {port} IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
            "m=audio 9 UDP/TLS/RTP/SAVPF 111 8\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:111 opus/48000/2\r\na=mid:0\r\n"
            f"a=rtcp-mux\r\na=setup:actpass\r\na=ice-ufrag:abcd\r\na=ice-pwd:{'w' * 24}\r\na={direction}\r\n"
            f"a=candidate:1 1 udp 1 198.51.100.7 {port} typ host\r\na=fingerprint:sha-256 {':'.join(['4A'] * 32)}\r\n"
        ).encode()

    def offers(self, direction: str = "sendrecv") -> bytes:
        """An offer of its own."""
        self._offered = self.writes(direction)
        return self._offered

    def answers(self, offer: bytes, direction: str = "sendrecv") -> bytes:
        """The answer to an offer that came, which settles it here."""
        assert b"m=audio " in offer, "this is no offer"
        own = self.writes(direction)
        if self.kind == "phone":
            own = own.replace(b"a=setup:actpass", b"a=setup:active")
        self.agreed = (own, offer)
        return own

    def hears(self, answer: bytes) -> None:
        """The answer to its own offer."""
        assert self._offered, "an answer to no offer"
        assert b"m=audio " in answer, "this is no answer"
        self.agreed = (self._offered, answer)

    @property
    def direction(self) -> str:
        """Which way this end may send and receive now (RFC 3264 section 6.1)."""
        own, other = (_direction(text) for text in self.agreed)
        other = REVERSE[other]
        sends = own in ("sendrecv", "sendonly") and other in ("sendrecv", "sendonly")
        receives = own in ("sendrecv", "recvonly") and other in ("sendrecv", "recvonly")
        return {(True, True): "sendrecv", (True, False): "sendonly", (False, True): "recvonly"}.get(
            (sends, receives), "inactive"
        )


def agree(media: CallMedia, phone: Talker, pbx: Talker) -> None:
    """Both ends and the media worker have the same session in mind."""
    assert not media.bridge.pending, "an offer is unanswered"
    session = media.session
    assert isinstance(session, Session)
    plan = session.plan
    assert plan.active is not None
    client, peer = plan.clients[plan.active], plan.peer
    assert peer is not None
    assert client.stream is not None
    assert peer.stream is not None
    assert peer.remote == (PBX_ADDRESS, _port(pbx.agreed[0])), "the PBX listens somewhere else"
    assert client.remote_candidates == (_candidate(phone.agreed[0]),), "the softphone is somewhere else"
    assert f"m=audio {session.peer_port} ".encode() in pbx.agreed[1], "the PBX sends somewhere else"
    assert f"a=ice-ufrag:{client.ufrag}\r\n".encode() in phone.agreed[1], "the softphone sends somewhere else"
    assert client.stream.direction == REVERSE[phone.direction]
    assert peer.stream.direction == REVERSE[pbx.direction]
    assert phone.direction == REVERSE[pbx.direction], "one side holds, and the other has not heard of it"
    for talker, stream in ((phone, client.stream), (pbx, peer.stream)):
        own, given = (_payload_types(text) for text in talker.agreed)
        assert stream.send in own, "we send what that end has not agreed to"
        assert stream.receive in given, "that end may not send what we take"


def _direction(text: bytes) -> str:
    found = re.search(rb"^a=(sendrecv|sendonly|recvonly|inactive)\r$", text, re.MULTILINE)
    return found[1].decode() if found else "sendrecv"


def _port(text: bytes) -> int:
    found = re.search(rb"^m=audio (\d+) ", text, re.MULTILINE)
    assert found
    return int(found[1])


def _candidate(text: bytes) -> str:
    found = re.search(rb"^a=candidate:(.*)\r$", text, re.MULTILINE)
    assert found
    return found[1].decode()


def _payload_types(text: bytes) -> list[int]:
    found = re.search(rb"^m=audio \d+ \S+ (.*)\r$", text, re.MULTILINE)
    assert found
    return [int(number) for number in found[1].split()]


def offered(end: EndPoint, method: str, body: bytes, *headers: tuple[str, str]) -> Message:
    """A request of an end with a description in it."""
    return end.request(method, SDP, *headers, body=body)
