"""RTP packets: what is written is read, and nothing but RtpError comes out of what is not RTP."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.rtp.packet import RtpError, RtpPacket, build_rtp, kind_of, parse_rtp

packets = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=200),
    marker=st.booleans(),
)


@given(packets)
def test_what_is_written_is_read(packet: RtpPacket) -> None:
    assert parse_rtp(build_rtp(packet)) == packet


def test_sources_extension_and_padding_are_no_payload() -> None:
    header = bytes([0x80 | 0x20 | 0x10 | 2, 9, 0, 1]) + bytes(8)
    data = header + bytes(8) + b"\xbe\xde\x00\x01" + bytes(4) + b"sound" + b"\x00\x00\x03"
    assert parse_rtp(data).payload == b"sound"


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x00",
        b"\x40" + bytes(11),
        b"\x8f" + bytes(11),
        b"\x90" + bytes(11),
        b"\x90" + bytes(11) + b"\x00\x00\xff\xff",
        b"\xa0" + bytes(11) + b"\x02",
        b"\xa0" + bytes(11) + b"\x00",
    ],
    ids=["short", "version", "sources", "extension", "long extension", "padding", "no padding"],
)
def test_lengths_that_do_not_add_up_are_refused(data: bytes) -> None:
    with pytest.raises(RtpError):
        parse_rtp(data)


@given(st.binary(max_size=100))
def test_any_octets_give_a_packet_or_the_error(data: bytes) -> None:
    with contextlib.suppress(RtpError):
        parse_rtp(data)
    kind_of(data)


def test_first_octets_tell_what_shares_the_port() -> None:
    kinds = {
        b"\x00\x01": "stun",
        b"\x16\xfe": "dtls",
        b"\x80\x60": "rtp",
        b"\x80\xc8": "rtcp",
        b"\x50\x00": "unknown",
        b"": "unknown",
    }
    assert {data: kind_of(data) for data in kinds} == kinds
