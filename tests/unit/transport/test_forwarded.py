"""Whom a reverse proxy forwards for: the nearest address that is not our own proxy's, whatever stands before it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.entries.networks import parse_network
from siperb_core.transport.forwarded import MOST_HOPS, client_of
from siperb_core.transport.websocket_handshake import Handshake, Refused

PROXIES = tuple(parse_network(text) for text in ("127.0.0.1", "10.0.0.0/24", "2001:db8:ffff::/64"))
PEER = ("127.0.0.1", 4711)
HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: sip\r\n"
)


def client(peer: tuple[str, int] = PEER, **headers: str) -> tuple[str, int]:
    octets = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    return client_of(peer, octets, PROXIES)


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("198.51.100.9, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("10.0.0.2, 10.0.0.1", "10.0.0.2"),
        ("127.0.0.1", "127.0.0.1"),
        ("198.51.100.9,unknown", "127.0.0.1"),
        ("198.51.100.9, x', 10.0.0.1", "10.0.0.1"),
        ("198.51.100.9,", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("1.2.3", "127.0.0.1"),
        ("fe80::1%eth0", "127.0.0.1"),
        ("203.0.113.7\xe9", "127.0.0.1"),
    ],
)
def test_the_nearest_that_is_no_proxy_of_ours(value: str, host: str) -> None:
    assert client(x_forwarded_for=value) == (host, 4711)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("for=203.0.113.7", ("203.0.113.7", 4711)),
        ("for=203.0.113.7;proto=https;by=10.0.0.1", ("203.0.113.7", 4711)),
        ('proto=https ; For="203.0.113.7:5000"', ("203.0.113.7", 5000)),
        ('for="[2001:db8::7]:5000"', ("2001:db8::7", 5000)),
        ('for=198.51.100.9, for=203.0.113.7;host="a,b;for=192.0.2.1", for=10.0.0.1', ("203.0.113.7", 4711)),
        ("for=_hidden", PEER),
        ("for=unknown", PEER),
        ("by=10.0.0.1", PEER),
        ("for=198.51.100.9, by=10.0.0.1", PEER),
        # What a client has left open swallows nothing of what the proxy wrote behind it.
        ('for="198.51.100.9, for=203.0.113.7', ("203.0.113.7", 4711)),
        ('for="198.51.100.9, for="[2001:db8::7]"', ("2001:db8::7", 4711)),
        ('for="198.51.100.9\\, for="[2001:db8::7]"', ("2001:db8::7", 4711)),
        ('x="for=198.51.100.9', PEER),
    ],
)
def test_forwarded(value: str, found: tuple[str, int]) -> None:
    assert client(forwarded=value) == found


def test_what_others_claim_is_not_read() -> None:
    stranger = ("203.0.113.7", 1)
    assert client(stranger, x_forwarded_for="198.51.100.9", forwarded="for=198.51.100.9") == stranger
    assert client_of(PEER, {b"x-forwarded-for": b"198.51.100.9"}, ()) == PEER


def test_x_forwarded_for_goes_first() -> None:
    assert client(x_forwarded_for="203.0.113.7", forwarded="for=198.51.100.9") == ("203.0.113.7", 4711)


@pytest.mark.parametrize("port", ["65536", "99999"])
def test_a_port_that_is_none(port: str) -> None:
    assert client(x_forwarded_for=f"203.0.113.7:{port}") == PEER


def test_a_port() -> None:
    assert client(x_forwarded_for="203.0.113.7:81") == ("203.0.113.7", 81)
    assert client(x_forwarded_for="[2001:db8::7]:0") == ("2001:db8::7", 4711)


@pytest.mark.parametrize("name", ["x_forwarded_for", "forwarded"])
def test_long_lists_are_read_in_part(name: str) -> None:
    prefix = "for=" if name == "forwarded" else ""
    inside = ", ".join([f"{prefix}10.0.0.1"] * MOST_HOPS)
    assert client(**{name: f"{prefix}203.0.113.7, {inside}"}) == ("10.0.0.1", 4711)


PIECES = st.sampled_from([",", '"', "\\", ";", "for=", "=", " ", "198.51.100.9", "[::1]", "unknown", "\t", "x"])


@given(st.lists(PIECES, max_size=30).map("".join), st.sampled_from(["203.0.113.7", '"[2001:db8::7]"', '"203.0.113.7"']))
def test_no_client_can_hide_behind_what_it_sends(sent: str, node: str) -> None:
    """A proxy appends its element to whatever the client has written."""
    expected = node.strip('"[]')
    assert client(forwarded=f"{sent}, for={node}")[0] == expected
    assert client(forwarded=f'{sent}, for={node};host="a,b", for=10.0.0.1')[0] == expected
    assert client(x_forwarded_for=f"{sent}, {expected}")[0] == expected


@given(st.text(st.characters(max_codepoint=255), max_size=100))
def test_noise_gives_an_address(text: str) -> None:
    for name in ("forwarded", "x_forwarded_for"):
        host, port = client(**{name: text})
        ipaddress.ip_address(host)
        assert 0 < port < 65536


def test_the_handshake_knows_its_client_also_where_it_refuses() -> None:
    for text, refused in ((HANDSHAKE, False), (HANDSHAKE.replace("/ws", "/x"), True)):
        handshake = Handshake("/ws", (), PEER, PROXIES)
        octets = f"{text}X-Forwarded-For: 198.51.100.9\r\nx-forwarded-for: 203.0.113.7\r\n\r\n".encode()
        if refused:
            with pytest.raises(Refused):
                handshake.feed(octets)
        else:
            assert handshake.feed(octets) is not None
        assert handshake.client == ("203.0.113.7", 4711)
