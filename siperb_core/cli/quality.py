"""`siperb plugins check NAME`: a plugin against the quality scale."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated

import attrs
from cyclopts import Parameter

from siperb_core.cli.output import FINE, NOT_FINE, USAGE, CommandError, print_json, table
from siperb_core.cli.setup import DEFAULT_CONFIG, ConfigOption, JsonOption
from siperb_core.plugin_finding import disabled_by
from siperb_core.plugins import GROUP, load_plugins
from siperb_core.quality import check as check_package
from siperb_core.quality import level_of, package_of


def check(
    name: Annotated[str, Parameter(help="The plugin's name, as siperb plugins lists it.")],
    *,
    quick: Annotated[bool, Parameter(name="--quick", negative=(), help="Run neither its tests nor mypy.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> int:
    """Hold a plugin against the quality scale, bronze to platinum."""
    infos = {info.name: info for info in load_plugins(disabled_by(config)).infos}
    info = infos.get(name)
    if info is None:
        raise CommandError(f"there is no plugin {name}: siperb plugins lists them", USAGE)
    if info.state != "loaded":
        raise CommandError(f"plugin {name} does not load: {info.reason}", NOT_FINE)
    point = next(point for point in entry_points(group=GROUP) if point.name == name)
    try:
        package = package_of(point.module, info.provides)
    except LookupError as error:
        raise CommandError(str(error), NOT_FINE) from error
    rules = check_package(package, run=not quick)
    level = level_of(rules)
    if json:
        print_json({"plugin": name, "level": level, "rules": [attrs.asdict(rule) for rule in rules]})
    else:
        rows = [{**attrs.asdict(rule), "kept": "no" if rule.wrong else "yes"} for rule in rules]
        print(table(rows, {"level": "LEVEL", "name": "RULE", "kept": "KEPT", "wrong": "WRONG"}))
        print(f"\n{name}: {level or 'below bronze'}{' (tests and mypy not run)' if quick else ''}")
    return NOT_FINE if any(rule.wrong for rule in rules) else FINE
