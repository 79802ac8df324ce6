"""`allow_from`: the networks a connection's requests may come from."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from siperb_core.entries.model import Network

MAX_NETWORKS = 1000

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def parse_network(text: str) -> Network:
    """An address or a network in CIDR; bits of the host part may be set (`192.168.0.1/24`). Raises ValueError.

    An IPv4 network in IPv6 dress (`::ffff:10.0.0.0/104`) becomes the IPv4 network it is.
    """
    network = ipaddress.ip_network(text.strip(), strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        low = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((low, network.prefixlen - 96))
    return network


def is_everything(networks: Iterable[Network]) -> bool:
    """Whether the networks together let in all of IPv4 or all of IPv6, however it is written (`0.0.0.0/1` and
    `128.0.0.0/1`).

    Naming nearly everything is as bad: more than half of either family's addresses counts.
    """
    v4 = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    v6 = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    v4_size = sum(network.num_addresses for network in ipaddress.collapse_addresses(v4))
    v6_size = sum(network.num_addresses for network in ipaddress.collapse_addresses(v6))
    # 2000::/3 is all of IPv6 that is routed on the Internet: half of what matters is half of that
    return v4_size > 1 << 31 or v6_size > 1 << 124 or any(network.supernet_of(_MAPPED) for network in v6)


@lru_cache(maxsize=4096)
def address(host: str) -> Address | None:
    """An address, as the socket saw it or somebody wrote it; None for anything else. An IPv4 address in IPv6 dress
    counts as IPv4.
    """
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def allowed(networks: Iterable[Network], host: str) -> bool:
    """Whether an address, as the socket saw it, is in one of the networks."""
    found = address(host)
    return found is not None and any(found in network for network in networks if network.version == found.version)
