"""Requests for the gateway itself (RFC 3261 sections 8.2.2, 11.2, 16.3)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from siperb_core.admission import Admission
from siperb_core.entries.model import Device, Secret
from siperb_core.sip import Message
from siperb_core.sip.digest import DigestServer
from siperb_core.sip.transaction import ServerTransaction

from .world import EndPoint, FakeFlow, World


class EveryoneIsKnown:
    """In place of the registrar: whoever comes by WebSocket is the device it says it is."""

    def authenticated(self, transaction: ServerTransaction, request: Message) -> Device:
        return Device("alice", "alice", Secret("x"))

    def instance_named(self, uri: str) -> None:
        return None


class Gateway(World):
    """A world whose requests pass admission."""

    draining = False
    answers_strangers = True
    guard: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.signalling.user = Admission(self, EveryoneIsKnown(), self.calls, DigestServer("gw", b"x"))  # type: ignore[arg-type]


@pytest.fixture
async def phone(nursery: trio.Nursery) -> EndPoint:
    gateway = Gateway()
    nursery.start_soon(gateway.run)
    return EndPoint(gateway, FakeFlow("ws", ("198.51.100.7", 50000)), "alice")


def to_gateway(phone: EndPoint, method: str, *headers: tuple[str, str], hops: str = "70") -> Message:
    """Ask the gateway itself, and take its answer."""
    phone.deliver(
        Message.request(
            method,
            "sip:gw.example",
            [
                ("Via", f"SIP/2.0/WS a.invalid;branch=z9hG4bK{method}{hops}{len(headers)}"),
                ("Max-Forwards", hops),
                ("From", phone.local),
                ("To", "<sip:gw.example>"),
                ("Call-ID", "c"),
                ("CSeq", f"1 {method}"),
                *headers,
            ],
        )
    )
    return phone.flow.next()


async def test_options_says_what_passes(phone: EndPoint) -> None:
    answer = to_gateway(phone, "OPTIONS")
    assert answer.status == 200
    assert {"INVITE", "PRACK", "REFER", "SUBSCRIBE", "PUBLISH"} <= set(answer.values("Allow"))
    assert answer.get("Accept") == "application/sdp"


async def test_options_that_go_no_further_are_answered_here(phone: EndPoint) -> None:
    assert to_gateway(phone, "OPTIONS", hops="0").status == 200
    assert to_gateway(phone, "MESSAGE", hops="0").status == 483


async def test_extensions_the_gateway_would_need_itself(phone: EndPoint) -> None:
    refused = to_gateway(phone, "OPTIONS", ("Require", "path, teleport"))
    assert (refused.status, refused.get("Unsupported")) == (420, "teleport")
    assert to_gateway(phone, "OPTIONS", ("Require", "path"), ("Supported", "x")).status == 200


async def test_other_requests_for_nobody(phone: EndPoint) -> None:
    refused = to_gateway(phone, "MESSAGE")
    assert refused.status == 405
    assert "OPTIONS" in refused.values("Allow")
    assert to_gateway(phone, "INVITE").status == 404
