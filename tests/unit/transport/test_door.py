"""The door of a listening socket: strangers have a room of their own, and none of them for long."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from siperb_core.transport import door as door_module
from siperb_core.transport.contract import vouch
from siperb_core.transport.door import NOT_SIGNED_IN, SIGN_IN_SECONDS, TRY_AGAIN_LATER, Door


class Keeper:
    """A receiver that knows one address."""

    def __init__(self) -> None:
        self.known = {"192.0.2.9"}
        self.noted: list[tuple[str, str, str]] = []

    def received(self, data: bytes, flow: Any) -> None:
        raise AssertionError

    def closed(self, flow: Any, reason: str) -> None:
        raise AssertionError

    def knows(self, flow: Any) -> bool:
        return flow.remote[0] in self.known

    def nuisance(self, what: str, event: str, source: str, **details: object) -> None:
        self.noted.append((what, event, source))


class Guest:
    transport = "tcp"
    reliable = True
    local = ("192.0.2.1", 5060)
    sent_by = "192.0.2.1:5060"

    def __init__(self, door: Door, host: str, port: int = 1) -> None:
        self.remote = (host, port)
        self.ended: str | None = None
        self._door = door
        door.enter(self)

    def send(self, data: bytes) -> None:
        raise AssertionError

    def dismiss(self, reason: str) -> None:
        self.ended = reason
        self._door.leave(self)

    def vouch(self) -> None:
        self._door.vouch(self)


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


def door_of(keeper: Any, known: int = 10, strangers: int = 20, per_source: int = 5) -> Door:
    return Door(keeper, most_known=known, most_strangers=strangers, per_source=per_source)


def test_where_the_room_is_full_the_oldest_stranger_goes_and_no_peer(keeper: Keeper) -> None:
    door = door_of(keeper)
    peer = Guest(door, "192.0.2.9")
    phone = Guest(door, "198.51.100.1")
    vouch(phone)
    strangers = [Guest(door, f"203.0.113.{number}") for number in range(50)]
    assert [guest.ended for guest in strangers] == [TRY_AGAIN_LATER] * 30 + [None] * 20
    assert (peer.ended, phone.ended, door.strangers) == (None, None, 20)
    assert ("crowd", "connection.crowded_out", "203.0.113.0") in keeper.noted


def test_one_source_does_not_take_the_others_places(keeper: Keeper) -> None:
    door = door_of(keeper)
    quiet = Guest(door, "203.0.113.1")
    loud = [Guest(door, "203.0.113.2", port) for port in range(100)]
    assert quiet.ended is None
    assert [guest.ended for guest in loud] == [TRY_AGAIN_LATER] * 95 + [None] * 5
    of_one_host = [Guest(door, f"2001:db8::{number:x}") for number in range(6)]
    assert [guest.ended for guest in of_one_host] == [TRY_AGAIN_LATER, None, None, None, None, None], "of one /64"


def test_behind_one_nat_all_who_sign_in_stay(keeper: Keeper) -> None:
    door = door_of(keeper, known=100)
    phones = [Guest(door, "203.0.113.2", port) for port in range(5)]
    for port in range(5, 50):
        vouch(phones[-1])
        phones.append(Guest(door, "203.0.113.2", port))
    for phone in phones:
        vouch(phone)
    assert [phone.ended for phone in phones] == [None] * 50


def test_a_reverse_proxy_on_this_machine_is_no_single_source(keeper: Keeper) -> None:
    door = door_of(keeper)
    assert [Guest(door, "127.0.0.1", port).ended for port in range(10)] == [None] * 10
    told = Guest(door, "127.0.0.1", 99)
    mates = [Guest(door, "203.0.113.2", port) for port in range(5)]
    told.remote = ("203.0.113.2", 99)
    door.moved(told)
    assert mates[0].ended == TRY_AGAIN_LATER, "what the proxy tells counts"


def test_strangers_have_32_s(keeper: Keeper) -> None:
    door = door_of(keeper)
    stranger, phone, late = (Guest(door, f"203.0.113.{number}") for number in range(3))
    vouch(phone)
    assert not door.overdue(stranger, 0.0, SIGN_IN_SECONDS - 1)
    keeper.known.add(late.remote[0])
    assert [door.overdue(guest, 0.0, SIGN_IN_SECONDS) for guest in (stranger, phone, late)] == [True, False, False]
    assert not door.is_stranger(late), "a request of ours went there meanwhile"
    assert keeper.noted == [("not_signed_in", "connection.not_signed_in", "203.0.113.0")]
    assert NOT_SIGNED_IN


def test_a_receiver_that_cannot_vouch_sends_nobody_away() -> None:
    class Plain:
        def received(self, data: bytes, flow: Any) -> None:
            raise AssertionError

        closed = received

    door = door_of(Plain())
    assert not door.overdue(Guest(door, "203.0.113.1"), 0.0, 1e9)


def test_peers_have_their_own_bound(keeper: Keeper) -> None:
    door = door_of(keeper, known=2)
    peers = [Guest(door, "192.0.2.9", port) for port in range(3)]
    assert [door.is_stranger(peer) for peer in peers] == [False, False, True]
    vouch(peers[2])
    assert door.is_stranger(peers[2])
    door.leave(peers[0])
    vouch(peers[2])
    assert not door.is_stranger(peers[2])


def test_few_descriptors_are_not_all_for_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module.resource, "getrlimit", lambda _: (256, 4096))
    assert door_module.room_for(1000) == 64


def test_a_trusted_proxy_s_clients_are_not_one_source(keeper: Keeper) -> None:
    """Until the handshake is done they all have its address: phones that all come back must not push each other out."""
    proxies = (ip_network("172.18.0.0/16"),)
    door = Door(keeper, most_known=8, most_strangers=8, per_source=2, proxies=proxies)
    waiting = [Guest(door, "172.18.0.2", port) for port in range(4)]
    assert not any(guest.ended for guest in waiting)
    for guest in waiting:
        guest.remote = ("203.0.113.5", 1)
        door.moved(guest)
    assert [bool(guest.ended) for guest in waiting] == [True, True, False, False], "who is behind it is one source"
