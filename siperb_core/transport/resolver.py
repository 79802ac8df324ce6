"""Where a name leads: RFC 3263 section 4 over dnspython on trio, with the hosts file for plain names."""

from __future__ import annotations

import random
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs
import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
import structlog
import trio

from siperb_core.transport.address import literal

DEADLINE_SECONDS = 4.0
MIN_TTL = 5.0
MAX_TTL = 3600.0
ADDRESS_TTL = 60.0
"""The system's resolver does not tell how long its answer holds."""
NAPTR_SECONDS = 1.0
SRV_SECONDS = 1.5
MAX_CACHED = 4096
MAX_RECORDS = 32
MAX_ANSWERS = 16

DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061}
AUTO = "auto"
"""The transport of who leaves it to DNS."""
_SRV = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}
_NAPTR = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}

Destination = tuple[str, int, str]
"""Address, port, transport."""

log = structlog.get_logger(__name__)


class ResolveError(Exception):
    """The name leads nowhere; the text says why."""


class Lookup(Protocol):
    """What is used of `dns.asyncresolver.Resolver`."""

    async def resolve(self, qname: str, rdtype: str, *, lifetime: float, search: bool) -> Any:
        """An answer: iterable over records, with `rrset.ttl`. Raises dns.exception.DNSException."""


AddressLookup = Callable[[str], Any]
"""Async: the addresses of a name, by the hosts file or DNS. Raises OSError."""


@attrs.frozen
class _Cached:
    fresh_until: float
    destinations: tuple[Destination, ...]


async def system_addresses(name: str) -> list[str]:
    """IPv4 and IPv6 addresses as the system knows them: hosts file first, then DNS. Raises OSError."""
    found = await trio.socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return [str(entry[4][0]) for entry in found]


class Resolver:
    """Names to destinations, in the order they are to be tried. An answer is kept while DNS says it holds, and used
    longer when DNS fails.

    `chance` gives a number in [0, 1) and orders servers of equal priority by weight (RFC 2782). Where the transport is
    given, NAPTR only finds the SRV name it should be looked up under; where it is `auto`, NAPTR chooses it (RFC 3263
    section 4.1). One transport is chosen, and no other tried when its servers do not answer: a domain that wants TLS is
    not to be talked into less by whoever can keep TLS from working.
    """

    def __init__(
        self,
        chance: Callable[[], float] = random.random,
        lookup: Lookup | None = None,
        addresses: AddressLookup = system_addresses,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._chance = chance
        self._lookup = lookup
        self._addresses = addresses
        self._clock = clock
        self._cache: OrderedDict[tuple[str, int | None, str], _Cached] = OrderedDict()

    async def resolve(self, host: str, port: int | None, transport: str) -> list[Destination]:
        """Destinations for a host; a literal address is its own, without asking anybody. Raises ResolveError within 4
        s.

        With a port only addresses are looked up (RFC 3263 section 4.2). For a literal address, and for a name with a
        port, `auto` is UDP (section 4.1).
        """
        bare = host.removeprefix("[").removesuffix("]")
        try:
            address = literal(bare).compressed
        except ValueError:
            pass
        else:
            transport = "udp" if transport == AUTO else transport
            return [(address, port or DEFAULT_PORT[transport], transport)]
        key = (host.lower().rstrip("."), port, transport)
        cached = self._cache.get(key)
        if cached is not None and cached.fresh_until > self._clock():
            return list(cached.destinations)
        try:
            with trio.fail_after(DEADLINE_SECONDS):
                destinations, ttl = await self._ask(key[0], port, transport)
        except trio.TooSlowError:
            return self._last_good(key, cached, f"no answer from DNS within {DEADLINE_SECONDS:.0f} s")
        except ResolveError as error:
            return self._last_good(key, cached, str(error))
        ttl = min(max(ttl, MIN_TTL), MAX_TTL)
        self._cache[key] = _Cached(self._clock() + ttl, tuple(destinations))
        self._cache.move_to_end(key)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return destinations

    def _last_good(self, key: tuple[str, int | None, str], cached: _Cached | None, why: str) -> list[Destination]:
        if cached is None:
            raise ResolveError(why)
        # Yesterday's address is better than no call; DNS is asked again after a short while.
        log.warning("resolver.using_last_answer", name=key[0], reason=why)
        self._cache[key] = _Cached(self._clock() + MIN_TTL, cached.destinations)
        return list(cached.destinations)

    async def _ask(self, host: str, port: int | None, transport: str) -> tuple[list[Destination], float]:
        plain = "udp" if transport == AUTO else transport
        # A name without a dot (localhost, a line of the hosts file) is no domain that could publish services.
        if port is not None or "." not in host:
            return await self._plain(host, port or DEFAULT_PORT[plain], plain), ADDRESS_TTL
        failed: str | None = None
        refused: ResolveError | None = None
        for name, by in await self._service_names(host, transport):
            try:
                servers, ttl = await self._query(name, "SRV", SRV_SECONDS)
            except ResolveError as error:
                failed = str(error)  # DNS is out of reach, or cannot do SRV: the hosts file may know the name
                break
            if servers:
                try:
                    return await self._servers(servers, by), min(ttl, ADDRESS_TTL)
                except ResolveError as error:
                    refused = error
        if refused is not None:
            raise refused
        try:
            return await self._plain(host, DEFAULT_PORT[plain], plain), ADDRESS_TTL
        except ResolveError as error:
            raise ResolveError(failed or str(error)) from None

    async def _service_names(self, host: str, transport: str) -> list[tuple[str, str]]:
        """Where SRV records are and for which transport, in the order to ask: by NAPTR, else by convention (RFC 3263
        section 4.1).
        """
        wanted = tuple(_SRV) if transport == AUTO else (transport,)
        by_convention = [(f"{_SRV[each]}.{host}", each) for each in wanted]
        try:
            records, _ = await self._query(host, "NAPTR", NAPTR_SECONDS)
        except ResolveError:  # many a home router drops what it does not know; SRV is asked for all the same
            return by_convention
        fitting = [
            (record.order, record.preference, str(record.replacement), by)
            for record in records
            if (by := _NAPTR.get(record.service.decode("latin-1").upper(), "")) in wanted
            and record.flags.lower() == b"s"
        ]
        return [(name, by) for _, _, name, by in sorted(fitting)[:4]] or by_convention

    async def _servers(self, records: Sequence[Any], transport: str) -> list[Destination]:
        destinations: list[Destination] = []
        failed = "the SRV record says there is no such service"
        for record in self._ordered(records):
            target = str(record.target).rstrip(".")
            if not target:  # RFC 2782: "." means decidedly not available
                continue
            try:
                destinations += await self._plain(target, record.port, transport)
            except ResolveError as error:
                failed = str(error)
            if len(destinations) >= MAX_ANSWERS:
                break
        if not destinations:
            raise ResolveError(failed)
        return destinations[:MAX_ANSWERS]

    def _ordered(self, records: Sequence[Any]) -> list[Any]:
        """By priority, and within one at random by weight (RFC 2782)."""
        ordered = []
        rest = sorted(records, key=lambda record: (record.priority, record.weight != 0))
        while rest:
            group = [record for record in rest if record.priority == rest[0].priority]
            mark = self._chance() * sum(record.weight for record in group)
            for record in group:
                mark -= record.weight
                if mark < 0:
                    break
            else:
                record = group[0]
            ordered.append(record)
            rest.remove(record)
        return ordered

    async def _plain(self, host: str, port: int, transport: str) -> list[Destination]:
        try:
            addresses = await self._addresses(host)
        except (OSError, UnicodeError) as error:
            raise ResolveError(f"{host}: {getattr(error, 'strerror', None) or error}") from None
        unique = list(dict.fromkeys(filter(None, map(_canonical, addresses))))[:MAX_ANSWERS]
        if not unique:
            raise ResolveError(f"{host} has no address")
        # IPv4 first: PBXs that are reached over IPv6 only are rare, broken IPv6 is not.
        unique.sort(key=lambda address: ":" in address)
        return [(address, port, transport) for address in unique]

    async def _query(self, name: str, kind: str, seconds: float) -> tuple[list[Any], float]:
        """Records of a name, none where there are none; how long they hold. Raises ResolveError where DNS fails."""
        try:
            lookup = self._lookup or dns.asyncresolver.Resolver()  # reads resolv.conf, which may have changed
            answer = await lookup.resolve(name, kind, lifetime=seconds, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return [], MAX_TTL
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise ResolveError(f"DNS cannot tell {kind} of {name}: {error}") from None
        return list(answer)[:MAX_RECORDS], float(answer.rrset.ttl if answer.rrset is not None else 0)


def _canonical(address: str) -> str:
    """An address in the one form in which two are compared; '' for what is none, which the hosts file or a broken DNS
    may give.
    """
    try:
        return literal(address).compressed
    except ValueError:
        return ""
