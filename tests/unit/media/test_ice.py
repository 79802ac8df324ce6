"""ICE agents that face one another over a simulated network, in simulated time."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.media.ice import CONNECT_TIMEOUT, CONSENT_EXPIRY, Address, IceAgent, parse_candidates

A: Address = ("192.0.2.1", 1000)
B: Address = ("192.0.2.2", 2000)
STRANGER: Address = ("203.0.113.9", 9)


def candidate(address: Address, priority: int = 2130706431) -> str:
    return f"1 1 udp {priority} {address[0]} {address[1]} typ host"


class Net:
    """Two agents; `lose` decides on datagrams, `addresses` are what each is seen as."""

    def __init__(
        self,
        *,
        a_controlling: bool = False,
        b_controlling: bool = True,
        lose: Callable[[bytes], bool] = lambda data: False,
    ) -> None:
        self.now = 0.0
        self.lose = lose
        self.wire: list[tuple[str, bytes, Address]] = []
        self.a = IceAgent(
            ufrag="aaaa", password="a" * 22, controlling=a_controlling, tie_breaker=1, send=self._sender("b")
        )
        self.b = IceAgent(
            ufrag="bbbb", password="b" * 22, controlling=b_controlling, tie_breaker=2, send=self._sender("a")
        )
        self.addresses = {"a": A, "b": B}

    def _sender(self, to: str) -> Callable[[bytes, Address], None]:
        def send(data: bytes, address: Address) -> None:
            if address == self.addresses[to] and not self.lose(data):
                self.wire.append((to, data, self.addresses["a" if to == "b" else "b"]))

        return send

    def run(self, seconds: float, step: float = 0.02) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += step
            self.a.advance(self.now)
            self.b.advance(self.now)
            while self.wire:
                to, data, source = self.wire.pop(0)
                (self.a if to == "a" else self.b).receive(data, source, self.now)

    def start(self, *, to_a: tuple[str, ...] = (candidate(B),), to_b: tuple[str, ...] = (candidate(A),)) -> None:
        self.a.start("bbbb", "b" * 22, to_a, self.now)
        self.b.start("aaaa", "a" * 22, to_b, self.now)


@pytest.mark.parametrize("roles", [(False, True), (True, False), (True, True), (False, False)], ids=str)
def test_agents_agree_whatever_roles_they_begin_with(roles: tuple[bool, bool]) -> None:
    net = Net(a_controlling=roles[0], b_controlling=roles[1])
    net.start()
    net.run(1)
    assert (net.a.selected, net.b.selected) == (B, A)
    assert net.a.controlling != net.b.controlling
    assert not net.a.busy
    assert not net.b.busy


def test_a_peer_whose_candidates_are_unknown_is_found_by_its_checks() -> None:
    net = Net()
    net.start(to_a=("1 1 udp 99 abcdef.local 5000 typ host",))
    net.run(1)
    assert net.a.selected == B


def test_checks_that_overtake_the_answer_are_not_lost() -> None:
    net = Net()
    net.b.start("aaaa", "a" * 22, (candidate(A),), 0.0)
    net.run(0.1)
    assert net.a.selected is None
    net.a.start("bbbb", "b" * 22, (), net.now)
    net.run(0.5)
    assert (net.a.selected, net.b.selected) == (B, A)


def test_half_the_datagrams_may_be_lost() -> None:
    dice = random.Random(1)
    net = Net(lose=lambda data: dice.random() < 0.5)
    net.start()
    net.run(15)
    assert (net.a.selected, net.b.selected) == (B, A)


def test_the_controlling_side_prefers_the_better_pair() -> None:
    net = Net(a_controlling=True, b_controlling=False)
    net.start(to_a=(candidate(("192.0.2.77", 7), 5), candidate(B, 100), candidate(("192.0.2.78", 7), 1000)))
    net.run(1)
    assert net.a.selected == B


def test_nobody_there_is_a_failure_in_time() -> None:
    net = Net(lose=lambda data: True)
    net.start()
    net.run(CONNECT_TIMEOUT - 1)
    assert not net.a.failed
    net.run(2)
    assert net.a.failed


def test_consent_is_kept_up_and_its_loss_noticed() -> None:
    net = Net()
    net.start()
    net.run(120, 0.1)
    assert not net.a.failed
    net.lose = lambda data: True
    net.run(CONSENT_EXPIRY - 5, 0.1)
    assert not net.a.failed
    net.run(10, 0.1)
    assert net.a.failed


def test_a_peer_that_moves_is_followed() -> None:
    net = Net()
    net.start()
    net.run(1)
    net.addresses["b"] = moved = ("198.51.100.7", 4321)
    net.b.restart("bbbb", "b" * 22, net.now)
    net.b.start("aaaa", "a" * 22, (candidate(A),), net.now)
    net.run(4)
    assert net.a.selected == moved


def test_a_restart_keeps_the_pair_until_there_is_a_new_one() -> None:
    net = Net()
    net.start()
    net.run(1)
    net.a.restart("AAAA", "A" * 22, net.now)
    net.b.restart("BBBB", "B" * 22, net.now)
    assert net.a.selected == B
    net.a.start("BBBB", "B" * 22, (candidate(B),), net.now)
    net.b.start("AAAA", "A" * 22, (candidate(A),), net.now)
    net.run(1)
    assert (net.a.selected, net.b.selected) == (B, A)
    assert not net.a.failed
    net.run(60, 0.1)
    assert not net.a.failed


def _check(password: str, username: str, *, nominate: bool = True) -> bytes:
    attributes: dict[str, object] = {"USERNAME": username, "PRIORITY": 1, "ICE-CONTROLLING": 9}
    if nominate:
        attributes["USE-CANDIDATE"] = None
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, attributes=attributes)
    request.add_message_integrity(password.encode())
    return bytes(request)


@pytest.mark.parametrize(
    ("password", "username"),
    [("x" * 22, "aaaa:bbbb"), ("a" * 22, "zzzz:bbbb"), ("a" * 22, "aaaa:zzzz"), ("a" * 22, "aaaa")],
)
def test_a_stranger_is_not_answered(password: str, username: str) -> None:
    net = Net()
    net.start()
    net.run(1)
    sent: list[bytes] = []
    net.a._send = lambda data, address: sent.append(data)
    net.a.receive(_check(password, username), STRANGER, net.now)
    assert not sent
    assert STRANGER not in net.a.trusted
    assert net.a.selected == B
    assert net.a.rejected == 1


def test_an_answer_from_elsewhere_makes_no_pair() -> None:
    net = Net()
    sent: list[bytes] = []
    net.a._send = lambda data, address: sent.append(data)
    net.a.start("bbbb", "b" * 22, (candidate(B),), 0.0)
    request = stun.parse_message(sent[0])
    response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id, {"XOR-MAPPED-ADDRESS": A})
    response.add_message_integrity(b"b" * 22)
    net.a.receive(bytes(response), STRANGER, 0.1)
    assert STRANGER not in net.a.trusted
    assert net.a.selected is None


@given(st.binary(max_size=120), st.booleans())
def test_any_octets_are_survived(data: bytes, as_stun: bool) -> None:
    net = Net()
    net.start()
    if as_stun:
        data = b"\x00\x01" + len(data).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + bytes(12) + data
    net.a.receive(data, STRANGER, 0.0)
    assert STRANGER not in net.a.trusted


def test_an_attribute_of_the_wrong_length_is_survived() -> None:
    net = Net()
    data = b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + b"\x00\x24\x00\x02\x00\x00\x00\x00"
    net.a.receive(data, STRANGER, 0.0)
    assert net.a.rejected == 1


def test_candidates_that_cannot_be_used_are_left_out() -> None:
    values = (
        "candidate:1 1 udp 5 192.0.2.1 5000 typ host",
        "1 1 UDP 5 192.0.2.2 5000 typ srflx raddr 0.0.0.0 rport 0",
        "1 1 tcp 5 192.0.2.3 9 typ host tcptype active",
        "1 2 udp 5 192.0.2.4 5000 typ host",
        "1 1 udp 5 2001:db8::1 5000 typ host",
        "1 1 udp 5 name.local 5000 typ host",
        "1 1 udp 5 0.0.0.0 5000 typ host",
        "1 1 udp 5 224.0.0.1 5000 typ host",
        "1 1 udp 5 192.0.2.5 99999 typ host",
        "1 1 udp x 192.0.2.6 5000 typ host",
        "nonsense",
        "",
    )
    assert [a for a, _ in parse_candidates(values, 4)] == [("192.0.2.1", 5000), ("192.0.2.2", 5000)]
    assert [a for a, _ in parse_candidates(values, 6)] == [("2001:db8::1", 5000)]
    assert len(parse_candidates(values[:1] * 1000, 4)) == 32
