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
        self._ports = ports
        v6 = ":" in bind_address
        # By family: a call over IPv6 finds its ports wherever the gateway is bound for IPv4, and the other way round.
        self._addresses = {v6: bind_address, not v6: "0.0.0.0" if v6 else "::"}
        self._taken: set[int] = set()
        self._next = 0

    @property
    def taken(self) -> int:
        """How many ports are in use."""
        return len(self._taken)

    def bind(self, *, v6: bool = False) -> tuple[socket.socket, int]:
        """Bind one socket, for IPv6 or IPv4. Raises PortsExhaustedError."""
        for port in self._candidates():
            if port not in self._taken and (bound := self._try(port, v6)) is not None:
                self._taken.add(port)
                return bound, port
        raise PortsExhaustedError(f"all media ports from {self._ports[0]} to {self._ports[-1]} are taken")

    def bind_pair(self, *, v6: bool = False) -> tuple[socket.socket, socket.socket, int]:
        """Bind an even port for RTP and the odd one above it for RTCP (RFC 3550 section 11).

        Raises PortsExhaustedError.
        """
        for port in self._candidates():
            if port % 2 or port + 1 not in self._ports or port in self._taken or port + 1 in self._taken:
                continue
            rtp = self._try(port, v6)
            rtcp = self._try(port + 1, v6) if rtp is not None else None
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

    def _try(self, port: int, v6: bool) -> socket.socket | None:
        try:
            sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
        except OSError:  # a machine without IPv6
            return None
        try:
            if v6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            sock.bind((self._addresses[v6], port))
        except OSError:
            sock.close()
            return None
        sock.setblocking(False)
        return sock
