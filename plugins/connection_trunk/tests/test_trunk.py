"""A trunk: calls go to the fixed address, and come in from `allow_from` alone."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
import structlog
import trio

from siperb_connection_trunk import OutboundTrunk, TrunkSettings
from siperb_core import ConnectionNotReady, Credentials, Entry, OutboundCall, OutboundLeg, Secret, Source, Target
from siperb_core.sip import Message, response_to

ENTRY = Entry("carrier", "outbound_trunk", allow_from=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")))


class FakeContext:
    """The gateway as a connection type sees it; `answers` are the statuses its requests get."""

    def __init__(self, *answers: int) -> None:
        self.entry = ENTRY
        self.domain = "sip.example.net"
        self.log = structlog.get_logger()
        self.memory: dict[str, Any] = {}
        self.answers = list(answers)
        self.sent: list[tuple[Message, Target]] = []
        self.latencies: list[float | None] = []
        self.sent_at: list[float] = []

    async def request(self, message: Message, target: Target) -> Message:
        self.sent.append((message, target))
        self.sent_at.append(trio.current_time())
        await trio.sleep(0.02)
        if not self.answers:
            raise ConnectionNotReady("no answer")
        return response_to(message, self.answers.pop(0))

    async def contact_uri(self, target: Target) -> str:
        return "sip:token@198.51.100.1:5060"

    def report(self, registration: Any) -> None:
        raise AssertionError("a trunk has no registration")

    def qualified(self, latency_ms: float | None) -> None:
        self.latencies.append(latency_ms)

    def raise_issue(self, issue_id: str, text: str, mend: str) -> None: ...

    def clear_issue(self, issue_id: str) -> None: ...

    def now(self) -> float:
        return trio.current_time()

    def random_token(self, octets: int = 12) -> str:
        return "t" * octets


def invite(uri: str = "sip:600@sip.example.net", display: str = "Alice") -> Message:
    return Message.request(
        "INVITE",
        uri,
        [
            ("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1"),
            ("From", f'"{display}" <sip:laptop@sip.example.net>;tag=1'),
            ("To", f"<{uri}>"),
            ("Call-ID", "c"),
            ("CSeq", "1 INVITE"),
        ],
    )


def source(host: str) -> Source:
    return Source(host, 5060, "udp", flow=None)  # type: ignore[arg-type]


async def loaded(nursery: trio.Nursery, **settings: Any) -> Any:
    config = TrunkSettings(**{"server": "pbx.example.com", **settings})

    async def serve(*, task_status: Any) -> None:
        await OutboundTrunk().serve(FakeContext(), config, task_status=task_status)

    return await nursery.start(serve)


def call(number: str) -> OutboundCall:
    return OutboundCall(number, "INVITE", "alice", "laptop", invite())


async def test_calls_go_to_the_fixed_address(nursery: trio.Nursery) -> None:
    live = await loaded(nursery, port=5070, transport="tcp", username="acc", password=Secret("pw"))
    assert live.outbound_leg(call("+4930#1")) == OutboundLeg(
        target=Target("pbx.example.com", 5070, "tcp"),
        request_uri="sip:+4930%231@pbx.example.com:5070",
        from_uri="sip:acc@pbx.example.com",
        to_uri="sip:+4930%231@pbx.example.com:5070",
        from_display="Alice",
    )
    assert live.credentials == Credentials("acc", "pw")


async def test_without_an_account_the_user_calls_and_nothing_is_answered(nursery: trio.Nursery) -> None:
    live = await loaded(nursery, from_domain="sip.example.net")
    leg = live.outbound_leg(call("600"))
    assert leg.from_uri == "sip:alice@sip.example.net"
    assert live.credentials is None


async def test_ipv6_and_an_outbound_proxy(nursery: trio.Nursery) -> None:
    live = await loaded(nursery, server="2001:db8::5", outbound_proxy="proxy.example.com:5080", transport="tls")
    leg = live.outbound_leg(call("600"))
    assert leg.request_uri == "sip:600@[2001:db8::5]"
    assert leg.target == Target("proxy.example.com", 5080, "tls")
    assert leg.route == ("<sip:proxy.example.com:5080;transport=tls;lr>",)


@pytest.mark.parametrize(("host", "mine"), [("192.0.2.9", True), ("2001:db8::9", True), ("192.0.3.9", False)])
async def test_calls_come_in_from_the_list_alone(nursery: trio.Nursery, host: str, mine: bool) -> None:
    live = await loaded(nursery)
    claim = live.claims(invite("sip:4711@198.51.100.1"), source(host))
    assert (claim is not None) == mine
    if claim is not None:
        assert (claim.number, claim.authenticate) == ("4711", None)


async def test_nobody_registers_through_a_trunk(nursery: trio.Nursery) -> None:
    live = await loaded(nursery)
    register = invite()
    register.method = "REGISTER"
    assert live.claims(register, source("192.0.2.9")) is None


@pytest.mark.parametrize("status", [200, 401, 404, 405, 486])
async def test_any_sign_of_life_passes_the_probe(status: int) -> None:
    ctx = FakeContext(status)
    await OutboundTrunk().probe(ctx, TrunkSettings(server="pbx.example.com"))
    ((message, target),) = ctx.sent
    assert (message.method, message.uri, target.host) == ("OPTIONS", "sip:pbx.example.com", "pbx.example.com")


@pytest.mark.parametrize("answers", [(), (503,), (408,)])
async def test_a_dead_or_unwell_server_does_not(answers: tuple[int, ...]) -> None:
    with pytest.raises(ConnectionNotReady):
        await OutboundTrunk().probe(FakeContext(*answers), TrunkSettings(server="pbx.example.com"))


def test_a_password_needs_a_username() -> None:
    with pytest.raises(ValueError, match="add username"):
        TrunkSettings(server="a", password=Secret("x"))


async def test_it_is_qualified_now_and_then(nursery: trio.Nursery, autojump_clock: Any) -> None:
    ctx = FakeContext(200, 404, 405)
    await nursery.start(OutboundTrunk().serve, ctx, TrunkSettings(server="192.0.2.1", qualify=30))
    await trio.sleep(61)
    assert [round(when - ctx.sent_at[0]) for when in ctx.sent_at] == [0, 30, 60]
    assert ctx.latencies == [pytest.approx(20)] * 3
    assert {message.method for message, _ in ctx.sent} == {"OPTIONS"}
    nursery.cancel_scope.cancel()


async def test_two_silences_make_it_unreachable_and_an_answer_reachable(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    ctx = FakeContext(200)
    await nursery.start(OutboundTrunk().serve, ctx, TrunkSettings(server="192.0.2.1"))
    await trio.sleep(59)
    assert ctx.latencies == [pytest.approx(20)]
    await trio.sleep(2)
    assert ctx.latencies[-1] is not None, "one silence is none"
    await trio.sleep(8)
    assert ctx.latencies[-1] is None
    ctx.answers = [200]
    await trio.sleep(8)
    assert ctx.latencies[-1] == pytest.approx(20)
    nursery.cancel_scope.cancel()


async def test_an_overloaded_server_is_not_reachable(nursery: trio.Nursery, autojump_clock: Any) -> None:
    ctx = FakeContext(*[503] * 3)
    await nursery.start(OutboundTrunk().serve, ctx, TrunkSettings(server="192.0.2.1"))
    await trio.sleep(8)
    assert ctx.latencies == [None]
    nursery.cancel_scope.cancel()


async def test_qualifying_can_be_switched_off(nursery: trio.Nursery, autojump_clock: Any) -> None:
    ctx = FakeContext()
    await nursery.start(OutboundTrunk().serve, ctx, TrunkSettings(server="192.0.2.1", qualify=0))
    await trio.sleep(1000)
    assert ctx.sent == []
    nursery.cancel_scope.cancel()
