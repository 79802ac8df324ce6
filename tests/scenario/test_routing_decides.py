"""A softphone's request goes where the explanation says, for every configuration: the same code routes and explains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.admission import Admission
from siperb_core.defaults import ConfiguredDevices
from siperb_core.entries.contract import Claim, Source
from siperb_core.entries.decisions import CallAttempt
from siperb_core.entries.live import LoadedConnection
from siperb_core.entries.loaded import LoadedConnections
from siperb_core.entries.model import Device, Entry, GatewayConfig, GatewaySettings, Secret
from siperb_core.plugins import load_plugins
from siperb_core.routing import Explanation, explain_inbound
from siperb_core.sip import Message, parse_uri
from siperb_core.sip.digest import DigestServer
from siperb_core.sip.registrar import Binding
from siperb_core.sip.transaction import ServerTransaction

from .world import EndPoint, FakeConnection, FakeFlow, World

ALICE = Device("alice", "alice", Secret("x"))
PLUGINS = load_plugins(only=("siperb_route",))


class KnownSoftphones:
    """Everyone is alice."""

    def authenticated(self, transaction: ServerTransaction, request: Message) -> Device:
        return ALICE

    def instance_named(self, uri: str) -> None:
        return None


def names_boss(message: Message) -> bool:
    return b"boss" in bytes(message)


@pytest.mark.parametrize("trusted", [True, False])
async def test_who_was_called_before_is_told_to_and_believed_from_the_trusted(trusted: bool) -> None:
    """Diversion and History-Info, in requests and in responses, of a PBX: its calls, and its part in ours."""
    said = [ASSERTED, *DIVERTED]
    world = World()
    world.entry = Entry("office", "fake", trusted=trusted)
    phone = EndPoint(world, FakeFlow("ws", ("203.0.113.5", 40000)), "alice")
    world.bind("alice", phone.flow)
    pbx = EndPoint(world, FakeFlow("udp", ("198.51.100.1", 5060)), "4711")
    pbx.invite("alice", *said)
    message = phone.flow.next_of("INVITE")
    assert [message.get(name) for name, _ in said] == [value if trusted else None for _, value in said]
    phone.respond(message, 200, *said)
    accepted = pbx.flow.next_of(200)
    assert not names_boss(accepted), "a softphone is never believed"
    pbx.learn(accepted)
    pbx.request("ACK", cseq=pbx.cseq)
    pbx.request("INFO", *said)
    info = phone.flow.next_of("INFO")
    assert names_boss(info) is trusted
    phone.respond(info, 200, *said)
    assert not names_boss(pbx.flow.next_of(200))
    phone.request("INFO", *said)
    info = pbx.flow.next_of("INFO")
    assert not names_boss(info)
    pbx.respond(info, 200, *said)
    assert names_boss(phone.flow.next_of(200)) is trusted


@pytest.mark.parametrize("status", [180, 200, 486])
@pytest.mark.parametrize("trusted", [True, False])
async def test_what_a_softphone_says_goes_nowhere_and_what_the_called_pbx_says_if_trusted(
    trusted: bool, status: int
) -> None:
    exchange = Exchange([Entry("a", "fake", trusted=trusted)])
    phone = EndPoint(exchange, FakeFlow("ws", ("203.0.113.5", 40000)), "alice")
    phone.invite("600", ASSERTED, *DIVERTED)
    invite = exchange.flows["a"].next_of("INVITE")
    assert not names_boss(invite)
    assert (invite.get("P-Asserted-Identity") is not None) is trusted, "the connection's own, then"
    pbx = EndPoint(exchange, exchange.flows["a"], "pbx")
    pbx.respond(invite, status, ASSERTED, *DIVERTED)
    assert names_boss(phone.flow.next_of(status)) is trusted


async def test_a_private_caller_s_way_is_not_told_a_softphone() -> None:
    world = World()
    world.entry = Entry("office", "fake", trusted=True)
    flow = FakeFlow("ws", ("203.0.113.5", 40000))
    world.bind("alice", flow)
    EndPoint(world, FakeFlow("udp", ("198.51.100.1", 5060)), "4711").invite("alice", ("Privacy", "id"), *DIVERTED)
    assert not names_boss(flow.next_of("INVITE"))


TYPE: Any = SimpleNamespace(allow_from_required=False)


class Exchange(World):
    """A gateway with these entries; each PBX is a flow of its own."""

    draining = False
    answers_strangers = True
    guard: Any = None

    def __init__(
        self, entries: list[Entry], down: frozenset[str] = frozenset(), emergency: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.entries = entries
        self.down = down
        self.emergency = emergency
        self.flows = {entry.name: FakeFlow("udp", (f"198.51.100.{i}", 5060)) for i, entry in enumerate(entries)}
        self.admission = Admission(self, KnownSoftphones(), self.calls, DigestServer("gw", b"x"))  # type: ignore[arg-type]

    def on_request(self, transaction: ServerTransaction, request: Message) -> None:
        self.admission.on_request(transaction, request)

    def loaded(self) -> LoadedConnections:
        return LoadedConnections(
            LoadedConnection(entry, TYPE, FakeConnection(self.flows[entry.name]))
            for entry in self.entries
            if entry.name not in self.down
        )

    def state_of(self, connection: str) -> str:
        return "retry"

    def route(self, number: str, user: str, method: str) -> Explanation:
        routes = [
            attrs.evolve(entry.route, down="down now" if entry.name in self.down else "") for entry in self.entries
        ]
        return PLUGINS.route(routes, number, user, method, emergency=self.emergency)


@contextmanager
def refused_everywhere(exchange: Exchange, number: str, status: int = 503) -> Iterator[list[tuple[str, str]]]:
    """Dial, let every PBX that is asked refuse; which were asked in which order, and for what number."""
    phone_flow = FakeFlow("ws", ("203.0.113.5", 40000))
    phone = EndPoint(exchange, phone_flow, "alice")
    phone.invite(number)
    asked: list[tuple[str, str]] = []
    while True:
        for name, flow in exchange.flows.items():
            if flow.sent and (message := flow.next()).method == "INVITE":
                asked.append((name, parse_uri(message.uri).user or ""))
                EndPoint(exchange, flow, f"pbx{len(asked)}").respond(message, status)
                break
        else:
            break
        for flow in exchange.flows.values():  # the ACKs
            flow.sent = type(flow.sent)(message for message in flow.sent if message.method == "INVITE")
    yield asked


NAMES = st.text("abcdef", min_size=1, max_size=3)
ENTRIES = st.lists(
    st.builds(
        Entry,
        name=NAMES,
        type=st.just("fake"),
        enabled=st.booleans(),
        users=st.lists(st.sampled_from(["*", "alice", "bob"]), max_size=2).map(tuple),
        dial_pattern=st.sampled_from([".", "^1", r"^2\d{2}$", r"\d+$", "("]),
        weight=st.integers(-2, 2),
        methods=st.sampled_from([("*",), ("INVITE",), ("MESSAGE",)]),
        failover=st.booleans(),
        strip=st.integers(0, 3),
        prefix=st.sampled_from(["", "0", "+49"]),
        replace=st.sampled_from([(), ("^0", "+49"), (r"(\d)$", r"\1\1")]),
        problem=st.sampled_from(["", "", "", "weight: is text: mend it"]),
    ),
    max_size=6,
    unique_by=lambda entry: entry.name,
)


@given(ENTRIES, st.sampled_from(["112", "200", "1", "110", "205"]), st.sets(NAMES))
async def test_the_call_goes_where_the_explanation_says(entries: list[Entry], number: str, down: set[str]) -> None:
    exchange = Exchange(entries, frozenset(down), emergency=("110", "112"))
    explanation = exchange.route(number, "alice", "INVITE")
    dials = {item.connection: item.dials for item in explanation.candidates}
    expected = [(name, dials[name]) for name in explanation.order if name not in down]
    with refused_everywhere(exchange, number) as asked:
        assert asked == expected
    assert [item.connection for item in explanation.candidates if item.taken] == list(explanation.order[:1])


class Reception(Exchange):
    """A gateway with one connection that claims everything, and these devices, each on a flow of its own."""

    def __init__(self, entry: Entry, devices: tuple[Device, ...]) -> None:
        super().__init__([entry])
        self.config = GatewayConfig(GatewaySettings("gw", Path("var")), devices=devices, connections=(entry,))
        self.phones = {device.name: FakeFlow("ws", ("203.0.113.5", 40000 + i)) for i, device in enumerate(devices)}
        self.admission = Admission(self, Bound(self), self.calls, DigestServer("gw", b"x"))  # type: ignore[arg-type]

    def loaded(self) -> LoadedConnections:
        class Claims(FakeConnection):
            def claims(self, request: Message, source: Source) -> Claim:
                return Claim(parse_uri(request.uri).user_unescaped)

        (entry,) = self.entries
        return LoadedConnections([LoadedConnection(entry, TYPE, Claims(self.flows[entry.name]))])

    def devices(self, call: CallAttempt) -> Sequence[Device]:
        return ConfiguredDevices(self.config.devices).siperb_ring(call)


class Bound(KnownSoftphones):
    """Every device is registered."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    def bindings(self, device: str) -> list[Binding]:
        world = World()
        world.bind(device, self._reception.phones[device])
        return world.bindings

    def bindings_of(self, devices: Iterable[str]) -> list[Binding]:
        return [binding for device in devices for binding in self.bindings(device)]


USERS = st.sampled_from(["alice", "bob", "carol"])
DID = st.lists(
    st.tuples(
        st.sampled_from([".", "^1", r"^2\d{2}$", r"\d+$", "5", "^205$"]),
        st.lists(USERS, min_size=1, max_size=2).map(tuple),
    ),
    max_size=4,
    unique_by=lambda row: row[0],
).map(tuple)
DEVICES = st.lists(
    st.builds(Device, name=NAMES, user=USERS, password=st.just(Secret("x"))),
    max_size=5,
    unique_by=lambda item: item.name,
).map(tuple)


@given(
    DID, DEVICES, st.lists(st.one_of(USERS, st.just("*")), max_size=2).map(tuple), st.sampled_from(["112", "205", "1"])
)
async def test_those_ring_whom_the_explanation_names(
    did: Any, devices: tuple[Device, ...], users: tuple[str, ...], number: str
) -> None:
    entry = Entry("office", "fake", users=users, did=did)
    reception = Reception(entry, devices)
    EndPoint(reception, reception.flows["office"], "4711").invite(number)
    rang = {name for name, flow in reception.phones.items() if any(item.method == "INVITE" for item in flow.sent)}
    explanation = explain_inbound(did, number, users)
    assert rang == {item.name for item in devices if item.user in explanation.users or "*" in explanation.users}
    assert [row.pattern for row in explanation.rows] == [pattern for pattern, _ in did]
    taken = [row.users for row in explanation.rows if row.taken]
    assert taken == ([explanation.users] if taken else [])
    assert taken or explanation.users == users


async def test_an_emergency_call_does_not_stop_at_a_dead_end() -> None:
    entries = [
        Entry("a", "fake", weight=1),
        Entry("b", "fake", weight=2, dial_pattern="^9"),
        Entry("c", "fake", weight=3),
    ]
    exchange = Exchange(entries, emergency=("112",))
    with refused_everywhere(exchange, "112", status=404) as asked:
        assert [name for name, _ in asked] == ["a", "c", "b"]
    assert exchange.failed_emergencies == [("112", "alice")]


@pytest.mark.parametrize("entries", [[], [Entry("a", "fake")]])
async def test_an_emergency_call_without_any_way_says_so(entries: list[Entry]) -> None:
    exchange = Exchange(entries, down=frozenset("a"), emergency=("112",))
    phone_flow = FakeFlow("ws", ("203.0.113.5", 40000))
    EndPoint(exchange, phone_flow, "alice").invite("112")
    response = phone_flow.next_of(503)
    assert response.reason == "No Connection Is Up For Emergency Calls"
    assert exchange.failed_emergencies == [("112", "alice")]


ASSERTED = ("P-Asserted-Identity", "<sip:boss@gw.example>")
DIVERTED = [
    ("Diversion", "<sip:boss@gw.example>;reason=no-answer"),
    ("History-Info", "<sip:boss@gw.example>;index=1, <sip:alice@gw.example>;index=1.1"),
]


def invited(entry: Entry, *headers: tuple[str, str]) -> Message:
    """The INVITE a PBX gets when alice dials with these headers."""
    exchange = Exchange([entry])
    EndPoint(exchange, FakeFlow("ws", ("203.0.113.5", 40000)), "alice").invite("600", *headers)
    return exchange.flows[entry.name].next()


async def test_a_softphone_asserts_nothing() -> None:
    message = invited(Entry("a", "fake"), ASSERTED, ("Remote-Party-ID", "<sip:x@y>"))
    assert message.get("P-Asserted-Identity") is None
    assert message.get("Remote-Party-ID") is None
    assert message.from_.uri == "sip:200@pbx.example"


async def test_a_trusted_pbx_is_told_who_calls() -> None:
    message = invited(Entry("a", "fake", trusted=True), ASSERTED)
    assert message.values("P-Asserted-Identity") == ["<sip:200@pbx.example>"]


@pytest.mark.parametrize("wish", ["id", "user;critical", "header; id"])
async def test_who_wants_privacy_is_named_to_nobody_else(wish: str) -> None:
    message = invited(Entry("a", "fake"), ("Privacy", wish))
    assert message.from_.uri == "sip:anonymous@anonymous.invalid"
    assert message.from_.display == "Anonymous"
    assert message.from_tag == "tag-alice"
    assert "200" not in str(message.get("From"))
    trusting = invited(Entry("a", "fake", trusted=True), ("Privacy", wish))
    assert trusting.values("P-Asserted-Identity") == ["<sip:200@pbx.example>"]
    assert trusting.get("Privacy") == wish


TELLING = [("Subject", "from alice"), ("Organization", "Alice Ltd"), ("Reply-To", "<sip:alice@gw.example>")]


async def test_nothing_else_tells_who_it_is() -> None:
    message = invited(Entry("a", "fake"), ("Privacy", "user"), *TELLING)
    assert not any(message.get(name) for name, _ in TELLING)
    assert b"alice ltd" not in bytes(message).lower()
    for kept in (invited(Entry("a", "fake"), *TELLING), invited(Entry("a", "fake", trusted=True), *TELLING)):
        assert [kept.get(name) for name, _ in TELLING] == [value for _, value in TELLING]


async def test_the_connection_s_own_name_for_callers() -> None:
    named = Entry("a", "fake", display_name='The "Front" Desk')
    assert invited(named).from_.display == 'The "Front" Desk'
    assert invited(named).get("P-Asserted-Identity") is None
    assert invited(named, ("Privacy", "id")).from_.display == "Anonymous"
    trusted = invited(attrs.evolve(named, trusted=True))
    assert trusted.values("P-Asserted-Identity") == [r'"The \"Front\" Desk" <sip:200@pbx.example>']
    assert trusted.from_.display == 'The "Front" Desk'


async def test_privacy_none_is_no_wish() -> None:
    assert invited(Entry("a", "fake"), ("Privacy", "none")).from_.uri == "sip:200@pbx.example"


@pytest.mark.parametrize(
    ("trusted", "wish", "shown", "asserted"),
    [(False, "", True, False), (True, "", True, True), (True, "id", False, False), (False, "id", False, False)],
)
async def test_what_a_pbx_says_of_the_caller(trusted: bool, wish: str, shown: bool, asserted: bool) -> None:
    world = World()
    world.entry = Entry("office", "fake", trusted=trusted)
    phone_flow = FakeFlow("ws", ("203.0.113.5", 40000))
    world.bind("alice", phone_flow)
    pbx = EndPoint(world, FakeFlow("udp", ("198.51.100.1", 5060)), "4711")
    more: list[Any] = [("Privacy", wish)] if wish else []
    pbx.invite("alice", ASSERTED, *more)
    message = phone_flow.next_of("INVITE")
    assert ("4711" in message.from_.uri) is shown
    assert (message.get("P-Asserted-Identity") is not None) is asserted
