"""What most commands begin with: the configuration, the plugins, the running gateway."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from siperb_core.cli.output import NOT_FINE, USAGE, CommandError
from siperb_core.entries.model import GatewayConfig
from siperb_core.entries.source import LoadResult, load
from siperb_core.plugin_finding import disabled_by
from siperb_core.plugins import Plugins, load_plugins

ConfigOption = Annotated[Path, Parameter(name="--config", help="The configuration file.", env_var="SIPERB_CONFIG")]
JsonOption = Annotated[bool, Parameter(name="--json", negative=(), help="JSON instead of text.")]

DEFAULT_CONFIG = Path("siperb.toml")


def load_all(path: Path, only: Iterable[str] | None = None) -> tuple[LoadResult, Plugins]:
    """The configuration, validated by the plugins it does not disable. `only`: the hooks the command needs."""
    # Codecs are always needed: connections name them.
    plugins = load_plugins(disabled_by(path), only=None if only is None else (*only, "siperb_codecs"))
    return load(path, plugins.connection_types, plugins.transports, plugins.settings), plugins


def usable(result: LoadResult) -> GatewayConfig:
    """The configuration of a result; raises CommandError with every mistake where there is none to use."""
    if result.config is None:
        raise CommandError("the configuration has mistakes: siperb check lists them", USAGE, result.problems)
    return result.config


def control_path(path: Path) -> Path:
    """The control socket of the gateway that runs with this configuration file."""
    config = usable(load(path))
    return Path(os.path.abspath(config.gateway.data_dir)) / "control.sock"


def ask(path: Path, method: str, params: Mapping[str, Any] | None = None) -> Any:
    """Ask the running gateway. Raises CommandError where none runs, or where it cannot do it."""
    import trio

    from siperb_core.control import ControlError, connect

    async def call() -> Any:
        async with connect(control_path(path)) as client:
            return await client.call(method, params)

    try:
        return trio.run(call)
    except ControlError as error:
        raise CommandError(str(error), NOT_FINE) from error


def ask_if_running(path: Path, method: str) -> Any:
    """As `ask`; None where no gateway runs, or the one that runs cannot be asked."""
    if not control_path(path).exists():
        return None  # without importing trio for it
    try:
        return ask(path, method)
    except CommandError:
        return None


def apply_live(path: Path) -> str | None:
    """Let a running gateway take over the file as it is now; what to tell the user where none is running."""
    import trio

    from siperb_core.control import ControlError, NotRunning, connect

    async def call() -> None:
        async with connect(control_path(path)) as client:
            await client.call("reload")

    try:
        trio.run(call)
    except NotRunning:
        return "no gateway is running: the change takes effect when it starts"
    except ControlError as error:
        raise CommandError(f"the file is changed, but the gateway could not take it over: {error}", NOT_FINE) from error
    return None
