"""The console: web phone, provisioning and health over HTTP, on loopback unless told otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siperb_console.config import ConsoleConfig
from siperb_console.service import ConsoleService
from siperb_core import HttpRequest, HttpResponse, HttpRoute, hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siperb_core import Service

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
def siperb_http_routes() -> Sequence[HttpRoute]:
    """Whether the gateway is alive, for whoever watches over it."""
    return [HttpRoute("/healthz", _healthz)]


async def _healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse('{"status":"ok"}', content_type="application/json", headers={"cache-control": "no-store"})
