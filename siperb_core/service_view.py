"""The gateway as a plugin's service sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siperb_core.gateway import Gateway


class ServiceView:
    """The gateway as a plugin's service sees it (`siperb_core.services.GatewayView`)."""

    def __init__(self, gateway: Gateway, plugin: str) -> None:
        self._gateway = gateway
        self._plugin = plugin

    @property
    def config(self) -> Any:
        """The plugin's own table of the configuration file."""
        return self._gateway.config.plugins.tables.get(self._plugin, {})

    async def call(self, method: str, params: Any = None) -> Any:
        """Ask as the control socket does."""
        return await self._gateway.operations.call(method, params)
