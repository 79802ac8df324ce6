"""Who may be heard on the PBX's leg."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import attrs
import pytest

from siperb_core.media.peer_leg import PROOF_PACKETS, PeerConnection
from siperb_core.rtp.packet import RtpPacket, build_rtp
from siperb_core.sdp.plan import Codec, PeerLeg, Stream

STREAM = Stream(Codec("G722", 8000), 9, 9)


class Bench:
    """The leg's sockets, and senders on loopback addresses."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        rtp, rtcp = self.bind(), self.bind()
        self.heard: list[bytes] = []
        self.reports: list[bytes] = []
        self.leg = PeerConnection(
            rtp, rtcp, on_rtp=lambda d, now: self.heard.append(d), on_rtcp=lambda d, now: self.reports.append(d)
        )

    def bind(self, host: str = "127.0.0.1") -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        sock.setblocking(False)
        self.sockets.append(sock)
        return sock

    def plan(self, remote: socket.socket, *, symmetric: bool) -> PeerLeg:
        return PeerLeg(remote.getsockname(), None, symmetric, 1, STREAM)

    def send(self, sender: socket.socket, *, pt: int = 9, ssrc: int = 1) -> bool:
        """Send one packet; True when it was let in."""
        before = len(self.heard)
        sender.sendto(build_rtp(RtpPacket(pt, 1, 1, ssrc, b"x")), self.leg.rtp.getsockname())
        self.leg.readable()
        return len(self.heard) > before


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for sock in bench.sockets:
        sock.close()


def test_without_symmetric_only_the_address_of_sdp_is_heard(bench: Bench) -> None:
    pbx, stranger = bench.bind(), bench.bind()
    assert not bench.send(pbx)
    bench.leg.apply(bench.plan(pbx, symmetric=False))
    assert bench.send(pbx)
    assert not bench.send(stranger)
    assert bench.leg.filtered == 2


def test_another_port_of_the_same_host_is_learned_and_locked(bench: Bench) -> None:
    named, real, stranger = bench.bind(), bench.bind(), bench.bind()
    bench.leg.apply(bench.plan(named, symmetric=True))
    assert bench.send(real)
    assert bench.leg.remote == real.getsockname()
    assert not any(bench.send(stranger) for _ in range(10))
    assert bench.send(real)
    bench.leg.apply(bench.plan(named, symmetric=True))
    assert not bench.send(stranger)


def test_another_host_must_send_more_than_one_packet(bench: Bench) -> None:
    named, nat = bench.bind(), bench.bind("127.0.0.2")
    bench.leg.apply(bench.plan(named, symmetric=True))
    assert [bench.send(nat) for _ in range(PROOF_PACKETS)] == [False] * (PROOF_PACKETS - 1) + [True]
    assert bench.leg.remote == nat.getsockname()


def test_a_stranger_who_sprays_does_not_become_the_pbx(bench: Bench) -> None:
    named, stranger = bench.bind(), bench.bind("127.0.0.3")
    bench.leg.apply(bench.plan(named, symmetric=True))
    assert not any(bench.send(stranger, ssrc=n) for n in range(20))
    assert not any(bench.send(stranger, pt=18) for n in range(20))
    assert bench.send(named)
    assert not any(bench.send(stranger) for n in range(20))


def test_the_address_of_sdp_takes_back_what_a_stranger_won(bench: Bench) -> None:
    named, stranger = bench.bind(), bench.bind("127.0.0.3")
    bench.leg.apply(bench.plan(named, symmetric=True))
    assert any(bench.send(stranger) for n in range(5))
    assert bench.send(named)
    assert bench.leg.remote == named.getsockname()
    assert not any(bench.send(stranger) for n in range(20))


def test_a_new_address_in_sdp_is_followed(bench: Bench) -> None:
    first, second = bench.bind(), bench.bind()
    bench.leg.apply(bench.plan(first, symmetric=False))
    bench.leg.apply(bench.plan(second, symmetric=False))
    assert bench.send(second)
    assert not bench.send(first)


@pytest.mark.parametrize("remote", [("0.0.0.0", 4000), ("127.0.0.1", 0)])
def test_nothing_is_sent_to_a_held_address(bench: Bench, remote: tuple[str, int]) -> None:
    bench.leg.apply(attrs.evolve(bench.plan(bench.bind(), symmetric=False), remote=remote))
    bench.leg.send(b"x")
    bench.leg.send_rtcp(b"x")
    assert bench.leg.remote is None
    assert bench.leg.send_errors == 0


def test_reports_are_taken_from_the_pbx_only(bench: Bench) -> None:
    pbx, stranger = bench.bind(), bench.bind("127.0.0.3")
    bench.leg.apply(bench.plan(pbx, symmetric=False))
    for sender in (pbx, stranger):
        sender.sendto(b"report", bench.leg.rtcp.getsockname())
    bench.leg.rtcp_readable()
    assert bench.reports == [b"report"]


def test_a_port_nobody_listens_on_is_survived(bench: Bench) -> None:
    gone, pbx = bench.bind(), bench.bind()
    bench.leg.apply(bench.plan(gone, symmetric=False))
    gone_address = gone.getsockname()
    gone.close()
    bench.leg.rtp.connect(gone_address)  # so that the refusal is told to us
    for _ in range(3):
        bench.leg.send(b"x" * 20)
    bench.leg.readable()
    assert bench.leg.send_errors >= 1
    assert pbx.fileno() >= 0
