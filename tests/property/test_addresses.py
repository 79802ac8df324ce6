"""Whatever stands where an address is expected: nothing but the errors that were promised."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import attrs
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from siperb_core import upkeep
from siperb_core.entries import fields, networks, peer
from siperb_core.entries.model import Entry
from siperb_core.hops import Hops
from siperb_core.lockout import source_of
from siperb_core.media.ice import parse_candidates
from siperb_core.sdp import SdpError
from siperb_core.sdp.client import _candidates
from siperb_core.sdp.peer import _address
from siperb_core.sip import NameAddr
from siperb_core.sip.dialog import Leg
from siperb_core.sip.headers import Via
from siperb_core.targets import Targets, is_address
from siperb_core.transport.address import OwnAddress, family_of, host_port, literal, without_zone
from siperb_core.transport.resolver import ResolveError, Resolver
from siperb_core.transport.udp import UdpListener

_ADDRESSES = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
_ZONES = st.one_of(st.sampled_from(["", "eth0", "lo", "0", "1", "%", "a b", "x" * 40, "\0", "\udc80"]), st.text())
TEXTS = st.one_of(
    _ADDRESSES,
    st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}"),
    st.builds("{}%{}".format, _ADDRESSES, _ZONES),
    st.builds("[{}]".format, _ADDRESSES),
    st.builds("{}/{}".format, _ADDRESSES, st.integers(-1, 200)),
    st.text(alphabet="0123456789abcdef:.%[]/ \n\0", max_size=45),
    st.text(max_size=20),
    # What is no UTF-8 in a message.
    st.binary(max_size=12).map(lambda octets: octets.decode("utf-8", "surrogateescape")),
)


def hostile(test: Any) -> Any:
    for text in ("fe80::1%eth0", "fe80::1%", "::1%\0", "::1%\udc80", "fe80::1%a b", "::ffff:1.2.3.4", "1.2.3.4%1"):
        test = example(text)(test)
    return given(TEXTS)(test)


@hostile
def test_an_address_or_a_value_error(text: str) -> None:
    try:
        address = literal(text)
    except ValueError:
        assert not is_address(text)
        with pytest.raises(ValueError, match=r".*"):
            family_of(text)
        return
    assert is_address(text)
    assert family_of(text) == (socket.AF_INET6 if address.version == 6 else socket.AF_INET)
    assert literal(address.compressed) == address, "its own form is read alike"
    shown = host_port(address.compressed, 5060)
    assert "%" not in shown, "a zone never leaves the machine"
    assert literal(shown.rpartition(":")[0].strip("[]")).packed == address.packed
    assert without_zone(text) in text


@hostile
def test_what_a_socket_takes_is_an_address_or_an_os_error(text: str) -> None:
    own = {version: OwnAddress((any_, 5060), None, lambda: 0.0) for version, any_ in ((4, "0.0.0.0"), (6, "::"))}
    if is_address(text):
        for address in own.values():
            assert literal(address.towards(text)[0])
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
            listener = UdpListener.__new__(UdpListener)
            listener._socket, listener._flows, listener.local = sock, {}, (host, 0)  # type: ignore[assignment]
            listener._flow = lambda sockaddr: sockaddr  # type: ignore[method-assign, assignment, return-value]
            with contextlib.suppress(ValueError, OSError):
                listener.flow_to(text, 5060)


@attrs.define(eq=False)
class _Flow:
    transport: str = "udp"
    local: tuple[str, int] = ("192.0.2.1", 5060)
    remote: tuple[str, int] = ("192.0.2.9", 5060)
    sent_by: str = "192.0.2.1:5060"
    reliable: bool = False

    def send(self, data: bytes) -> None:
        pass


@hostile
def test_how_a_peer_says_it_sees_us_is_an_address_we_can_show(text: str) -> None:
    targets = Targets(Resolver(), {}, None)  # type: ignore[arg-type]
    flow = _Flow()
    targets.seen_as(flow, Via("UDP", "192.0.2.1", 5060, (("received", text), ("rport", text))))
    host, _, port = targets.address_on(flow).rpartition(":")
    assert literal(host.strip("[]"))
    assert "%" not in host
    assert 0 < int(port) < 65536


@hostile
def test_where_sources_are_compared_and_settings_read(text: str) -> None:
    networks.allowed((networks.parse_network("192.0.2.0/24"), networks.parse_network("fe80::/64")), text)
    source_of(text)
    fields.is_host(text)
    peer._is_address(text)
    with contextlib.suppress(ValueError):
        networks.parse_network(text)
    for network in upkeep._networks([text], "name"):
        assert network.num_addresses == 1 or "/" in text


@hostile
def test_where_a_description_names_an_address(text: str) -> None:
    with contextlib.suppress(SdpError):
        found = _address(text)
        assert found is None or literal(found)
    candidate = f"1 1 udp 2122260223 {text} 40000 typ host"
    for value in _candidates([candidate]):
        literal(value.split()[4])
    for family in (4, 6):
        for (address, _), _ in parse_candidates((candidate,), family):
            assert "%" not in address
            literal(address)


@hostile
def test_a_name_leads_to_addresses_or_nowhere(text: str) -> None:
    async def addresses(name: str) -> list[str]:
        return [text]

    async def run() -> None:
        resolver = Resolver(addresses=addresses)
        for host in (text, "pbx"):
            with contextlib.suppress(ResolveError):
                for address, port, transport in await resolver.resolve(host, 5060, "auto"):
                    assert literal(address)
                    assert (port, transport) == (5060, "udp")

    trio.run(run)


class _House:
    """What next hops are asked of: everything is allowed, and nothing can be opened but for an address."""

    def __init__(self) -> None:
        self.resolver: Any = None
        self.opened: list[str] = []
        self.targets = Targets(Resolver(), {"udp": [self]}, None, lambda: 0.0)  # type: ignore[arg-type, list-item]
        self.local = ("0.0.0.0", 5060)

    def flow_to(self, host: str, port: int, tls: Any = None) -> Any:
        self.opened.append(host)
        return _Flow(remote=(host, port))

    def entry(self, connection: str) -> Entry:
        every = (networks.parse_network("0.0.0.0/0"), networks.parse_network("::/0"))
        return Entry("office", "t", allow_from=every)


@hostile
def test_whatever_a_peer_names_as_next_hop(text: str) -> None:
    house = _House()
    hops = Hops(house, lambda task: None)
    for written in (text, f"sip:x@{text}", f"sip:x@[{text}]:5060", f"sip:x@h;maddr={text}"):
        for routes in ((), (f"<{written}>",)):
            leg = Leg(NameAddr("", "sip:a@b"), NameAddr("", "sip:c@d"), "<sip:t@x>", written, routes, flow=_Flow())
            assert hops.flow(leg, "office") is not None
    for host in house.opened:
        address = literal(host)
        assert not (address.is_loopback)
        assert not (address.is_multicast)
        assert not (address.is_unspecified)
        assert not (address.is_link_local)
