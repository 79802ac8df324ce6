"""URIs: read and written as RFC 3261 section 19.1 and RFC 3966 say."""

from __future__ import annotations

import pytest

from siperb_core.sip import ParseError, Uri, parse_uri


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("sip:alice@example.org", Uri("sip", "alice", "example.org")),
        (
            "sips:a:secret@[2001:db8::1]:5061;transport=tcp;lr?Subject=x&Priority=urgent",
            Uri(
                "sips",
                "a",
                "2001:db8::1",
                5061,
                (("transport", "tcp"), ("lr", None)),
                (("Subject", "x"), ("Priority", "urgent")),
                "secret",
            ),
        ),
        ("sip:user;par=u%40example.net@example.com", Uri("sip", "user;par=u%40example.net", "example.com")),
        ("sip:example.org:5060", Uri("sip", None, "example.org", 5060)),
        ("sip:*31#@fritz.box", Uri("sip", "*31#", "fritz.box")),
        ("tel:+49-30-1234;phone-context=x", Uri("tel", "+49-30-1234", params=(("phone-context", "x"),))),
        ("urn:service:sos", Uri("urn", None, "service:sos")),
    ],
)
def test_reading_and_writing(text: str, uri: Uri) -> None:
    assert parse_uri(text) == uri
    assert str(uri) == text


@pytest.mark.parametrize(
    "text",
    ["", "sip", "sip:", "sip:@h", "sip:a@", "sip:a b@h", "sip:a@h:65536", "sip:a@h:", "sip:2001:db8::10", "sip:[::1"]
    + [
        "sip:a%zz@h",
        "sip:a@h;",
        "sip:a@h;x=",
        "sip:a@h?x",
        "tel:",
        "tel:abc x",
        "<sip:a@h>",
        "sip:a@h\r\nX: y",
        "1x:y",
    ],
)
def test_what_is_no_uri(text: str) -> None:
    with pytest.raises(ParseError):
        parse_uri(text)


def test_escapes_are_kept_in_writing_and_resolved_in_reading() -> None:
    uri = parse_uri("sip:null-%00%C3%BC@example.org")
    assert uri.user == "null-%00%C3%BC"
    assert uri.user_unescaped == "null-\0ü"
    assert Uri("sip", None, "h").user_unescaped == ""


def test_parameters_are_found_in_any_case() -> None:
    uri = parse_uri("sip:a@h;LR;Transport=TCP")
    assert (uri.param("lr"), uri.param("transport"), uri.param("maddr")) == ("", "TCP", None)


def test_with_changes_one_field() -> None:
    assert str(parse_uri("sip:a@h:5;x").with_(host="::1", port=None)) == "sip:a@[::1];x"
