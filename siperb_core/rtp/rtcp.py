"""RTCP compound packets: SR, RR, SDES, BYE (RFC 3550 section 6)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import attrs

from siperb_core.rtp.packet import RtpError

NTP_EPOCH: Final = 2_208_988_800
"""Seconds from 1900 to 1970: NTP time counts from 1900."""

_SR, _RR, _SDES, _BYE = 200, 201, 202, 203
_BLOCK = struct.Struct("!IIIIII")
_SENDER = struct.Struct("!IIIII")
_MAX_PACKETS = 32


@attrs.frozen
class ReportBlock:
    """What a receiver says of one source (section 6.4.1).

    `fraction_lost` in 1/256, `jitter` in clock units, times in 1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    lost: int
    highest: int
    jitter: int
    last_sr: int
    delay: int


@attrs.frozen
class SenderInfo:
    """What a sender says of itself. `ntp` is the 64-bit NTP time."""

    ntp: int
    timestamp: int
    packets: int
    octets: int


@attrs.frozen
class Report:
    """An SR, or an RR when `sender` is None."""

    ssrc: int
    sender: SenderInfo | None = None
    blocks: tuple[ReportBlock, ...] = ()


@attrs.frozen
class Bye:
    """The sources that have left."""

    ssrcs: tuple[int, ...]


def ntp_time(epoch_seconds: float) -> int:
    """Turn seconds since 1970 into a 64-bit NTP time stamp."""
    return int((epoch_seconds + NTP_EPOCH) * (1 << 32)) & 0xFFFFFFFFFFFFFFFF


def middle(ntp: int) -> int:
    """Give the middle 32 bits of an NTP time stamp: units of 1/65536 s."""
    return (ntp >> 16) & 0xFFFFFFFF


def round_trip(block: ReportBlock, now_ntp: int) -> float | None:
    """Give the round trip time in seconds that a report block tells (section 6.4.1), or None when it tells none."""
    if not block.last_sr:
        return None
    ticks = (middle(now_ntp) - block.last_sr - block.delay) & 0xFFFFFFFF
    return ticks / 65536 if ticks < 0x80000000 else None


def _packet(count: int, kind: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def build_report(report: Report) -> bytes:
    """Write an SR or RR packet."""
    body = struct.pack("!I", report.ssrc)
    if report.sender is not None:
        s = report.sender
        body += _SENDER.pack(
            s.ntp >> 32, s.ntp & 0xFFFFFFFF, s.timestamp, s.packets & 0xFFFFFFFF, s.octets & 0xFFFFFFFF
        )
    for b in report.blocks:
        lost = max(-0x800000, min(b.lost, 0x7FFFFF)) & 0xFFFFFF
        body += _BLOCK.pack(
            b.ssrc, b.fraction_lost << 24 | lost, b.highest & 0xFFFFFFFF, b.jitter & 0xFFFFFFFF, b.last_sr, b.delay
        )
    return _packet(len(report.blocks), _SR if report.sender is not None else _RR, body)


def build_cname(ssrc: int, cname: str) -> bytes:
    """Write an SDES packet with one CNAME item (section 6.5.1).

    Raises ValueError when the name is longer than 255 octets.
    """
    name = cname.encode()
    if len(name) > 255:
        raise ValueError("a CNAME is at most 255 octets")
    body = struct.pack("!IBB", ssrc, 1, len(name)) + name
    return _packet(1, _SDES, body + bytes(4 - len(body) % 4))


def build_bye(ssrcs: Sequence[int]) -> bytes:
    """Write a BYE packet (section 6.6)."""
    return _packet(len(ssrcs), _BYE, b"".join(s.to_bytes(4, "big") for s in ssrcs))


def parse_rtcp(data: bytes) -> list[Report | Bye]:
    """Take a compound packet apart; kinds other than SR, RR and BYE are skipped. Raises RtpError (appendix A.2)."""
    packets: list[Report | Bye] = []
    position, size = 0, len(data)
    for _ in range(_MAX_PACKETS):
        if position == size:
            return packets
        if position + 4 > size:
            raise RtpError("RTCP packet cut off")
        first, kind, words = struct.unpack_from("!BBH", data, position)
        if first >> 6 != 2:
            raise RtpError("not RTCP version 2")
        end = position + 4 + 4 * words
        if end > size:
            raise RtpError("RTCP packet longer than its datagram")
        body = data[position + 4 : end]
        position = end
        count = first & 0x1F
        if kind in (_SR, _RR):
            packets.append(_parse_report(body, count, sender=kind == _SR))
        elif kind == _BYE:
            if len(body) < 4 * count:
                raise RtpError("BYE shorter than its sources")
            packets.append(Bye(struct.unpack_from(f"!{count}I", body)))
    raise RtpError("too many RTCP packets in one datagram")


def _parse_report(body: bytes, count: int, *, sender: bool) -> Report:
    start = 24 if sender else 4
    if len(body) < start + 24 * count:
        raise RtpError("report shorter than its blocks")
    ssrc = int.from_bytes(body[:4], "big")
    info = None
    if sender:
        high, low, timestamp, packets, octets = _SENDER.unpack_from(body, 4)
        info = SenderInfo(high << 32 | low, timestamp, packets, octets)
    blocks = []
    for i in range(count):
        source, loss, highest, jitter, last_sr, delay = _BLOCK.unpack_from(body, start + 24 * i)
        lost = loss & 0xFFFFFF
        blocks.append(
            ReportBlock(
                source, loss >> 24, lost - 0x1000000 if lost > 0x7FFFFF else lost, highest, jitter, last_sr, delay
            )
        )
    return Report(ssrc, info, tuple(blocks))
