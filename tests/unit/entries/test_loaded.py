"""Whose a request may be: what is found without asking is what asking everyone finds."""

from __future__ import annotations

from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from siperb_core.entries.contract import Claim, Source
from siperb_core.entries.live import LoadedConnection
from siperb_core.entries.loaded import LoadedConnections
from siperb_core.entries.model import Entry
from siperb_core.entries.networks import allowed
from siperb_core.sip import Message, ParseError, parse_uri

HOSTS = ["192.0.2.1", "192.0.2.2", "192.0.2.200", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8:0:0::1", "fe80::1%eth0"]
NETWORKS = ["192.0.2.1/32", "192.0.2.0/25", "192.0.0.0/8", "2001:db8::/32", "2001:db8::1/128", "0.0.0.0/1"]
NAMES = ["200", "branch", "x y", ""]


class Claims:
    """A live connection that claims by a name, or by where it knows its PBX to be."""

    credentials = None

    def __init__(self, entry: Entry, names: frozenset[str], addresses: frozenset[str]) -> None:
        self._entry = entry
        self.names = names
        self.addresses = addresses
        self.asked = 0

    def claims(self, request: Message, source: Source) -> Claim | None:
        self.asked += 1
        uris = [request.uri, request.to.uri, request.from_.uri]
        named = any(parse_uri(uri).user_unescaped in self.names for uri in uris)
        shown = any(f'username="{name}"' in (request.get("Authorization") or "") for name in self.names if name)
        known = LoadedConnections([loaded(self._entry, self)]).at(source.host)
        return Claim("1") if named or shown or known else None


class Silent:
    """One that says nothing of itself, and claims everything."""

    credentials = None

    def claims(self, request: Message, source: Source) -> Claim | None:
        return Claim("1")


def loaded(entry: Entry, live: Any, *, last: bool = False, fault: Any = lambda what: None) -> LoadedConnection:
    type_: Any = SimpleNamespace(allow_from_required=last, authenticates=last)
    return LoadedConnection(entry, type_, live, fault)


def request(uri: str = "sip:1@gw.example", to: str = "1", from_: str = "2", shown: str = "") -> Message:
    headers = [("To", f"<sip:{to}@gw.example>"), ("From", f"<sip:{from_}@gw.example>;tag=1"), ("CSeq", "1 INVITE")]
    if shown:
        headers.append(("Authorization", f'Digest username="{shown}"'))
    return Message.request("INVITE", uri, headers)


def source(host: str) -> Source:
    return Source(host, 5060, "udp", None)  # type: ignore[arg-type]


@st.composite
def connections(draw: st.DrawFn) -> LoadedConnections:
    made = []
    for place in range(draw(st.integers(0, 6))):
        networks = tuple(ip_network(item) for item in draw(st.lists(st.sampled_from(NETWORKS), max_size=3)))
        entry = Entry(f"c{place}", "fake", allow_from=networks)
        names = draw(st.frozensets(st.sampled_from(NAMES)))
        addresses = draw(st.frozensets(st.sampled_from([*HOSTS, "pbx.example.com"]), max_size=2))
        live = draw(st.sampled_from([Silent(), Claims(entry, names, addresses)]))
        made.append(loaded(entry, live, last=draw(st.booleans())))
    return LoadedConnections(made)


USERS = st.sampled_from(["200", "branch", "x%20y", "2", "1"])


@given(connections(), USERS, USERS, USERS, st.sampled_from(["", *NAMES]), st.sampled_from(HOSTS))
def test_nobody_who_would_claim_it_goes_unasked(
    those: LoadedConnections, called: str, to: str, from_: str, shown: str, host: str
) -> None:
    it = request(f"sip:{called}@gw.example", to, from_, shown)
    asked = list(those.asked(it, source(host)))
    would = [item for item in those if item.claims(it, source(host)) is not None]
    assert [item for item in asked if item.claims(it, source(host)) is not None] == would, "and in the same order"


@given(connections(), st.sampled_from(HOSTS))
def test_whose_an_address_is(those: LoadedConnections, host: str) -> None:
    assert those.at(host) == [item for item in those if item.is_at(host)]
    assert those.listing(host) is any(allowed(item.entry.allow_from, host) for item in those)


def test_who_knows_its_pbx_by_the_address_alone_is_asked_last() -> None:
    trunk, office = loaded(Entry("a", "fake"), Silent(), last=True), loaded(Entry("b", "fake"), Silent())
    those = LoadedConnections([trunk, office])
    assert list(those) == list(those.asked(request(), source(HOSTS[0]))) == [office, trunk]
    assert those.named("a") is trunk
    assert those.named("c") is None
    assert those.algorithms == {trunk.entry.algorithms}


def test_a_stranger_s_request_is_no_question_to_a_thousand_connections() -> None:
    entries, lives = [], []
    for place in range(1000):
        end = f"{place // 250}.{place % 250}"
        entries.append(Entry(f"c{place}", "fake", allow_from=(ip_network(f"10.0.{end}"),)))
        lives.append(Claims(entries[-1], frozenset((f"c{place}",)), frozenset((f"10.1.{end}",))))
    those = LoadedConnections(map(loaded, entries, lives))
    assert not list(those.asked(request(), source("203.0.113.9")))
    assert not those.at("203.0.113.9")
    assert [item.entry.name for item in those.asked(request("sip:c7@gw.example"), source("10.1.0.9"))] == ["c7", "c9"]
    assert [item.entry.name for item in those.asked(request(), source("10.0.3.249"))] == ["c999"]


def test_what_cannot_be_read_names_nobody() -> None:
    torn = Message.request("INVITE", "tel:+1;=", [("To", "<"), ("From", "no uri <"), ("CSeq", "1 INVITE")])
    silent = loaded(Entry("a", "fake"), Silent())
    named = loaded(Entry("b", "fake"), Claims(Entry("b", "fake"), frozenset(("x",)), frozenset()))
    assert list(LoadedConnections([named, silent]).asked(torn, source(HOSTS[0]))) == [silent]


def test_nonsense_is_a_fault_and_says_nothing() -> None:
    told: list[str] = []

    class Raises:
        @property
        def addresses(self) -> frozenset[str]:
            raise RuntimeError

        @property
        def names(self) -> frozenset[str]:
            raise ParseError(400, "as a request's")

    for live in (Raises(), SimpleNamespace(names=["200"], addresses={1, 2}), SimpleNamespace(names="200", addresses=5)):
        it = loaded(Entry("x", "fake"), live, fault=told.append)
        assert it.names is None, "so it is asked about everything"
        assert it.addresses == frozenset()
        assert list(LoadedConnections([it]).asked(request(), source(HOSTS[0]))) == [it]
    assert told


def test_what_a_connection_says_anew_is_seen() -> None:
    live = Claims(Entry("x", "fake"), frozenset(("200",)), frozenset())
    it = loaded(Entry("x", "fake"), live)
    those = LoadedConnections([it])
    assert those.knows(it), "nobody has looked yet"
    assert not those.at("192.0.2.1")
    assert those.knows(it)
    live.addresses = frozenset(("192.0.2.1",))
    assert not those.knows(it)
    assert LoadedConnections([it]).at("192.0.2.1") == [it]
