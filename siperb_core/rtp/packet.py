"""RTP packets (RFC 3550 section 5.1) and how to tell them from what shares their port (RFC 7983)."""

from __future__ import annotations

import struct
from typing import Final, Literal

import attrs

HEADER: Final = struct.Struct("!BBHII")
HEADER_SIZE: Final = 12
COMFORT_NOISE: Final = 13
"""The static payload type of comfort noise at 8000 Hz (RFC 3389)."""


class RtpError(ValueError):
    """A datagram that is not the packet it should be: the peer's mistake."""


@attrs.frozen
class RtpPacket:
    """One RTP packet. `timestamp` is in units of the payload's clock; `payload` is without padding."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False


def payload_bounds(data: bytes) -> tuple[int, int]:
    """Give where the payload of an RTP packet begins and ends, past contributing sources, header extension and padding.

    Raises RtpError when the packet is no RTP version 2 or its lengths do not add up.
    """
    size = len(data)
    if size < HEADER_SIZE:
        raise RtpError("shorter than an RTP header")
    first = data[0]
    if first == 0x80:
        return HEADER_SIZE, size
    if first >> 6 != 2:
        raise RtpError("not RTP version 2")
    start, end = HEADER_SIZE + 4 * (first & 0x0F), size
    if first & 0x10:
        if start + 4 > size:
            raise RtpError("header extension cut off")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    if first & 0x20:
        padding = data[-1]
        if not padding:
            raise RtpError("padding of length zero")
        end -= padding
    if start > end:
        raise RtpError("header, extension and padding are longer than the packet")
    return start, end


def parse_rtp(data: bytes) -> RtpPacket:
    """Take an RTP packet apart. Raises RtpError."""
    start, end = payload_bounds(data)
    _, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
    return RtpPacket(second & 0x7F, sequence, timestamp, ssrc, data[start:end], second > 0x7F)


def build_rtp(packet: RtpPacket) -> bytes:
    """Write an RTP packet: no contributing sources, no extension, no padding."""
    second = packet.payload_type | (0x80 if packet.marker else 0)
    return HEADER.pack(0x80, second, packet.sequence, packet.timestamp, packet.ssrc) + packet.payload


def kind_of(data: bytes) -> Literal["stun", "dtls", "rtp", "rtcp", "unknown"]:
    """Tell by its first octets what a datagram is (RFC 7983 section 7, RFC 5761 section 4)."""
    if len(data) < 2:
        return "unknown"
    first = data[0]
    if 127 < first < 192:
        return "rtcp" if 191 < data[1] < 224 else "rtp"
    if 19 < first < 64:
        return "dtls"
    return "stun" if first < 4 else "unknown"
