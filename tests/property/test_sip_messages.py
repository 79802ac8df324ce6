"""What holds for every SIP message and every string of octets: identity, the oracle's reading, framing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.sip import (
    KEEPALIVE,
    Message,
    ParseError,
    StreamFramer,
    parse,
    parse_name_addr,
    parse_uri,
    parse_via,
    response_to,
    split_list,
    validate,
)
from siperb_core.testing import strategies as sip

from . import sip_oracle as oracle

WELL_FORMED_OR_NOT = sip.messages() | sip.broken_messages()


def _ask_everything(message: Message) -> None:
    """Every accessor; ParseError is the only exception any may raise."""
    names = [name for name, _ in message.items()]
    questions: list[Callable[[], Any]] = [
        lambda: (message.via, str(message.via), message.via.branch, message.via.sent_by),
        lambda: str(message.from_),
        lambda: str(message.to),
        lambda: message.from_tag,
        lambda: message.to_tag,
        lambda: message.call_id,
        lambda: str(message.cseq),
        lambda: message.max_forwards,
        lambda: message.expires,
        lambda: [str(contact.parsed_uri) for contact in message.contacts],
        lambda: message.copy().stamp_via("192.0.2.1", 5060),
        lambda: repr(message),
    ]
    for name in names:
        questions += [lambda name=name: message.get(name), lambda name=name: message.get_all(name)]
        questions += [lambda name=name: message.values(name), lambda name=name: message.copy().pop_first(name)]
    for question in questions:
        with contextlib.suppress(ParseError):
            question()


@given(sip.messages())
def test_untouched_message_is_given_back_octet_by_octet(data: bytes) -> None:
    message = parse(data)
    assert bytes(message) == data
    _ask_everything(message)
    validate(message)
    assert bytes(message) == data
    assert bytes(message.copy()) == data


@given(WELL_FORMED_OR_NOT | st.binary(max_size=200))
def test_nothing_but_parse_error_comes_out(data: bytes) -> None:
    try:
        message = parse(data)
    except ParseError as caught:
        error = caught
    else:
        error = None
    if error is not None:
        assert error.status in (400, 413, 513)
        if error.message is not None:
            assert bytes(response_to(error.message, error.status, error.reason, to_tag="x"))
        return
    validate(message)
    _ask_everything(message)
    if message.is_request:
        response_to(message, 400, to_tag="x")


@given(WELL_FORMED_OR_NOT)
def test_parser_reads_what_the_oracle_reads(data: bytes) -> None:
    try:
        expected = oracle.read(data)
    except oracle.Refused:
        with pytest.raises(ParseError):
            parse(data)
        return
    refusal = ""
    try:
        message = parse(data)
    except ParseError as error:
        refusal = error.reason
    if refusal:
        # The oracle leaves the Request-URI's inner grammar alone.
        assert refusal in ("Bad Request-URI", "Port out of range", "Bad start line")
        return
    assert (message.method, message.uri, message.status) == (expected.method, expected.uri, expected.status)
    assert message.body == expected.body
    assert [value for _, value in message.items()] == [value for _, value in expected.fields]
    for name, _ in expected.fields:
        assert message.get_all(name) == expected.all(name)
    _same(lambda: [parse_via(value) for value in message.get_all("Via")], lambda: expected.all("via"), _as_via)
    for key, product in (("from", lambda: message.from_), ("to", lambda: message.to)):
        if values := expected.all(key):
            _same(lambda product=product: [product()], lambda values=values: values[:1], _as_address)
    if expected.all("cseq"):
        _same(
            lambda: [(message.cseq.number, message.cseq.method)],
            lambda: [oracle.cseq(expected.all("cseq")[0])],
            lambda pair: pair,
        )
    _same(
        lambda: message.contacts if [a.uri for a in message.contacts] != ["*"] else [],
        lambda: [element for value in expected.all("contact") for element in oracle.elements(value) if element != "*"],
        _as_address,
    )


def _same(product: Callable[[], list[Any]], naive: Callable[[], list[Any]], reading: Callable[[Any], Any]) -> None:
    try:
        expected = [reading(value) for value in naive()]
    except oracle.Refused:
        with pytest.raises(ParseError):
            product()
        return
    assert [_plain(value) for value in product()] == expected


def _plain(value: Any) -> Any:
    if hasattr(value, "display"):
        return value.display, value.uri, list(value.params)
    if hasattr(value, "protocol"):
        host = f"[{value.host}]" if ":" in value.host else value.host
        return value.protocol, host, value.port, list(value.params)
    return value


def _as_address(text: str) -> Any:
    address = oracle.address(text)
    return address.display, address.uri, address.params


def _as_via(text: str) -> Any:
    protocol, host, port, params = oracle.via(text)
    while ":::" in host:
        host = host.replace(":::", "::")
    return protocol, host, port, params


@given(sip.uris())
def test_uri_survives_being_read_and_written(text: str) -> None:
    uri = parse_uri(text)
    assert parse_uri(str(uri)) == uri


@given(sip.display_texts(), sip.sip_uris(), sip.tokens())
def test_address_survives_being_written_and_read(display: str, uri: str, tag: str) -> None:
    address = parse_name_addr(f"<{uri}>").with_param("tag", tag)
    address = type(address)(display, address.uri, address.params)
    assert parse_name_addr(str(address)) == address


@given(st.lists(sip.name_addrs().map(lambda text: " ".join(text.split("\r\n"))), max_size=5))
def test_list_parts_at_the_commas_between_elements_only(addresses: list[str]) -> None:
    assert split_list(", ".join(addresses)) == [address.strip(" \t") for address in addresses]


_PIECES = sip.messages().filter(lambda data: b"ength" in data.lower() or b"\r\nl" in data.lower())


@given(st.data(), st.lists(_PIECES | st.sampled_from([b"\r\n\r\n", b"\r\n"]), max_size=4))
def test_any_split_of_a_stream_gives_the_same_messages(data: st.DataObject, pieces: list[bytes]) -> None:
    stream = b"".join(pieces)
    whole = StreamFramer().feed(stream)
    framer = StreamFramer()
    parts = [message for piece in data.draw(sip.splits(stream)) for message in framer.feed(piece)]
    assert parts == whole
    assert [part for part in parts if part != KEEPALIVE] == [piece for piece in pieces if piece.strip()]


@given(st.data(), st.lists(sip.broken_messages(), min_size=1, max_size=3))
def test_any_split_of_a_broken_stream_breaks_at_the_same_message(data: st.DataObject, pieces: list[bytes]) -> None:
    stream = b"".join(pieces)

    def run(parts: list[bytes]) -> tuple[list[bytes], str]:
        framer, messages = StreamFramer(), []
        try:
            for part in parts:
                messages += framer.feed(part)
            messages += framer.feed(b"")
        except ParseError as error:
            return messages, error.reason
        return messages, ""

    assert run(data.draw(sip.splits(stream))) == run([stream])


@given(WELL_FORMED_OR_NOT)
def test_stream_and_datagram_agree_on_where_a_message_ends(data: bytes) -> None:
    try:
        messages = StreamFramer().feed(data)
    except ParseError:
        return
    for message in messages:
        if message != KEEPALIVE:
            with contextlib.suppress(ParseError):
                assert bytes(parse(message)) == message


# Worst cases: work is counted in lines of Python run, so that the machine's load does not matter. A regular expression
# counts once; that each is linear in itself is shown by its structure (tests/unit/sip/test_grammar.py).

_HEAD = (
    b"OPTIONS sip:b@example.org SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:b@example.org>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n"
)
_WORST: dict[str, Callable[[int], bytes]] = {
    "headers": lambda n: _HEAD + b"X:y\r\n" * n,
    "commas": lambda n: _HEAD + b"Contact: " + b"," * n + b"\r\n",
    "addresses": lambda n: _HEAD + b"Contact: " + b"<sip:a@b>," * (n // 10) + b"\r\n",
    "quotes": lambda n: _HEAD + b"Contact: " + b'"' * n + b"\r\n",
    "escapes": lambda n: _HEAD + b'Contact: "' + b'\\"' * (n // 2) + b"\r\n",
    "brackets": lambda n: _HEAD + b"Contact: " + b"<" * n + b"\r\n",
    "params": lambda n: _HEAD + b"Contact: <sip:a@b>" + b";a=b" * (n // 4) + b"\r\n",
    "blanks": lambda n: _HEAD + b"Contact: <sip:a@b>" + b" " * n + b"x\r\n",
    "blank params": lambda n: _HEAD + b"Contact: <sip:a@b>" + b" ;" * (n // 2) + b"\r\n",
    "words": lambda n: _HEAD + b"Contact: " + b"a " * (n // 2) + b"\r\n",
    "digits": lambda n: _HEAD + b"Expires: " + b"9" * n + b"\r\n",
    "folds": lambda n: _HEAD + b"Contact: a" + b"\r\n " * (n // 3) + b"b\r\n",
    "vias": lambda n: _HEAD + b"Via: " + b"SIP/2.0/UDP h;branch=z9hG4bK1, " * (n // 31) + b"\r\n",
    "branches": lambda n: _HEAD.replace(b"branch", b";branch = " * (n // 10) + b";branch"),
    "uri": lambda n: _HEAD.replace(b"b@example", b"%41" * (n // 3) + b"b@example"),
    "at signs": lambda n: _HEAD.replace(b"b@example", b"b@" * (n // 2)),
    "lone breaks": lambda n: _HEAD + b"\r" * n + b"\r\n",
}


def _steps(data: bytes) -> int:
    """Lines of Python run to read the message and ask everything of it."""
    count = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        message = parse(data + b"\r\n")
        validate(message)
        for question in (lambda: message.contacts, lambda: message.expires, lambda: message.via):
            with contextlib.suppress(ParseError):
                question()
    except ParseError:
        pass
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("name", _WORST)
def test_work_grows_no_faster_than_the_message(name: str) -> None:
    make = _WORST[name]
    assert _steps(make(60_000)) <= 2.2 * _steps(make(30_000)) + 50


def test_limits_are_named_in_the_status() -> None:
    for data, status in (
        (_HEAD + b"X:y\r\n" * 5_000 + b"\r\n", 513),
        (_HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n", 513),
        (_HEAD + b"\r\n" + b"y" * 300_000, 413),
    ):
        with pytest.raises(ParseError) as caught:
            parse(data)
        assert caught.value.status == status
