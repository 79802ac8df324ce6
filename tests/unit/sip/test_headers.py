"""Addresses, Via and lists as objects."""

from __future__ import annotations

import pytest

from siperb_core.sip import NameAddr, ParseError, parse, parse_name_addr, parse_via, split_list, validate
from siperb_core.sip.headers import MOST_ELEMENTS


def test_parameters_are_of_the_header_outside_the_brackets_and_of_the_uri_inside() -> None:
    outside = parse_name_addr("sip:a@h;unknown=1")
    assert (outside.uri, outside.params) == ("sip:a@h", (("unknown", "1"),))
    inside = parse_name_addr("<sip:a@h;unknown=1>")
    assert (inside.uri, inside.params) == ("sip:a@h;unknown=1", ())


def test_changing_parameters() -> None:
    address = parse_name_addr('<sip:a@h>;+sip.instance="<urn:uuid:1>";Expires=3')
    assert address.param("+SIP.instance") == "<urn:uuid:1>"
    assert str(address.with_param("expires", "9")) == '<sip:a@h>;+sip.instance="<urn:uuid:1>";Expires=9'
    assert str(address.with_param("ob", None).without_param("expires").without_param("+sip.instance")) == "<sip:a@h>;ob"
    assert address.with_param("ob", None).param("ob") == ""
    assert address.parsed_uri.host == "h"


@pytest.mark.parametrize(
    "text", ["", "*x", "<>", "<sip:>", "<sip:a@h", "a, b <sip:a@h>", '"a <sip:a@h>', "< sip:a@h >"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ParseError):
        parse_name_addr(text)


def test_tag_inside_a_quoted_parameter_is_no_tag() -> None:
    assert parse_name_addr('<sip:a@h>;x=";tag=evil";tag=good').tag == "good"
    assert parse_name_addr('";tag=evil" <sip:a@h>').tag == ""


def test_display_name_is_plain_text() -> None:
    address = parse_name_addr('"a \\"b\\" \\\\" <sip:a@h>')
    assert address.display == 'a "b" \\'
    assert str(address) == '"a \\"b\\" \\\\" <sip:a@h>'
    assert str(NameAddr("", "sip:a@h")) == "<sip:a@h>"


def test_via_is_read_and_written() -> None:
    via = parse_via("SIP / 2.0 / UDP [2001:db8::1]:5060 ; branch=z9hG4bK1 ; rport, SIP/2.0/TCP x")
    assert str(via) == "SIP/2.0/UDP [2001:db8::1]:5060;branch=z9hG4bK1;rport"
    assert (via.host, via.port, via.sent_by) == ("2001:db8::1", 5060, "[2001:db8::1]:5060")
    assert str(via.with_param("rport", "7").without_param("branch")) == "SIP/2.0/UDP [2001:db8::1]:5060;rport=7"
    assert via.without_param("branch").branch == ""


@pytest.mark.parametrize(
    "text", ["", "SIP/2.0/UDP", "SIP/3.0/UDP h", "SIP/2.0/UDP h;;", "SIP/2.0/UDP h x", "HTTP/2.0/UDP h"]
)
def test_what_is_no_via(text: str) -> None:
    with pytest.raises(ParseError):
        parse_via(text)


def test_list_elements() -> None:
    assert split_list('a , "b,c" <sip:d,e> ,, f') == ["a", '"b,c" <sip:d,e>', "f"]
    assert split_list("") == []
    for text in ('a, "b', "a, <b", '"'):
        with pytest.raises(ParseError):
            split_list(text)


def test_a_list_has_a_bounded_number_of_elements_and_any_number_of_commas() -> None:
    """64 KiB of `a,` would cost 30 ms, of `,` nearly nothing."""
    assert split_list("," * 60_000 + "<sip:a@b> , ,") == ["<sip:a@b>"]
    assert len(split_list("<sip:a@b>," * MOST_ELEMENTS)) == MOST_ELEMENTS
    with pytest.raises(ParseError, match="Too many elements"):
        split_list("<sip:a@b>," * MOST_ELEMENTS + "<sip:a@b>")


@pytest.mark.parametrize("more", ["", ';x="y"'])
def test_an_address_and_a_via_have_a_bounded_number_of_parameters(more: str) -> None:
    params = more + ";a" * (MOST_ELEMENTS - more.count(";"))
    assert len(parse_name_addr("<sip:a@b>" + params).params) == MOST_ELEMENTS
    with pytest.raises(ParseError, match="Too many parameters"):
        parse_name_addr("<sip:a@b>" + params + ";a")
    with pytest.raises(ParseError, match="Too many parameters"):
        parse_via("SIP/2.0/UDP h" + params + ";branch=z9hG4bK1")


def test_validate_refuses_what_has_too_many_parameters() -> None:
    """Also behind the tag or the branch, where the text is otherwise read later."""
    head = "OPTIONS sip:a@b SIP/2.0\r\nVia: {}\r\nFrom: {}\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n"
    many = ";a" * (MOST_ELEMENTS + 1)
    for via, from_ in (
        ("SIP/2.0/UDP h;branch=z9hG4bK1" + many, "<sip:a@b>;tag=1"),
        ("SIP/2.0/UDP h;branch=z9hG4bK1", "<sip:a@b>;tag=1" + many),
    ):
        verdict = validate(parse(head.format(via, from_).encode()))
        assert verdict is not None
        assert verdict.status == 400
