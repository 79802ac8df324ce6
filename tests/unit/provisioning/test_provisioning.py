"""Tokens: found by look-up, counted when they are wrong, gone with the password."""

from __future__ import annotations

import hmac
from collections import Counter
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs

from siperb_core.entries.loaded import LoadedConnections
from siperb_core.entries.model import Device, GatewayConfig, GatewaySettings, MediaConfig, Secret
from siperb_core.guard import Guard
from siperb_core.provisioning import Provisioning

HERE = {"peer": "203.0.113.7"}


class Gateway:
    """The host, and what it was asked to sign."""

    domain = "gw.example"

    def __init__(self, devices: int = 3) -> None:
        settings = GatewaySettings("gw.example", Path(), trusted_proxies=(ip_network("127.0.0.1/32"),))
        self.config = GatewayConfig(
            settings, devices=tuple(Device(f"d{number}", "alice", Secret(f"pw{number}")) for number in range(devices))
        )
        self.signalling: Any = SimpleNamespace(rejected=Counter())
        self.guard = Guard(self)
        self.signed = 0

    def sign(self, text: str) -> str:
        self.signed += 1
        return hmac.new(b"secret", text.encode(), "sha256").hexdigest()[:20]

    def loaded(self) -> LoadedConnections:
        return LoadedConnections()

    def now(self) -> float:
        return 1000.0

    def is_known(self, flow: Any, request: Any) -> bool:
        return False


async def test_a_guess_costs_the_same_however_many_devices_there_are() -> None:
    gateway = Gateway(2000)
    links = Provisioning(gateway)
    token = links.token(gateway.config.devices[1234])
    found = await links.settings(token, HERE)
    assert found is not None
    assert (found["SipUsername"], found["SipPassword"]) == ("d1234", "pw1234")
    signed = gateway.signed
    for guess in ("x", token[:-1], token.upper(), ""):
        assert await links.settings(guess, HERE) is None
    assert gateway.signed == signed, "nothing is made anew for a guess"


async def test_another_password_ends_a_link() -> None:
    gateway = Gateway()
    links = Provisioning(gateway)
    first, second, _ = gateway.config.devices
    token, other = links.token(first), links.token(second)
    assert await links.settings(token, {}) is not None
    changed = attrs.evolve(first, password=Secret("new"))
    gateway.config = attrs.evolve(gateway.config, devices=(changed, second))
    assert await links.settings(token, {}) is None
    assert await links.settings(links.token(changed), {}) is not None
    gateway.config = attrs.evolve(gateway.config, devices=(changed,))
    assert await links.settings(other, {}) is None


async def test_ten_wrong_guesses_lock_their_source_out_and_nobody_else() -> None:
    gateway = Gateway()
    links = Provisioning(gateway)
    token = links.token(gateway.config.devices[0])
    behind = {"peer": "127.0.0.1", "x_forwarded_for": "203.0.113.7"}
    for number in range(10):
        assert await links.settings(f"guess{number}", behind) is None
    assert gateway.signalling.rejected["credentials"] == 10
    assert await links.settings(token, HERE) is None
    assert await links.settings(token, behind) is None
    assert await links.settings(token, {"peer": "198.51.100.1", "x_forwarded_for": "203.0.113.7"}) is not None
    assert await links.settings(token, {"peer": "127.0.0.1"}) is not None


async def test_who_asks_on_this_machine_guesses_nothing() -> None:
    gateway = Gateway()
    links = Provisioning(gateway)
    for _ in range(20):
        assert await links.settings("x", {}) is None
    assert not gateway.signalling.rejected


async def test_turn_servers_come_with_credentials_of_the_device_and_when_they_end() -> None:
    gateway = Gateway()
    links = Provisioning(gateway)
    found = await links.settings(links.token(gateway.config.devices[1]), HERE)
    assert found is not None
    assert found["iceServers"] == []
    media = MediaConfig(turn=("turn:turn.example.com",), turn_secret=Secret("shared"), turn_ttl=600)
    gateway.config = attrs.evolve(gateway.config, media=media)
    found = await links.settings(links.token(gateway.config.devices[1]), HERE)
    assert found is not None
    (server,) = found["iceServers"]
    assert (server["username"], found["iceServersExpire"]) == ("1600:d1", 1600)
