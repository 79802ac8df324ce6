"""What a proxy looks at before it sends a request on (RFC 3261 section 16.3, 16.6, 16.12; RFC 5393)."""

from __future__ import annotations

import pytest

from siperb_core.entries.contract import OutboundCall, OutboundLeg
from siperb_core.sip import Message, parse

from .world import EndPoint, FakeConnection, FakeFlow, World


def request(method: str, uri: str, *headers: tuple[str, str], tag: str = "t", via: str = "198.51.100.7") -> Message:
    """A request from the softphone's address, with a From tag of its own."""
    return Message.request(
        method,
        uri,
        [
            ("Via", f"SIP/2.0/WS {via};branch=z9hG4bK{tag}"),
            ("From", f"<sip:alice@gw.example>;tag={tag}"),
            ("To", f"<{uri}>"),
            ("Call-ID", f"c-{tag}"),
            ("CSeq", f"1 {method}"),
            ("Contact", "<sip:alice@alice.invalid;transport=ws>"),
            *headers,
        ],
    )


async def test_no_hops_left(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.deliver(request("INVITE", "sip:600@gw.example", ("Max-Forwards", "0")))
    assert phone.flow.next().status == 483
    assert not pbx.flow.sent
    phone.deliver(request("INVITE", "sip:600@gw.example", ("Max-Forwards", "1"), tag="last"))
    assert pbx.flow.next().max_forwards == 0
    phone.deliver(request("INVITE", "sip:600@gw.example", tag="unsaid"))
    assert pbx.flow.next().max_forwards == 70


async def test_no_hops_left_in_a_dialog(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    pbx.respond(pbx.flow.next(), 200)
    phone.learn(phone.flow.next_of(200))
    info = phone.request("INFO")
    pbx.flow.sent.clear()
    last = parse(bytes(info).replace(b"Max-Forwards: 70", b"Max-Forwards: 0").replace(b"bKtag-alice", b"bKx"))
    phone.deliver(last)
    assert phone.flow.next().status == 483
    assert not pbx.flow.sent


async def test_an_extension_asked_of_proxies_that_is_unknown(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600", ("Proxy-Require", "teleport, warp"))
    refused = phone.flow.next()
    assert (refused.status, refused.get("Unsupported")) == (420, "teleport, warp")
    phone.invite("600", ("Require", "teleport"))
    assert pbx.flow.next().get("Require") == "teleport", "that is for the other side to judge"


async def test_breadth_is_60_and_shared_out(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    assert pbx.flow.next().get("Max-Breadth") == "60"
    phone.invite("600", ("Max-Breadth", "7"))
    assert pbx.flow.next().get("Max-Breadth") == "7", "one branch may have it all"
    phone.invite("600", ("Max-Breadth", "0"))
    assert phone.flow.next_of(440)
    assert not pbx.flow.sent

    flows = [FakeFlow("ws", ("198.51.100.7", 50010 + n)) for n in range(3)]
    for n, flow in enumerate(flows):
        world.bind(f"d{n}", flow)
    caller = EndPoint(world, pbx.flow, "caller")
    caller.invite("alice", ("Max-Breadth", "8"))
    assert sorted(flow.next().get("Max-Breadth") or "" for flow in flows) == ["2", "3", "3"]
    caller.invite("alice", ("Max-Breadth", "2"))
    assert pbx.flow.next_of(440)
    assert not any(flow.sent for flow in flows)
    caller.invite("alice", ("Max-Breadth", "many"))
    assert pbx.flow.next_of(400)


async def test_a_copy_that_came_by_another_path_is_482(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.bind("alice", phone.flow)
    sent = pbx.invite("alice")
    ringing = phone.flow.next()
    assert ringing.method == "INVITE"
    copy = parse(bytes(sent).replace(b"z9hG4bK", b"z9hG4bKother"))
    pbx.deliver(copy)
    merged = pbx.flow.next_of(482)
    assert merged.via.branch == copy.via.branch
    assert not phone.flow.sent, "it rings once"


def returned(sent: Message, uri: str) -> Message:
    """What a PBX that is a proxy sends back of our request: our Via below its own."""
    back = parse(bytes(sent))
    back.uri = uri
    back.prepend("Via", "SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKpbxproxy")
    return back


async def test_a_request_that_comes_back_as_it_was_is_a_loop(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    world.bind("bob", FakeFlow("ws", ("198.51.100.8", 50000)))
    phone.invite("600")
    sent = pbx.flow.next()
    pbx.deliver(returned(sent, sent.uri))
    assert pbx.flow.next().status == 482


async def test_a_spiral_through_the_pbx_is_a_call(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    """Alice calls Bob by the PBX, which is a proxy: one Call-ID passes the gateway twice."""
    world.connect("office", pbx.flow)
    bob = EndPoint(world, FakeFlow("ws", ("198.51.100.8", 50000)), "bob")
    world.bind("bob", bob.flow)
    phone.invite("601")
    out = pbx.flow.next()
    back = returned(out, "sip:registered-token@192.0.2.1:5060")
    back.prepend("Record-Route", "<sip:192.0.2.99;lr>")
    pbx.deliver(back)
    inner = bob.flow.next()
    assert (inner.call_id, inner.from_tag) == (out.call_id, out.from_tag)
    bob.respond(inner, 200)
    answer = pbx.flow.next_of(200)
    relayed = parse(bytes(answer))
    relayed.pop_first("Via")
    pbx.deliver(relayed)
    phone.learn(phone.flow.next_of(200))
    assert len(world.calls.active()) == 2

    phone.request("ACK", cseq=phone.cseq)
    ack = pbx.flow.next()
    assert ack.values("Route") == ["<sip:192.0.2.99;lr>"]
    assert ack.uri == relayed.contacts[0].uri
    ack.remove("Route")
    ack.prepend("Via", "SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKack")
    pbx.deliver(ack)
    assert bob.flow.next().method == "ACK"

    phone.request("BYE")
    bye = pbx.flow.next()
    bye.remove("Route")
    bye.prepend("Via", "SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKbye")
    pbx.deliver(bye)
    bob.respond(bob.flow.next(), 200)
    done = pbx.flow.next_of(200)
    done.pop_first("Via")
    pbx.deliver(done)
    assert phone.flow.next().cseq.method == "BYE"
    assert world.calls.active() == []


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_each_leg_has_the_contact_of_its_transport(world: World, phone: EndPoint, transport: str) -> None:
    pbx = EndPoint(world, FakeFlow(transport, ("192.0.2.99", 5060)), "pbx")
    world.connect("office", pbx.flow)
    phone.invite("600")
    invite = pbx.flow.next()
    assert invite.via.protocol == transport.upper()
    assert invite.contacts[0].parsed_uri.param("transport") == (None if transport == "udp" else transport)
    pbx.respond(invite, 200, ("Record-Route", f"<sip:192.0.2.99;transport={transport};lr>"))
    ok = phone.flow.next_of(200)
    assert ok.contacts[0].parsed_uri.param("transport") == "ws"
    assert ok.get("Record-Route") is None, "the PBX's route set is no concern of the phone's"


async def test_a_loose_route_set(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    routes = ("<sip:p2.pbx.example;lr>", "<sip:p1.pbx.example;lr>")
    pbx.respond(pbx.flow.next(), 200, ("Record-Route", ", ".join(routes)))
    phone.learn(phone.flow.next_of(200))
    phone.request("ACK", cseq=phone.cseq)
    phone.request("BYE")
    for method in ("ACK", "BYE"):
        message = pbx.flow.next()
        assert (message.method, message.uri) == (method, "sip:pbx@pbx.invalid;transport=udp")
        assert message.values("Route") == list(reversed(routes))


async def test_a_strict_router_finds_itself_in_the_request_uri(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600")
    pbx.respond(
        pbx.flow.next(), 200, ("Record-Route", "<sip:p2.pbx.example;lr>"), ("Record-Route", "<sip:p1.pbx.example;x=1>")
    )
    phone.learn(phone.flow.next_of(200))
    target = "<sip:pbx@pbx.invalid;transport=udp>"
    phone.request("ACK", cseq=phone.cseq)
    phone.request("INFO")
    for _ in range(2):
        message = pbx.flow.next()
        assert message.uri == "sip:p1.pbx.example;x=1"
        assert message.values("Route") == ["<sip:p2.pbx.example;lr>", target]
    world.calls.active()[0].end("over")
    bye = pbx.flow.next_of("BYE")
    assert (bye.uri, bye.values("Route")) == ("sip:p1.pbx.example;x=1", ["<sip:p2.pbx.example;lr>", target])


async def test_the_route_set_of_a_caller_is_in_its_order(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.bind("alice", phone.flow)
    pbx.invite("alice", ("Record-Route", "<sip:near.example;lr>, <sip:far.example;lr>"))
    invite = phone.flow.next()
    assert invite.get("Record-Route") is None
    phone.respond(invite, 200)
    answer = pbx.flow.next_of(200)
    assert answer.values("Record-Route") == ["<sip:near.example;lr>", "<sip:far.example;lr>"]
    phone.request("BYE")
    bye = pbx.flow.next_of("BYE")
    assert bye.values("Route") == ["<sip:near.example;lr>", "<sip:far.example;lr>"]


class Routed(FakeConnection):
    """A connection behind an outbound proxy."""

    route: tuple[str, ...] = ()

    def outbound_leg(self, call: OutboundCall) -> OutboundLeg:
        leg = super().outbound_leg(call)
        assert isinstance(leg, OutboundLeg)
        return OutboundLeg(leg.target, leg.request_uri, leg.from_uri, leg.to_uri, route=self.route)


@pytest.mark.parametrize(
    ("route", "uri", "routes"),
    [
        (("<sip:edge.example;lr>",), "sip:600@pbx.example", ["<sip:edge.example;lr>"]),
        (("<sip:edge.example;LR=on>",), "sip:600@pbx.example", ["<sip:edge.example;LR=on>"]),
        (("<sip:edge.example>",), "sip:edge.example", ["<sip:600@pbx.example>"]),
        (
            ("<sip:edge.example;method=BYE?Subject=x>", "<sip:in.example;lr>"),
            "sip:edge.example",
            ["<sip:in.example;lr>", "<sip:600@pbx.example>"],
        ),
        (("<sip:;lr@edge.example>",), "sip:;lr@edge.example", ["<sip:600@pbx.example>"]),
    ],
)
async def test_preloaded_routes(
    world: World, phone: EndPoint, pbx: EndPoint, route: tuple[str, ...], uri: str, routes: list[str]
) -> None:
    world.connect("office", pbx.flow)
    connection = Routed(pbx.flow)
    connection.route = route
    loaded = world.candidates.pop()
    world.candidates.append(type(loaded)(loaded.entry, None, connection))  # type: ignore[arg-type]
    phone.invite("600", ("Route", "<sip:gw.example;transport=ws;lr>"))
    invite = pbx.flow.next()
    assert (invite.uri, invite.values("Route")) == (uri, routes)


async def test_a_softphone_says_nothing_of_who_it_is(world: World, phone: EndPoint, pbx: EndPoint) -> None:
    world.connect("office", pbx.flow)
    phone.invite("600", ("P-Asserted-Identity", "<sip:boss@pbx.example>"), ("Remote-Party-ID", "<sip:boss@x>"))
    invite = pbx.flow.next()
    assert invite.get("P-Asserted-Identity") is None
    assert invite.get("Remote-Party-ID") is None
