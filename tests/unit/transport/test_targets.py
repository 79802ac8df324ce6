"""How a target becomes a flow."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from siperb_core.entries.contract import ConnectionNotReady, Target
from siperb_core.entries.model import Listen
from siperb_core.sip import NameAddr
from siperb_core.sip.dialog import Leg
from siperb_core.sip.headers import parse_via
from siperb_core.targets import ASIDE_SECONDS, NO_STREAM_SECONDS, Targets, Ways
from siperb_core.transport.contract import TlsOptions
from siperb_core.transport.resolver import Destination, ResolveError

PBX = Target("pbx.example.com", 5060)
FIRST, SECOND = ("192.0.2.11", 5060, "udp"), ("192.0.2.12", 5060, "udp")


@attrs.frozen
class FakeFlow:
    """Known by where it leads."""

    remote: tuple[str, int]
    transport: str
    tls: TlsOptions | None = None
    local: tuple[str, int] = ("192.0.2.1", 5060)
    sent_by: str = "192.0.2.1:5060"
    reliable: bool = True

    def send(self, data: bytes) -> None:
        PINGS.append((trio.current_time(), data))


PINGS: list[tuple[float, bytes]] = []


class FakeListener:
    def __init__(self, transport: str, host: str = "0.0.0.0") -> None:
        self.transport = transport
        self.local = (host, 5060)
        self.opened: list[tuple[str, int]] = []

    def flow_to(self, host: str, port: int, tls: TlsOptions | None = None) -> Any:
        self.opened.append((host, port))
        return FakeFlow((host, port), self.transport, tls)


class House:
    """A `Targets` between fake DNS and fake sockets."""

    def __init__(self) -> None:
        self.dns: dict[str, list[Destination]] = {PBX.host: [FIRST, SECOND]}
        self.listeners: dict[str, list[Any]] = {"udp": [FakeListener("udp")]}
        self.now = 0.0
        self.targets = Targets(self, self.listeners, self.listen, lambda: self.now)  # type: ignore[arg-type]

    async def resolve(self, host: str, port: int | None, transport: str) -> list[Destination]:
        if host not in self.dns:
            raise ResolveError("no such name")
        return self.dns[host]

    async def listen(self, listen: Listen) -> Any:
        if listen.transport == "wss":
            raise OSError("not that")
        listener = FakeListener(listen.transport, listen.bind[0])
        self.listeners.setdefault(listen.transport, []).append(listener)
        return listener

    async def all(self, target: Target = PBX) -> list[tuple[str, int]]:
        ways = await self.targets.find(target)
        return remotes(ways)


def remotes(ways: Ways) -> list[tuple[str, int]]:
    found = []
    while (flow := ways.next()) is not None:
        found.append(flow.remote)
    return found


@pytest.fixture
def house() -> House:
    return House()


async def test_connections_are_opened_one_at_a_time(house: House) -> None:
    ways = await house.targets.find(PBX)
    listener = house.listeners["udp"][0]
    assert listener.opened == []
    assert ways.more
    ways.next()
    assert listener.opened == [FIRST[:2]]
    ways.next()
    assert not ways.more
    assert ways.next() is None


async def test_a_dead_destination_is_left_out_for_a_while_unless_all_are(house: House) -> None:
    first, second = FakeFlow(FIRST[:2], "udp"), FakeFlow(SECOND[:2], "udp")
    house.targets.put_aside(first)
    assert await house.all() == [SECOND[:2]]
    house.targets.put_aside(second)
    assert await house.all() == [FIRST[:2], SECOND[:2]]
    house.targets.answered(PBX, second)
    assert await house.all() == [SECOND[:2]]
    house.now += ASIDE_SECONDS + 1
    assert await house.all() == [FIRST[:2], SECOND[:2]]


async def test_what_answered_last_is_what_our_contact_is_for(house: House) -> None:
    assert (await house.targets.first(PBX)).remote == FIRST[:2]
    house.targets.answered(PBX, FakeFlow(SECOND[:2], "udp"))
    assert (await house.targets.first(PBX)).remote == SECOND[:2]


async def test_no_way(house: House) -> None:
    with pytest.raises(ConnectionNotReady, match="cannot be resolved: no such name"):
        await house.targets.find(Target("nowhere.example.com"))
    house.dns["odd.example.com"] = [("192.0.2.1", 1, "wss")]
    with pytest.raises(ConnectionNotReady, match="no way to odd"):
        await house.targets.find(Target("odd.example.com"))


async def test_a_transport_nobody_listens_on_is_opened_beside_udp(house: House) -> None:
    house.listeners["udp"] = [FakeListener("udp", "192.0.2.1")]
    house.dns["tcp.example.com"] = [("192.0.2.11", 5061, "tls"), ("2001:db8::1", 5061, "tls")]
    assert len(await house.all(Target("tcp.example.com", transport="tls"))) == 2
    assert [listener.local[0] for listener in house.listeners["tls"]] == ["192.0.2.1", "::"]


async def test_a_domain_that_is_tls_only_is_reached_by_tls_and_verified_for_its_name(house: House) -> None:
    house.dns["tls.example.com"] = [("192.0.2.11", 5061, "tls")]
    ways = await house.targets.find(Target("tls.example.com", transport="auto", ca="ca.pem"))
    flow: Any = ways.next()
    assert (flow.transport, flow.remote) == ("tls", ("192.0.2.11", 5061))
    assert flow.tls == TlsOptions("tls.example.com", "ca.pem")
    house.dns["udp.example.com"] = [FIRST]
    flow = (await house.targets.find(Target("udp.example.com", transport="auto"))).next()
    assert (flow.transport, flow.tls) == ("udp", None)
    ways = house.targets.at_once(Target("192.0.2.60", transport="auto"))
    assert ways is not None
    assert remotes(ways) == [("192.0.2.60", 5060)], "an address: UDP, at once"


async def test_addresses_and_open_flows_are_ready_at_once(house: House) -> None:
    flow: Any = FakeFlow(("192.0.2.50", 1), "tcp")
    ways = house.targets.at_once(Target("192.0.2.50", flow=flow))
    assert ways is not None
    assert ways.next() is flow
    ways = house.targets.at_once(Target("192.0.2.60"))
    assert ways is not None
    assert remotes(ways) == [("192.0.2.60", 5060)]
    assert house.targets.at_once(Target("192.0.2.60", transport="tcp")) is None, "nobody listens yet"
    assert house.targets.at_once(PBX) is None
    assert house.targets.is_peer(flow)
    assert not house.targets.is_peer(FakeFlow(("192.0.2.61", 1), "udp"))


async def test_of_several_sockets_the_one_that_leads_there(house: House) -> None:
    inner, outer = FakeListener("udp", "127.0.0.1"), FakeListener("udp", "192.0.2.1")
    house.listeners["udp"] = [inner, outer]
    for host, listener in (("127.0.0.5", inner), ("198.51.100.1", outer)):
        remotes(await house.targets.find(Target(host)))
        assert listener.opened == [(host, 5060)]


async def test_tcp_beside_udp_until_it_fails(house: House) -> None:
    flow = FakeFlow(FIRST[:2], "udp")
    assert house.targets.stream_beside(flow) is None
    house.listeners["tcp"] = [FakeListener("tcp")]
    stream = house.targets.stream_beside(flow)
    assert stream is not None
    assert (stream.transport, stream.remote) == ("tcp", FIRST[:2])
    house.targets.no_stream(flow)
    assert house.targets.stream_beside(flow) is None
    house.now += NO_STREAM_SECONDS + 1
    assert house.targets.stream_beside(flow) is not None


async def test_after_a_restart_tls_is_what_it_was(house: House) -> None:
    house.listeners["tls"] = [FakeListener("tls")]
    address = NameAddr("", "sip:a@b", ())
    leg = Leg(address, address, "<sip:t@gw>", flow=FakeFlow(("192.0.2.11", 5061), "tls"))  # type: ignore[arg-type]
    stored = {**leg.as_json(), "tls": ["pbx.example.com", "ca.pem", True]}
    restored = Leg.from_json(stored)
    flow: Any = house.targets.reopened(restored)
    assert flow.tls == TlsOptions("pbx.example.com", "ca.pem", True)
    assert house.targets.tls_of(restored) == ("pbx.example.com", "ca.pem", True)
    assert house.targets.reopened(Leg(address, address, "<sip:t@gw>")) is None


@pytest.mark.parametrize(
    ("transport", "via", "seen"),
    [
        ("udp", "192.0.2.1;received=203.0.113.9;rport=40001", "203.0.113.9:40001"),
        ("udp", "192.0.2.1;rport=40001", "192.0.2.1:40001"),
        ("udp", "192.0.2.1;received=192.0.2.1;rport=5060", None),
        ("udp", "192.0.2.1", None),
        ("udp", "192.0.2.1;received=nonsense;rport=99999999", None),
        ("udp", "192.0.2.1;received=2001:db8::9;rport=5", "[2001:db8::9]:5"),
        ("tcp", "192.0.2.1;received=192.0.2.1;rport=40001", None),
        ("tcp", "192.0.2.1;received=203.0.113.9;rport=40001", "203.0.113.9:40001"),
    ],
)
async def test_how_the_peer_sees_us(house: House, transport: str, via: str, seen: str | None) -> None:
    flow: Any = FakeFlow(FIRST[:2], transport)
    house.targets.seen_as(flow, parse_via(f"SIP/2.0/{transport.upper()} {via};branch=z9hG4bK1"))
    assert house.targets.address_on(flow) == (seen or flow.sent_by)


async def test_udp_is_pinged(house: House, autojump_clock: trio.testing.MockClock) -> None:
    PINGS.clear()
    start = trio.current_time()

    async def closed(flow: Any) -> None:
        raise AssertionError("there is no connection")

    with trio.move_on_after(100):
        await house.targets.keep_alive(PBX, 30, closed)
    assert [(pytest.approx(start + 30 * number), b"\r\n\r\n") for number in (1, 2, 3)] == PINGS
