"""The devices of the configuration file: the last who are asked for a softphone's password, the first for who rings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from siperb_core.entries.decisions import CallAttempt
from siperb_core.entries.model import Device
from siperb_core.hookspecs import hookimpl


class ConfiguredDevices:
    """Given to `load_plugins(own=...)`; `update` puts in what a reload has brought."""

    def __init__(self, devices: Iterable[Device] = ()) -> None:
        self._devices: dict[str, Device] = {}
        self.update(devices)

    def update(self, devices: Iterable[Device]) -> None:
        """Know these devices, and no others, from now on."""
        self._devices = {device.name: device for device in devices}

    @hookimpl(trylast=True)
    def siperb_device_secret(self, username: str) -> str | None:
        """The password of the device of that name, which is also its username."""
        device = self._devices.get(username)
        return None if device is None else device.password.reveal()

    @hookimpl(tryfirst=True)
    def siperb_ring(self, call: CallAttempt) -> Sequence[Device]:
        """The devices of the users a call is for."""
        users = call.users
        return [device for device in self._devices.values() if "*" in users or device.user in users]
