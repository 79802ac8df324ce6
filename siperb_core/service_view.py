"""The gateway as a plugin's service sees it, and the service's life in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog
import trio

if TYPE_CHECKING:
    from siperb_core.additions import HttpRoute
    from siperb_core.gateway import Gateway
    from siperb_core.services import Service

log = structlog.get_logger()

START_SECONDS = 30.0
"""A service that is not ready by then has failed."""


class ServiceView:
    """The gateway as a plugin's service sees it (`siperb_core.services.GatewayView`)."""

    def __init__(self, gateway: Gateway, plugin: str) -> None:
        self._gateway = gateway
        self._plugin = plugin

    @property
    def config(self) -> Mapping[str, Any]:
        """The plugin's own table of the configuration file."""
        return self._gateway.config.plugins.tables.get(self._plugin, {})

    @property
    def settings(self) -> Any:
        """That table by the plugin's own class."""
        return self._gateway.config.plugins.settings.get(self._plugin)

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Ask as the control socket does."""
        return await self._gateway.operations.call(method, params)

    def http_routes(self) -> Sequence[HttpRoute]:
        """The routes of all plugins."""
        return self._gateway.plugins.http_routes(lambda plugin: ServiceView(self._gateway, plugin))

    def raise_issue(self, issue_id: str, text: str, mend: str) -> None:
        """Tell the administrator."""
        gateway = self._gateway
        gateway.entries.issues.raise_issue("", f"{self._plugin}:{issue_id}", text, mend, gateway.now())

    def clear_issue(self, issue_id: str) -> None:
        """Take it back."""
        self._gateway.entries.issues.clear("", f"{self._plugin}:{issue_id}")


async def run_service(
    gateway: Gateway, plugin: str, service: Service, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a plugin's service; its failure is its own. Started as soon as it is ready, or has failed."""
    view = ServiceView(gateway, plugin)
    broken = gateway.config.plugins.broken.get(plugin)
    if broken is not None:
        log.error("service.not_started", plugin=plugin, reason=broken)
        view.raise_issue("settings", f"the service of plugin {plugin} does not run: {broken}", "mend it and restart")
        task_status.started()
        return
    started = False

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await service.run(view, task_status=task_status)

    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(START_SECONDS):
                await nursery.start(run)
            started = True
            task_status.started()
    except* Exception as group:
        reason = "; ".join(str(error) or type(error).__name__ for error in group.exceptions)
        log.error("service.failed", plugin=plugin, reason=reason)
        view.raise_issue("service", f"the service of plugin {plugin} has failed: {reason}", "mend it and restart")
    if not started:
        task_status.started()
