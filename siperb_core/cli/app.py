"""The tree of commands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import UnknownCommandError, UnusedCliTokensError

from siperb_core.cli.output import FINE, USAGE, CommandError

app = App(
    name="siperb",
    help="A gateway that puts WebRTC softphones in front of any SIP PBX or carrier.",
    version=lambda: version("siperb-core"),
    version_flags=["--version"],
)

# Commands are imported when they are called: `siperb route` does not pay for `siperb run`.
for _path in (
    "siperb_core.cli.running:run",
    "siperb_core.cli.running:demo",
    "siperb_core.cli.configuration:check",
    "siperb_core.cli.configuration:route",
    "siperb_core.cli.running:reload",
    "siperb_core.cli.diagnostics:diagnostics",
    "siperb_core.cli.doctor:doctor",
):
    app.command(_path, name=_path.partition(":")[2])

show = App(name="show", help="State of the running gateway.")
for _what in ("connections", "registrations", "calls", "devices", "plugins", "issues", "metrics"):
    show.command(f"siperb_core.cli.show:{_what}", name=_what)
app.command(show)

plugins = App(name="plugins")


@plugins.default
def _plugins(
    *,
    config: Annotated[Path, Parameter(name="--config", help="The configuration file.", env_var="SIPERB_CONFIG")] = Path(
        "siperb.toml"
    ),
    json: Annotated[bool, Parameter(name="--json", negative=(), help="JSON instead of text.")] = False,
) -> int:
    """What is installed, what is loaded, and what is set aside and why."""
    from siperb_core.cli import configuration

    return configuration.plugins(config=config, json=json)


plugins.command("siperb_core.cli.quality:check", name="check")
app.command(plugins)

connection = App(name="connection", help="Edit connections in the configuration file and apply the change live.")
for _what, _does in {
    "add": "Add a connection: --type T and its keys as options.",
    "edit": "Change keys of a connection; the others stay, comments too.",
    "enable": "Let a connection take calls again.",
    "disable": "Keep a connection in the file, but out of use.",
    "remove": "Remove a connection from the file; running calls are not cut.",
    "reload": "Unload a connection of the running gateway and set it up anew.",
    "test": "Let the running gateway try a connection's settings once, beside what runs.",
}.items():
    _function = {"test": "probe"}.get(_what, _what)
    connection.command(f"siperb_core.cli.connection:{_function}", name=_what, help=_does)
app.command(connection)

device = App(name="device", help="Edit softphones in the configuration file and apply the change live.")
for _what in ("add", "remove", "link"):
    device.command(f"siperb_core.cli.device:{_what}", name=_what)
app.command(device)


_GROUPS = ("show", "plugins", "connection", "device")
"""Commands that have commands below them."""


def _is_known(name: str) -> bool:
    tree = app
    try:
        for word in name.split():
            tree = tree[word]
    except KeyError:
        return False
    return True


def _may_be_a_plugins(words: Sequence[str]) -> bool:
    """Whether plugins have to be asked to understand a command line, or to list all there is."""
    if not words or words[0].startswith("-") or not _is_known(words[0]):
        return True
    if words[0] not in _GROUPS:
        return False
    return len(words) == 1 or words[1] in ("--help", "-h") or not _is_known(" ".join(words[:2]))


def add_commands(words: Sequence[str] = ()) -> None:
    """Add the commands of plugins; one whose name the core has already is left out. A plugin is not asked where the
    configuration file that the command line or the environment names disables it.
    """
    from siperb_core.plugin_finding import disabled_by
    from siperb_core.plugins import load_plugins

    for command in load_plugins(disabled_by(_config_of(words)), only=["siperb_commands"]).commands():
        group, _, name = command.name.rpartition(" ")
        if not _is_known(command.name) and group in ("", *_GROUPS):
            tree = app[group] if group else app
            tree.command(command.function, name=name, **({"help": command.help} if command.help else {}))


def _config_of(words: Sequence[str]) -> Path:
    """The configuration file, before the command is known whose option it is."""
    for index, word in enumerate(words):
        if word == "--config" and index + 1 < len(words):
            return Path(words[index + 1])
        if word.startswith("--config="):
            return Path(word.partition("=")[2])
    return Path(os.environ.get("SIPERB_CONFIG") or "siperb.toml")


def run(words: Sequence[str]) -> int:
    """Parse and run. Raises CommandError for a command line that cannot be understood."""
    if _may_be_a_plugins(words):
        add_commands(words)
    try:
        result = app(list(words), exit_on_error=False, print_error=False, result_action="return_value")
    except UnknownCommandError as error:
        unknown = " ".join(words)[:80]
        raise CommandError(f'"{unknown}" is not a command: siperb --help lists them', USAGE) from error
    except UnusedCliTokensError as error:
        surplus = " ".join(error.unused_tokens or ())[:80]
        mend = "part the items of a list by commas, and quote what has spaces; --help says more"
        raise CommandError(f'"{surplus}" is more than {" ".join(words[:2])} takes: {mend}', USAGE) from error
    except CycloptsError as error:
        raise CommandError(f"{' '.join(str(error).split()).rstrip('.')}: --help says how", USAGE) from error
    return result if isinstance(result, int) else FINE
