"""Holds a live connection against its contract: its methods are pure, and take any request."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from siperb_core.entries.contract import (
    Claim,
    Connection,
    Credentials,
    OutboundCall,
    OutboundLeg,
    Refusal,
    Source,
)
from siperb_core.entries.live import wrong_with
from siperb_core.sip import Message, ParseError, parse, parse_uri, validate
from siperb_core.testing.conformance_purity import NotConformant, no_io, require
from siperb_core.testing.fakes import FakeEntry, NoFlow

NUMBERS = (
    *("600", "+4930123456", "#31#", "*98", "alice", "a b", "ü", "%20", "a@b", "sip:x", "x" * 200),
    *('"<>', "1;phone-context=2", "\x00\x01", "a\r\nb", "?"),
)
HOSTS = ("192.0.2.9", "203.0.113.77", "2001:db8::9", "127.0.0.1")
MANGLED = 500
THORNS = (b"", b"\r\n", b'"', b"<", b">", b",", b";", b":", b"@", b"\\", b"\0", b" ", b"%", b"\xff", b"=", b"%41", b"[")
METHODS = ("INVITE", "MESSAGE", "OPTIONS", "SUBSCRIBE")


def check_live(live: Connection, ctx: FakeEntry, told: list[str]) -> None:
    """Ask a live connection about every kind of request, each twice. `told` collects what it shows of itself."""
    for name in ("outbound_leg", "claims", "answer"):
        require(callable(getattr(live, name, None)), f"the connection has no method {name}")
    before = (len(ctx.sent), repr(sorted(ctx.kept.items())))
    for number in NUMBERS:
        for method in METHODS:
            _check_leg(live, OutboundCall(number, method, "alice", "alice-web", _request(method, "sip:x@y")), told)
    _garbage(live)
    told.append(repr(live))
    credentials = _twice("credentials", lambda: live.credentials)
    require(credentials is None or isinstance(credentials, Credentials), "credentials are neither Credentials nor None")
    told.append(repr(credentials))
    after = (len(ctx.sent), repr(sorted(ctx.kept.items())))
    require(before == after, "outbound_leg and claims are to be pure, but send requests or write to memory")


def _twice(what: str, ask: Callable[[], Any]) -> Any:
    try:
        with no_io(what):
            first, again = ask(), ask()
    except NotConformant:
        raise
    except Exception as error:
        raise NotConformant(f"{what} raises {error!r}") from error
    require(first == again, f"{what} gives another answer the second time")
    return first


def _check_leg(live: Connection, call: OutboundCall, told: list[str]) -> None:
    leg = _twice(f"outbound_leg for {call.number!r}", lambda: live.outbound_leg(call))
    told.append(repr(leg))
    if isinstance(leg, Refusal):
        require(400 <= leg.status <= 699, f"a Refusal has the status {leg.status}")
        return
    if not isinstance(leg, OutboundLeg):
        wrong = wrong_with(leg)
        require(not wrong, f"outbound_leg gives {wrong}")
        return
    for name in ("request_uri", "from_uri", "to_uri"):
        uri = getattr(leg, name)
        try:
            parse_uri(uri)
        except ParseError as error:
            raise NotConformant(f"{name} for {call.number!r} is no URI: {uri!r}") from error
        require(
            uri.isprintable() and not set(uri) & set(" <>\r\n"), f"{name} for {call.number!r} needs escapes: {uri!r}"
        )
    for text in (*leg.route, *(item for header in leg.headers for item in header)):
        require("\r" not in text and "\n" not in text, f"a header for {call.number!r} has a line break in it: {text!r}")


def _garbage(live: Connection) -> None:
    """Requests as they should be, and damaged ones, as far as the core lets them in."""
    whole = list(_requests())
    for message in whole:
        _check_claims(live, message)
    dice = random.Random(1)  # the same damage in every run
    for _ in range(MANGLED):
        data = bytearray(bytes(dice.choice(whole)))
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(data))
            data[place : place + dice.choice((0, 0, 1, 4))] = dice.choice(THORNS)
        try:
            message = parse(bytes(data))
        except ParseError:
            continue
        if message.is_request and validate(message) is None:
            _check_claims(live, message)


def _check_claims(live: Connection, message: Message) -> None:
    written = bytes(message)
    for host in HOSTS:
        source = Source(host, 5060, "udp", NoFlow((host, 5060)))
        claim = _twice(f"claims for {written[:60]!r}", partial(live.claims, message, source))
        require(claim is None or isinstance(claim, Claim), f"claims gives {type(claim).__name__}")
        if claim is not None and message.method not in ("REGISTER",):
            answer = _twice(f"answer for {written[:60]!r}", partial(live.answer, message, source))
            require(answer is None or isinstance(answer, Message), f"answer gives {type(answer).__name__}")
    require(bytes(message) == written, "claims changes the request it is asked about")


def _requests() -> Iterator[Message]:
    for method in ("INVITE", "REGISTER", "OPTIONS", "MESSAGE", "X"):
        for uri in ("sip:600@192.0.2.1", "sip:192.0.2.1", "tel:+4930", "sips:a@[2001:db8::1]:5061;lr", "urn:x"):
            yield _request(method, uri)


def _request(method: str, uri: str) -> Message:
    return Message.request(
        method,
        uri,
        [
            ("Via", "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKconformance"),
            ("Max-Forwards", "70"),
            ("From", '"Alice" <sip:alice-web@sip.example.net>;tag=1'),
            ("To", f"<{uri}>"),
            ("Call-ID", "conformance"),
            ("CSeq", f"1 {method}"),
            ("Contact", "<sip:alice@192.0.2.9>"),
        ],
    )
