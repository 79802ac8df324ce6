"""From which of the machine's addresses a socket answers that is bound to all of them.

Left to itself the kernel takes the address it has for the way to the far end, which on a machine with several need not
be the one the far end wrote to. ICE takes no answer from elsewhere (RFC 8445 section 7.2.5.2.1), and a browser no
media: the pair fails for it, but not for us. So what came in says where from the answer goes out (RFC 3542 section 6).
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

from siperb_core.media.ice import Address

# Linux's; Python's socket has no name for IPv4's.
_V4: Final = (socket.IPPROTO_IP, 8, 8, struct.Struct("@I4s4s"))  # level, type of message, option to set, in_pktinfo
_V6: Final = (socket.IPPROTO_IPV6, 50, 49, struct.Struct("@16sI"))  # in6_pktinfo
_SPACE: Final = 64

Ancillary = list[tuple[int, int, bytes]]


class ReplySource:
    """Beside one UDP socket. `ways` holds the far ends that are to be sent to with `send`; for others it is no use."""

    def __init__(self, sock: socket.socket) -> None:
        self.ways: dict[Address, Ancillary] = {}
        self._socket = sock
        self._v6 = sock.family == socket.AF_INET6
        self._came = b""
        self._known: dict[Address, bytes] = {}
        level, _, option, _ = _V6 if self._v6 else _V4
        self.wanted = sys.platform == "linux" and sock.getsockname()[0] in ("0.0.0.0", "::")
        """Whether anything is to be found out here: a socket bound to one address has no choice."""
        if self.wanted:
            try:
                sock.setsockopt(level, option, 1)
            except OSError:
                self.wanted = False

    def receive(self, size: int) -> tuple[bytes, Address]:
        """As `recvfrom`, and remembers at which address it came in until the next one."""
        data, ancillary, _, source = self._socket.recvmsg(size, _SPACE)
        self._came = ancillary[0][2] if ancillary else b""
        return data, source

    def answer(self, data: bytes, address: Address) -> None:
        """Send to who sent the datagram just received. Raises OSError."""
        way = self._way(self._came)
        if way:
            self._socket.sendmsg([data], way, 0, address)
        else:
            self.send(data, address)

    def send(self, data: bytes, address: Address) -> None:
        """Send, from the address that is known to be this far end's. Raises OSError."""
        way = self.ways.get(address)
        if way is None:
            self._socket.sendto(data, address)
        else:
            self._socket.sendmsg([data], way, 0, address)

    def learn(self, source: Address) -> None:
        """Take where the datagram just received came in for where its sender expects all others from."""
        came = self._came
        if not came or self._known.get(source) == came:
            return
        self._known[source] = came
        self.ways.pop(source, None)
        if self._local(came) != self._usual(source):
            self.ways[source] = self._way(came)

    def forget(self) -> None:
        """The next datagrams are received by other means, and nobody knows where they come in."""
        self._came = b""

    def _local(self, info: bytes) -> str:
        if self._v6:
            return socket.inet_ntop(socket.AF_INET6, _V6[3].unpack(info)[0])
        return socket.inet_ntoa(_local_v4(info))

    def _way(self, info: bytes) -> Ancillary:
        if not info:
            return []
        if self._v6:
            return [(_V6[0], _V6[1], info)]
        return [(_V4[0], _V4[1], _V4[3].pack(0, _local_v4(info), bytes(4)))]

    def _usual(self, address: Address) -> str:
        """The address the kernel would send from; nothing is sent."""
        with socket.socket(self._socket.family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(address)
            except OSError:
                return ""
            return str(probe.getsockname()[0])


def _local_v4(info: bytes) -> bytes:
    """Our address: the kernel's word; the packet's where it came before the kernel was asked for it, and has none."""
    _, local, written = _V4[3].unpack(info)
    return bytes(local if any(local) else written)
