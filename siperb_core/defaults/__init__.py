"""The core's own behaviour, as plugins: its transports, routing by weight, and the configuration file's devices."""

from __future__ import annotations

from collections.abc import Sequence

from siperb_core.defaults.devices import ConfiguredDevices
from siperb_core.defaults.transports import CoreTransport
from siperb_core.entries.source import TRANSPORTS
from siperb_core.hookspecs import hookimpl
from siperb_core.routing import Explanation, Route, explain

__all__ = ["ConfiguredDevices", "CoreTransport", "siperb_route", "siperb_transports"]


@hookimpl
def siperb_transports() -> Sequence[CoreTransport]:
    """udp, tcp, tls, ws, wss."""
    return [CoreTransport(name) for name in TRANSPORTS]


@hookimpl(trylast=True)
def siperb_route(routes: Sequence[Route], number: str, user: str, method: str) -> Explanation | None:
    """By weight and dial pattern."""
    return explain(routes, number, user, method)
