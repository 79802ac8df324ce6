"""Frames, held against wsproto as the other end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from siperb_core.transport.websocket_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MAX_DISCARDED,
    MAX_FRAGMENTS,
    OVERSIZED,
    PING,
    TEXT,
    FrameError,
    FrameReader,
    close_frame,
    frame,
    message_frame,
)

EVENTS = st.one_of(
    st.builds(TextMessage, st.text(max_size=300)),
    st.builds(BytesMessage, st.binary(max_size=300)),
    st.builds(Ping, st.binary(max_size=125)),
)


@given(st.lists(EVENTS, max_size=6), st.lists(st.integers(0, 2000), max_size=8))
def test_what_a_client_sends_is_read_in_any_chunking(events: list, cuts: list[int]) -> None:
    client = Connection(ConnectionType.CLIENT)
    octets = b"".join(client.send(event) for event in events) + client.send(CloseConnection(1000, "bye"))
    reader = FrameReader(1 << 16)
    got = []
    points = sorted(min(cut, len(octets)) for cut in cuts)
    for start, stop in zip([0, *points], [*points, len(octets)], strict=True):
        reader.feed(octets[start:stop])
        while (one := reader.next_frame()) is not None:
            got.append(one)
    kinds = {TextMessage: TEXT, BytesMessage: BINARY, Ping: PING}
    sent = []
    for event in events:
        payload = event.payload if isinstance(event, Ping) else event.data
        sent.append((kinds[type(event)], payload.encode() if isinstance(payload, str) else bytes(payload)))
    assert got == [*sent, (CLOSE, b"\x03\xe8bye")]
    assert reader.frames == len(events) + 1


@given(st.binary(max_size=70_000))
def test_what_we_send_is_what_a_client_reads(message: bytes) -> None:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(message_frame(message) + close_frame(1001, "x" * 500))
    parts = list(client.events())
    data = [part.data if isinstance(part.data, str) else bytes(part.data) for part in parts[:-1]]
    whole = "".join(data) if data and isinstance(data[0], str) else b"".join(data)
    assert (whole.encode() if isinstance(whole, str) else whole) == message
    assert (parts[-1].code, parts[-1].reason) == (1001, "x" * 123)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_octets_give_frames_or_a_frame_error(chunks: list[bytes]) -> None:
    reader = FrameReader(1000)
    try:
        for chunk in chunks:
            reader.feed(chunk)
            while reader.next_frame() is not None:
                pass
    except FrameError as error:
        assert error.code in (1002, 1007, 1009)


def masked(first: int, payload: bytes, length: bytes | None = None) -> bytes:
    return (
        bytes([first])
        + (length or bytes([0x80 | len(payload)]))
        + b"\1\2\3\4"
        + bytes(octet ^ (1, 2, 3, 4)[at % 4] for at, octet in enumerate(payload))
    )


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (masked(0x80, b"no beginning"), 1002),
        (masked(0x01, b"one") + masked(0x81, b"another begins"), 1002),
        (masked(0x09, b"fragment of a ping"), 1002),
        (masked(0x82, b"", b"\xfe\x00\x05"), 1002),
        (masked(0x82, b"", b"\xff" + bytes(6) + b"\xff\xff"), 1002),
        (masked(0x82, b"", b"\xff\x80" + bytes(7)), 1009),
        (masked(0x88, b"\x03"), 1002),
        (masked(0x88, b"\x03\xee"), 1002),
        (masked(0x88, b"\x03\xe8\xff"), 1007),
        (masked(0x01, b"\xc3") + masked(0x80, b"\x28"), 1007),
    ],
)
def test_mistakes(octets: bytes, code: int) -> None:
    reader = FrameReader(1000)
    reader.feed(octets)
    with pytest.raises(FrameError) as error:
        while reader.next_frame() is not None:
            pass
    assert error.value.code == code


def test_a_control_frame_may_stand_between_fragments() -> None:
    reader = FrameReader(1000)
    reader.feed(masked(0x01, b"\xc3") + masked(0x89, b"p") + masked(0x80, b"\xa9"))
    assert [reader.next_frame() for _ in range(4)] == [(CONTINUATION, b""), (PING, b"p"), (TEXT, "é".encode()), None]


def test_an_empty_first_fragment_counts() -> None:
    reader = FrameReader(1000)
    reader.feed(masked(0x02, b"") + masked(0x80, b"end"))
    assert [reader.next_frame() for _ in range(2)] == [(CONTINUATION, b""), (BINARY, b"end")]


def of_length(first: int, payload: bytes) -> bytes:
    """A long frame of a client, masked with zeros."""
    return bytes([first, 0xFF]) + len(payload).to_bytes(8, "big") + bytes(4) + payload


@given(st.lists(st.integers(1, 300_000), max_size=6), st.lists(st.booleans(), max_size=6))
def test_of_a_message_that_is_too_long_the_beginning_is_kept_and_no_more(cuts: list[int], pinged: list[bool]) -> None:
    message = bytes(range(256)) * 900
    fragments = [message[:70_000], message[70_000:150_000], message[150_000:]]
    octets = of_length(0x02, fragments[0])
    for index, part in enumerate(fragments[1:]):
        octets += masked(0x89, b"p") if pinged[index : index + 1] == [True] else b""
        octets += of_length(0x80 if index == 1 else 0x00, part)
    octets += masked(0x82, b"the next")
    reader = FrameReader(65_536)
    found = []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(octets)], strict=True):
        for at in range(start, stop, 16_384):
            reader.feed(octets[at : min(at + 16_384, stop)])
            while (got := reader.next_frame()) is not None:
                found.append(got)
            held = len(reader._buffer) + sum(map(len, reader._parts))
            assert held <= 65_536 + 16_384 + 14, "a message and a read"
    assert [got for got in found if got not in ((CONTINUATION, b""), (PING, b"p"))] == [
        (OVERSIZED, message[:65_536]),
        (BINARY, b"the next"),
    ]


def test_what_is_discarded_is_bounded() -> None:
    reader = FrameReader(1000)
    reader.feed(masked(0x02, bytes(1001), b"\xfe" + (1001).to_bytes(2, "big")))
    assert reader.next_frame() == (CONTINUATION, b"")
    reader.feed(bytes((0x00, 0xFF)) + MAX_DISCARDED.to_bytes(8, "big"))
    with pytest.raises(FrameError) as error:
        reader.next_frame()
    assert error.value.code == 1009


def test_fragments_are_counted_though_they_are_empty() -> None:
    reader = FrameReader(1000)
    reader.feed(masked(0x02, b"") + masked(0x00, b"") * MAX_FRAGMENTS)
    for _ in range(MAX_FRAGMENTS):
        assert reader.next_frame() == (CONTINUATION, b"")
    with pytest.raises(FrameError) as error:
        reader.next_frame()
    assert error.value.code == 1008


def test_control_frames_we_send_are_short() -> None:
    assert frame(PING, b"") == b"\x89\x00"
