"""`siperb import FILE`: other programs' connections as ours, printed or written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tomlkit
from cyclopts import Parameter

from siperb_core.cli.connection import finish, open_file, save
from siperb_core.cli.output import FINE, NOT_FINE, USAGE, CommandError, note, print_json
from siperb_core.cli.setup import DEFAULT_CONFIG, ConfigOption, JsonOption
from siperb_core.entries.contract import ConnectionType
from siperb_core.entries.editing import EditError
from siperb_core.entries.foreign import MAX_FOREIGN, ForeignError, Found, Reading, read_foreign
from siperb_core.entries.source import load_text
from siperb_core.plugin_finding import disabled_by
from siperb_core.plugins import load_plugins


def import_(
    file: Annotated[Path, Parameter(help="A pjsip.conf, a FreeSWITCH gateway XML, or SIPERB's connections as JSON.")],
    *,
    write: Annotated[
        bool, Parameter(name="--write", negative=(), help="Write them into the configuration file.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> int:
    """Read connections out of another program's configuration, and say line by line what was not carried over."""
    # Before the file is read: it may name codecs that plugins give.
    types = load_plugins(disabled_by(config), only=("siperb_connection_types", "siperb_codecs")).connection_types
    reading = _read(file)
    if write:
        return _write(reading, file, config)
    mistakes = {found.name: mistakes_of(found, types) for found in reading.connections}
    if json:
        print_json(
            {
                "kind": reading.kind,
                "connections": [_row(found) for found in reading.connections],
                "remarks": [{"line": remark.line, "text": remark.text} for remark in reading.remarks],
                "mistakes": [line for lines in mistakes.values() for line in lines],
            }
        )
    else:
        print("\n".join(as_toml(found) for found in reading.connections), end="")
        _tell(reading, file)
        for line in (line for lines in mistakes.values() for line in lines):
            note(f"{file}: {line}")
        note(f"{_count(reading)} read; --write puts them into {config}")
    return FINE if reading.connections and not any(mistakes.values()) else NOT_FINE


def as_toml(found: Found) -> str:
    """One connection as it stands in siperb.toml."""
    document = tomlkit.document()
    table = tomlkit.table()
    for key, value in _keys(found).items():
        literal = isinstance(value, str) and "\\" in value and "'" not in value
        table.add(key, tomlkit.string(value, literal=True) if literal else value)
    table.add("settings", tomlkit.item(dict(found.settings)))
    tables = tomlkit.aot()
    tables.append(table)
    document.append("connection", tables)
    return tomlkit.dumps(document)


def mistakes_of(found: Found, types: dict[str, ConnectionType]) -> list[str]:
    """Why a connection cannot be used as it was read; empty where it can."""
    data = f'[gateway]\ndomain = "localhost"\n{as_toml(found)}'.encode()
    result = load_text(data, Path("siperb.toml"), types, private=True)
    return [str(problem) for problem in result.problems]


def _read(file: Path) -> Reading:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FOREIGN + 1)
    except OSError as error:
        raise CommandError(f"{file} cannot be read ({error.strerror}): check its name", USAGE) from error
    try:
        return read_foreign(data)
    except ForeignError as error:
        raise CommandError(f"{file} cannot be imported: {error}", USAGE) from error


def _write(reading: Reading, file: Path, config: Path) -> int:
    target, plugins = open_file(config)
    written: list[str] = []
    left: list[str] = []
    for found in reading.connections:
        mistakes = mistakes_of(found, plugins.connection_types)
        try:
            if not mistakes:
                target.add("connection", _keys(found), found.settings)
                written.append(found.name)
        except EditError as error:
            mistakes = [str(error)]
        left += mistakes
    _tell(reading, file)
    for line in left:
        note(f"{file}: not written: {line}")
    if not written:
        raise CommandError("nothing was changed: there is nothing to write", NOT_FINE)
    save(target, config, private=True)
    finish(config, f"{', '.join(written)} added")
    return NOT_FINE if left else FINE


def _keys(found: Found) -> dict[str, Any]:
    return {"name": found.name, "type": found.type, **found.keys}


def _row(found: Found) -> dict[str, Any]:
    """As JSON: passwords are the file's own, which whoever reads it has anyway."""
    return {**_keys(found), "settings": found.settings, "line": found.line}


def _tell(reading: Reading, file: Path) -> None:
    for remark in reading.remarks:
        note(f"{file}:{remark.line}: {remark.text}" if remark.line else f"{file}: {remark.text}")


def _count(reading: Reading) -> str:
    number = len(reading.connections)
    return f"{number} connection{'' if number == 1 else 's'} of {reading.kind}"
