"""Calls the gateway answers by itself: a user agent in this process, whose voice and ear are a plugin's.

To the call it is one more peer, at the end of a flow that leads nowhere: no message leaves the process, and no
retransmission is needed. Its media come from a worker over loopback, as G.711; the few calls that end here are the only
ones whose packets pass through the process that handles SIP.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final, cast

import structlog
import trio

from siperb_core.calls.media import read_info, written_info
from siperb_core.entries.decisions import SAMPLE_RATE, MediaEndpoint
from siperb_core.line import HERE, Law, Line
from siperb_core.plugin_finding import sentence
from siperb_core.rtp.events import Digit
from siperb_core.sdp import SdpError
from siperb_core.sdp.codecs import formats_of
from siperb_core.sdp.description import Media, SessionDescription, parse_sdp
from siperb_core.sdp.direction import direction_of, reverse
from siperb_core.sip import Message, parse, response_to

log = structlog.get_logger("siperb.answering")

MOST_CALLS: Final = 50
"""Calls answered at once; one more is refused."""


class Answering:
    """Makes the peers of such calls. `receive` takes what they send, as `Signalling.received` does; `spawn` runs their
    tasks.
    """

    def __init__(self, receive: Callable[[bytes, Any], None], spawn: Callable[..., None]) -> None:
        self.receive = receive
        self.spawn = spawn
        self.agents: set[Agent] = set()

    def flow(self, connection: str, endpoint: MediaEndpoint, fault: Callable[[str], None]) -> HereFlow | None:
        """The flow to a new peer that answers with this endpoint; None while too many calls end here. `fault` is told
        what the endpoint has done wrong.
        """
        if len(self.agents) >= MOST_CALLS:
            return None
        return HereFlow(Agent(self, connection, endpoint, fault))


class HereFlow:
    """A flow that ends in this process (`siperb_core.sip.Flow`). It calls itself UDP, and loses nothing."""

    transport = "udp"
    reliable = True
    remote = local = HERE
    sent_by = f"{HERE[0]}:{HERE[1]}"

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        agent.flow = self

    def send(self, data: bytes) -> None:
        """Hand a message to the agent at its end."""
        self._agent.hear(parse(data))


class Agent:
    """The user agent of one call: answers the INVITE, starts the endpoint at the ACK, hangs up when it returns."""

    def __init__(
        self, answering: Answering, connection: str, endpoint: MediaEndpoint, fault: Callable[[str], None]
    ) -> None:
        self.flow: HereFlow
        self._answering = answering
        self._connection = connection
        self._endpoint = endpoint
        self._fault = fault
        self._cseq = 0
        self._tag = secrets.token_hex(5)
        self._invite: Message | None = None
        self._line: Line | None = None
        self._scope = trio.CancelScope()
        self._started = False

    def hear(self, message: Message) -> None:
        """A message of the gateway's; responses, of our BYE, say nothing new."""
        if not message.is_request:
            return
        match message.method:
            case "INVITE":
                self._answer(message)
            case "ACK":
                if self._line is not None and not self._started:
                    self._started = True
                    self._answering.spawn(self._run)
            case "BYE" | "CANCEL":
                self._say(bytes(response_to(message, 200, to_tag=self._tag)))
                self._hang_up()
            case "INFO" | "OPTIONS" | "MESSAGE":
                digit = read_info(message) if message.method == "INFO" else None
                if digit is not None and self._line is not None:
                    self._line.take_info(digit)
                self._say(bytes(response_to(message, 200, to_tag=self._tag)))
            case _:
                self._say(bytes(response_to(message, 405, to_tag=self._tag, headers=[("Allow", _ALLOW)])))

    def _answer(self, invite: Message) -> None:
        """The first INVITE, or one that puts the call on hold."""
        try:
            description = parse_sdp(invite.body)
            audio, law, number, events = _chosen(description)
            if self._line is None:
                self._line = Line(law, number, events, self._press_by_info)
                self._answering.agents.add(self)
            self._line.remote = (description.connection_of(audio) or HERE[0], audio.port)
        except (SdpError, OSError) as error:
            log.info("answering.refused", connection=self._connection, reason=str(error))
            self._say(bytes(response_to(invite, 488, to_tag=self._tag)))
            self._hang_up()
            return
        self._invite = self._invite or invite
        headers = [("Contact", f"<sip:here@{HereFlow.sent_by}>"), ("Allow", _ALLOW)]
        response = response_to(invite, 200, to_tag=self._tag, headers=headers)
        response.set_body(_written(description, audio, self._line), "application/sdp")
        self._say(bytes(response))

    async def _run(self) -> None:
        line = self._line
        assert line is not None
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(line.listen)
                    nursery.start_soon(line.keep_up)
                    await self._endpoint.run(line)
                    nursery.cancel_scope.cancel()
        except Exception as error:
            log.exception("plugin.failed", connection=self._connection, asked="endpoint")
            while isinstance(error, ExceptionGroup):  # of the nursery, and of the endpoint's own
                error = error.exceptions[0]
            self._fault(f"{sentence(error)} in its endpoint")
        finally:
            if not self._scope.cancelled_caught:
                self._say(self._request("BYE"))
            self._hang_up()

    def _hang_up(self) -> None:
        self._scope.cancel()
        self._answering.agents.discard(self)
        if self._line is not None:
            self._line.close()

    def _press_by_info(self, digit: Digit) -> None:
        self._say(self._request("INFO", *written_info(digit)))

    def _request(self, method: str, body: bytes = b"", content_type: str = "") -> bytes:
        """A request inside the call."""
        invite = self._invite
        assert invite is not None
        self._cseq += 1
        kind = f"Content-Type: {content_type}\r\n" if body else ""
        return (
            f"{method} {invite.contacts[0].uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {HereFlow.sent_by};branch=z9hG4bK{secrets.token_hex(8)}\r\n"
            "Max-Forwards: 70\r\n"
            f"From: {invite.get('To')};tag={self._tag}\r\nTo: {invite.get('From')}\r\n"
            f"Call-ID: {invite.call_id}\r\nCSeq: {self._cseq} {method}\r\n"
            f"{kind}Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def _say(self, data: bytes) -> None:
        """In a task of its own: whoever sends a message does not expect the answer before that is done."""

        async def deliver() -> None:
            self._answering.receive(data, self.flow)

        self._answering.spawn(deliver)


_ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO"


def _chosen(description: SessionDescription) -> tuple[Media, Law, int, int | None]:
    """The section with the call's audio, the law and payload type to use, and that of telephone-events where they are
    offered. Raises SdpError.
    """
    for media in description.media:
        if media.kind == "audio" and media.port:
            formats = formats_of(media)
            named = {entry.key: entry.payload_type for entry in reversed(formats)}
            for entry in formats:
                if entry.codec.name in ("PCMA", "PCMU"):
                    events = named.get(("telephone-event", SAMPLE_RATE))
                    return media, cast(Law, entry.codec.name), entry.payload_type, events
    raise SdpError("no common codec: calls answered here speak G.711", warning_code=305)


def _written(offer: SessionDescription, audio: Media, line: Line) -> bytes:
    """The answer (RFC 3264 section 6)."""
    lines = ["v=0", f"o=- {line.port} {secrets.randbits(31)} IN IP4 {HERE[0]}", "s=-", f"c=IN IP4 {HERE[0]}", "t=0 0"]
    for media in offer.media:
        if media is audio:
            numbers = str(line.number) if line.events is None else f"{line.number} {line.events}"
            lines.append(f"m=audio {line.port} RTP/AVP {numbers}")
            lines.append(f"a=rtpmap:{line.number} {line.law}/8000")
            if line.events is not None:
                lines.append(f"a=rtpmap:{line.events} telephone-event/{SAMPLE_RATE}")
                lines.append(f"a=fmtp:{line.events} 0-15")
            lines.append(f"a={reverse(direction_of(offer, media))}")
        else:
            lines.append(f"m={media.kind} 0 {media.proto} {' '.join(media.formats)}")
    return "".join(f"{text}\r\n" for text in lines).encode()
