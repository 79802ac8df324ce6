"""Where requests inside a dialog with a PBX go: its route set, else its remote target (RFC 3261 section 12.2.1.1),
found as RFC 3263 says, and kept within what the connection allows.

Most PBXs stand at one address, and a leg stays with the flow it was set up on. Two kinds do not: a proxy that leaves
the path (no Record-Route), whose PBX names itself in Contact, and one that names another of its own in Record-Route.
For these the next hop is looked up. Contact and Record-Route are what a peer wrote, though, and much of it is not meant
for us to use: behind NAT they show private addresses, and an attacker's show whatever he wants to be reached through
us. So the flow is left only where all of this holds:

* It is no connection that the PBX opened to us, which is how it wants to be reached while it lasts (RFC 5626).
* The next hop is another host, not the same one by another port or name. A port alone says nothing: behind NAT it is
  not the one that was seen, and on one host whoever is at the flow's port knows the dialog.
* It is no private address named by a peer at a public one: that is NAT.
* The address is in `allow_from`, or is one that the server's name leads to. Where there is no list (registrations) an
  address in Record-Route will do, too: the registrar let the request pass there. A Contact alone never does.
* It is not loopback, unless the flow is; never multicast, broadcast, unspecified or link-local.
* TLS is not given up for less.

A next hop that does not answer is left out for a while (`Targets.put_aside`); then the next one of the name takes its
place, and in the end the flow the leg had.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Protocol

import attrs
import structlog

from siperb_core.entries import networks
from siperb_core.entries.model import Entry
from siperb_core.sip import Flow, ParseError, Uri, parse_uri
from siperb_core.sip.dialog import Leg
from siperb_core.sip.headers import parse_name_addr
from siperb_core.targets import Targets
from siperb_core.transport.address import literal
from siperb_core.transport.contract import TlsOptions
from siperb_core.transport.resolver import AUTO, DEFAULT_PORT, Destination, ResolveError, Resolver
from siperb_core.transport.stream import StreamFlow

log = structlog.get_logger()

_MOST_NAMES = 1024
_INNER = tuple(
    ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
"""RFC 1918, RFC 6598, RFC 4193."""
_BROADCAST = IPv4Address("255.255.255.255")

Spawn = Callable[[Callable[[], Awaitable[None]]], object]


class HopHost(Protocol):
    """What is asked of the gateway."""

    targets: Targets
    resolver: Resolver

    def entry(self, connection: str) -> Entry | None:
        """The configured connection of that name."""


@attrs.frozen
class NextHop:
    """Where a leg's next request is to go by its URIs."""

    uri: Uri
    by_route: bool

    @property
    def host(self) -> str:
        """Name or address, without brackets."""
        return self.uri.host.strip("[]")

    def transport(self, used: str) -> str:
        """What the URI says; else what DNS does (RFC 3263 section 4.1), and for an address, of which DNS says nothing,
        the one `used` with this peer so far, which it does have. TLS stays TLS.
        """
        if self.uri.scheme == "sips":
            return "tls"
        named = (self.uri.param("transport") or "").lower()
        if named in ("udp", "tcp", "tls"):
            return named
        return AUTO if used != "tls" and _is_name(self.host) and self.uri.port is None else used


class Hops:
    """Chooses the flow for a request to a leg. Nothing here waits: a name that is not known yet is looked up beside,
    and the leg's flow is used until it is.
    """

    def __init__(self, host: HopHost, spawn: Spawn) -> None:
        self._host = host
        self._spawn = spawn
        self._found: OrderedDict[tuple[str, int | None, str], tuple[Destination, ...]] = OrderedDict()
        self._asking: set[tuple[str, int | None, str]] = set()

    def flow(self, leg: Leg, connection: str) -> Flow | None:
        """The flow that reaches this leg now; None where nothing does."""
        targets = self._host.targets
        hop = next_hop(leg)
        flow = targets.reopened(leg)
        # Where the PBX had opened a connection and it is gone, nobody listens on the port it came from.
        known = flow or leg.flow
        if hop is None or known is None or (isinstance(flow, StreamFlow) and not flow.outgoing):
            return flow
        found = self._destinations(hop, known.transport)
        if flow is not None and any(_same(address, flow.remote[0]) for address, _, _ in found):
            return flow
        for destination in found:
            if not targets.is_aside(destination) and self._allows(destination, hop, known, connection):
                other = targets.open(destination, self._tls(leg, hop))
                if other is not None:
                    return other
        return flow

    def leads_to(self, leg: Leg, host: str) -> bool:
        """Whether the dialog's next hop is at this address: its far end has said that it is there."""
        hop = next_hop(leg)
        if hop is None:
            return False
        found = self._destinations(hop, leg.flow.transport if leg.flow is not None else "udp")
        return any(_same(address, host) for address, _, _ in found)

    def _tls(self, leg: Leg, hop: NextHop) -> TlsOptions:
        """As the leg's own connection is verified, for the name of the next hop (RFC 5922 section 4)."""
        _, ca, verify = self._host.targets.tls_of(leg) or ("", "", True)
        return TlsOptions(hop.host if _is_name(hop.host) else "", ca, verify)

    def _destinations(self, hop: NextHop, used: str) -> tuple[Destination, ...]:
        transport = hop.transport(used)
        if not _is_name(hop.host):
            return ((literal(hop.host).compressed, hop.uri.port or DEFAULT_PORT[transport], transport),)
        key = (hop.host.lower(), hop.uri.port, transport)
        if key not in self._asking:
            # Asked again each time: the resolver knows for how long an answer holds.
            self._asking.add(key)
            self._spawn(partial(self._look_up, key))
        return self._found.get(key, ())

    async def _look_up(self, key: tuple[str, int | None, str]) -> None:
        try:
            found = await self._host.resolver.resolve(*key)
            await self._host.targets.make_reachable(found)
        except ResolveError as error:
            log.info("hop.unresolved", host=key[0], reason=str(error))
        else:
            self._found[key] = tuple(found)
            self._found.move_to_end(key)
            if len(self._found) > _MOST_NAMES:
                self._found.popitem(last=False)
        finally:
            self._asking.discard(key)

    def _allows(self, destination: Destination, hop: NextHop, flow: Flow, connection: str) -> bool:
        host, _, transport = destination
        remote = flow.remote[0]
        if flow.transport == "tls" and transport != "tls":
            return False
        if _same(host, remote):
            return True
        address, known = literal(host), literal(remote)
        if not _is_host(address) or address.is_link_local or (address.is_loopback and not known.is_loopback):
            return False
        if _is_inner(address) and not (_is_inner(known) or known.is_loopback):
            return False
        entry = self._host.entry(connection)
        if entry is None:
            return False
        server = getattr(getattr(entry.settings, "target", None), "host", "")
        if networks.allowed(entry.allow_from, host) or host in self._host.targets.led_to(server):
            return True
        return hop.by_route and not entry.allow_from and not entry.allow_names


def next_hop(leg: Leg) -> NextHop | None:
    """The first Route, else the remote target; None where it cannot be read."""
    try:
        uri = parse_uri(parse_name_addr(leg.routes[0]).uri if leg.routes else leg.target)
    except ParseError:
        return None
    if uri.scheme not in ("sip", "sips") or not uri.host:
        return None
    maddr = uri.param("maddr")  # RFC 3261 section 19.1.1
    return NextHop(uri.with_(host=maddr) if maddr else uri, bool(leg.routes))


def _is_name(host: str) -> bool:
    try:
        literal(host)
    except ValueError:
        return True
    return False


def _same(one: str, other: str) -> bool:
    return literal(one) == literal(other)


def _is_inner(address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in _INNER if network.version == address.version)


def _is_host(address: IPv4Address | IPv6Address) -> bool:
    return not (address.is_multicast or address.is_unspecified or address == _BROADCAST)


__all__ = ["Hops", "NextHop", "next_hop"]
