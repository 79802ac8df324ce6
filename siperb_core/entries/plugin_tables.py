"""`[plugins]`, and the tables of plugins below it: checked by the classes the plugins give for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from siperb_core.entries.model import PluginsConfig
from siperb_core.entries.structure import Structurer, failed


def read_plugins(data: object, reader: Structurer) -> PluginsConfig:
    """The table as it is written, every mistake noted."""
    if not isinstance(data, Mapping):
        reader.wrong("plugins", "is not a table", "make it one")
        return PluginsConfig()
    disable = reader.value(tuple[str, ...], data.get("disable", []), "plugins.disable")
    tables = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            tables[key] = value
        elif key != "disable":
            reader.wrong(
                f"plugins.{key[:60]}",
                "unknown key",
                f"known is disable, and a table [plugins.{key[:60]}] for each plugin",
            )
    return PluginsConfig(() if failed(disable) else disable, tables)


def with_settings(plugins: PluginsConfig, classes: Mapping[str, type[Any]], reader: Structurer) -> PluginsConfig:
    """With the tables read that these classes are for. A mistake in one is noted, and costs that plugin alone."""
    settings: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for name, table in plugins.tables.items():
        if name not in classes:
            continue
        before = len(reader.problems)
        found = reader.instance(classes[name], table, f"plugins.{name}")
        if found is None:
            broken[name] = "; ".join(map(str, reader.problems[before:]))
        else:
            settings[name] = found
    return attrs.evolve(plugins, settings=settings, broken=broken)
