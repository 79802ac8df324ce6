"""Provisioning links: a secret token for each device, found at the same cost whether it is right or wrong.

A token is made out of the device's name and password, so there is nothing to keep, and another password makes the old
link worthless. To find whose a token is, the devices are indexed by a keyed hash of theirs: a guess costs one HMAC and
one look-up, however many devices there are, and neither tells by its time how near it was.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

import trio

from siperb_core.entries.model import Device, GatewayConfig
from siperb_core.entries.turn import ice_servers
from siperb_core.guard import Guard
from siperb_core.transport.forwarded import client_of

_AT_ONCE = 500
"""Devices indexed before others have their turn."""


class ProvisioningHost(Protocol):
    """What provisioning needs of the gateway around it."""

    config: GatewayConfig
    domain: str
    guard: Guard

    def now(self) -> float:
        """Seconds since the epoch."""

    def sign(self, text: str) -> str:
        """Letters and digits that only this gateway can make out of a text."""


class Provisioning:
    """Makes the tokens, and tells a device's settings to who has its token."""

    def __init__(self, host: ProvisioningHost) -> None:
        self._host = host
        self._key = secrets.token_bytes(32)
        self._config: GatewayConfig | None = None  # that the index was made of
        self._devices: dict[bytes, Device] = {}

    def token(self, device: Device) -> str:
        """The device's token."""
        return self._host.sign(f"provision:{device.name}:{device.password.reveal()}")

    async def settings(self, token: str, came_from: Mapping[str, str]) -> dict[str, Any] | None:
        """The settings of the device whose token this is; None for none's, and for who guessed too often.

        `came_from` has `peer`, the address the request came from, and `x_forwarded_for` and `forwarded` as it had them.
        Without `peer` nobody guesses: it was asked on this machine.
        """
        guard = self._host.guard
        source = self._source(came_from)
        if source and guard.shuts_out(source):
            return None
        device = (await self._index()).get(self._mark(token))
        if device is None:
            if source:
                guard.failed(source, "", "unknown provisioning token")
            return None
        return self._settings(device)

    async def _index(self) -> dict[bytes, Device]:
        config = self._host.config
        if self._config is not config:
            devices = {}
            for number, device in enumerate(config.devices):
                devices[self._mark(self.token(device))] = device
                if number % _AT_ONCE == _AT_ONCE - 1:
                    await trio.lowlevel.checkpoint()
            self._devices, self._config = devices, config
            return devices
        return self._devices

    def _mark(self, token: str) -> bytes:
        return hmac.digest(self._key, token.encode("utf-8", "surrogateescape"), "sha256")

    def _source(self, came_from: Mapping[str, str]) -> str:
        peer = came_from.get("peer", "")
        headers = {
            name.replace("_", "-").encode(): value.encode("latin-1", "replace")
            for name in ("x_forwarded_for", "forwarded")
            if (value := came_from.get(name)) is not None
        }
        return client_of((peer, 0), headers, self._host.config.gateway.trusted_proxies)[0]

    def _settings(self, device: Device) -> dict[str, Any]:
        """By SIPERB's names."""
        host = self._host
        listeners = [item for name in ("wss", "ws") for item in host.config.listen if item.transport == name]
        listen = listeners[0] if listeners else None
        now = host.now()
        return {
            "SipWssServer": host.domain,
            "SipWebsocketPort": listen.bind[1] if listen else None,
            "SipServerPath": listen.path if listen else None,
            "SipDomain": host.domain,
            "SipUsername": device.name,
            "SipPassword": device.password.reveal(),
            "SipContact": f"sip:{device.name}@{host.domain}",
            "RegistrationMode": device.mode,
            "profileName": device.user,
            "iceServers": ice_servers(host.config.media, device.name, now),
            "iceServersExpire": int(now) + host.config.media.turn_ttl,
        }
