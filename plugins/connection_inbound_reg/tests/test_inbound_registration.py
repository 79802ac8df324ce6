"""The PBX registers with us: found by its contact, known by its path or its password, remembered over a restart."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from siperb_connection_inbound_reg import InboundRegistration, InboundSettings
from siperb_core import (
    Credentials,
    Entry,
    GatewayConfig,
    GatewaySettings,
    GeneratesSettings,
    Listen,
    OutboundCall,
    OutboundLeg,
    Refusal,
    Registration,
    Secret,
    Source,
)
from siperb_core.sip import Message, response_to

CONFIG = InboundSettings(username="pbx-a1", password=Secret("long-enough"))
CONTACT = "sip:s@10.0.0.5:5060;transport=udp;line=abc;x-ast=1"


@attrs.frozen
class FakeFlow:
    """A path to the PBX."""

    remote: tuple[str, int]
    transport: str = "udp"
    local: tuple[str, int] = ("198.51.100.1", 5060)
    sent_by: str = "198.51.100.1:5060"
    reliable: bool = False

    def send(self, data: bytes) -> None:
        raise AssertionError("connection types do not send")


class FakeContext:
    def __init__(self, memory: dict[str, Any] | None = None) -> None:
        self.entry = Entry("pbx", "inbound_registration")
        self.domain = "sip.example.net"
        self.log = structlog.get_logger()
        self.memory: dict[str, Any] = {} if memory is None else memory
        self.reports: list[Registration] = []
        self.sent: list[Any] = []
        self.latencies: list[float | None] = []

    async def request(self, message: Any, target: Any) -> Any:
        self.sent.append((message, target))
        return response_to(message, 200)

    async def contact_uri(self, target: Any) -> str:
        return "sip:token@198.51.100.1:5060"

    def qualified(self, latency_ms: float | None) -> None:
        self.latencies.append(latency_ms)

    def report(self, registration: Registration) -> None:
        self.reports.append(registration)

    def raise_issue(self, issue_id: str, text: str, mend: str) -> None: ...

    def clear_issue(self, issue_id: str) -> None: ...

    def now(self) -> float:
        return trio.current_time()

    def random_token(self, octets: int = 12) -> str:
        return "t" * octets


def source(host: str = "203.0.113.5", port: int = 5060) -> Source:
    return Source(host, port, "udp", FakeFlow((host, port)))


def request(method: str, uri: str, *headers: tuple[str, str], user: str = "pbx-a1", cseq: int = 1) -> Message:
    address = f"<sip:{user}@sip.example.net>"
    return Message.request(
        method,
        uri,
        [
            ("Via", "SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK1"),
            ("From", f"{address};tag=1"),
            ("To", address if method == "REGISTER" else f"<{uri}>"),
            ("Call-ID", "c"),
            ("CSeq", f"{cseq} {method}"),
            *headers,
        ],
    )


def register(cseq: int = 1, expires: int = 300, user: str = "pbx-a1") -> Message:
    contact = ("Contact", f"<{CONTACT}>;expires={expires}")
    return request("REGISTER", "sip:sip.example.net", contact, user=user, cseq=cseq)


async def load(nursery: trio.Nursery, ctx: FakeContext) -> Any:
    async def serve(*, task_status: Any) -> None:
        await InboundRegistration().serve(ctx, CONFIG, task_status=task_status)

    live = await nursery.start(serve)
    await wait_all_tasks_blocked()
    return live


def call() -> OutboundCall:
    invite = request("INVITE", "sip:600@sip.example.net", user="laptop")
    return OutboundCall("600", "INVITE", "alice", "laptop", invite)


async def test_without_a_registration_there_is_nowhere_to_call(nursery: trio.Nursery) -> None:
    ctx = FakeContext()
    live = await load(nursery, ctx)
    assert live.outbound_leg(call()) == Refusal(480, "the PBX is not registered")
    assert ctx.reports[-1].state == "unregistered"


async def test_a_register_is_challenged_with_the_generated_password(nursery: trio.Nursery) -> None:
    live = await load(nursery, FakeContext())
    assert live.claims(register(), source()).authenticate == Credentials("pbx-a1", "long-enough")
    assert live.claims(register(user="pbx-b2"), source()) is None


async def test_calls_go_to_the_registered_contact_with_all_its_parameters(nursery: trio.Nursery) -> None:
    ctx = FakeContext()
    live = await load(nursery, ctx)
    response = live.answer(register(), source())
    assert response.status == 200
    assert "expires=300" in response.get("Contact")
    assert ctx.reports[-1] == Registration("registered", pytest.approx(trio.current_time() + 300), 200, "OK")
    leg = live.outbound_leg(call())
    assert isinstance(leg, OutboundLeg)
    assert leg.request_uri == "sip:600@10.0.0.5:5060;transport=udp;line=abc;x-ast=1"
    assert leg.target.flow == FakeFlow(("203.0.113.5", 5060))
    assert live.credentials == Credentials("pbx-a1", "long-enough")
    assert leg.headers == (("P-Asserted-Identity", "<sip:alice@sip.example.net>"),)


async def test_a_restart_loses_no_registration(nursery: trio.Nursery) -> None:
    before = FakeContext()
    live = await load(nursery, before)
    live.answer(register(), source())
    after = FakeContext(before.memory)
    live = await load(nursery, after)
    assert after.reports[-1].state == "registered"
    leg = live.outbound_leg(call())
    assert (leg.target.host, leg.target.port, leg.target.transport, leg.target.flow) == (
        "203.0.113.5",
        5060,
        "udp",
        None,
    )
    assert live.claims(request("INVITE", "sip:4711@sip.example.net", user="x"), source()) is not None


async def test_what_another_entry_of_the_name_left_is_not_ours(nursery: trio.Nursery) -> None:
    before = FakeContext()
    live = await load(nursery, before)
    live.answer(register(), source())
    before.memory["username"] = "pbx-of-long-ago"
    live = await load(nursery, FakeContext(before.memory))
    assert isinstance(live.outbound_leg(call()), Refusal)


async def test_calls_come_in_on_the_path_of_the_registration(nursery: trio.Nursery) -> None:
    live = await load(nursery, FakeContext())
    live.answer(register(), source())
    invite = request("INVITE", "sip:4711@sip.example.net", user="caller")
    claim = live.claims(invite, source())
    assert (claim.number, claim.authenticate) == ("4711", None)
    assert live.claims(invite, source(port=5062)) is None, "another program behind the same NAT is not the PBX"
    assert live.claims(invite, source("192.0.2.77")) is None


async def test_from_elsewhere_the_password_counts(nursery: trio.Nursery) -> None:
    live = await load(nursery, FakeContext())
    by_from = request("INVITE", "sip:4711@sip.example.net")
    answer = ("Authorization", 'Digest username="pbx-a1", realm="x", nonce="y", uri="z", response="0"')
    by_authorization = request("INVITE", "sip:4711@sip.example.net", answer, user="caller")
    for message in (by_from, by_authorization):
        assert live.claims(message, source("192.0.2.77")).authenticate == Credentials("pbx-a1", "long-enough")


async def test_allow_from_stands_in_for_the_password(nursery: trio.Nursery) -> None:
    ctx = FakeContext()
    ctx.entry = attrs.evolve(ctx.entry, allow_from=(ip_network("192.0.2.0/24"),))
    live = await load(nursery, ctx)
    invite = request("INVITE", "sip:4711@sip.example.net", user="caller")
    assert live.claims(invite, source("192.0.2.77")).authenticate is None
    assert live.claims(register(), source("192.0.2.77")).authenticate is not None, (
        "a REGISTER always has to prove itself"
    )


async def test_a_registration_that_runs_out_is_gone(nursery: trio.Nursery, autojump_clock: Any) -> None:
    ctx = FakeContext()
    live = await load(nursery, ctx)
    live.answer(register(expires=60), source())
    await trio.sleep(30)
    assert ctx.reports[-1].state == "registered"
    await trio.sleep(31)
    assert ctx.reports[-1].state == "unregistered"
    assert isinstance(live.outbound_leg(call()), Refusal)
    assert live.claims(request("INVITE", "sip:1@sip.example.net", user="caller"), source()) is None
    assert ctx.memory["bindings"] == []


async def test_the_pbx_takes_its_contact_back(nursery: trio.Nursery) -> None:
    ctx = FakeContext()
    live = await load(nursery, ctx)
    live.answer(register(), source())
    live.answer(register(cseq=2, expires=0), source())
    assert ctx.reports[-1].state == "unregistered"
    assert isinstance(live.outbound_leg(call()), Refusal)


async def test_the_core_routes_what_is_no_register(nursery: trio.Nursery) -> None:
    live = await load(nursery, FakeContext())
    assert live.answer(request("INVITE", "sip:1@sip.example.net"), source()) is None


def test_generated_credentials_fit_the_settings_and_the_snippets() -> None:
    type_ = InboundRegistration()
    assert isinstance(type_, GeneratesSettings)
    made = type_.generate(lambda length: "A" * length)
    config = InboundSettings(username=made["username"], password=Secret(made["password"]))
    gateway = GatewayConfig(
        GatewaySettings("sip.example.net", Path("var"), external_address="198.51.100.1"),
        listen=(Listen("wss", ("0.0.0.0", 8089)), Listen("udp", ("0.0.0.0", 5060))),
    )
    text = type_.instructions("branch", config, gateway)
    assert text.startswith("host=198.51.100.1\nport=5060\ntransport=udp\n")
    for line in (
        f"username = {made['username']}",
        f"password = {made['password']}",
        "server_uri = sip:198.51.100.1:5060",
        "line = yes",
        '<param name="proxy" value="198.51.100.1:5060"/>',
    ):
        assert line in text


def test_a_password_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="use a longer one"):
        InboundSettings(username="pbx", password=Secret("1234"))


async def test_a_registered_pbx_is_qualified(nursery: trio.Nursery, autojump_clock: Any) -> None:
    ctx = FakeContext()
    live = await load(nursery, ctx)
    await trio.sleep(100)
    assert ctx.sent == [], "there is nobody to ask"
    live.answer(register(), source())
    await trio.sleep(61)
    ((message, target),) = ctx.sent
    assert (message.method, message.uri) == ("OPTIONS", CONTACT)
    assert target.flow == FakeFlow(("203.0.113.5", 5060))
    assert ctx.latencies == [0]
    nursery.cancel_scope.cancel()
