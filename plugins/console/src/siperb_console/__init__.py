"""The console: web phone, provisioning, health and metrics over HTTP, on loopback unless told otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siperb_console.config import ConsoleConfig
from siperb_console.metrics import metrics_route
from siperb_console.service import ConsoleService
from siperb_core import HttpRequest, HttpResponse, HttpRoute, hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siperb_core import GatewayView, Service

__all__ = ["ConsoleConfig", "ConsoleService", "siperb_http_routes", "siperb_services", "siperb_settings"]


@hookimpl
def siperb_settings() -> type[ConsoleConfig]:
    """`[plugins.console]`."""
    return ConsoleConfig


@hookimpl
def siperb_services() -> Sequence[Service]:
    """The one service of this package."""
    return [ConsoleService()]


@hookimpl
def siperb_http_routes(gateway: GatewayView) -> Sequence[HttpRoute]:
    """Whether the gateway is alive, and how it does, for whoever watches over it."""
    return [HttpRoute("/healthz", _healthz), metrics_route(gateway)]


async def _healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse('{"status":"ok"}', content_type="application/json", headers={"cache-control": "no-store"})
