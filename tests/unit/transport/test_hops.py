"""Which next hop of a dialog is followed, and which is not."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from siperb_core.entries.contract import Target
from siperb_core.entries.model import Entry
from siperb_core.hops import Hops
from siperb_core.sip import NameAddr
from siperb_core.sip.dialog import Leg
from siperb_core.targets import Targets
from siperb_core.transport.contract import TlsOptions
from siperb_core.transport.resolver import Destination, ResolveError
from siperb_core.transport.stream import StreamFlow

from .test_targets import FakeFlow, FakeListener


@attrs.frozen
class Settings:
    target: Target


class House:
    """Hops between fake DNS and fake sockets; the connection is `office`."""

    def __init__(self) -> None:
        self.dns: dict[str, list[Destination]] = {}
        self.asked: list[tuple[str, int | None, str]] = []
        listeners: dict[str, list[Any]] = {name: [FakeListener(name)] for name in ("udp", "tcp", "tls")}
        listeners["udp"].append(FakeListener("udp", "::"))
        self.now = 0.0
        self.targets = Targets(self, listeners, None, lambda: self.now)  # type: ignore[arg-type]
        self.resolver: Any = self
        self.hops = Hops(self, self.spawn)
        self.waiting: list[Callable[[], Awaitable[None]]] = []
        self.allow_from: tuple[str, ...] = ()
        self.server = "203.0.113.1"

    def spawn(self, task: Callable[[], Awaitable[None]]) -> None:
        self.waiting.append(task)

    async def settle(self) -> None:
        while self.waiting:
            await self.waiting.pop()()

    async def resolve(self, host: str, port: int | None, transport: str) -> list[Destination]:
        self.asked.append((host, port, transport))
        if host not in self.dns:
            raise ResolveError("no such name")
        return self.dns[host]

    def entry(self, connection: str) -> Entry | None:
        networks = tuple(ipaddress.ip_network(text) for text in self.allow_from)
        entry = Entry("office", "t", allow_from=networks, settings=Settings(Target(self.server)))
        return entry if connection == "office" else None

    def goes_to(self, leg: Leg, connection: str = "office") -> tuple[str, str, int]:
        flow = self.hops.flow(leg, connection)
        assert flow is not None
        return (flow.transport, *flow.remote)


def leg_of(target: str, *routes: str, remote: str = "203.0.113.1", transport: str = "udp") -> Leg:
    flow: Any = FakeFlow((remote, 5060), transport)
    return Leg(NameAddr("", "sip:a@b"), NameAddr("", "sip:c@d"), "<sip:t@x>", target, routes, flow=flow)


@pytest.fixture
def house() -> House:
    return House()


STAYS = ("udp", "203.0.113.1", 5060)


@pytest.mark.parametrize(
    "target",
    [
        "sip:x@203.0.113.1:5080",  # the same host: a port alone says nothing
        "sip:x@203.0.113.99",  # not on the list
        "sip:x@10.0.0.7",  # NAT, though the list has it
        "sip:x@127.0.0.1:22",
        "sip:x@localhost.evil.example",
        "sip:x@[::1]",
        "sip:x@0.0.0.0",
        "sip:x@224.0.1.75",
        "sip:x@255.255.255.255",
        "sip:x@169.254.169.254",
        "sip:x@[fe80::1%25eth0]",
        "tel:+15551234",
        "sip:",
        "garbage",
    ],
)
async def test_a_contact_that_is_not_followed(house: House, target: str) -> None:
    house.allow_from = ("198.51.100.0/24", "10.0.0.0/8")
    house.dns["localhost.evil.example"] = [("127.0.0.1", 5060, "udp")]
    for _ in range(2):
        assert house.goes_to(leg_of(target)) == STAYS
        await house.settle()


async def test_a_contact_on_the_list_is_followed(house: House) -> None:
    house.allow_from = ("198.51.100.0/24",)
    assert house.goes_to(leg_of("sip:x@198.51.100.7")) == ("udp", "198.51.100.7", 5060)
    assert house.goes_to(leg_of("sip:x@198.51.100.7:5099;transport=tcp")) == ("tcp", "198.51.100.7", 5099)
    assert house.goes_to(leg_of("sip:x@203.0.113.1;maddr=198.51.100.8")) == ("udp", "198.51.100.8", 5060)
    assert house.goes_to(leg_of("sip:x@198.51.100.7"), "another") == STAYS, "it is not that connection's list"


async def test_the_route_set_comes_first(house: House) -> None:
    house.allow_from = ("198.51.100.0/24",)
    leg = leg_of("sip:x@198.51.100.7", "<sip:198.51.100.1:5070;lr>", "<sip:198.51.100.2;lr>")
    assert house.goes_to(leg) == ("udp", "198.51.100.1", 5070)
    leg = leg_of("sip:x@198.51.100.7", "<sip:203.0.113.1;lr>")
    assert house.goes_to(leg) == STAYS, "the proxy we talk to stays in the path"


async def test_of_a_registration_record_route_and_the_servers_addresses_are_believed(house: House) -> None:
    assert house.goes_to(leg_of("sip:x@198.51.100.7")) == STAYS, "a Contact alone is anybody's"
    assert house.goes_to(leg_of("sip:x@198.51.100.7", "<sip:198.51.100.9;lr>")) == ("udp", "198.51.100.9", 5060)
    assert house.goes_to(leg_of("sip:x@y", "<sip:127.0.0.1;lr>")) == STAYS
    assert house.goes_to(leg_of("sip:x@y", "<sip:192.168.0.9;lr>")) == STAYS, "NAT"
    house.server = "pbx.example.com"
    house.dns["pbx.example.com"] = [("203.0.113.1", 5060, "udp"), ("203.0.113.2", 5060, "udp")]
    await house.targets.find(Target("pbx.example.com"))
    assert house.goes_to(leg_of("sip:x@203.0.113.2")) == ("udp", "203.0.113.2", 5060)
    house.allow_from = ("203.0.113.0/24",)
    assert house.goes_to(leg_of("sip:x@y", "<sip:198.51.100.9;lr>")) == STAYS, "where there is a list it counts"


async def test_a_name_is_looked_up_beside_and_used_from_then_on(house: House) -> None:
    house.allow_from = ("198.51.100.0/24",)
    house.dns["b.example"] = [("192.0.2.66", 5060, "udp"), ("198.51.100.7", 5070, "tcp")]
    leg = leg_of("sip:x@B.example")
    assert house.goes_to(leg) == STAYS
    await house.settle()
    assert house.goes_to(leg) == ("tcp", "198.51.100.7", 5070), "the first that is allowed"
    assert set(house.asked) == {("b.example", None, "auto")}
    house.dns["c.example"] = [("203.0.113.1", 5080, "udp"), ("198.51.100.7", 5060, "udp")]
    leg = leg_of("sip:x@c.example")
    house.goes_to(leg)
    await house.settle()
    assert house.goes_to(leg) == STAYS, "the name is the peer's that we talk to"


async def test_a_hop_that_is_dead_leaves_the_next_and_in_the_end_the_flow(house: House) -> None:
    house.allow_from = ("198.51.100.0/24",)
    house.dns["b.example"] = [("198.51.100.7", 5060, "udp"), ("198.51.100.8", 5060, "udp")]
    leg = leg_of("sip:x@b.example")
    house.goes_to(leg)
    await house.settle()
    for expected in ("198.51.100.7", "198.51.100.8"):
        assert house.goes_to(leg)[1] == expected
        flow: Any = house.hops.flow(leg, "office")
        house.targets.put_aside(flow)
    assert house.goes_to(leg) == STAYS
    house.now += 46
    assert house.goes_to(leg)[1] == "198.51.100.7"


async def test_tls_is_not_given_up_and_verified_for_the_hops_name(house: House) -> None:
    house.allow_from = ("198.51.100.0/24",)
    leg = leg_of("sip:x@198.51.100.7;transport=udp", transport="tls")
    assert house.goes_to(leg) == ("tls", "203.0.113.1", 5060)
    leg = leg_of("sip:x@198.51.100.7", transport="tls")
    assert house.goes_to(leg) == ("tls", "198.51.100.7", 5061)
    house.dns["b.example"] = [("198.51.100.7", 5061, "tls")]
    leg = leg_of("sip:x@b.example", transport="tls")
    leg.tls = ("pbx.example.com", "ca.pem", True)
    house.goes_to(leg)
    await house.settle()
    flow: Any = house.hops.flow(leg, "office")
    assert flow.tls == TlsOptions("b.example", "ca.pem", True)
    assert house.goes_to(leg_of("sips:x@198.51.100.7")) == ("tls", "198.51.100.7", 5061)


class Accepted(StreamFlow):
    """A connection the PBX opened to us."""

    transport = "tcp"  # type: ignore[assignment]
    __slots__ = ()

    def __init__(self, remote: tuple[str, int]) -> None:
        self.remote, self.outgoing, self.ended, self.tls = remote, False, None, None

    def end(self, reason: str) -> None:
        self.ended = reason


async def test_a_connection_the_pbx_opened_is_used_while_it_lasts(house: House) -> None:
    house.allow_from = ("198.51.100.0/24",)
    leg = leg_of("sip:x@198.51.100.7")
    leg.flow = flow = Accepted(("203.0.113.1", 40000))
    assert house.goes_to(leg) == ("tcp", "203.0.113.1", 40000)
    flow.end("lost")
    assert house.goes_to(leg) == ("tcp", "198.51.100.7", 5060)
    leg.target = "sip:x@203.0.113.1:5070"
    assert house.goes_to(leg) == ("tcp", "203.0.113.1", 5070), "the same host: where its Contact says"
    leg.target = "sip:x@127.0.0.1:22"
    assert house.hops.flow(leg, "office") is None
