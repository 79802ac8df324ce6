"""The hooks: the connection type, who of a user's softphones rings, and what became of the calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from siperb_connection_direct.direct import NOBODY, Direct, DirectSettings
from siperb_core import CallAttempt, CallEvent, ConnectionType, Device, Refusal, Route, hookimpl

NO_OTHER = Refusal(480, "No Other Device")
"""A user calls himself, and has no other softphone than the one that calls."""


class DirectPlugin:
    """The plugin, one object for every gateway."""

    def __init__(self) -> None:
        self._type = Direct()
        self._outcomes: dict[str, Counter[str]] = {}

    @hookimpl
    def siperb_connection_types(self) -> Sequence[ConnectionType]:
        """direct."""
        return [self._type]

    @hookimpl
    def siperb_routes(self, routes: Sequence[Route], number: str) -> Sequence[Route]:
        """Who rings for the number, for `siperb route`; which connection takes it is not ours to say."""
        return [_noted(route, number) for route in routes]

    @hookimpl(tryfirst=True)
    def siperb_ring(self, call: CallAttempt, devices: Sequence[Device]) -> Sequence[Device] | Refusal | None:
        """All softphones of the users but the one that calls; 404 where the users have none at all.

        Asked right after the core: a plugin that takes softphones out, for do-not-disturb say, makes nobody unknown.
        """
        if call.connection not in self._type.live or not call.device:
            return None
        if not devices:
            return NOBODY
        return [device for device in devices if device.name != call.device] or NO_OTHER

    @hookimpl
    def siperb_call_event(self, event: CallEvent) -> None:
        """Count how calls through our connections ended."""
        if event.what == "ended" and event.connection in self._type.live:
            how = "answered" if event.answered is not None else str(event.status or "lost")
            self._outcomes.setdefault(event.connection, Counter())[how] += 1

    @hookimpl
    def siperb_diagnostics(self, connection: str) -> Mapping[str, Any] | None:
        """Numbers and users, and how the calls since the start ended: answered, or the status the caller got."""
        live = self._type.live.get(connection)
        if live is None:
            return None
        return {
            "numbers": {number: list(users) for number, users in live.config.numbers.items()},
            "names": live.config.names,
            "calls": dict(sorted(self._outcomes.get(connection, {}).items())),
        }


def _noted(route: Route, number: str) -> Route:
    settings = route.settings
    if not isinstance(settings, DirectSettings) or route.unusable:
        return route
    dialled = route.dials(number)
    users = [user for user in settings.users_of(dialled) if not {user, "*"}.isdisjoint(route.users)]
    if not users:
        return attrs.evolve(route, note="it is nobody's number there, the softphone gets 404")
    doubt = "" if dialled in settings.numbers else ", if there is such a user"
    return attrs.evolve(route, note=f"{', '.join(users)} would ring{doubt}")
