"""The core's own behaviour, as plugins: its transports, routing by weight, and the configuration file's devices."""

from __future__ import annotations

from collections.abc import Sequence

from siperb_core.defaults.devices import ConfiguredDevices
from siperb_core.hookspecs import hookimpl
from siperb_core.routing import Explanation, Route, explain
from siperb_core.transport.contract import TransportType

__all__ = ["ConfiguredDevices", "siperb_route", "siperb_transports"]


@hookimpl
def siperb_transports() -> Sequence[TransportType]:
    """udp, tcp, tls, ws, wss."""
    from siperb_core.transport import TRANSPORTS  # sockets: not for a command that only explains a route

    return TRANSPORTS


@hookimpl(trylast=True)
def siperb_route(routes: Sequence[Route], number: str, user: str, method: str) -> Explanation | None:
    """By weight and dial pattern."""
    return explain(routes, number, user, method)
