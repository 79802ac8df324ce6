"""SIP over UDP (RFC 3261 section 18): one task per socket, no task, channel or cancel scope per datagram."""

from __future__ import annotations

import errno
import socket
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

import structlog
import trio

from siperb_core.transport.address import OwnAddress, bind, family_of, literal

if TYPE_CHECKING:
    from siperb_core.entries.model import Listen
    from siperb_core.transport.contract import Receiver, TlsOptions

BATCH = 64
"""Datagrams read before other tasks get their turn."""
MAX_FLOWS = 16_384
MAX_QUEUED = 512
SOCKET_BUFFER = 1 << 21
SHORTEST_MESSAGE = 14
"""`A b:c SIP/2.0\\n`: whatever is shorter is a keep-alive of some kind (`jaK`, a dot, NULs)."""

log = structlog.get_logger(__name__)


class UdpFlow:
    """A pair of addresses. Equal to any flow of the same socket and remote address; cheap to make and to keep."""

    __slots__ = ("_hash", "_listener", "_sockaddr", "remote")

    transport = "udp"
    reliable = False

    def __init__(self, listener: UdpListener, sockaddr: tuple[Any, ...]) -> None:
        self._listener = listener
        self._sockaddr = sockaddr
        self.remote: tuple[str, int] = sockaddr[:2]
        self._hash = hash(sockaddr)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, UdpFlow):
            return NotImplemented
        return self._sockaddr == other._sockaddr and self._listener is other._listener

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<udp flow {self.remote[0]} {self.remote[1]}>"

    @property
    def local(self) -> tuple[str, int]:
        """Our end: the outgoing interface's address where the socket listens on all of them."""
        return self._listener.own.towards(self.remote[0])

    @property
    def sent_by(self) -> str:
        """Our `host:port` as the peer should see it."""
        return self._listener.own.sent_by(self.local[0])

    def send(self, data: bytes) -> None:
        """Send one datagram. Raises OSError where there is no way to the peer or the datagram is too big for UDP."""
        self._listener.send(data, self._sockaddr)


class UdpListener:
    """One UDP socket, which both listens and sends."""

    transport = "udp"

    def __init__(self, sock: socket.socket, receiver: Receiver, external_address: str | None) -> None:
        self.local: tuple[str, int] = sock.getsockname()[:2]
        self.own = OwnAddress(self.local, external_address, trio.current_time)
        self._socket = sock
        self._receiver = receiver
        self._flows: OrderedDict[tuple[Any, ...], UdpFlow] = OrderedDict()
        self._queue: deque[tuple[bytes, tuple[Any, ...]]] = deque()
        self._queued = trio.Event()

    def flow_to(self, host: str, port: int, tls: TlsOptions | None = None) -> UdpFlow:
        """The flow to a literal address. Raises ValueError for a name or an address of the other family."""
        flow = self._flows.get((host, port))
        if flow is not None:
            return flow
        host = literal(host).compressed
        family = family_of(host)
        if family != self._socket.family:
            raise ValueError(f"{host} cannot be reached from {self.local[0]}: one is IPv4, the other IPv6")
        # IPv6 socket addresses are longer (flow label, scope); what recvfrom gives is what a flow is known by.
        sockaddr = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)[0][4]
        return self._flow(sockaddr)

    def _flow(self, sockaddr: tuple[Any, ...]) -> UdpFlow:
        flow = self._flows.get(sockaddr)
        if flow is None:
            flow = self._flows[sockaddr] = UdpFlow(self, sockaddr)
            if len(self._flows) > MAX_FLOWS:
                self._flows.popitem(last=False)  # nothing is lost: the next one made is equal to it
        else:
            self._flows.move_to_end(sockaddr)
        return flow

    def send(self, data: bytes, sockaddr: tuple[Any, ...]) -> None:
        """Send now or, while the socket's buffer is full, as soon as it has room; beyond the bound datagrams are lost,
        as UDP may.
        """
        if self._queue:
            self._enqueue(data, sockaddr)
            return
        try:
            self._sendto(data, sockaddr)
        except BlockingIOError:
            self._enqueue(data, sockaddr)

    def _sendto(self, data: bytes, sockaddr: tuple[Any, ...]) -> None:
        try:
            self._socket.sendto(data, sockaddr)
        except ConnectionRefusedError:
            # An ICMP message about an earlier datagram, reported now: this one has not been sent yet.
            self._socket.sendto(data, sockaddr)

    def _enqueue(self, data: bytes, sockaddr: tuple[Any, ...]) -> None:
        if len(self._queue) < MAX_QUEUED:
            self._queue.append((data, sockaddr))
            self._queued.set()

    async def serve(self) -> None:
        """Read and flush until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flush)
            await self._read()

    async def _read(self) -> None:
        sock = self._socket
        view = memoryview(bytearray(65_536))
        while True:
            await trio.lowlevel.wait_readable(sock)
            for _ in range(BATCH):
                try:
                    size, sockaddr = sock.recvfrom_into(view)
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in {errno.EBADF, errno.ENOTSOCK}:
                        raise
                    continue  # ICMP errors of datagrams sent earlier say nothing about the socket
                # The magic of STUN is two zero bits (RFC 8489 section 5); CRLF, NUL and blanks are keep-alives. None
                # begins a message.
                if size >= SHORTEST_MESSAGE and (view[0] > 0x20 or view[0] in b"\r\n") and sockaddr[1]:
                    data = bytes(view[:size])
                    if view[0] <= 0x20:
                        data = data.lstrip(b"\r\n")
                        if len(data) < SHORTEST_MESSAGE:
                            continue
                    try:
                        self._receiver.received(data, self._flow(sockaddr))
                    except Exception:  # one bad message costs itself, never the listener
                        log.exception("transport.receiver_failed", transport="udp", source=sockaddr[0])

    async def _flush(self) -> None:
        while True:
            await self._queued.wait()
            while self._queue:
                await trio.lowlevel.wait_writable(self._socket)
                while self._queue:
                    try:
                        self._sendto(*self._queue[0])
                    except BlockingIOError:
                        break
                    except OSError as error:
                        log.info("transport.datagram_lost", remote=self._queue[0][1][0], error=str(error))
                    self._queue.popleft()
            self._queued = trio.Event()


class UdpTransport:
    """The transport `udp`."""

    name = "udp"

    async def listen(
        self,
        config: Listen,
        receiver: Receiver,
        *,
        external_address: str | None,
        task_status: trio.TaskStatus[UdpListener],
    ) -> None:
        """Bind, report the listener, serve until cancelled. Raises OSError when it cannot bind."""
        with bind(config.bind, socket.SOCK_DGRAM) as sock:
            # A burst of registrations must not be lost while a batch is worked through; the kernel clips this to its
            # limit.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
            listener = UdpListener(sock, receiver, external_address)
            task_status.started(listener)
            await listener.serve()
