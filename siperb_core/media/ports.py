"""The UDP ports of media: bound in the main process, so that a port is ours before SDP names it."""

from __future__ import annotations

import socket
from typing import Final

RECEIVE_BUFFER: Final = 256 * 1024


class PortsExhaustedError(RuntimeError):
    """No free port is left in the range: the call cannot have media now (503)."""


def parse_range(text: str) -> range:
    """Read `10000-10199`. Raises ValueError."""
    low, _, high = text.partition("-")
    try:
        first, last = int(low), int(high)
    except ValueError:
        raise ValueError(f"{text!r} is no port range such as 10000-10199") from None
    if not 1024 <= first < last <= 65535:
        raise ValueError(f"{text!r}: ports run from 1024 to 65535, the lower one first")
    return range(first, last + 1)


class PortRange:
    """Hands out bound sockets in turn, so that a port just given back rests longest: late packets of a call past hit
    nobody.
    """

    def __init__(self, ports: range, bind_address: str = "0.0.0.0") -> None:
        self._ports, self._address = ports, bind_address
        self._family = socket.AF_INET6 if ":" in bind_address else socket.AF_INET
        self._taken: set[int] = set()
        self._next = 0

    @property
    def taken(self) -> int:
        """How many ports are in use."""
        return len(self._taken)

    def bind(self) -> tuple[socket.socket, int]:
        """Bind one socket. Raises PortsExhaustedError."""
        for port in self._candidates():
            if port not in self._taken and (bound := self._try(port)) is not None:
                self._taken.add(port)
                return bound, port
        raise PortsExhaustedError(f"all media ports from {self._ports[0]} to {self._ports[-1]} are taken")

    def bind_pair(self) -> tuple[socket.socket, socket.socket, int]:
        """Bind an even port for RTP and the odd one above it for RTCP (RFC 3550 section 11).

        Raises PortsExhaustedError.
        """
        for port in self._candidates():
            if port % 2 or port + 1 not in self._ports or port in self._taken or port + 1 in self._taken:
                continue
            rtp = self._try(port)
            rtcp = self._try(port + 1) if rtp is not None else None
            if rtp is not None and rtcp is not None:
                self._taken.update((port, port + 1))
                return rtp, rtcp, port
            if rtp is not None:
                rtp.close()
        raise PortsExhaustedError(f"no pair of media ports from {self._ports[0]} to {self._ports[-1]} is free")

    def release(self, port: int) -> None:
        """Take a port back."""
        self._taken.discard(port)

    def _candidates(self) -> list[int]:
        count = len(self._ports)
        start = self._next
        self._next = (start + 2) % count
        return [self._ports[(start + i) % count] for i in range(count)]

    def _try(self, port: int) -> socket.socket | None:
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            if self._family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            sock.bind((self._address, port))
        except OSError:
            sock.close()
            return None
        sock.setblocking(False)
        return sock
