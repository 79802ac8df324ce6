"""The hooks: the connection type, which calls are its own, who is not rung, and what was dialled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from siperb_connection_feature_code.codes import FeatureCode, FeatureCodeSettings
from siperb_core import (
    CallAttempt,
    CallEvent,
    Command,
    ConnectionType,
    ControlMethod,
    Device,
    GatewayView,
    Refusal,
    Route,
    hookimpl,
)

BUSY = Refusal(486, "Busy Here")
"""For callers of somebody who is not to be disturbed (RFC 3261 section 21.4.24), as Asterisk has it."""


class FeatureCodePlugin:
    """The plugin, one object for every gateway."""

    def __init__(self) -> None:
        self._type = FeatureCode()

    @hookimpl
    def siperb_connection_types(self) -> Sequence[ConnectionType]:
        """feature_code."""
        return [self._type]

    @hookimpl
    def siperb_routes(self, routes: Sequence[Route], number: str, method: str) -> Sequence[Route]:
        """What is none of a connection's codes goes by it, to the next that takes it, however wide its pattern is."""
        return [_marked(route, number, method) for route in routes]

    @hookimpl
    def siperb_ring(self, call: CallAttempt, devices: Sequence[Device]) -> Sequence[Device] | Refusal | None:
        """The softphones of those who are not to be disturbed stay silent; busy where no others are left."""
        if call.method != "INVITE":
            return None
        left = [device for device in devices if not self._type.quiet.is_on(device.user)]
        if len(left) == len(devices):
            return None
        return left or BUSY

    @hookimpl
    def siperb_call_event(self, event: CallEvent) -> None:
        """Remember what was dialled, in every connection whose codes the user may dial; codes are not remembered."""
        if event.what != "started" or event.direction != "outbound" or not event.user:
            return
        mine = [live for live in self._type.live.values() if live.ctx.entry.rings(event.user)]
        if any(live.config.action(live.ctx.entry.route.dials(event.number), "INVITE") for live in mine):
            return
        for live in mine:
            live.recent.note(event.user, event.number)

    @hookimpl
    def siperb_diagnostics(self, connection: str) -> Mapping[str, Any] | None:
        """The codes, and who is not to be disturbed since when."""
        live = self._type.live.get(connection)
        if live is None:
            return None
        return {
            "codes": dict(live.config.codes),
            "do_not_disturb": self._type.quiet.since(connection),
        }

    @hookimpl
    def siperb_control_methods(self, gateway: GatewayView) -> Mapping[str, ControlMethod]:
        """`connection_feature_code.do_not_disturb`: who is not to be disturbed, for the command and the console."""

        async def do_not_disturb(params: Mapping[str, Any]) -> Any:
            return [
                {"user": user, "since": since, "connection": name}
                for name in sorted(self._type.live)
                for user, since in self._type.quiet.since(name).items()
            ]

        return {"do_not_disturb": do_not_disturb}

    @hookimpl
    def siperb_commands(self) -> Sequence[Command]:
        """`siperb show do-not-disturb`."""
        return [Command("show do-not-disturb", "siperb_connection_feature_code.command:do_not_disturb")]


def _marked(route: Route, number: str, method: str) -> Route:
    settings = route.settings
    if not isinstance(settings, FeatureCodeSettings) or route.unusable:
        return route
    action = settings.action(route.dials(number), method)
    if not action:
        return attrs.evolve(route, unusable=f"{number} is none of its codes")
    return attrs.evolve(route, note=f"its code for {action}")
