"""`siperb connection ...`: edit connections in the configuration file, validated first, then applied live."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from siperb_core.cli.options import split_options, take_did
from siperb_core.cli.output import FINE, NOT_FINE, USAGE, CommandError, note, print_json
from siperb_core.cli.setup import DEFAULT_CONFIG, ConfigOption, JsonOption, apply_live, ask, load_all, usable
from siperb_core.entries.contract import ConnectionType, GeneratesSettings
from siperb_core.entries.editing import ConfigFile, EditError
from siperb_core.entries.source import LoadResult, load
from siperb_core.plugins import Plugins

_LETTERS = string.ascii_letters + string.digits
_HOOKS = ("siperb_connection_types", "siperb_transports")


def random_token(length: int) -> str:
    """Letters and digits, so that nothing has to be escaped wherever it is pasted."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def open_file(config: Path) -> tuple[ConfigFile, Plugins]:
    """The file to edit, and the plugins that validate it. Raises CommandError where it cannot be edited."""
    _, plugins = load_all(config, only=_HOOKS)
    try:
        return ConfigFile(config, plugins.connection_types), plugins
    except EditError as error:
        raise CommandError(str(error), USAGE) from error


def save(file: ConfigFile, config: Path, *, private: bool = False) -> LoadResult:
    """Validate and write; raises CommandError with every mistake where the result would have one."""
    try:
        return file.save(private=private)
    except EditError as error:
        sentence = "nothing was changed: mend the above" if error.problems else str(error)
        raise CommandError(sentence, USAGE, error.problems) from error


def finish(config: Path, done: str) -> int:
    """Apply live, and say so."""
    later = apply_live(config)
    note(f"{done}; {later}" if later else done)
    return FINE


def add(
    name: str,
    /,
    *,
    type: Annotated[str, Parameter(help="The connection type, such as outbound_registration.")],
    config: ConfigOption = DEFAULT_CONFIG,
    **options: Annotated[str, Parameter(help="Keys of the connection and its settings: --server, --users ...")],
) -> int:
    """Add a connection. Its keys are options: `--server pbx.example.com --username 200 --password-file secret`."""
    file, plugins = open_file(config)
    found = _type(plugins, type)
    options, did = take_did(options)
    entry, settings, private = split_options(options, found)
    generated: Mapping[str, str] = {}
    if isinstance(found, GeneratesSettings):
        generated = {key: text for key, text in found.generate(random_token).items() if key not in settings}
        private = True
    shown = {key: settings[key] for key in settings if isinstance(found, GeneratesSettings)}
    keys = {"name": name, "type": type, **entry}
    if found.version > 1:
        keys["version"] = found.version  # without it the settings would be taken for those of version 1
    _edit(lambda: file.add("connection", keys, {**settings, **generated}, did))
    result = save(file, config, private=private)
    for key, text in {**shown, **generated}.items():
        print(f"{key}={text}")
    made = result.config.connection(name) if result.config else None
    if isinstance(found, GeneratesSettings) and made is not None and result.config is not None:
        print(found.instructions(name, made.settings, result.config))
    return finish(config, f"connection {name} added")


def edit(
    name: str,
    /,
    *,
    config: ConfigOption = DEFAULT_CONFIG,
    **options: Annotated[str, Parameter(help="What to change: --weight 10, --server pbx.example.com ...")],
) -> int:
    """Change keys of a connection; the others stay, comments too."""
    file, plugins = open_file(config)
    if not options:
        raise CommandError("there is nothing to change: name keys, such as --weight 10", USAGE)
    for key in ("name", "type"):
        if key in options:
            raise CommandError(f"the {key} of a connection does not change: add another, and remove {name}", USAGE)
    options, did = take_did(options)
    entry, settings, private = split_options(options, _type_of(file, plugins, name, config))
    _edit(lambda: file.change("connection", name, entry, settings, did))
    save(file, config, private=private)
    return finish(config, f"connection {name} changed")


def enable(name: str, *, config: ConfigOption = DEFAULT_CONFIG) -> int:
    """Let a connection take calls again."""
    return _switch(name, config, True)


def disable(name: str, *, config: ConfigOption = DEFAULT_CONFIG) -> int:
    """Keep a connection in the file, but out of use."""
    return _switch(name, config, False)


def _switch(name: str, config: Path, on: bool) -> int:
    file, _ = open_file(config)
    word = "enabled" if on else "disabled"
    if name in file.names("connection") and file.flag("connection", name, "enabled", default=True) is on:
        note(f"connection {name} is {word} already")
        return FINE
    _edit(lambda: file.change("connection", name, {"enabled": on}))
    save(file, config)
    return finish(config, f"connection {name} {word}")


def remove(name: str, *, config: ConfigOption = DEFAULT_CONFIG) -> int:
    """Remove a connection from the file; running calls are not cut."""
    file, _ = open_file(config)
    _edit(lambda: file.remove("connection", name))
    save(file, config)
    return finish(config, f"connection {name} removed")


def reload(name: str, *, config: ConfigOption = DEFAULT_CONFIG) -> int:
    """Unload a connection of the running gateway and set it up anew."""
    _known(name, config)
    ask(config, "connection.reload", {"name": name})
    note(f"connection {name} is being set up anew")
    return FINE


def probe(name: str, *, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """Let the running gateway try a connection's settings once, beside what runs."""
    _known(name, config)
    result: dict[str, Any] = ask(config, "connection.test", {"name": name})
    if json:
        print_json(result)
    else:
        mend = f"siperb doctor {name} looks step by step"
        print(f"{name}: fine" if result["ok"] else f"{name}: {result['reason']}: {mend}")
    return FINE if result["ok"] else NOT_FINE


def _known(name: str, config: Path) -> None:
    """Raises CommandError where the file has no connection of that name."""
    names = [entry.name for entry in usable(load(config)).connections]
    if name not in names:
        raise CommandError(_missing(name, names, config), USAGE)


def _missing(name: str, names: Sequence[str], config: Path) -> str:
    near = get_close_matches(name, names, 1)
    known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    there = f"did you mean {near[0]}?" if near else f"there are {known}" if names else "siperb connection add makes one"
    return f"there is no connection {name} in {config}: {there}"


def _type(plugins: Plugins, kind: str) -> ConnectionType:
    found = plugins.connection_types.get(kind)
    if found is None:
        near = get_close_matches(kind, plugins.connection_types, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        known = ", ".join(plugins.connection_types) or "none"
        raise CommandError(f"there is no connection type {kind}: {meant}installed are {known}", USAGE)
    return found


def _type_of(file: ConfigFile, plugins: Plugins, name: str, config: Path) -> ConnectionType:
    names = file.names("connection")
    if name not in names:
        raise CommandError(_missing(name, names, config), USAGE)
    kind = file.value("connection", name, "type")
    if kind is None:
        raise CommandError(f"connection {name} has no type in {config}: write one by hand first", USAGE)
    return _type(plugins, kind)


def _edit(change: Any) -> None:
    try:
        change()
    except EditError as error:
        raise CommandError(str(error), USAGE) from error
