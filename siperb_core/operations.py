"""What a running gateway can be asked and told: the methods of the control socket, which the console uses too."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import attrs
import trio

from siperb_core.control import INVALID_PARAMS, ControlError, ControlServer, Handler
from siperb_core.entries.diagnostics import describe, redacted, secrets_of
from siperb_core.hookspecs import hookimpl
from siperb_core.own_metrics import PREFIX, Measures
from siperb_core.provisioning import Provisioning
from siperb_core.service_view import ServiceView

if TYPE_CHECKING:
    from siperb_core.entries.model import Device
    from siperb_core.entries.source import LoadResult
    from siperb_core.gateway import Gateway
    from siperb_core.plugins import PluginInfo


class Operations:
    """Answers by method name. Rows have the JSON fields of the contract."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._provisioning = Provisioning(gateway)
        self._own: dict[str, Handler] = {
            "gateway.status": self._status,
            "show.connections": self._connections,
            "show.registrations": self._registrations,
            "show.calls": self._calls,
            "show.devices": self._devices,
            "show.plugins": self._plugins,
            "show.issues": self._issues,
            "show.metrics": self._metrics,
            "reload": self._reload,
            "diagnostics": self._diagnostics,
            "connection.reload": self._reload_connection,
            "connection.test": self._test_connection,
            "device.link": self._link,
            "device.provision": self._provision,
        }

        gateway.plugins.add_own("operations", self)
        gateway.plugins.add_own("measures", Measures(gateway))
        self.methods: dict[str, Handler] = gateway.plugins.control_methods(partial(ServiceView, gateway))
        self._server = ControlServer(gateway.config.gateway.data_dir / "control.sock", self.methods)

    @hookimpl
    def siperb_control_methods(self) -> Mapping[str, Handler]:
        """The core's own."""
        return self._own

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Answer one question. Raises ControlError."""
        return await self._server.call(method, params)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve the control socket until cancelled. Raises OSError where it cannot be made."""
        await self._server.run(task_status=task_status)

    # ---- show

    async def _status(self, params: Mapping[str, Any]) -> dict[str, Any]:
        gateway = self._gateway
        return {
            "domain": gateway.domain,
            "version": version("siperb-core"),
            "started_at": gateway.started_at,
            "listeners": [
                {"transport": listener.transport, "address": "{}:{}".format(*listener.local)}
                for listeners in gateway.listeners.values()
                for listener in listeners
            ],
            "config": str(gateway.config_path),
            "calls": len(gateway.calls.active()),
            "transactions": gateway.signalling.transactions,
        }

    async def _connections(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        gateway = self._gateway
        return [
            {**gateway.entries.status(name), "calls": len(gateway.calls.of_connection(name))}
            for name in gateway.entries.names()
        ]

    async def _registrations(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._gateway.softphones.as_json(self._gateway.config.devices)

    async def _calls(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._gateway.calls.as_json(ended=bool(params.get("ended", True)))

    async def _devices(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        gateway = self._gateway
        return [
            {
                "name": device.name,
                "user": device.user,
                "mode": device.mode,
                "registrations": len(gateway.softphones.bindings(device.name)),
            }
            for device in gateway.config.devices
        ]

    async def _plugins(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        plugins = self._gateway.plugins
        return [{**attrs.asdict(info), "errors": plugins.errors[info.name]} for info in plugins.infos]

    async def _issues(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [issue.as_json() for issue in self._gateway.entries.issues.all()]

    async def _metrics(self, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._gateway.plugins.metrics(PREFIX)

    async def _diagnostics(self, params: Mapping[str, Any]) -> dict[str, Any]:
        gateway = self._gateway
        name = _text(params, "name")
        entry = next((entry for entry in gateway.entries.entries() if entry.name == name), None)
        if entry is None:
            raise ControlError(f"there is no connection {name}: see `siperb show connections`", INVALID_PARAMS)
        # Who knows the user part of our Contact can call in by it: it is a secret, too.
        config = gateway.config
        hidden = secrets_of([entry, config.media, config.plugins, *config.devices])
        secrets = (*hidden, gateway.errands.token(name))
        issues = [issue.as_json() for issue in gateway.entries.issues.all() if issue.connection in (name, "")]
        return {
            "connection": name,
            "when": gateway.now(),
            "config": describe(entry, secrets),
            "state": redacted(gateway.entries.status(name), secrets),
            "calls": len(gateway.calls.of_connection(name)),
            "issues": redacted(issues, secrets),
            "memory": redacted(dict(gateway.errands.memory(name)), secrets),
            "plugins": redacted(gateway.plugins.diagnostics(name), secrets),
            "messages": [exchange.as_json(secrets) for exchange in gateway.entries.exchanges(name)],
            "versions": versions(gateway.plugins.infos),
        }

    # ---- do

    async def _reload(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return _as_json(await self._gateway.reload())

    async def _reload_connection(self, params: Mapping[str, Any]) -> dict[str, Any]:
        name = _text(params, "name")
        try:
            await self._gateway.entries.restart(name)
            self._gateway.upkeep.drain((name,))
        except KeyError:
            raise ControlError(
                f"there is no connection {name}: see `siperb show connections`", INVALID_PARAMS
            ) from None
        return {}

    async def _test_connection(self, params: Mapping[str, Any]) -> dict[str, Any]:
        name = _text(params, "name")
        entry = self._gateway.config.connection(name)
        if entry is None:
            raise ControlError(f"there is no connection {name}: see `siperb show connections`", INVALID_PARAMS)
        failure = await self._gateway.entries.probe(entry)
        return {"ok": failure is None, "reason": "" if failure is None else failure.reason}

    # ---- provisioning

    async def _link(self, params: Mapping[str, Any]) -> dict[str, Any]:
        device = self._device(_text(params, "name"))
        console = self._gateway.config.plugins.tables.get("console", {})
        base = str(console.get("url") or f"http://{console.get('bind', '127.0.0.1:8080')}")
        token = self._provisioning.token(device)
        return {"url": f"{base}/phone#{urlencode({'provision': token})}", "provision": f"{base}/provision/{token}"}

    async def _provision(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        token = _text(params, "token")
        came_from = params.get("from", {})
        if not isinstance(came_from, Mapping) or not all(isinstance(value, str) for value in came_from.values()):
            raise ControlError("from is no table of text", INVALID_PARAMS)
        return await self._provisioning.settings(token, came_from)

    def _device(self, name: str) -> Device:
        device = self._gateway.config.device(name)
        if device is None:
            raise ControlError(f"there is no device {name}: see `siperb show devices`", INVALID_PARAMS)
        return device


def versions(plugins: Iterable[PluginInfo]) -> dict[str, str]:
    """Of what runs: Python, the core, plugins."""
    found = {"python": platform.python_version(), "siperb-core": version("siperb-core")}
    return found | {info.distribution or info.name: info.version for info in plugins}


def _text(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise ControlError(f"{name} is missing", INVALID_PARAMS)
    return value


def _as_json(result: LoadResult) -> dict[str, Any]:
    return {
        "applied": result.config is not None,
        "problems": [attrs.asdict(problem) for problem in result.problems],
        "warnings": [attrs.asdict(problem) for problem in result.warnings],
    }
