"""Addresses: what may be dialled, what a socket is bound to, and what a peer should see of us."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

INTERFACE_SECONDS = 30.0
MAX_REMEMBERED = 4096


_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
"""What may follow `%` (RFC 4007 section 11): the number or the name of an interface, as Linux allows it (IFNAMSIZ)."""


@lru_cache(maxsize=4096)
def literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A literal address, read once: the same few hosts come with every message. An IPv4 address in IPv6 dress
    (`::ffff:192.0.2.1`) is the IPv4 address it is: our IPv6 sockets reach IPv6 only.

    Raises ValueError for a name, and for a zone (`fe80::1%eth0`) that no interface can have: `ipaddress` takes any
    text for one, and a socket raises TypeError at some of it.
    """
    address, _, zone = host.partition("%")
    parsed = ipaddress.ip_address(host)
    if isinstance(parsed, ipaddress.IPv6Address):
        if zone and not _ZONE.fullmatch(zone):
            raise ValueError(f"{address} with a zone that is no interface")
        return parsed.ipv4_mapped or parsed
    return parsed


def without_zone(host: str) -> str:
    """An address as others may see it: the zone of a link-local one means something on this machine only, and SIP and
    SDP have no place for it (RFC 3261 section 25.1 `IPv6reference`, RFC 8866 section 9).
    """
    return host.partition("%")[0]


def family_of(host: str) -> socket.AddressFamily:
    """The family of a literal address. Raises ValueError for anything else: a socket never resolves names (see
    `resolver`).
    """
    return socket.AF_INET6 if literal(host).version == 6 else socket.AF_INET


def host_port(host: str, port: int) -> str:
    """`host:port` as in Via and in a URI: an IPv6 address stands in brackets (RFC 5118 section 4)."""
    return f"[{without_zone(host)}]:{port}" if ":" in host else f"{host}:{port}"


def bind(address: tuple[str, int], kind: socket.SocketKind) -> socket.socket:
    """A non-blocking socket bound to a literal address. Raises OSError; its text names the address.

    An IPv6 socket is for IPv6 only, so that `0.0.0.0` and `::` can be listened to side by side.
    """
    host, port = address
    try:
        family = family_of(host)
    except ValueError:
        raise OSError(f"cannot listen on {host_port(host, port)}: {host!r} is not an IP address") from None
    sock = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            # A restart must not wait for the TIME_WAIT of the last run's connections.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host_port(host, port)}: {error.strerror}") from error
    return sock


class OwnAddress:
    """What a peer should see of a listening socket: the configured external address, else the interface's own."""

    def __init__(self, bound: tuple[str, int], external: str | None, clock: Callable[[], float]) -> None:
        self._host, self._port = bound
        self._family = family_of(self._host)
        self._any = literal(self._host).is_unspecified
        self._external = external
        if external is not None:
            try:
                # An IPv4 address is of no use to a peer that is reached over IPv6, and the other way round.
                if family_of(external) != self._family:
                    self._external = None
            except ValueError:
                pass  # a name: good for both
        self._clock = clock
        self._remembered: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def towards(self, remote: str) -> tuple[str, int]:
        """Our address on the interface that leads to `remote`; what the socket is bound to where there is no way."""
        if not self._any:
            return (self._host, self._port)
        known = self._remembered.get(remote)
        now = self._clock()
        if known is not None and known[0] > now:
            return (known[1], self._port)
        try:
            with socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
                probe.connect((remote, 9))  # sends nothing: the kernel only looks up its routes
                host = without_zone(probe.getsockname()[0])
        except OSError:
            return (self._host, self._port)
        self._remembered[remote] = (now + INTERFACE_SECONDS, host)  # an interface may get another address (DHCP)
        self._remembered.move_to_end(remote)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return (host, self._port)

    def sent_by(self, local: str) -> str:
        """`host:port` for Via and Contact on a flow whose own end is `local`."""
        return host_port(self._external or local, self._port)
