"""RTCP: reports round trip, times are right, malformed compounds are refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.rtp.packet import RtpError
from siperb_core.rtp.rtcp import (
    Bye,
    Report,
    ReportBlock,
    SenderInfo,
    build_bye,
    build_cname,
    build_report,
    middle,
    ntp_time,
    parse_rtcp,
    round_trip,
)

word = st.integers(0, 0xFFFFFFFF)
blocks = st.builds(ReportBlock, word, st.integers(0, 255), st.integers(-0x800000, 0x7FFFFF), word, word, word, word)
senders = st.none() | st.builds(SenderInfo, st.integers(0, 2**64 - 1), word, word, word)
reports = st.builds(Report, word, senders, st.lists(blocks, max_size=31).map(tuple))


@given(reports, word)
def test_a_compound_packet_is_read_as_it_was_written(report: Report, ssrc: int) -> None:
    data = build_report(report) + build_cname(ssrc, "gateway") + build_bye((ssrc,))
    assert parse_rtcp(data) == [report, Bye((ssrc,))]


@given(st.binary(max_size=120))
def test_any_octets_give_packets_or_the_error(data: bytes) -> None:
    with contextlib.suppress(RtpError):
        parse_rtcp(data)


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x81\xc8\x00\x01" + bytes(4), b"\x80\xc9\x00\x09" + bytes(4), b"\x00\xc9\x00\x00"]
)
def test_malformed_packets_are_refused(data: bytes) -> None:
    with pytest.raises(RtpError):
        parse_rtcp(data)


def test_a_compound_without_end_is_refused() -> None:
    with pytest.raises(RtpError):
        parse_rtcp(b"\x80\xcc\x00\x00" * 100)


def test_names_are_padded_to_words() -> None:
    for length in range(20):
        data = build_cname(1, "n" * length)
        assert len(data) % 4 == 0
        assert data[-1] == 0
    with pytest.raises(ValueError):
        build_cname(1, "n" * 256)


def test_the_round_trip_is_what_passed_less_what_the_peer_waited() -> None:
    sent, now = ntp_time(1_000_000.0), ntp_time(1_000_000.75)
    block = ReportBlock(1, 0, 0, 0, 0, middle(sent), delay=65536 // 2)
    assert round_trip(block, now) == pytest.approx(0.25, abs=0.001)
    assert round_trip(ReportBlock(1, 0, 0, 0, 0, 0, 0), now) is None
    assert round_trip(ReportBlock(1, 0, 0, 0, 0, middle(now), 65536), now) is None
