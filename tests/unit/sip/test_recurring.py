"""The quick reading of header lines says what the complete grammar says, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.sip import NameAddr, ParseError, Via, parse_name_addr, parse_via
from siperb_core.sip import recurring as quick
from siperb_core.sip.grammar import unfold
from siperb_core.sip.headers import parse_cseq, parse_number
from siperb_core.testing import strategies as sip

COMMON = [
    ("From", '"Alice" <sip:a@example.org>;tag=b7sc1pkl2e'),
    ("To", "<sip:600@example.org>"),
    ("To", "sip:600@example.org;tag=0c9a-4b1e"),
    ("Via", "SIP/2.0/WSS x.invalid;branch=z9hG4bK5393049;rport"),
    ("Via", "SIP/2.0/UDP [2001:db8::1]:5060;rport;branch=z9hG4bKPj.1"),
    ("Via", "SIP/2.0/UDP 192.0.2.1;received=192.0.2.1;branch=z9hG4bK1;rport=5060"),
    ("CSeq", "8461 INVITE"),
    ("Max-Forwards", "70"),
]
"""(name, value) of lines as nearly everybody writes them."""

TRAPS = [
    ("From", '"x;tag=y" <sip:a@b>;tag=z'),
    ("From", "<sip:a@b;tag=uri>"),
    ("From", "<sip:a@b;tag=uri>;tag=field"),
    ("From", "<sip:a@b>;TAG=first;tag=second"),
    ("From", "<sip:a@b>;tag=first;tag=second"),
    ("From", "<sip:a@b>;tag=a b"),
    ("From", "<sip:a@b>;tag="),
    ("From", '<sip:a@b>;x=";tag=y"'),
    ("From", "<sip:a@b>;tag=a\r\n b"),
    ("From", "<sip:a@b>\r\n ;tag=a"),
    ("From", "sip:a@b;lr;tag=1"),
    ("From", "*"),
    ("Via", "SIP/2.0/UDP h;branch;branch=z9hG4bK1"),
    ("Via", "SIP/2.0/UDP h;BRANCH=z9hG4bK0;branch=z9hG4bK1"),
    ("Via", "SIP/2.0/UDP h;branch=z9hG4bK1;branch=z9hG4bK2"),
    ("Via", "SIP/2.0/UDP h;branch=z9hG4bK1, SIP/2.0/UDP i;branch=z9hG4bK2"),
    ("Via", "SIP/2.0/UDP h, SIP/2.0/UDP i;branch=z9hG4bK2"),
    ("Via", 'SIP/2.0/UDP h;x=";branch=z9hG4bK1";branch=z9hG4bK2'),
    ("Via", "SIP/2.0/UDP h;branch=z9hG4bK"),
    ("Via", "SIP/2.0/UDP h;branch=z9hG4bK+/=;rport"),
    ("Via", "SIP/2.0/UDP h;branch=1"),
    ("Via", "SIP/2.0/UDP h;branch=z9hG4bK1;"),
    ("Via", "SIP/2.0/UDP h:65536;branch=z9hG4bK1"),
    ("Via", "SIP / 2.0 / UDP h ; rport ;branch=z9hG4bK1 ; received = 192.0.2.1"),
    ("Via", "SIP/2.0/UDP\r\n h;branch=z9hG4bK1"),
    ("CSeq", "4294967296 INVITE"),
    ("CSeq", "0009 INVITE"),
    ("CSeq", "9"),
    ("CSeq", "9 IN VITE"),
]


def _grammar(name: str, value: str) -> Any:
    match name:
        case "Via":
            return parse_via(value)
        case "CSeq":
            return parse_cseq(value)
        case "Max-Forwards":
            return parse_number("Max-Forwards", value, 255)
        case _:
            if value == "*":
                raise ParseError("Bad From")
            return parse_name_addr(value)


def _quickly(name: str, line: str) -> Any:
    match name:
        case "Via":
            found = quick.via_line(line)
            return None if found is None else quick.whole_via(found[0], found[1], found[2] or "")
        case "CSeq":
            return quick.cseq_line(line)
        case "Max-Forwards":
            return quick.max_forwards_line(line)
        case _:
            address = quick.address_line(line)
            if isinstance(address, tuple):
                address = address[0].with_param("tag", address[1])
            return address


def _agree(name: str, value: str) -> None:
    line = f"{name}: {value}"
    try:
        expected = _grammar(name, unfold(value))
    except ParseError:
        # Not read, or refused likewise: nobody takes it for good.
        try:
            assert _quickly(name, line) is None
        except ParseError:
            pass
        return
    found = _quickly(name, line)
    assert found is None or found == expected


@pytest.mark.parametrize(("name", "value"), COMMON)
def test_the_common_forms_are_read_quickly(name: str, value: str) -> None:
    assert _quickly(name, f"{name}: {value}") == _grammar(name, value)


@pytest.mark.parametrize(("name", "value"), TRAPS)
def test_what_looks_like_the_common_form_is_not_misread(name: str, value: str) -> None:
    _agree(name, value)


@given(
    st.tuples(st.just("From"), sip.name_addrs())
    | st.tuples(st.just("Via"), sip.vias())
    | st.tuples(st.just("CSeq"), st.builds("{} {}".format, st.integers(0, 1 << 33), sip.methods()))
)
def test_quick_reading_and_grammar_agree(line: tuple[str, str]) -> None:
    _agree(*line)


@given(st.sampled_from(COMMON + TRAPS), st.data())
def test_quick_reading_and_grammar_agree_on_what_is_nearly_right(line: tuple[str, str], data: st.DataObject) -> None:
    name, value = line
    place = data.draw(st.integers(0, len(value)))
    wound = data.draw(
        st.sampled_from(['"', "<", ">", ";", "=", ",", " ", "\t", "\\", ";tag=", ";branch=", "\r\n ", "é"])
    )
    _agree(name, value[:place] + wound + value[place:])


@pytest.mark.parametrize(
    ("value", "everybody"),
    [
        ("SIP/2.0/UDP h;branch=z9hG4bK1;received=192.0.2.1", False),
        ("SIP/2.0/UDP h;branch=224.0.0.1", False),
        ("SIP/2.0/UDP h;branch=z9hG4bK1;maddr=224.0.0.1", True),
        ("SIP/2.0/UDP h;received=255.255.255.255;branch=z9hG4bK1", True),
        ("SIP/2.0/UDP 239.1.2.3;branch=z9hG4bK1", True),
        ("SIP/2.0/UDP 239.1.2.3", True),
        ("SIP/2.0/UDP [ff02::1];branch=z9hG4bK1", True),
        ("SIP/2.0/UDP h;branch=z9hG4bK1, SIP/2.0/UDP 224.0.0.1", True),
        ("SIP/2.0/UDP h;branch=z9hG4bK1;maddr\r\n =224.0.0.1", True),
        ("SIP/2.0/UDP h;branch=z9hG4bK1;maddr\r\n =\r\n 224.0.0.1;" + "x" * 300, True),
    ],
)
def test_a_via_that_would_answer_everybody_is_seen(value: str, everybody: bool) -> None:
    assert quick.via_to_everybody(f"Via: {value}") is everybody


def test_what_is_remembered_is_bounded() -> None:
    long = "x" * 70_000
    before = quick._address_before.cache_info().currsize
    address = quick.address_line(f'From: "{long}" <sip:a@b>;tag=1')
    assert address is None
    assert quick.via_line(f"Via: SIP/2.0/UDP {long};branch=z9hG4bK1") is None
    assert quick._address_before.cache_info().currsize == before
    for remembered in vars(quick).values():
        if hasattr(remembered, "cache_info"):
            assert remembered.cache_info().maxsize == quick._MOST
    for number in range(quick._MOST + 100):
        assert isinstance(quick.address_line(f"From: <sip:{number}@h>;tag=1"), tuple)
    assert quick._address_before.cache_info().currsize == quick._MOST


def test_readings_are_immutable() -> None:
    """They are shared by all messages that have this text."""
    address = quick.address_line("From: <sip:a@b>;tag=1")
    assert isinstance(address, tuple)
    assert isinstance(address[0], NameAddr)
    with pytest.raises(AttributeError):
        address[0].uri = "sip:other@b"  # type: ignore[misc]
    via = quick.via_line("Via: SIP/2.0/UDP h;branch=z9hG4bK1")
    assert via is not None
    assert isinstance(via[0], Via)
    with pytest.raises(AttributeError):
        via[0].host = "other"  # type: ignore[misc]
