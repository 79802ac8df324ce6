"""`validate`: the status owed, and when nothing is."""

from __future__ import annotations

import pytest

from siperb_core.sip import Message, parse, validate

OPTIONS = {
    "Via": "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
    "From": "<sip:a@h>;tag=1",
    "To": "<sip:b@h>",
    "Call-ID": "x",
    "CSeq": "1 OPTIONS",
    "Max-Forwards": "70",
}


def make(start: str = "OPTIONS sip:b@h SIP/2.0", **changes: str | None) -> Message:
    headers: dict[str, str | None] = {**OPTIONS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return parse("\r\n".join([start, *lines, "", ""]).encode())


def test_a_fit_message_has_no_verdict() -> None:
    assert validate(make()) is None
    assert validate(make(Max_Forwards=None)) is None
    assert validate(make("SIP/2.0 200 OK")) is None


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"Via": None}, 400, "Missing Via"),
        ({"Call_ID": None}, 400, "Missing Call-ID"),
        ({"From": "<sip:a@h"}, 400, "Bad From"),
        ({"f": "<sip:a@h>"}, 400, "Several From"),
        ({"CSeq": "1 INVITE"}, 400, "CSeq method does not match"),
        ({"Max_Forwards": "x"}, 400, "Bad Max-Forwards"),
        ({"Max_Forwards": "0"}, 483, "Too Many Hops"),
        ({"Via": "SIP/2.0/UDP h ; BRANCH = z9hg4bk ;rport"}, 400, "Empty Via branch"),
        ({"start": "OPTIONS sip:b@h?Route=x SIP/2.0"}, 400, "Headers in the Request-URI"),
        ({"start": "OPTIONS mailto:b@h SIP/2.0"}, 416, "Unsupported URI Scheme"),
        ({"start": "OPTIONS sip:b@h SIP/1.0"}, 505, "Version Not Supported"),
    ],
)
def test_the_status_owed(changes: dict[str, str | None], status: int, reason: str) -> None:
    verdict = validate(make(**changes))  # type: ignore[arg-type]
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (status, reason)


def test_extensions_a_proxy_lacks_are_listed() -> None:
    verdict = validate(make(Proxy_Require="foo, bar"))
    assert verdict is not None
    assert (verdict.status, verdict.headers) == (420, (("Unsupported", "foo, bar"),))


@pytest.mark.parametrize("method", ["ACK", "CANCEL"])
def test_ack_and_cancel_require_nothing(method: str) -> None:
    assert validate(make(f"{method} sip:b@h SIP/2.0", CSeq=f"1 {method}", Proxy_Require="foo")) is None


def test_the_addressee_minds_no_proxy_business() -> None:
    assert validate(make(Max_Forwards="0", Proxy_Require="foo"), as_proxy=False) is None


def test_registrations_need_readable_contacts() -> None:
    for contact, fits in (("<sip:a@h?x=y>", True), ("sip:a@h?x=y", False), ("*", True)):
        verdict = validate(make("REGISTER sip:h SIP/2.0", CSeq="1 REGISTER", Contact=contact))
        assert (verdict is None) is fits


@pytest.mark.parametrize(
    "host", ["255.255.255.255", "224.0.0.1", "[ff02::1]", "h;received=239.1.1.1", "h;maddr=224.2.0.1"]
)
def test_no_response_goes_to_everybody(host: str) -> None:
    assert validate(make("SIP/2.0 200 OK", v=f"SIP/2.0/UDP {host}")) is not None
    assert validate(make("SIP/2.0 200 OK", v="SIP/2.0/UDP 225.example.org;branch=z9hG4bK224.0.0.1")) is None
