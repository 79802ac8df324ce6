"""RFC 3263: where names lead, in which order, and what happens when DNS does not answer."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable
from typing import Any

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rdata
import dns.resolver
import dns.rrset
import pytest
import trio

from siperb_core.transport.resolver import ResolveError, Resolver


class FakeDns:
    """Records by (name, type), as text; a TTL of 100 s. `broken`: no question is answered in time."""

    def __init__(self, **records: Any) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.addresses: dict[str, list[str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.broken = False

    async def resolve(self, qname: str, rdtype: str, *, lifetime: float, search: bool) -> Any:
        self.asked.append((rdtype, qname))
        await trio.lowlevel.checkpoint()
        if self.broken:
            await trio.sleep(lifetime)
            raise dns.resolver.LifetimeTimeout(timeout=lifetime, errors=[])
        records = self.records.get((rdtype, qname.rstrip(".")))
        if records is None:
            raise dns.resolver.NXDOMAIN
        return Answer(dns.rrset.from_text_list(qname.rstrip(".") + ".", 100, "IN", rdtype, records))

    async def lookup(self, name: str) -> list[str]:
        self.asked.append(("A", name))
        if self.broken:
            await trio.sleep_forever()
        if name not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self.addresses[name]


class Answer:
    def __init__(self, rrset: dns.rrset.RRset) -> None:
        self.rrset = rrset

    def __iter__(self) -> Iterable[Any]:
        return iter(self.rrset)


@pytest.fixture
def dns_() -> FakeDns:
    fake = FakeDns()
    fake.addresses = {
        "pbx.example": ["192.0.2.1"],
        "a.example": ["192.0.2.2"],
        "b.example": ["2001:db8::3", "192.0.2.3"],
    }
    return fake


def resolver_of(fake: FakeDns, chance: float = 0.0) -> Resolver:
    return Resolver(lambda: chance, fake, fake.lookup)


@pytest.mark.parametrize(
    ("host", "port", "transport", "expected"),
    [
        ("192.0.2.9", None, "udp", ("192.0.2.9", 5060, "udp")),
        ("192.0.2.9", 7000, "tcp", ("192.0.2.9", 7000, "tcp")),
        ("192.0.2.9", None, "tls", ("192.0.2.9", 5061, "tls")),
        ("[2001:db8::1]", None, "udp", ("2001:db8::1", 5060, "udp")),
        ("2001:DB8:0::1", None, "udp", ("2001:db8::1", 5060, "udp")),
    ],
)
async def test_addresses_ask_nobody(dns_: FakeDns, host: str, port: int | None, transport: str, expected: Any) -> None:
    assert await resolver_of(dns_).resolve(host, port, transport) == [expected]
    assert dns_.asked == []


async def test_with_a_port_only_addresses_are_asked_for_ipv4_first(dns_: FakeDns) -> None:
    found = await resolver_of(dns_).resolve("b.example", 7000, "udp")
    assert found == [("192.0.2.3", 7000, "udp"), ("2001:db8::3", 7000, "udp")]
    assert dns_.asked == [("A", "b.example")]


async def test_srv_by_priority_then_address_of_each(dns_: FakeDns) -> None:
    dns_.records["SRV", "_sip._udp.pbx.example"] = ["20 0 5070 b.example.", "10 0 5080 a.example."]
    assert await resolver_of(dns_).resolve("pbx.example", None, "udp") == [
        ("192.0.2.2", 5080, "udp"),
        ("192.0.2.3", 5070, "udp"),
        ("2001:db8::3", 5070, "udp"),
    ]


async def test_weights(dns_: FakeDns) -> None:
    dns_.records["SRV", "_sip._udp.pbx.example"] = ["10 1 5060 a.example.", "10 3 5060 pbx.example."]
    first = Counter()
    for step in range(100):
        found = await resolver_of(dns_, step / 100).resolve("pbx.example", None, "udp")
        assert len(found) == 2
        first[found[0][0]] += 1
    assert first == {"192.0.2.2": 25, "192.0.2.1": 75}


async def test_naptr_leads_to_the_srv_name_of_our_transport(dns_: FakeDns) -> None:
    dns_.records["NAPTR", "pbx.example"] = [
        '10 10 "s" "SIPS+D2T" "" _sips._tcp.elsewhere.example.',
        '20 10 "s" "SIP+D2U" "" _sip._udp.elsewhere.example.',
        '5 10 "u" "E2U+sip" "!^.*$!sip:x@y!" .',
    ]
    dns_.records["SRV", "_sip._udp.elsewhere.example"] = ["1 1 5099 a.example."]
    dns_.records["SRV", "_sips._tcp.elsewhere.example"] = ["1 1 5098 a.example."]
    assert await resolver_of(dns_).resolve("pbx.example", None, "udp") == [("192.0.2.2", 5099, "udp")]
    assert await resolver_of(dns_).resolve("pbx.example", None, "tls") == [("192.0.2.2", 5098, "tls")]


NAPTR = {
    "udp": '{} {} "s" "SIP+D2U" "" _sip._udp.pbx.example.',
    "tcp": '{} {} "s" "SIP+D2T" "" _sip._tcp.pbx.example.',
    "tls": '{} {} "s" "SIPS+D2T" "" _sips._tcp.pbx.example.',
    "sctp": '{} {} "s" "SIP+D2S" "" _sip._sctp.pbx.example.',
}


@pytest.mark.parametrize(
    ("published", "chosen"),
    [
        ({"udp": (20, 10), "tcp": (10, 10)}, "tcp"),  # by order
        ({"udp": (10, 20), "tls": (10, 10), "tcp": (10, 30)}, "tls"),  # of one order by preference
        ({"sctp": (1, 1), "udp": (2, 1)}, "udp"),  # of those we have
        ({"tls": (10, 10)}, "tls"),  # a domain that wants TLS
    ],
)
async def test_naptr_chooses_the_transport_where_none_is_given(
    dns_: FakeDns, published: dict[str, tuple[int, int]], chosen: str
) -> None:
    dns_.records["NAPTR", "pbx.example"] = [NAPTR[by].format(*order) for by, order in published.items()]
    ports = {"udp": 5081, "tcp": 5082, "tls": 5083}
    for name, by in (("_sip._udp", "udp"), ("_sip._tcp", "tcp"), ("_sips._tcp", "tls")):
        dns_.records["SRV", f"{name}.pbx.example"] = [f"1 1 {ports[by]} a.example."]
    assert await resolver_of(dns_).resolve("pbx.example", None, "auto") == [("192.0.2.2", ports[chosen], chosen)]


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ({"_sip._udp": 5081, "_sip._tcp": 5082, "_sips._tcp": 5083}, ("192.0.2.2", 5081, "udp")),
        ({"_sip._tcp": 5082, "_sips._tcp": 5083}, ("192.0.2.2", 5082, "tcp")),
        ({"_sips._tcp": 5083}, ("192.0.2.2", 5083, "tls")),
        ({}, ("192.0.2.1", 5060, "udp")),
    ],
)
async def test_without_naptr_srv_chooses_the_transport(dns_: FakeDns, published: dict[str, int], expected: Any) -> None:
    for name, port in published.items():
        dns_.records["SRV", f"{name}.pbx.example"] = [f"1 1 {port} a.example."]
    assert await resolver_of(dns_).resolve("pbx.example", None, "auto") == [expected]


async def test_a_transport_that_is_refused_leaves_the_next_one(dns_: FakeDns) -> None:
    dns_.records["SRV", "_sip._udp.pbx.example"] = ["0 0 0 ."]
    dns_.records["SRV", "_sips._tcp.pbx.example"] = ["1 1 5061 a.example."]
    assert await resolver_of(dns_).resolve("pbx.example", None, "auto") == [("192.0.2.2", 5061, "tls")]
    del dns_.records["SRV", "_sips._tcp.pbx.example"]
    with pytest.raises(ResolveError, match="no such service"):
        await resolver_of(dns_).resolve("pbx.example", None, "auto")


@pytest.mark.parametrize(("host", "port"), [("192.0.2.9", None), ("pbx.example", 7000), ("localhost", None)])
async def test_nothing_is_asked_where_the_transport_can_only_be_udp(dns_: FakeDns, host: str, port: int | None) -> None:
    dns_.addresses["localhost"] = ["127.0.0.1"]
    found = await resolver_of(dns_).resolve(host, port, "auto")
    assert [(item[1], item[2]) for item in found] == [(port or 5060, "udp")]
    assert not {kind for kind, _ in dns_.asked} & {"NAPTR", "SRV"}


async def test_no_srv_means_the_name_itself(dns_: FakeDns) -> None:
    assert await resolver_of(dns_).resolve("pbx.example", None, "tls") == [("192.0.2.1", 5061, "tls")]
    assert dns_.asked == [("NAPTR", "pbx.example"), ("SRV", "_sips._tcp.pbx.example"), ("A", "pbx.example")]


async def test_a_dead_server_of_several_is_left_out(dns_: FakeDns) -> None:
    dns_.records["SRV", "_sip._udp.pbx.example"] = ["1 1 5060 gone.example.", "2 1 5060 a.example."]
    assert await resolver_of(dns_).resolve("pbx.example", None, "udp") == [("192.0.2.2", 5060, "udp")]


async def test_srv_that_says_no(dns_: FakeDns) -> None:
    dns_.records["SRV", "_sip._udp.pbx.example"] = ["0 0 0 ."]
    with pytest.raises(ResolveError, match="no such service"):
        await resolver_of(dns_).resolve("pbx.example", None, "udp")


async def test_an_unknown_name(dns_: FakeDns) -> None:
    with pytest.raises(ResolveError, match=r"nowhere\.example: Name or service not known"):
        await resolver_of(dns_).resolve("nowhere.example", None, "udp")
    with pytest.raises(ResolveError):
        await resolver_of(dns_).resolve("x" * 300 + ".example", None, "udp")
    with pytest.raises(ResolveError):
        await Resolver().resolve("a..b", 5060, "udp")


async def test_what_is_no_address_is_left_out_and_ipv4_in_ipv6_dress_is_ipv4(dns_: FakeDns) -> None:
    dns_.addresses["odd.example"] = ["garbage", "::ffff:192.0.2.7", "fe80::1%a b", "FE80::1%eth0", ""]
    found = await resolver_of(dns_).resolve("odd.example", 5060, "udp")
    assert [address for address, _, _ in found] == ["192.0.2.7", "fe80::1%eth0"]
    dns_.addresses["odd2.example"] = ["garbage"]
    with pytest.raises(ResolveError, match="no address"):
        await resolver_of(dns_).resolve("odd2.example", 5060, "udp")


async def test_an_ipv6_only_name(dns_: FakeDns) -> None:
    dns_.addresses["six.example"] = ["2001:DB8::6"]
    assert await resolver_of(dns_).resolve("six.example", None, "udp") == [("2001:db8::6", 5060, "udp")]


async def test_localhost_needs_no_dns(dns_: FakeDns) -> None:
    dns_.broken = True
    assert ("127.0.0.1", 5060, "udp") in await Resolver(lookup=dns_).resolve("localhost", None, "udp")
    assert dns_.asked == []


async def test_a_name_in_the_hosts_file_is_found_while_dns_is_out_of_reach(
    dns_: FakeDns, autojump_clock: trio.testing.MockClock
) -> None:
    dns_.broken = True

    async def hosts(name: str) -> list[str]:
        return ["192.0.2.7"]

    assert await Resolver(lookup=dns_, addresses=hosts).resolve("pbx.lan", None, "udp") == [("192.0.2.7", 5060, "udp")]
    assert trio.current_time() <= 4.0


async def test_answers_are_kept_asked_again_and_used_on_when_dns_fails(
    dns_: FakeDns, autojump_clock: trio.testing.MockClock
) -> None:
    resolver = resolver_of(dns_)
    answer = await resolver.resolve("pbx.example", 5060, "udp")
    assert answer == await resolver.resolve("PBX.example.", 5060, "udp")
    assert len(dns_.asked) == 1
    await trio.sleep(61)
    dns_.addresses["pbx.example"] = ["192.0.2.77"]
    answer = await resolver.resolve("pbx.example", 5060, "udp")
    assert answer == [("192.0.2.77", 5060, "udp")]
    dns_.broken = True
    await trio.sleep(61)
    start = trio.current_time()
    assert await resolver.resolve("pbx.example", 5060, "udp") == answer
    assert trio.current_time() - start == 4.0
    start = trio.current_time()
    assert await resolver.resolve("pbx.example", 5060, "udp") == answer
    assert trio.current_time() == start
    with pytest.raises(ResolveError, match="within 4 s"):
        await resolver.resolve("other.example", 5060, "udp")


async def test_over_a_real_socket() -> None:
    """dnspython on trio against a name server of ours."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))
        lookup = dns.asyncresolver.Resolver(configure=False)
        lookup.nameservers = ["127.0.0.1"]
        lookup.port = server.getsockname()[1]

        async def serve() -> None:
            while True:
                data, source = await server.recvfrom(2000)
                question = dns.message.from_wire(data)
                answer = dns.message.make_response(question)
                if str(question.question[0].name).startswith("_sip._udp"):
                    name = str(question.question[0].name)
                    answer.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", "1 1 5062 localhost."))
                await server.sendto(answer.to_wire(), source)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            found = await Resolver(lookup=lookup).resolve("pbx.test", None, "udp")
            assert ("127.0.0.1", 5062, "udp") in found
            nursery.cancel_scope.cancel()
