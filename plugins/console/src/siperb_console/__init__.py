"""The console: web phone, provisioning and health over HTTP, on loopback unless told otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siperb_console.config import ConsoleConfig, ConsoleConfigError
from siperb_console.service import ConsoleService
from siperb_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siperb_core.services import Service

__all__ = ["ConsoleConfig", "ConsoleConfigError", "ConsoleService", "siperb_services"]


@hookimpl
def siperb_services() -> Sequence[Service]:
    """The one service of this package."""
    return [ConsoleService()]
