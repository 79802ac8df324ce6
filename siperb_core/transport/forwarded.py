"""Who is behind a reverse proxy: X-Forwarded-For, or Forwarded (RFC 7239), read from the end that our proxy wrote.

What stands further to the front was written by others and is believed only where a trusted proxy passed it on.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siperb_core.entries.model import Network

MOST_HOPS = 32

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# The last element of a list: its commas may stand in quotes, and what comes before need not be well-formed.
_LAST = re.compile(r'(?:\A|,)((?:[^",]|"(?:[^"\\]|\\.)*+")*+)\Z')
_FOR = re.compile(r'(?:\A|;)[ \t]*for[ \t]*=[ \t]*(?:"([^"\\]*)"|([^\s";,]+))[ \t]*(?=;|\Z)', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([^\[\]]+)\](?::(\d{1,5}))?|([\d.]+):(\d{1,5})")


def client_of(peer: tuple[str, int], headers: Mapping[bytes, bytes], trusted: Sequence[Network]) -> tuple[str, int]:
    """Address and port of the client, as far as they can be believed; `peer` where it is no trusted proxy.

    `headers` have lower-case names, several of one name joined with commas. The nearest address that is not a trusted
    proxy's counts; where all are, the farthest; where one cannot be read, the proxy's that passed it on. With both
    headers X-Forwarded-For counts: it is what proxies write unless told otherwise. The port is the peer's where the
    proxy has told none.
    """
    if not is_proxy(peer[0], trusted):
        return peer
    found = peer
    for text in _hops(headers):
        read = _node(text)
        if read is None:
            break
        address, port = read
        found = (str(address), port or peer[1])
        if not _is_in(trusted, address):
            break
    return found


def is_proxy(host: str, trusted: Sequence[Network]) -> bool:
    """Whether an address is a trusted proxy's."""
    return bool(trusted) and _is_in(trusted, _address(host))


def _hops(headers: Mapping[bytes, bytes]) -> Iterator[str]:
    """The addresses as they are written, nearest first."""
    value = headers.get(b"x-forwarded-for")
    if value is not None:
        for item in reversed(value.decode("latin-1").rsplit(",", MOST_HOPS)[-MOST_HOPS:]):
            yield item.strip(" \t")
        return
    rest = headers.get(b"forwarded", b"").decode("latin-1")
    for _ in range(MOST_HOPS):
        last = _LAST.search(rest) if rest else None
        if last is None:
            return
        named = _FOR.search(last[1].strip(" \t"))
        yield "" if named is None else named[1] or named[2] or ""
        rest = rest[: last.start()]


def _node(text: str) -> tuple[_Address, int | None] | None:
    """An address, perhaps with a port; None for a name, `unknown`, or a hidden one (RFC 7239 section 6)."""
    port: int | None = None
    match = _WITH_PORT.fullmatch(text)
    if match is not None:
        text = match[1] or match[3]
        port = int(match[2] or match[4] or 0)
        if port > 65535:
            return None
    address = _address(text)
    return None if address is None else (address, port)


def _address(text: str) -> _Address | None:
    if "%" in text or len(text) > 45:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(networks: Iterable[Network], address: _Address | None) -> bool:
    return address is not None and any(address in network for network in networks if network.version == address.version)
