"""The media of one call of the demo PBX: real RTP or SRTP on its own pair of sockets, sent every 20 ms by the clock.

Tones are made once and sent round and round; what is heard is decoded when somebody asks. So a call costs two
datagrams every 20 ms and nothing else.
"""

from __future__ import annotations

import secrets
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

import trio
from pylibsrtp import Error as SrtpError
from pylibsrtp import Policy

from siperb_core.media.peer_leg import srtp_session
from siperb_core.media.srtp import SrtpSession
from siperb_core.rtp.packet import RtpError, RtpPacket, build_rtp, kind_of, parse_rtp
from siperb_core.testing import codecs, tones
from siperb_core.testing.ear import DigitHeard, Ear
from siperb_core.testing.outgoing_digit import OutgoingDigit, check_digits
from siperb_core.testing.pbx_sdp import Agreed, PbxNegotiation

_PTIME: Final = 0.02
_BATCH: Final = 32
_MOST_DIGITS: Final = 256


class PortsExhausted(OSError):
    """No pair of RTP ports is free."""


def bind_pair(address: str, ports: range | None) -> tuple[socket.socket, socket.socket]:
    """Sockets for RTP on an even port and RTCP on the next: from `ports`, or wherever the system has room.

    Raises PortsExhausted.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in _even(ports):
        rtp, rtcp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
        try:
            rtp.bind((address, port))
            port = rtp.getsockname()[1]
            if port % 2:
                raise OSError("odd")
            rtcp.bind((address, port + 1))
        except OSError:
            rtp.close()
            rtcp.close()
            continue
        rtp.setblocking(False)
        rtcp.setblocking(False)
        return rtp, rtcp
    raise PortsExhausted(f"no pair of ports is free for RTP on {address}")


def _even(ports: range | None) -> Iterator[int]:
    if ports is None:
        yield from [0] * 100
    else:
        yield from (port for port in ports if port % 2 == 0 and port + 1 in ports)


class PbxMedia:
    """One call's media. It is a `siperb_core.testing.session.CallMedia`."""

    def __init__(self, nursery: trio.Nursery, negotiation: PbxNegotiation, address: str, ports: range | None) -> None:
        self.ear = Ear()
        self.packets_out = self.rtcp_in = 0
        self.unreadable = 0
        """Packets that are no RTP, or SRTP of another key."""
        self.last_rtcp = b""
        """The last RTCP datagram that came in."""
        self.agreed: Agreed | None = None
        """What the last offer and answer came to."""
        self._nursery = nursery
        self._negotiation = negotiation
        self._rtp, self._rtcp = bind_pair(address, ports)
        self.port: int = self._rtp.getsockname()[1]
        self.ssrc = secrets.randbits(32)
        self._sequence = secrets.randbits(15)
        self._timestamp = secrets.randbits(31)
        self._echoed = self._timestamp
        self._ticks = codecs.PACKET  # of the codec's clock, to a packet
        self._marker = True
        self._loop: Sequence[bytes] = ()
        self._tone: tuple[int, float] | None = None
        self._echo = False
        self._outgoing_digits: deque[str] = deque(maxlen=_MOST_DIGITS)
        self._digits_sent = trio.Event()
        self._scope = trio.CancelScope()
        self._receivers: trio.Nursery | None = None
        self._running = False
        self._closed = False
        self._protect: SrtpSession | None = None
        self._unprotect: SrtpSession | None = None

    # What to send

    def play(self, hz: int, dbfs: float = tones.LEVEL) -> None:
        """A tone from now on, in place of what was sent before."""
        self._echo, self._tone = False, (hz, dbfs)
        self._choose()

    def stop(self) -> None:
        """Silence from now on."""
        self._echo, self._tone = False, None
        self._choose()

    def echo(self) -> None:
        """Send back what is heard: the very payloads, newly stamped."""
        self._echo = True

    async def send_digits(self, digits: str) -> None:
        """Send digits as telephone-events (RFC 4733), wait until they are out. Raises ValueError if that cannot be."""
        if self.agreed is None or self.agreed.events is None:
            raise ValueError("the other side has no telephone-event")
        check_digits(digits)
        self._digits_sent = trio.Event()
        self._outgoing_digits.extend(digits)
        await self._digits_sent.wait()

    def _choose(self) -> None:
        if self.agreed is not None:
            codec = self.agreed.codec
            self._loop = codecs.silence(codec) if self._tone is None else codecs.looped_tone(codec, *self._tone)

    def move(self) -> None:
        """Go on at another pair of ports, which the next offer or answer names; what still comes to the old ones is
        lost. Raises PortsExhausted.
        """
        left = (self._rtp, self._rtcp)
        self._rtp, self._rtcp = bind_pair(left[0].getsockname()[0], None)
        self.port = self._rtp.getsockname()[1]
        for sock in left:
            trio.lowlevel.notify_closing(sock)
            sock.close()
        self._receive_all()

    # CallMedia

    async def offer(self) -> bytes:
        return self._negotiation.offer(self.port)

    async def answer(self, offer: bytes) -> bytes:
        body, agreed = self._negotiation.answer(offer, self.port)
        self._use(agreed)
        return body

    async def accept(self, answer: bytes) -> None:
        self._use(self._negotiation.accept(answer))

    def hold(self, held: bool) -> None:
        self._negotiation.held = held

    def digit_by_info(self, digit: str) -> None:
        self.ear.note_digit(DigitHeard(digit, "info"))

    async def close(self) -> None:
        self._closed = True
        self._digits_sent.set()
        self._scope.cancel()
        if not self._running:
            self._close_sockets()

    def _close_sockets(self) -> None:
        self._rtp.close()
        self._rtcp.close()

    # Running

    def _use(self, agreed: Agreed) -> None:
        if self._closed:
            return
        if agreed.keys != (self.agreed.keys if self.agreed is not None else None):
            send = receive = None
            if agreed.keys is not None:
                send, receive = (agreed.keys.suite, agreed.keys.send), (agreed.keys.suite, agreed.keys.receive)
            self._protect = srtp_session(send, Policy.SSRC_ANY_OUTBOUND)
            self._unprotect = srtp_session(receive, Policy.SSRC_ANY_INBOUND)
        self.agreed = agreed
        self._ticks = codecs.clock_rate(agreed.codec) // 50
        self.ear.tune(agreed.codec)
        self._marker = True
        self._choose()
        if not self._running:
            self._running = True
            self._nursery.start_soon(self._run)

    async def _run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as self._receivers:
                    self._receive_all()
                    await self._pace()
        finally:
            self._receivers = None
            self._close_sockets()

    def _receive_all(self) -> None:
        if self._receivers is not None:
            self._receivers.start_soon(self._receive, self._rtp)
            self._receivers.start_soon(self._receive_rtcp, self._rtcp)

    async def _pace(self) -> None:
        """One packet every 20 ms; a late one is followed by the next in time, so that the clock does not drift."""
        start = trio.current_time()
        ticks = 0
        event: OutgoingDigit | None = None
        while True:
            ticks += 1
            await trio.sleep_until(start + ticks * _PTIME)
            behind = trio.current_time() - start - ticks * _PTIME
            if behind > 0.5:  # the machine slept: what was missed is not sent in a burst
                missed = int(behind / _PTIME)
                ticks += missed
                self._timestamp += missed * self._ticks
            self._timestamp = (self._timestamp + self._ticks) & 0xFFFFFFFF
            agreed = self.agreed
            if agreed is None or agreed.direction not in ("sendrecv", "sendonly"):
                continue
            if event is None and self._outgoing_digits and agreed.events is not None:
                event = OutgoingDigit(self._outgoing_digits.popleft(), self._timestamp, codecs.PACKET)
            if event is not None:
                for payload, marker in event.tick():
                    self._send(agreed.events or 0, payload, event.timestamp, marker, agreed)
                if event.over:
                    event = None
                    if not self._outgoing_digits:
                        self._digits_sent.set()
            elif not self._echo and self._loop:
                payload = self._loop[ticks % len(self._loop)]
                self._send(agreed.payload_type, payload, self._timestamp, self._marker, agreed)
                self._marker = False

    def _send(self, payload_type: int, payload: bytes, timestamp: int, marker: bool, agreed: Agreed) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        packet = RtpPacket(payload_type, self._sequence, timestamp, self.ssrc, payload, marker)
        data = build_rtp(packet)
        try:
            self._rtp.sendto(data if self._protect is None else self._protect.protect(data), agreed.remote)
        except OSError:
            return  # a full buffer, or nobody there yet: lost, as RTP may be
        self.packets_out += 1

    async def _receive(self, sock: socket.socket) -> None:
        while await _readable(sock):
            for _ in range(_BATCH):
                try:
                    data = sock.recv(2048)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # an ICMP answer to what was sent earlier
                if kind_of(data) == "rtp":
                    try:
                        self._take(parse_rtp(data if self._unprotect is None else self._unprotect.unprotect(data)))
                    except (RtpError, SrtpError, ValueError):
                        self.unreadable += 1

    async def _receive_rtcp(self, sock: socket.socket) -> None:
        while await _readable(sock):
            try:
                while data := sock.recv(2048):
                    self.last_rtcp = data if self._unprotect is None else self._unprotect.unprotect_rtcp(data)
                    self.rtcp_in += 1
            except (OSError, SrtpError, ValueError):
                continue

    def _take(self, packet: RtpPacket) -> None:
        agreed = self.agreed
        if agreed is None:
            return
        if packet.payload_type == agreed.events:
            self.ear.take_event(packet.payload, packet.timestamp)
        elif packet.payload_type == agreed.payload_type and packet.payload:
            self.ear.take(packet.payload)
            if self._echo and agreed.direction == "sendrecv":
                self._send(agreed.payload_type, packet.payload, self._echo_stamp(packet.payload), self._marker, agreed)
                self._marker = False

    def _echo_stamp(self, payload: bytes) -> int:
        self._echoed = (self._echoed + len(payload)) & 0xFFFFFFFF
        return self._echoed


async def _readable(sock: socket.socket) -> bool:
    """Wait for something to come; False where the socket has been closed."""
    try:
        await trio.lowlevel.wait_readable(sock)
    except (trio.ClosedResourceError, ValueError):
        return False
    return True
