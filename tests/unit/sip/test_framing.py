"""Messages out of a byte stream: boundaries, keep-alives, limits."""

from __future__ import annotations

import pytest

from siperb_core.sip import KEEPALIVE, ParseError, StreamFramer

HEAD = b"OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n"
EMPTY = HEAD + b"Content-Length: 0\r\n\r\n"
BODY = HEAD + b"l :\r\n 5\r\n\r\nhello"


def test_octet_by_octet() -> None:
    framer = StreamFramer()
    stream = EMPTY + KEEPALIVE + BODY + b"\r\n" + EMPTY
    messages = [message for i in range(len(stream)) for message in framer.feed(stream[i : i + 1])]
    assert messages == [EMPTY, KEEPALIVE, BODY, EMPTY]
    assert framer.pending == 0


def test_a_message_without_length_ends_with_its_head() -> None:
    assert StreamFramer().feed(HEAD + b"\r\n" + EMPTY) == [HEAD + b"\r\n", EMPTY]


def test_incomplete_octets_are_held_and_counted() -> None:
    framer = StreamFramer()
    assert framer.feed(BODY[:-1]) == []
    assert framer.pending == len(BODY) - 1
    assert framer.feed(BODY[-1:]) == [BODY]


def test_messages_before_the_broken_place_are_delivered_first() -> None:
    framer = StreamFramer()
    assert framer.feed(EMPTY + HEAD + b"Content-Length: -1\r\n\r\n" + EMPTY) == [EMPTY]
    assert framer.broken is not None
    with pytest.raises(ParseError) as caught:
        framer.feed(EMPTY)
    assert caught.value.status == 400
    assert caught.value.message is not None
    assert caught.value.message.call_id == "x"


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (HEAD + b"l: 0\r\nContent-Length: 0\r\n\r\n", 400),
        (HEAD + b"l: x\r\n\r\n", 400),
        (HEAD + b"l: 101\r\n\r\n", 413),
        (HEAD + b"l: " + b"9" * 400 + b"\r\n\r\n", 413),
        (b"x" * 1100, 513),
        (b"x" * 1100 + b"\r\n\r\n", 513),
        (b"\n", 400),
        (b"\rx", 400),
        (b"\r\n\rx", 400),
    ],
)
def test_what_cannot_be_resynchronised_is_refused_for_good(octets: bytes, status: int) -> None:
    framer = StreamFramer(max_header=1000, max_body=100)
    for _ in range(2):
        with pytest.raises(ParseError) as caught:
            framer.feed(octets)
        assert caught.value.status == status
    assert framer.pending == 0
