"""Ports: ours before they are named, in pairs where RTP wants it, never twice."""

from __future__ import annotations

import socket

import pytest

from siperb_core.media.ports import PortRange, PortsExhaustedError, parse_range


def free_range(count: int) -> range:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        first = min(probe.getsockname()[1] & ~1, 65000)
    return range(first, first + count)


@pytest.mark.parametrize("text", ["", "10000", "b-a", "10-20000", "20000-10000", "10000-70000", "10000-10000"])
def test_a_bad_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"port"):
        parse_range(text)


def test_a_range_has_both_its_ends() -> None:
    assert list(parse_range("10000-10003")) == [10000, 10001, 10002, 10003]


def test_pairs_are_even_and_odd_and_given_back() -> None:
    ports = PortRange(free_range(8), "127.0.0.1")
    bound: list[socket.socket] = []
    seen = set()
    with pytest.raises(PortsExhaustedError):
        while True:
            rtp, rtcp, port = ports.bind_pair()
            bound += (rtp, rtcp)
            assert port % 2 == 0
            assert (rtp.getsockname()[1], rtcp.getsockname()[1]) == (port, port + 1)
            assert not rtp.getblocking()
            seen.add(port)
    assert ports.taken == 2 * len(seen)
    for sock in bound:
        sock.close()
    for port in seen:
        ports.release(port)
        ports.release(port + 1)
    assert ports.taken == 0


def test_a_port_somebody_else_has_is_passed_over() -> None:
    span = free_range(4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", span[0]))
        ports = PortRange(span, "127.0.0.1")
        sock, port = ports.bind()
        sock.close()
        assert port != span[0]


def test_a_port_given_back_rests() -> None:
    ports = PortRange(free_range(20), "127.0.0.1")
    first, port = ports.bind()
    first.close()
    ports.release(port)
    second, other = ports.bind()
    second.close()
    assert other != port
