"""SIP over TCP and TLS (RFC 3261 section 18): connections accepted, opened, shared and kept alive."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING

import structlog
import trio

from siperb_core.sip import KEEPALIVE, ParseError, StreamFramer, response_to
from siperb_core.transport.accepting import accept
from siperb_core.transport.address import bind, family_of, literal
from siperb_core.transport.connection import reason_of, tune
from siperb_core.transport.connections import ConnectionFlow, ConnectionListener
from siperb_core.transport.contract import TlsOptions
from siperb_core.transport.door import NOT_SIGNED_IN, Door
from siperb_core.transport.tls import ClientContexts, ServerCertificate

if TYPE_CHECKING:
    from siperb_core.entries.model import Listen
    from siperb_core.transport.contract import Receiver

CONNECT_SECONDS = 4.0
HANDSHAKE_SECONDS = 5.0
MAX_CONNECTIONS = 4_096
"""That we opened, and as many again of peers that came to us."""
MAX_STRANGERS = 1_024
"""Connections of whoever is no peer yet."""
KEEP_ALIVE_SECONDS = 60.0
"""Silence after which a connection we opened is pinged: many NATs forget one after two minutes."""
FIRST_MESSAGE_SECONDS = 30.0
"""A message begun, or a first message not begun, is waited for no longer than this."""
IDLE_SECONDS = 2 * 3600.0
"""Without a message in either direction; longer than any registration a PBX keeps a connection open for."""

log = structlog.get_logger(__name__)


class StreamFlow(ConnectionFlow):
    """One TCP or TLS connection. A flow is equal to itself alone."""

    __slots__ = ("_framer", "_pinged", "_ready_at", "_used", "outgoing", "tls")

    _listener: StreamListener

    def __init__(
        self,
        listener: StreamListener,
        sock: socket.socket,
        remote: tuple[str, int],
        *,
        outgoing: bool,
        tls: TlsOptions | None = None,
    ) -> None:
        local = listener.own.towards(remote[0]) if outgoing else sock.getsockname()[:2]
        super().__init__(listener, sock, local=local, remote=remote, opened=False)
        self._framer = StreamFramer()
        self.outgoing = outgoing
        """Whether we opened it."""
        self.tls = tls
        """How it was secured, where we opened it by TLS."""
        self._used = -1.0  # when a message came or went; before the beginning of time: never
        self._pinged = self.heard
        self._ready_at = self.heard

    @property
    def peer_certificate(self) -> bytes | None:
        """What the peer has shown, as DER; None without TLS, before the handshake, and after the end."""
        sock = self._socket
        if not isinstance(sock, ssl.SSLSocket) or not self.opened or self.ended is not None:
            return None
        return sock.getpeercert(binary_form=True)

    def send(self, data: bytes) -> None:
        """Send one message, or keep it while the connection is being opened. Raises OSError when the connection is
        dead.
        """
        self.write(data)
        self._used = self._pinged = trio.current_time()

    async def connect(self) -> None:
        """Open the connection. Raises OSError, trio.TooSlowError."""
        sock = self._socket
        with trio.fail_after(CONNECT_SECONDS):
            try:
                sock.connect(self.remote)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(sock)
                if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(code, os.strerror(code)) from None
            self.local = sock.getsockname()[:2]
            if self.tls is not None:
                context = await trio.to_thread.run_sync(self._listener.trust.get, self.tls, abandon_on_cancel=True)
                await self.secure(context, server_side=False, server_name=self.tls.server_name or self.remote[0])
        self._ready()

    async def welcome(self) -> None:
        """Do the server's part of the TLS handshake. Raises OSError, trio.TooSlowError."""
        if self._listener.certificate is not None:
            with trio.fail_after(HANDSHAKE_SECONDS):
                await self.secure(self._listener.certificate.context(), server_side=True)
        self._ready()

    def _ready(self) -> None:
        self.opened = True
        self.heard = self._ready_at = trio.current_time()
        self.flush_soon()

    async def run(self, receiver: Receiver) -> str:
        """Deliver messages until the end; the reason."""
        while data := await self.read():
            try:
                for message in self._framer.feed(data):
                    # A PBX may send as many as it has calls; who is nobody's gets what a softphone gets.
                    if not self._rate.allows(self.heard) and self._listener.door.is_stranger(self):
                        self._listener.door.note("flood", "transport.flood", self.remote[0], transport=self.transport)
                        return "too many messages"
                    if message == KEEPALIVE:
                        self.write(b"\r\n")  # RFC 5626 section 3.5.1
                        continue
                    self._used = self.heard
                    self.deliver(message, receiver)
                if self._framer.broken is not None:
                    raise self._framer.broken
            except ParseError as error:
                self._listener.door.note("stream", "transport.stream_broken", self.remote[0], reason=error.reason)
                if error.message is not None:
                    with contextlib.suppress(ParseError):
                        self.write(bytes(response_to(error.message, error.status, error.reason)))
                await self.linger()
                return f"what was received is not SIP: {error.reason}"
        return "connection closed by the peer"

    def vouch(self) -> None:
        """The other end has proved who it is."""
        super().vouch()
        self._listener.share(self)

    def sweep(self, now: float) -> None:
        """Called every few seconds: ends what is stuck or forgotten, keeps alive what we opened."""
        if not self.opened or self.ended is not None:
            return
        if now - self.heard > FIRST_MESSAGE_SECONDS and (
            self._framer.pending or (not self.outgoing and self._used < 0)
        ):
            self.end("no whole message within 30 s")
        elif now - self.heard > IDLE_SECONDS and now - self._used > IDLE_SECONDS:
            self.end("idle")
        elif self._listener.door.overdue(self, self._ready_at, now):
            self.dismiss(NOT_SIGNED_IN)
        elif self.outgoing and now - max(self._pinged, self.heard) >= KEEP_ALIVE_SECONDS:
            self._pinged = now
            with contextlib.suppress(OSError):
                self.write(KEEPALIVE)


class StreamListener(ConnectionListener[StreamFlow]):
    """A listening socket, and the connections accepted on it and opened beside it."""

    def __init__(
        self,
        transport: str,
        sock: socket.socket,
        receiver: Receiver,
        external_address: str | None,
        certificate: ServerCertificate | None,
        nursery: trio.Nursery,
    ) -> None:
        door = Door(receiver, most_known=MAX_CONNECTIONS, most_strangers=MAX_STRANGERS)
        super().__init__(transport, sock, receiver, external_address, certificate, nursery, door)
        self.trust = ClientContexts()
        self._family = sock.family
        self._opened = 0
        self._shared: dict[tuple[str, int, TlsOptions | None], StreamFlow] = {}

    def flow_to(self, host: str, port: int, tls: TlsOptions | None = None) -> StreamFlow:
        """The open connection to a literal address, or a new one being opened.

        Raises ValueError for a name or the other address family; OSError where no more sockets can be had.
        """
        secured = (tls or TlsOptions()) if self.transport == "tls" else None
        host = literal(host).compressed
        if family_of(host) != self._family:
            raise ValueError(f"{host} cannot be reached from {self.local[0]}: one is IPv4, the other IPv6")
        key = (host, port, secured)
        flow = self._shared.get(key)
        if flow is not None and flow.ended is None:
            return flow
        if self._opened >= MAX_CONNECTIONS:
            raise OSError(errno.EMFILE, f"{MAX_CONNECTIONS} {self.transport} connections are open")
        bound = literal(self.local[0])
        # The interface we were told to use, on any port: the listening port belongs to the listening socket.
        sock = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            tune(sock)
            if not bound.is_unspecified:
                sock.bind((self.local[0], 0))
            flow = StreamFlow(self, sock, (host, port), outgoing=True, tls=secured)
        except OSError:
            sock.close()
            raise
        self._flows.add(flow)
        self._opened += 1
        self._shared[key] = flow
        self.spawn(self.serve, flow)
        return flow

    def accepted(self, sock: socket.socket) -> StreamFlow:
        """The flow of a connection just accepted. Raises OSError where it is gone already."""
        return StreamFlow(self, sock, sock.getpeername()[:2], outgoing=False)

    def share(self, flow: StreamFlow) -> None:
        """What is sent to the address at the other end of an accepted connection takes this one from now on, now that
        somebody has vouched for it.

        Not before: behind a NAT a stranger comes from a PBX's address, perhaps from its very port, and would be sent
        what is for the PBX (RFC 5923 section 9). Never by TLS, where who opened a connection to us has shown no
        certificate. A `Via` with `alias` (section 5) is not believed: it would move what is for one port to another.
        """
        if self.transport == "tcp" and not flow.outgoing and flow.ended is None:
            self._shared.setdefault((*flow.remote, None), flow)

    async def serve(self, flow: StreamFlow) -> None:
        """One connection, from its opening to its end. Nothing the peer does gets out of here."""
        reason = "the listener was stopped"
        known = flow.outgoing
        try:
            if flow.outgoing:
                await flow.connect()
            else:
                await flow.welcome()
                known = True
            reason = await flow.run(self._receiver)
        except trio.TooSlowError:
            reason = "no connection within 4 s" if flow.outgoing else "no TLS handshake within 5 s"
        except OSError as error:
            reason = reason_of(error)
            if not known:
                self.door.note("handshake", "tls.handshake_failed", flow.remote[0], reason=reason)
        except trio.ClosedResourceError:
            reason = flow.ended or "closed"
        except ValueError as error:  # a server name that cannot be one
            reason = str(error)
        except Exception:
            log.exception("transport.connection_failed", transport=self.transport, source=flow.remote[0])
            reason = "internal error"
        finally:
            self._opened -= flow.outgoing
            key = (*flow.remote, flow.tls)
            if self._shared.get(key) is flow:
                del self._shared[key]
            self.gone(flow, reason, known=known)


class StreamTransport:
    """The transports `tcp` and `tls`."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def listen(
        self,
        config: Listen,
        receiver: Receiver,
        *,
        external_address: str | None,
        task_status: trio.TaskStatus[StreamListener],
    ) -> None:
        """Bind, report the listener, serve until cancelled. Raises OSError when it cannot bind or cannot use its
        certificate.

        TLS without a certificate opens connections and accepts none; the port is held all the same.
        """
        accepting = self.name == "tcp" or config.certificate is not None
        certificate = ServerCertificate(config.certificate, config.key) if self.name == "tls" and accepting else None
        with bind(config.bind, socket.SOCK_STREAM) as sock:
            async with trio.open_nursery() as nursery:
                listener = StreamListener(self.name, sock, receiver, external_address, certificate, nursery)
                nursery.start_soon(listener.sweep)
                if accepting:
                    nursery.start_soon(accept, sock, listener.admit)
                task_status.started(listener)
                await trio.sleep_forever()
