"""`Message`: reading by any spelling, editing one line at a time, making requests and responses."""

from __future__ import annotations

import pytest

from siperb_core.sip import CSeq, Message, NameAddr, ParseError, parse, response_to

INVITE = (
    b"INVITE sip:600@example.org SIP/2.0\r\n"
    b"v: SIP/2.0/WSS x.invalid;branch=z9hG4bK1;rport\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK2, SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK3\r\n"
    b"Max-Forwards: 70\r\n"
    b'f: "Alice" <sip:alice@example.org>;tag=1\r\n'
    b"To:   <sip:600@example.org>  \r\n"
    b"Call-ID: abc\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"X-Thing: ;;,,\r\n"
    b"Contact: <sip:a@x.invalid>;+sip.ice, <sip:b@x.invalid>\r\n"
    b"Content-Type: text/plain\r\n"
    b"Content-Length: 5\r\n"
    b"\r\n"
    b"hello"
)


@pytest.fixture
def invite() -> Message:
    return parse(INVITE)


@pytest.mark.parametrize("name", ["from", "FROM", "f", "F", "From"])
def test_header_is_found_under_every_spelling(invite: Message, name: str) -> None:
    assert invite.get(name) == '"Alice" <sip:alice@example.org>;tag=1'


def test_reading(invite: Message) -> None:
    assert (invite.is_request, invite.method, invite.uri, invite.status) == (True, "INVITE", "sip:600@example.org", 0)
    assert (invite.via.protocol, invite.via.host, invite.via.branch, invite.via.param("rport")) == (
        "WSS",
        "x.invalid",
        "z9hG4bK1",
        "",
    )
    assert (invite.from_tag, invite.to_tag, invite.call_id, invite.cseq) == ("1", "", "abc", CSeq(1, "INVITE"))
    assert invite.max_forwards == 70
    assert invite.expires is None
    assert [contact.uri for contact in invite.contacts] == ["sip:a@x.invalid", "sip:b@x.invalid"]
    assert [value.split(";")[1] for value in invite.values("Via")] == [f"branch=z9hG4bK{n}" for n in (1, 2, 3)]
    assert invite.get("x-nothing") is None
    assert invite.get_all("x-nothing") == []
    assert invite.items()[0] == ("v", "SIP/2.0/WSS x.invalid;branch=z9hG4bK1;rport")


def _changed(before: bytes, after: bytes) -> tuple[list[bytes], list[bytes]]:
    old, new = before.split(b"\r\n"), after.split(b"\r\n")
    return [line for line in old if line not in new], [line for line in new if line not in old]


def test_an_edit_changes_its_line_and_no_other(invite: Message) -> None:
    invite.set("Max-Forwards", "69")
    assert _changed(INVITE, bytes(invite)) == ([b"Max-Forwards: 70"], [b"Max-Forwards: 69"])
    assert invite.max_forwards == 69


def test_set_replaces_all_lines_of_the_name_at_the_place_of_the_first(invite: Message) -> None:
    invite.set("Via", "SIP/2.0/UDP h;branch=z9hG4bKx")
    lines = bytes(invite).split(b"\r\n")
    assert lines[1] == b"Via: SIP/2.0/UDP h;branch=z9hG4bKx"
    assert invite.count("v") == 1
    assert invite.via.host == "h"


def test_places_of_new_lines(invite: Message) -> None:
    invite.prepend("Via", "SIP/2.0/UDP ours;branch=z9hG4bK0")
    invite.prepend("Record-Route", "<sip:ours;lr>")
    invite.add("Via", "SIP/2.0/UDP last;branch=z9hG4bK9")
    invite.add("X-New", "1")
    names = [name for name, _ in invite.items()]
    assert names[:5] == ["Record-Route", "Via", "v", "Via", "Via"]
    assert names[-1] == "X-New"
    assert invite.via.host == "ours"


def test_pop_first_takes_one_element_and_rewrites_the_rest_of_its_line(invite: Message) -> None:
    assert invite.pop_first("Via") == "SIP/2.0/WSS x.invalid;branch=z9hG4bK1;rport"
    assert invite.via.branch == "z9hG4bK2"
    assert invite.pop_first("Via") == "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK2"
    assert invite.get("Via") == "SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK3"
    assert invite.pop_first("Via") == "SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK3"
    assert invite.pop_first("Via") is None
    with pytest.raises(ParseError, match="Missing Via"):
        _ = invite.via


def test_remove_takes_off_every_line_of_the_name(invite: Message) -> None:
    invite.remove("Via")
    invite.remove("X-Nothing")
    assert invite.get_all("Via") == []


def test_body_carries_its_length_and_type(invite: Message) -> None:
    invite.set_body(b"v=0\r\n", "application/sdp")
    assert parse(bytes(invite)).body == b"v=0\r\n"
    assert invite.get("Content-Type") == "application/sdp"
    invite.set_body(b"")
    assert (invite.get("Content-Length"), invite.get("Content-Type")) == ("0", None)


def test_setting_the_uri_rewrites_the_request_line(invite: Message) -> None:
    invite.uri = "sip:601@192.0.2.5;transport=udp"
    assert bytes(invite).startswith(b"INVITE sip:601@192.0.2.5;transport=udp SIP/2.0\r\n")


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\rb"])
def test_our_own_mistakes_are_no_parse_errors(invite: Message, value: str) -> None:
    for edit in (invite.set, invite.add, invite.prepend):
        with pytest.raises(ValueError, match="one header line") as caught:
            edit("Subject", value)
        assert not isinstance(caught.value, ParseError)
    with pytest.raises(ValueError, match="Request-URI"):
        invite.uri = f"sip:{value}"
    with pytest.raises(ValueError, match="status line"):
        response_to(invite, 200, value)


def test_a_copy_is_independent(invite: Message) -> None:
    other = invite.copy()
    other.set("Max-Forwards", "1")
    other.pop_first("Via")
    other.uri = "sip:x@y"
    assert bytes(invite) == INVITE


def test_what_was_parsed_is_shared_with_copies_and_cannot_be_changed(invite: Message) -> None:
    for name in ("via", "from_", "to", "cseq", "contacts"):
        shared = getattr(invite, name)
        assert getattr(invite.copy(), name) is shared
        hash(shared)  # a list or any other thing that changes has none


@pytest.mark.parametrize(
    ("written", "stamped"),
    [
        ("SIP/2.0/UDP h;branch=z;rport", "SIP/2.0/UDP h;branch=z;rport=4000;received=192.0.2.7"),
        ("SIP/2.0/UDP h;rport;branch=z", "SIP/2.0/UDP h;rport=4000;branch=z;received=192.0.2.7"),
        ("SIP/2.0/UDP h;branch=z", "SIP/2.0/UDP h;branch=z;received=192.0.2.7"),
        ("SIP/2.0/UDP h;branch=z;rport=1;received=6.6.6.6", "SIP/2.0/UDP h;branch=z;rport=4000;received=192.0.2.7"),
        ("SIP/2.0/UDP h ; rport ; branch=z", "SIP/2.0/UDP h;rport=4000;branch=z;received=192.0.2.7"),
    ],
)
def test_the_topmost_via_learns_where_the_request_came_from(written: str, stamped: str) -> None:
    for tail in ("", ", SIP/2.0/TCP next;branch=y"):
        message = parse(f"OPTIONS sip:a SIP/2.0\r\nv: {written}{tail}\r\n\r\n".encode())
        message.stamp_via("192.0.2.7", 4000)
        assert message.values("Via")[0] == stamped
        assert message.via.param("received") == "192.0.2.7"
        assert len(message.values("Via")) == (2 if tail else 1)


def test_response_copies_what_the_rfc_says(invite: Message) -> None:
    response = response_to(invite, 486, to_tag="t2", headers=[("Retry-After", "5")])
    assert bytes(response) == (
        b"SIP/2.0 486 Busy Here\r\n"
        b"v: SIP/2.0/WSS x.invalid;branch=z9hG4bK1;rport\r\n"
        b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK2, SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK3\r\n"
        b'f: "Alice" <sip:alice@example.org>;tag=1\r\n'
        b"To:   <sip:600@example.org>  ;tag=t2\r\n"
        b"Call-ID: abc\r\n"
        b"CSeq: 1 INVITE\r\n"
        b"Retry-After: 5\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    assert response.to_tag == "t2"


def test_response_keeps_a_tag_that_is_there_and_carries_a_body(invite: Message) -> None:
    invite.set("To", "<sip:600@example.org>;tag=old")
    response = response_to(invite, 200, "Fine", to_tag="new", body=b"x", content_type="text/plain")
    assert (response.to_tag, response.reason, response.body) == ("old", "Fine", b"x")
    assert response.get("Content-Type") == "text/plain"


def test_timestamp_goes_into_a_100_only(invite: Message) -> None:
    invite.add("Timestamp", "54")
    assert response_to(invite, 100).get("Timestamp") == "54"
    assert response_to(invite, 180).get("Timestamp") is None


def test_made_messages_parse() -> None:
    headers = [("Via", "SIP/2.0/UDP h;branch=z9hG4bK1"), ("From", str(NameAddr("Jürgen", "sip:j@h")))]
    request = Message.request("MESSAGE", "sip:b@h", headers, b"hi")
    assert parse(bytes(request)).body == b"hi"
    assert parse(bytes(request)).from_.display == "Jürgen"
    response = Message.response(200, "OK", headers)
    assert parse(bytes(response)).status == 200
    with pytest.raises(ValueError, match="blank"):
        Message.request("MESSAGE", "sip:b@h x", [])


def test_contact_star_is_its_own_address() -> None:
    message = parse(b"REGISTER sip:h SIP/2.0\r\nContact: *\r\nExpires: 0\r\n\r\n")
    assert [contact.uri for contact in message.contacts] == ["*"]
    assert str(message.contacts[0]) == "*"
    assert message.expires == 0


def test_overlarge_scalars_count_as_the_largest() -> None:
    message = parse(b"REGISTER sip:h SIP/2.0\r\nExpires: " + b"9" * 6000 + b"\r\nMax-Forwards: 300\r\n\r\n")
    assert (message.expires, message.max_forwards) == (2**32 - 1, 255)
