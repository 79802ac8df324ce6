"""The connections that take calls now: whose a request may be, and whose an address is, found without asking all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import overload

import attrs

from siperb_core.entries import networks
from siperb_core.entries.contract import Source
from siperb_core.entries.live import LoadedConnection
from siperb_core.entries.model import Network
from siperb_core.sip import Message, ParseError, parse_uri
from siperb_core.sip.digest import usernames


class LoadedConnections(Sequence[LoadedConnection]):
    """In the order in which they are asked whether a request is theirs.

    Those that know a request by its source alone come last: a request that names another by its contact is that one's,
    whatever address it came from.

    There may be a thousand, and a stranger's datagram must not cost a question to each: by what they say of themselves
    (`KnowsItsPeer`, `ClaimsByName`) and by `allow_from` they are found in about the same time however many they are.
    """

    def __init__(self, connections: Iterable[LoadedConnection] = ()) -> None:
        self._ordered = sorted(connections, key=lambda loaded: loaded.type.allow_from_required)

    @overload
    def __getitem__(self, index: int) -> LoadedConnection: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[LoadedConnection]: ...

    def __getitem__(self, index: int | slice) -> LoadedConnection | Sequence[LoadedConnection]:
        return self._ordered[index]

    def __len__(self) -> int:
        return len(self._ordered)

    def named(self, name: str) -> LoadedConnection | None:
        """One of them."""
        return self._named.get(name)

    def at(self, host: str) -> list[LoadedConnection]:
        """Those whose PBX is known to be at an address: by `allow_from`, or by `KnowsItsPeer`."""
        return [self._ordered[place] for place in sorted(self._index.at(host))]

    def listing(self, host: str) -> bool:
        """Whether an address is in the `allow_from` of any."""
        address = networks.address(host)
        return address is not None and bool(self._index.listing(address))

    def asked(self, request: Message, source: Source) -> Iterator[LoadedConnection]:
        """Those that may claim a request."""
        index = self._index
        places = {*index.unnamed, *index.at(source.host)}
        for name in names_in(request):
            places.update(index.by_name.get(name, ()))
        return map(self._ordered.__getitem__, sorted(places))

    @cached_property
    def algorithms(self) -> frozenset[tuple[str, ...]]:
        """The sets of digest algorithms by which PBXs are asked for credentials; none where none is."""
        # Not by `isinstance`: that takes 30 us for a protocol.
        asking = (loaded for loaded in self._ordered if getattr(loaded.type, "authenticates", False))
        return frozenset(loaded.entry.algorithms for loaded in asking)

    def knows(self, loaded: LoadedConnection) -> bool:
        """Whether what a connection says of itself is what it said when it was looked at."""
        said = self.__dict__.get("_index")
        return said is None or said.said.get(loaded.entry.name) == (loaded.names, loaded.addresses)

    @cached_property
    def _named(self) -> dict[str, LoadedConnection]:
        return {loaded.entry.name: loaded for loaded in self._ordered}

    @cached_property
    def _index(self) -> _Index:
        index = _Index()
        for place, loaded in enumerate(self._ordered):
            index.add(place, loaded)
        return index


@attrs.define
class _Index:
    """Places in the order of connections, by what leads there."""

    unnamed: list[int] = attrs.Factory(list)
    """Those that have to be asked about every request."""
    by_name: dict[str, list[int]] = attrs.Factory(dict)
    by_address: dict[networks.Address, list[int]] = attrs.Factory(dict)
    by_network: dict[tuple[int, int], dict[int, list[int]]] = attrs.Factory(dict)
    """By IP version and by the bits that are the host's, then by the number that the others are."""
    said: dict[str, tuple[frozenset[str] | None, frozenset[str]]] = attrs.Factory(dict)

    def add(self, place: int, loaded: LoadedConnection) -> None:
        names, addresses = self.said[loaded.entry.name] = loaded.names, loaded.addresses
        if names is None:
            self.unnamed.append(place)
        for name in names or ():
            self.by_name.setdefault(name, []).append(place)
        for text in addresses:
            address = networks.address(text)
            if address is not None:
                self.by_address.setdefault(address, []).append(place)
        for network in loaded.entry.allow_from:
            kind, number = _kind(network), int(network.network_address)
            self.by_network.setdefault(kind, {}).setdefault(number >> kind[1], []).append(place)

    def listing(self, address: networks.Address) -> set[int]:
        number = int(address)
        found: set[int] = set()
        for (version, bits), those in self.by_network.items():
            if version == address.version:
                found.update(those.get(number >> bits, ()))
        return found

    def at(self, host: str) -> set[int]:
        address = networks.address(host)
        return set() if address is None else {*self.listing(address), *self.by_address.get(address, ())}


def _kind(network: Network) -> tuple[int, int]:
    return network.version, network.max_prefixlen - network.prefixlen


def names_in(request: Message) -> set[str]:
    """The names by which a PBX may be known, as a request has them: the users of its Request-URI, To and From, and of
    its credentials. What cannot be read names nobody.
    """
    names = credentials_of(request)
    with suppress(ParseError):
        names.add(parse_uri(request.uri).user_unescaped)
    with suppress(ParseError):
        names.add(request.to.parsed_uri.user_unescaped)
    with suppress(ParseError):
        names.add(request.from_.parsed_uri.user_unescaped)
    return names


def credentials_of(request: Message) -> set[str]:
    """The users a request shows credentials of. A PBX's From is who calls, and says nothing of who logs in."""
    names = set()
    for header in ("Authorization", "Proxy-Authorization"):
        for value in request.get_all(header):
            names.update(usernames(value))
    return names
