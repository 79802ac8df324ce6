"""A PBX that is several servers, requests too large for UDP, and challenges that are not to be answered."""

from __future__ import annotations

import pytest
import trio

from siperb_core.entries.contract import Credentials
from siperb_core.sip import Flow, response_to

from .world import EndPoint, FakeFlow, World

LARGE = ("X-Long", "x" * 1400)


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    world = World()
    nursery.start_soon(world.signalling.run_timers)
    return world


@pytest.fixture
def phone(world: World) -> EndPoint:
    return EndPoint(world, FakeFlow("ws", ("198.51.100.7", 50000)), "alice")


@pytest.fixture
def servers(world: World) -> list[EndPoint]:
    """Three destinations of one connection."""
    flows = [FakeFlow("udp", (f"192.0.2.{number}", 5060)) for number in (11, 12, 13)]
    world.ways["pbx.example"] = flows
    world.connect("office", flows[0])
    return [EndPoint(world, flow, "pbx") for flow in flows]


async def test_a_silent_destination_costs_4_s_and_the_next_gets_a_transaction_of_its_own(
    world: World, phone: EndPoint, servers: list[EndPoint], autojump_clock: trio.testing.MockClock
) -> None:
    phone.invite("600")
    first = servers[0].flow.next_of("INVITE")
    await trio.sleep(3.9)
    assert not servers[1].flow.sent
    await trio.sleep(0.2)
    second = servers[1].flow.next_of("INVITE")
    assert second.via.branch != first.via.branch
    assert second.call_id == first.call_id
    assert world.aside == [(servers[0].flow, None)]
    servers[1].respond(second, 200)
    phone.learn(phone.flow.next_of(200))
    phone.request("ACK", cseq=phone.cseq)
    assert servers[1].flow.next_of("ACK")
    # What follows in the dialog stays with who answered, also when the first one wakes up.
    phone.request("BYE")
    servers[1].flow.next_of("BYE")
    servers[0].flow.sent.clear()
    servers[0].respond(first, 180)
    assert servers[0].flow.next().method == "CANCEL"


async def test_a_2xx_of_a_destination_given_up_is_acknowledged_and_hung_up(
    world: World, phone: EndPoint, servers: list[EndPoint], autojump_clock: trio.testing.MockClock
) -> None:
    phone.invite("600")
    first = servers[0].flow.next_of("INVITE")
    await trio.sleep(5)
    second = servers[1].flow.next_of("INVITE")
    servers[0].flow.sent.clear()
    servers[0].tag = "late"
    servers[0].respond(first, 200)
    assert [message.method for message in servers[0].flow.sent] == ["ACK", "BYE"]
    servers[1].respond(second, 200)
    assert phone.flow.next_of(200).to_tag == servers[1].tag


async def test_a_provisional_response_is_an_answer(
    world: World, phone: EndPoint, servers: list[EndPoint], autojump_clock: trio.testing.MockClock
) -> None:
    phone.invite("600")
    servers[0].respond(servers[0].flow.next_of("INVITE"), 100)
    await trio.sleep(60)
    assert not servers[1].flow.sent


async def test_503_and_dead_transports_go_on_other_answers_do_not(
    world: World, phone: EndPoint, servers: list[EndPoint], autojump_clock: trio.testing.MockClock
) -> None:
    servers[1].flow.dead = True
    phone.invite("600")
    servers[0].respond(servers[0].flow.next_of("INVITE"), 503, ("Retry-After", "1000 (maintenance)"))
    invite = servers[2].flow.next_of("INVITE")
    assert world.aside == [(servers[0].flow, 300), (servers[1].flow, None)]
    servers[2].respond(invite, 486)
    assert phone.flow.next_of(486)


async def test_a_real_408_is_the_answer_of_a_server(
    world: World, phone: EndPoint, servers: list[EndPoint], autojump_clock: trio.testing.MockClock
) -> None:
    phone.invite("600")
    servers[0].respond(servers[0].flow.next_of("INVITE"), 408)
    assert phone.flow.next_of(408)
    assert not servers[1].flow.sent


async def test_all_silent(
    world: World, phone: EndPoint, servers: list[EndPoint], autojump_clock: trio.testing.MockClock
) -> None:
    phone.invite("600")
    await trio.sleep(4 + 4 + 31)
    assert all(message.status < 200 for message in phone.flow.sent)
    await trio.sleep(2)
    assert phone.flow.next_of(408)
    assert not world.calls.active()


async def test_a_caller_who_gives_up_is_not_taken_to_the_next_destination(
    world: World, phone: EndPoint, servers: list[EndPoint], autojump_clock: trio.testing.MockClock
) -> None:
    phone.invite("600")
    await trio.sleep(1)
    world.signalling.closed(phone.flow, "connection closed by the peer")
    await trio.sleep(60)
    assert not servers[1].flow.sent
    assert not world.calls.active()


class Beside:
    """TCP beside UDP, where the test has it."""

    def __init__(self, flow: FakeFlow | None) -> None:
        self.flow = flow
        self.given_up: list[Flow] = []

    def stream_beside(self, flow: Flow) -> Flow | None:
        return None if flow in self.given_up else self.flow

    def no_stream(self, flow: Flow) -> None:
        self.given_up.append(flow)


async def test_a_large_request_goes_by_tcp_and_the_dialog_stays_on_udp(world: World, phone: EndPoint) -> None:
    pbx = EndPoint(world, FakeFlow("udp", ("192.0.2.99", 5060)), "pbx")
    stream = FakeFlow("tcp", ("192.0.2.99", 5060))
    world.signalling.ways = Beside(stream)
    world.connect("office", pbx.flow, credentials=Credentials("200", "secret"))
    phone.invite("600", LARGE)
    for number in range(2):
        invite = stream.next_of("INVITE")
        assert invite.via.protocol == "TCP"
        assert "transport=tcp" not in (invite.get("Contact") or "")
        if number == 0:
            challenge = ("Proxy-Authenticate", 'Digest realm="pbx", nonce="n1", algorithm=MD5, qop="auth"')
            world.signalling.received(bytes(response_to(invite, 407, to_tag="x", headers=[challenge])), stream)
    pbx.respond(invite, 200)
    phone.learn(phone.flow.next_of(200))
    phone.request("ACK", cseq=phone.cseq)
    phone.request("BYE")
    assert [message.method for message in pbx.flow.sent] == ["ACK", "BYE"]


@pytest.mark.parametrize("how", ["refused", "reset", "silent"])
async def test_where_tcp_does_not_work_udp_carries_it_all_the_same(
    world: World, phone: EndPoint, how: str, autojump_clock: trio.testing.MockClock
) -> None:
    pbx = EndPoint(world, FakeFlow("udp", ("192.0.2.99", 5060)), "pbx")
    stream = FakeFlow("tcp", ("192.0.2.99", 5060))
    stream.dead = how == "refused"
    ways = world.signalling.ways = Beside(stream)
    world.connect("office", pbx.flow)
    phone.invite("600", LARGE)
    if how == "reset":
        world.signalling.closed(stream, "Connection reset by peer")
    elif how == "silent":
        await trio.sleep(4.1)
    invite = pbx.flow.next_of("INVITE")
    assert invite.via.protocol == "UDP"
    assert len(invite.values("Via")) == 1
    assert ways.given_up == [pbx.flow]
    pbx.respond(invite, 200)
    assert phone.flow.next_of(200)


async def test_small_requests_stay_on_udp(world: World, phone: EndPoint) -> None:
    pbx = EndPoint(world, FakeFlow("udp", ("192.0.2.99", 5060)), "pbx")
    world.signalling.ways = Beside(FakeFlow("tcp", ("192.0.2.99", 5060)))
    world.connect("office", pbx.flow)
    phone.invite("600")
    assert pbx.flow.next_of("INVITE")


async def test_another_realm_gets_no_answer(world: World, phone: EndPoint) -> None:
    pbx = EndPoint(world, FakeFlow("udp", ("192.0.2.99", 5060)), "pbx")
    world.connect("office", pbx.flow, credentials=Credentials("200", "secret", ("pbx",)))
    phone.invite("600")
    other = ("Proxy-Authenticate", 'Digest realm="elsewhere", nonce="n1", algorithm=MD5, qop="auth"')
    pbx.respond(pbx.flow.next_of("INVITE"), 407, other)
    assert phone.flow.next_of(403)
    assert not any(message.get("Proxy-Authorization") for message in pbx.flow.sent)


async def test_who_called_us_from_elsewhere_cannot_have_our_password_tried(world: World) -> None:
    stranger = EndPoint(world, FakeFlow("udp", ("203.0.113.66", 5060)), "pbx")
    softphone = EndPoint(world, FakeFlow("ws", ("198.51.100.7", 50000)), "alice")
    world.strangers.add(stranger.flow)
    world.bind("alice", softphone.flow)
    world.connect("office", stranger.flow, credentials=Credentials("200", "secret"))
    stranger.invite("200")
    softphone.respond(softphone.flow.next_of("INVITE"), 200)
    stranger.learn(stranger.flow.next_of(200))
    stranger.request("ACK", cseq=stranger.cseq)
    softphone.request("BYE")
    bye = stranger.flow.next_of("BYE")
    stranger.respond(bye, 401, ("WWW-Authenticate", 'Digest realm="pbx", nonce="n1", algorithm=MD5, qop="auth"'))
    assert not stranger.flow.sent


async def test_softphones_that_are_gone_do_not_hold_up_the_one_that_is_there(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    pbx = EndPoint(world, FakeFlow("udp", ("192.0.2.99", 5060)), "pbx")
    dead, deaf, there = (EndPoint(world, FakeFlow("ws", ("198.51.100.7", port)), f"p{port}") for port in (1, 2, 3))
    dead.flow.dead = True
    for phone in (dead, deaf, there):
        world.bind(phone.tag, phone.flow)
    pbx.invite("200")
    assert deaf.flow.next_of("INVITE")
    there.respond(there.flow.next_of("INVITE"), 486)
    await trio.sleep(20)
    world.signalling.closed(deaf.flow, "no answer to a ping")
    assert pbx.flow.next_of(486)
    assert not world.calls.active()
