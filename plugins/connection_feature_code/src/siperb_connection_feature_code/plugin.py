"""The hooks: the connection type, which calls are its own, who is not rung, and what was dialled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from siperb_connection_feature_code.codes import FeatureCode
from siperb_core import CallAttempt, CallEvent, ConnectionType, Device, Explanation, Refusal, Route, hookimpl
from siperb_core.routing import explain

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
    def siperb_route(self, routes: Sequence[Route], number: str, user: str, method: str) -> Explanation | None:
        """What is none of a connection's codes goes by it, to the next that takes it, however wide its pattern is."""
        mine = [self._marked(route, number, method) for route in routes]
        return explain(mine, number, user, method) if mine != list(routes) else None

    def _marked(self, route: Route, number: str, method: str) -> Route:
        live = self._type.live.get(route.connection)
        if live is None or route.unusable or live.takes(route.dials(number), method):
            return route
        return attrs.evolve(route, unusable=f"{number} is none of its codes")

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
        if any(live.takes(live.ctx.entry.route.dials(event.number), "INVITE") for live in mine):
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
