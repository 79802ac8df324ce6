"""A socket bound to all addresses answers from the one that was asked. Loopback has sixteen million to try it with."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from siperb_core.media.reply_source import ReplySource

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells at which address a datagram came in")
ASKED, USUAL = "127.0.0.5", "127.0.0.1"


@contextmanager
def udp(address: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.bind((address, 0))
        yield sock


@pytest.fixture
def ours() -> Iterator[socket.socket]:
    with udp("0.0.0.0") as sock:
        yield sock


@pytest.fixture
def theirs() -> Iterator[socket.socket]:
    with udp("127.0.0.9") as sock:
        yield sock


def test_a_check_that_came_before_anybody_looked_is_answered_from_where_it_came(
    ours: socket.socket, theirs: socket.socket
) -> None:
    """On a busy machine the softphone may be quicker than the worker that is given the socket."""
    port = ours.getsockname()[1]
    theirs.sendto(b"check", (ASKED, port))
    source = ReplySource(ours)
    _, sender = source.receive(2048)
    source.answer(b"answer", sender)
    assert theirs.recvfrom(2048) == (b"answer", (ASKED, port))
    source.learn(sender)
    source.send(b"media", sender)
    assert theirs.recvfrom(2048) == (b"media", (ASKED, port))


def test_the_answer_and_what_follows_come_from_the_address_that_was_asked(
    ours: socket.socket, theirs: socket.socket
) -> None:
    source, port = ReplySource(ours), ours.getsockname()[1]
    assert source.wanted
    theirs.sendto(b"check", (ASKED, port))
    data, sender = source.receive(2048)
    assert (data, sender) == (b"check", theirs.getsockname())
    source.answer(b"answer", sender)
    assert theirs.recvfrom(2048) == (b"answer", (ASKED, port))
    source.send(b"before it is learned", sender)
    assert theirs.recvfrom(2048)[1] == (USUAL, port)
    source.learn(sender)
    source.send(b"media", sender)
    assert theirs.recvfrom(2048) == (b"media", (ASKED, port))
    theirs.sendto(b"another pair", ("127.0.0.6", port))
    source.receive(2048)
    source.learn(sender)
    source.send(b"media", sender)
    assert theirs.recvfrom(2048)[1] == ("127.0.0.6", port)


def test_where_the_kernel_is_right_nothing_is_kept(ours: socket.socket, theirs: socket.socket) -> None:
    source, port = ReplySource(ours), ours.getsockname()[1]
    theirs.sendto(b"check", (ASKED, port))
    source.receive(2048)
    source.learn(theirs.getsockname())
    assert source.ways
    theirs.sendto(b"check", (USUAL, port))
    _, sender = source.receive(2048)
    source.learn(sender)
    assert not source.ways
    source.send(b"media", sender)
    assert theirs.recvfrom(2048)[1] == (USUAL, port)


def test_what_came_in_unseen_says_nothing(ours: socket.socket, theirs: socket.socket) -> None:
    source, port = ReplySource(ours), ours.getsockname()[1]
    theirs.sendto(b"check", (ASKED, port))
    _, sender = source.receive(2048)
    source.forget()
    source.learn(sender)
    assert not source.ways
    source.answer(b"answer", sender)
    assert theirs.recvfrom(2048)[1] == (USUAL, port)


def test_a_socket_bound_to_one_address_has_no_choice() -> None:
    with udp("127.0.0.1") as sock:
        assert not ReplySource(sock).wanted


def test_over_ipv6() -> None:
    try:
        with udp("::1"):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    with udp("::") as ours, udp("::1") as theirs:
        source, port = ReplySource(ours), ours.getsockname()[1]
        theirs.sendto(b"check", ("::1", port))
        _, sender = source.receive(2048)
        source.answer(b"answer", sender)
        assert theirs.recvfrom(2048)[1][:2] == ("::1", port)
        source.learn(sender[:2])
        assert not source.ways
        source.send(b"media", sender[:2])
        assert theirs.recvfrom(2048)[0] == b"media"
