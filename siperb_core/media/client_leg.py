"""A softphone's leg in a worker: one UDP socket with ICE, DTLS, SRTP and SRTCP on it, and the filter before them.

STUN authenticates itself. Anything else is looked at only when it comes from an address whose STUN has authenticated: a
stranger's ClientHello or alert would otherwise end a handshake, and a flood would cost decryption.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

import trio
import trio_asyncio
from aiortc.rtcdtlstransport import RTCCertificate
from pylibsrtp import Error as SrtpError

from siperb_core.media.dtls import DatagramChannel, DtlsTransport
from siperb_core.media.ice import Address, IceAgent
from siperb_core.media.reply_source import ReplySource
from siperb_core.media.srtp import SrtpSession
from siperb_core.sdp.plan import ClientLeg

MAX_DATAGRAM: Final = 2048
HANDSHAKE_TIMEOUT: Final = 15.0

Report = Callable[[str, str], None]  # kind of event, detail


class ClientConnection:
    """The connection of one branch. `on_rtp` and `on_rtcp` get packets whose protection is off, and when they came."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        nursery: trio.Nursery,
        certificate: RTCCertificate,
        tie_breaker: int,
        report: Report,
        on_rtp: Callable[[bytes, float], None],
        on_rtcp: Callable[[bytes, float], None],
    ) -> None:
        self.socket = sock
        self.leg: ClientLeg | None = None
        self.agent: IceAgent | None = None
        self.connected = False
        self.filtered = 0  # datagrams of strangers
        self.srtp_errors = 0
        self.send_errors = 0
        self._tie_breaker, self._certificate, self._nursery = tie_breaker, certificate, nursery
        self._report, self._on_rtp, self._on_rtcp = report, on_rtp, on_rtcp
        self._origin = ReplySource(sock)
        self._attentive = self._origin.wanted  # to the address of ours that datagrams come in at
        self._answering: Address | None = None
        self._channel = DatagramChannel(self._send_dtls)
        self._dtls: DtlsTransport | None = None
        self._handshake_scope = trio.CancelScope()
        self._failed = self._closed = False
        self._inbound: SrtpSession | None = None
        self._outbound: SrtpSession | None = None

    def apply(self, leg: ClientLeg) -> None:
        """Bring ICE and DTLS to what the plan says.

        New local credentials are an ICE restart; the DTLS role never changes.
        """
        now = time.monotonic()
        agent = self.agent
        if agent is None:
            family = 6 if self.socket.family == socket.AF_INET6 else 4
            agent = self.agent = IceAgent(
                ufrag=leg.ufrag,
                password=leg.password,
                controlling=leg.controlling,
                tie_breaker=self._tie_breaker,
                send=self._send_raw,
                family=family,
            )
        elif (leg.ufrag, leg.password) != (agent.ufrag, agent.password):
            agent.restart(leg.ufrag, leg.password, now)
            self._attentive = self._origin.wanted
            self._failed = False
        self.leg = leg
        if leg.remote_ufrag and leg.remote_password:
            agent.start(leg.remote_ufrag, leg.remote_password, leg.remote_candidates, now)
        self._proceed()

    def readable(self) -> None:
        """Take one datagram that has come."""
        attentive = self._attentive
        try:
            data, source = (self._origin.receive if attentive else self.socket.recvfrom)(MAX_DATAGRAM)
        except OSError:  # none after all, or the answer to an earlier sending: port unreachable
            return
        agent = self.agent
        if agent is None or len(data) < 2:
            return
        first = data[0]
        if first > 3 and source != agent.selected and source[:2] not in agent.trusted:
            self.filtered += 1
        elif 127 < first < 192:
            self._srtp(data, time.monotonic())
        elif first < 4:
            if not attentive:
                self._origin.forget()
            self._stun(agent, data, source[:2], time.monotonic())
        elif 19 < first < 64:
            self._channel.deliver(data)

    def _stun(self, agent: IceAgent, data: bytes, source: Address, now: float) -> None:
        """Have ICE look at it; an answer goes out from the address of ours that was asked."""
        strange = source not in agent.trusted
        self._answering = source
        agent.receive(data, source, now)
        self._answering = None
        if source in agent.trusted:
            self._origin.learn(source)
        # It costs a microsecond a packet, and a pair that is settled has no need of it.
        self._attentive = self._origin.wanted and (strange or agent.busy or not self.connected)
        self._proceed()

    def _srtp(self, data: bytes, now: float) -> None:
        inbound = self._inbound
        if inbound is None:
            return
        try:
            if 191 < data[1] < 224:
                self._on_rtcp(inbound.unprotect_rtcp(data), now)
            else:
                self._on_rtp(inbound.unprotect(data), now)
        except (SrtpError, ValueError):
            self.srtp_errors += 1

    def send(self, packet: bytes) -> None:
        """Protect and send an RTP packet; nothing happens before the handshake is done."""
        outbound, agent = self._outbound, self.agent
        if outbound is None or agent is None or agent.selected is None:
            return
        try:
            packet = outbound.protect(packet)
            if self._origin.ways:
                self._origin.send(packet, agent.selected)
            else:
                self.socket.sendto(packet, agent.selected)
        except (OSError, SrtpError, ValueError):
            self.send_errors += 1

    def send_rtcp(self, packet: bytes) -> None:
        """Protect and send an RTCP packet on the same port (RFC 5761)."""
        if self._outbound is not None and self.agent is not None and self.agent.selected is not None:
            try:
                self._send_raw(self._outbound.protect_rtcp(packet), self.agent.selected)
            except (SrtpError, ValueError):
                self.send_errors += 1

    def advance(self, now: float) -> None:
        """Let time pass for ICE."""
        if self.agent is not None and not self._failed:
            self.agent.advance(now)
            self._proceed()

    @property
    def busy(self) -> bool:
        """Whether ICE is at work and wants to be called often."""
        return self.agent is not None and self.agent.busy and not self._failed

    def _proceed(self) -> None:
        agent, leg = self.agent, self.leg
        if agent is None or leg is None or self._failed or self._closed:
            return
        if agent.failed:
            self._failed = True
            self._report("ice_failed", agent.failed)
        elif self._dtls is None and agent.selected is not None and leg.remote_fingerprints:
            self._dtls = DtlsTransport(self._channel, self._certificate, leg.dtls)
            self._nursery.start_soon(self._handshake, self._dtls, leg.remote_fingerprints)

    async def _handshake(self, dtls: DtlsTransport, fingerprints: tuple[tuple[str, str], ...]) -> None:
        done = False
        detail = "the client does not answer"
        with self._handshake_scope, trio.move_on_after(HANDSHAKE_TIMEOUT):
            try:
                done = await trio_asyncio.aio_as_trio(dtls.handshake)(fingerprints)
                detail = "the handshake failed, or the certificate is not the one SDP announced"
            except Exception as error:  # whatever a peer sends must not end the worker
                detail = repr(error)
        if self._closed:
            return
        if not done:
            self._failed = True
            self._report("dtls_failed", detail)
            return
        self._inbound, self._outbound = dtls.inbound, dtls.outbound
        self.connected = True
        self._report("connected", "")

    def _send_raw(self, data: bytes, address: Address) -> None:
        try:
            if address == self._answering:
                self._origin.answer(data, address)
            else:
                self._origin.send(data, address)
        except OSError:
            self.send_errors += 1

    def _send_dtls(self, data: bytes) -> None:
        if self.agent is not None and self.agent.selected is not None and self.socket.fileno() >= 0:
            self._send_raw(data, self.agent.selected)

    async def close(self) -> None:
        """Say goodbye on DTLS and close the socket."""
        self._closed = True
        self.connected = False
        self._inbound = self._outbound = None
        self._handshake_scope.cancel()
        try:
            if self._dtls is not None:
                await trio_asyncio.aio_as_trio(self._dtls.stop)()
        except Exception:  # a goodbye that fails changes nothing
            self.send_errors += 1
        finally:
            self._channel.close()
            self.socket.close()
