"""Calls the gateway answers by itself: a user agent in this process, whose voice and ear are a plugin's.

To the call it is one more peer, at the end of a flow that leads nowhere: no message leaves the process, and no
retransmission is needed. Its media come from a worker over loopback, as G.711; the few calls that end here are the only
ones whose packets pass through the process that handles SIP.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import Any, Final, Literal, cast

import attrs
import structlog
import trio

from siperb_core.entries.decisions import SAMPLE_RATE, MediaEndpoint
from siperb_core.rtp import g711
from siperb_core.rtp.packet import RtpError, RtpPacket, build_rtp, parse_rtp
from siperb_core.sdp import SdpError
from siperb_core.sdp.codecs import formats_of
from siperb_core.sdp.description import Media, SessionDescription, parse_sdp
from siperb_core.sdp.direction import direction_of, reverse
from siperb_core.sip import Message, parse, response_to

log = structlog.get_logger("siperb.answering")

MOST_CALLS: Final = 50
"""Calls answered at once; one more is refused."""
HERE: Final = ("127.0.0.1", 9)
"""Where the flow pretends to lead: the discard port, as nothing is ever sent there."""
FRAME: Final = SAMPLE_RATE // 50  # samples of a packet, 20 ms
_LONGEST_PACKET: Final = 2048
_SILENT_SECONDS: Final = 1.0
"""Without a packet for so long one of silence is sent: the call is not to end as one whose PBX has died."""
_WAITING: Final = 50  # packets nobody has listened to yet

_Law = Literal["PCMA", "PCMU"]


class Answering:
    """Makes the peers of such calls. `receive` takes what they send, as `Signalling.received` does; `spawn` runs their
    tasks.
    """

    def __init__(self, receive: Callable[[bytes, Any], None], spawn: Callable[..., None]) -> None:
        self.receive = receive
        self.spawn = spawn
        self.agents: set[Agent] = set()

    def flow(self, connection: str, endpoint: MediaEndpoint) -> HereFlow | None:
        """The flow to a new peer that answers with this endpoint; None while too many calls end here."""
        if len(self.agents) >= MOST_CALLS:
            return None
        return HereFlow(Agent(self, connection, endpoint))


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

    def __init__(self, answering: Answering, connection: str, endpoint: MediaEndpoint) -> None:
        self.flow: HereFlow
        self._answering = answering
        self._connection = connection
        self._endpoint = endpoint
        self._tag = secrets.token_hex(5)
        self._invite: Message | None = None
        self._line: _Line | None = None
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
                self._say(bytes(response_to(message, 200, to_tag=self._tag)))
            case _:
                self._say(bytes(response_to(message, 405, to_tag=self._tag, headers=[("Allow", _ALLOW)])))

    def _answer(self, invite: Message) -> None:
        """The first INVITE, or one that puts the call on hold."""
        try:
            description = parse_sdp(invite.body)
            audio, law, number = _chosen(description)
            if self._line is None:
                self._line = _Line(law, number)
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
        except Exception:
            log.exception("plugin.failed", connection=self._connection, asked="endpoint")
        finally:
            if not self._scope.cancelled_caught:
                self._say(self._bye())
            self._hang_up()

    def _hang_up(self) -> None:
        self._scope.cancel()
        self._answering.agents.discard(self)
        if self._line is not None:
            self._line.close()

    def _bye(self) -> bytes:
        invite = self._invite
        assert invite is not None
        return (
            f"BYE {invite.contacts[0].uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {HereFlow.sent_by};branch=z9hG4bK{secrets.token_hex(8)}\r\n"
            "Max-Forwards: 70\r\n"
            f"From: {invite.get('To')};tag={self._tag}\r\nTo: {invite.get('From')}\r\n"
            f"Call-ID: {invite.call_id}\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
        ).encode()

    def _say(self, data: bytes) -> None:
        """In a task of its own: whoever sends a message does not expect the answer before that is done."""

        async def deliver() -> None:
            self._answering.receive(data, self.flow)

        self._answering.spawn(deliver)


class _Line:
    """RTP with the media worker, as `siperb_core.entries.decisions.Audio`."""

    def __init__(self, law: _Law, number: int) -> None:
        self.law, self.number = law, number
        self.remote: tuple[str, int] = HERE
        self._rtp, self._rtcp = _bound_pair()
        self.port: int = self._rtp.getsockname()[1]
        self._socket = trio.socket.from_stdlib_socket(self._rtp)
        self._heard, self._hear = trio.open_memory_channel[bytes](_WAITING)
        self._sequence = secrets.randbits(15)
        self._timestamp = secrets.randbits(31)
        self._ssrc = secrets.randbits(32) or 1
        self._due = trio.current_time()

    async def receive(self) -> bytes:
        """As `Audio.receive`."""
        return g711.decode(self.law, await self._hear.receive())

    async def send(self, samples: bytes) -> None:
        """As `Audio.send`."""
        for start in range(0, len(samples), 2 * FRAME):
            await trio.sleep_until(self._due)
            await self._send(g711.encode(self.law, samples[start : start + 2 * FRAME]))

    async def _send(self, payload: bytes) -> None:
        now = trio.current_time()
        gap = max(0.0, now - self._due)
        if gap > FRAME / SAMPLE_RATE:
            self._timestamp += round(gap * SAMPLE_RATE)
            self._due = now
        packet = RtpPacket(self.number, self._sequence & 0xFFFF, self._timestamp & 0xFFFFFFFF, self._ssrc, payload)
        self._sequence += 1
        self._timestamp += len(payload)
        self._due += len(payload) / SAMPLE_RATE
        try:
            await self._socket.sendto(build_rtp(attrs.evolve(packet, marker=gap > 0)), self.remote)
        except OSError:
            pass  # the worker's port is gone, and with it soon the call

    async def listen(self) -> None:
        """Take the caller's packets, and drop what nobody listens to."""
        while True:
            try:
                data, source = await self._socket.recvfrom(_LONGEST_PACKET)
                packet = parse_rtp(data)
            except (OSError, RtpError):
                await trio.lowlevel.checkpoint()
                continue
            if source[1] == self.remote[1] and packet.payload_type == self.number:
                try:
                    self._heard.send_nowait(packet.payload)
                except trio.WouldBlock:
                    pass

    async def keep_up(self) -> None:
        """Send a packet of silence where the endpoint says nothing for long."""
        silence = g711.encode(self.law, bytes(2 * FRAME))
        while True:
            await trio.sleep_until(self._due + _SILENT_SECONDS)
            if trio.current_time() >= self._due + _SILENT_SECONDS:
                await self._send(silence)

    def close(self) -> None:
        """Give the ports back."""
        self._socket.close()
        self._rtcp.close()


_ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO"


def _bound_pair() -> tuple[socket.socket, socket.socket]:
    """Two neighbouring ports on loopback: RTCP goes to the one after RTP's. Raises OSError."""
    error: OSError | None = None
    for _ in range(20):
        rtp, rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        try:
            rtp.setblocking(False)
            rtp.bind((HERE[0], 0))
            rtcp.bind((HERE[0], rtp.getsockname()[1] + 1))
        except (OSError, OverflowError) as refused:
            rtp.close()
            rtcp.close()
            error = OSError(str(refused))
        else:
            return rtp, rtcp
    raise error or OSError("no ports")


def _chosen(description: SessionDescription) -> tuple[Media, _Law, int]:
    """The section with the call's audio, and the law and payload type to use. Raises SdpError."""
    for media in description.media:
        if media.kind == "audio" and media.port:
            for entry in formats_of(media):
                if entry.codec.name in ("PCMA", "PCMU"):
                    return media, cast(_Law, entry.codec.name), entry.payload_type
    raise SdpError("no common codec: calls answered here speak G.711", warning_code=305)


def _written(offer: SessionDescription, audio: Media, line: _Line) -> bytes:
    """The answer (RFC 3264 section 6)."""
    lines = ["v=0", f"o=- {line.port} {secrets.randbits(31)} IN IP4 {HERE[0]}", "s=-", f"c=IN IP4 {HERE[0]}", "t=0 0"]
    for media in offer.media:
        if media is audio:
            lines.append(f"m=audio {line.port} RTP/AVP {line.number}")
            lines.append(f"a=rtpmap:{line.number} {line.law}/8000")
            lines.append(f"a={reverse(direction_of(offer, media))}")
        else:
            lines.append(f"m={media.kind} 0 {media.proto} {' '.join(media.formats)}")
    return "".join(f"{text}\r\n" for text in lines).encode()
