"""What TCP, TLS and WebSocket have in common: a listening socket whose flows are connections.

They are let in by the door, looked after by one timer for all, and who receives is told of their end.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import structlog
import trio

from siperb_core.transport.address import OwnAddress
from siperb_core.transport.connection import Connection
from siperb_core.transport.door import Rate

if TYPE_CHECKING:
    from siperb_core.transport.contract import Receiver
    from siperb_core.transport.door import Door
    from siperb_core.transport.tls import ServerCertificate

SWEEP_SECONDS = 5.0

log = structlog.get_logger(__name__)


class ConnectionFlow(Connection):
    """One connection of a listener's. A flow is equal to itself alone."""

    __slots__ = ("_listener", "_rate", "local", "remote")

    reliable = True

    def __init__(
        self,
        listener: ConnectionListener[Any],
        sock: socket.socket,
        *,
        local: tuple[str, int],
        remote: tuple[str, int],
        opened: bool,
    ) -> None:
        super().__init__(sock, listener.spawn, opened=opened)
        self._listener = listener
        self._rate = Rate(self.heard)
        self.local = local
        self.remote = remote

    def __repr__(self) -> str:
        return f"<{self.transport} flow {self.remote[0]} {self.remote[1]}>"

    @property
    def transport(self) -> str:
        """`tcp`, `tls`, `ws` or `wss`."""
        return self._listener.transport

    @property
    def sent_by(self) -> str:
        """Our `host:port` as the peer should see it: of the listening socket, where it may open a connection of its own
        (RFC 3261 section 18.1.1).
        """
        return self._listener.own.sent_by(self.local[0])

    def send(self, data: bytes) -> None:
        """Send one message. Raises OSError when the connection is dead."""
        raise NotImplementedError

    def deliver(self, message: bytes, receiver: Receiver) -> None:
        """Hand over one message. One that the receiver fails at costs itself, never the connection."""
        try:
            receiver.received(message, self)
        except Exception:
            log.exception("transport.receiver_failed", transport=self.transport, source=self.remote[0])

    def sweep(self, now: float) -> None:
        """Called every few seconds: ends what is stuck or forgotten, and sees to it that the rest lives."""
        raise NotImplementedError

    def vouch(self) -> None:
        """The other end has proved who it is."""
        self._listener.door.vouch(self)

    def dismiss(self, reason: str) -> None:
        """Close it at once."""
        self.end(reason)


F = TypeVar("F", bound=ConnectionFlow)


class ConnectionListener(Generic[F]):
    """A listening socket and its connections."""

    def __init__(
        self,
        transport: str,
        sock: socket.socket,
        receiver: Receiver,
        external_address: str | None,
        certificate: ServerCertificate | None,
        nursery: trio.Nursery,
        door: Door,
    ) -> None:
        self.transport = transport
        self.local: tuple[str, int] = sock.getsockname()[:2]
        self.certificate = certificate
        self.own = OwnAddress(self.local, external_address, trio.current_time)
        self.door = door
        self.spawn = nursery.start_soon
        self._receiver = receiver
        self._flows: set[F] = set()

    def accepted(self, sock: socket.socket) -> F:
        """The flow of a connection just accepted. Raises OSError where it is gone already."""
        raise NotImplementedError

    async def serve(self, flow: F) -> None:
        """One connection, from its opening to its end. Nothing the peer does gets out of here."""
        raise NotImplementedError

    def admit(self, sock: socket.socket) -> None:
        """Take a connection just accepted."""
        try:
            flow = self.accepted(sock)
        except OSError:  # gone before it was looked at
            sock.close()
            return
        self._flows.add(flow)
        self.door.enter(flow)
        self.spawn(self.serve, flow)

    def gone(self, flow: F, reason: str, *, known: bool) -> None:
        """A connection is at its end; the receiver is told where the flow was `known` to it."""
        flow.end(reason)
        self._flows.discard(flow)
        self.door.leave(flow)
        if known:
            try:
                self._receiver.closed(flow, flow.ended or reason)
            except Exception:  # the other connections are not to pay for it
                log.exception("transport.receiver_failed", transport=self.transport, source=flow.remote[0])

    async def sweep(self) -> None:
        """One timer for all connections."""
        while True:
            await trio.sleep(SWEEP_SECONDS)
            now = trio.current_time()
            for flow in list(self._flows):
                flow.sweep(now)
