"""A service: something that runs beside the gateway and is given by a plugin, the console say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import trio

if TYPE_CHECKING:
    from siperb_core.additions import HttpRoute


class GatewayView(Protocol):
    """What a service may know of the gateway: what the control socket shows, by the same names."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The service's own table `[plugins.NAME]` of the configuration file as it is written, or an empty one."""

    @property
    def settings(self) -> Any:
        """That table as an instance of the class the plugin gives for it (hook `siperb_settings`), secrets resolved.

        None where it is not in the file.
        """

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Ask as the control socket does: `show.connections`, `device.link`, ...

        Raises `siperb_core.control.ControlError`.
        """

    def http_routes(self) -> Sequence[HttpRoute]:
        """The routes of all plugins, for the service that serves HTTP."""

    def raise_issue(self, issue_id: str, text: str, mend: str) -> None:
        """Tell the administrator in plain words what is wrong and how to mend it, until `clear_issue`."""

    def clear_issue(self, issue_id: str) -> None:
        """Take the issue back; nothing happens where there is none."""


class Service(Protocol):
    """What hook `siperb_services` returns."""

    name: str

    async def run(self, gateway: GatewayView, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; call `task_status.started()` once ready to serve."""
