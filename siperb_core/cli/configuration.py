"""Commands that need no running gateway: check, route, plugins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from siperb_core.cli.output import FINE, NOT_FINE, USAGE, note, print_json, table
from siperb_core.cli.setup import DEFAULT_CONFIG, ConfigOption, JsonOption, ask_if_running, load_all, usable
from siperb_core.entries.model import down_because, routes_of
from siperb_core.entries.structure import Problem
from siperb_core.routing import ALL, Explanation, Route


def check(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """Validate the configuration: one line per mistake, `path: what is wrong: how to mend it`."""
    result, _ = load_all(config, only=("siperb_connection_types", "siperb_transports", "siperb_settings"))
    if json:
        problems, warnings = map(list, (map(_row, result.problems), map(_row, result.warnings)))
        print_json({"ok": not result.problems, "problems": problems, "warnings": warnings})
    else:
        for problem in result.problems:
            print(problem)
        for warning in result.warnings:
            note(f"warning: {warning}")
        if not result.problems and result.config is not None:
            found = result.config
            counts = (
                f"connections {len(found.connections)}, devices {len(found.devices)}, listeners {len(found.listen)}"
            )
            print(f"{config}: fine: {counts}")
    return USAGE if result.problems else FINE


def _row(problem: Problem) -> dict[str, str]:
    return {"path": problem.path, "wrong": problem.wrong, "mend": problem.mend}


def route(
    number: str,
    *,
    user: Annotated[str | None, Parameter(help="As this user; any when left out.")] = None,
    method: Annotated[str, Parameter(help="The SIP method.")] = "INVITE",
    from_: Annotated[
        str | None, Parameter(name="--from", help="As called through this connection: who rings for the number.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> int:
    """Explain which connection takes a number, and why each other one does not. It is the code that routes."""
    if from_ is not None:
        from siperb_core.cli.inbound import route_inbound

        return route_inbound(number, from_, method.upper(), config, as_json=json)
    result, plugins = load_all(config, only=("siperb_connection_types", "siperb_routes", "siperb_route"))
    found = usable(result)
    routes = [attrs.evolve(route, down=down) for route, down in _with_states(config, routes_of(found))]
    emergency = found.gateway.emergency
    explanation = plugins.route(routes, number, user or ALL, method.upper(), emergency=emergency)
    if json:
        print_json({**_explained(explanation), "user": user})
        return FINE if explanation.taken else NOT_FINE
    by = f" by {user}" if user else ""
    if explanation.taken:
        dials = next(item.dials for item in explanation.candidates if item.taken)
        as_number = f" as {dials}" if dials != number else ""
        print(f"{number} ({explanation.method}){by} goes to {explanation.taken}{as_number}")
        if len(explanation.order) > 1:
            print(f"If the call fails there: {', '.join(explanation.order[1:])}")
    else:
        print(f"{number} ({explanation.method}){by} goes nowhere: the softphone gets 404")
    if explanation.candidates:
        rows = [{**attrs.asdict(item), "taken": "*" if item.taken else " "} for item in explanation.candidates]
        headings = {
            "taken": " ",
            "weight": "WEIGHT",
            "connection": "CONNECTION",
            "dial_pattern": "PATTERN",
            "why": "WHY",
        }
        print("\n" + table(rows, headings))
    else:
        print("There are no connections: siperb connection add makes one.")
    return FINE if explanation.taken else NOT_FINE


def _with_states(config: Path, routes: Sequence[Route]) -> Iterator[tuple[Route, str]]:
    """Each connection with the reason why it cannot be used just now, where a gateway runs that knows."""
    rows = {row["name"]: row for row in ask_if_running(config, "show.connections") or ()}
    for route in routes:
        row = rows.get(route.connection)
        yield route, down_because(row["state"], row["reason"], row["reachable"]) if row else ""


def _explained(explanation: Explanation) -> dict[str, Any]:
    """The fields of the reference; `dials` and `emergency` only where they say something."""
    row = attrs.asdict(explanation, filter=lambda attribute, _: attribute.name != "order")
    for candidate in row["candidates"]:
        if candidate["dials"] in ("", explanation.number):
            del candidate["dials"]
    if not explanation.emergency:
        del row["emergency"]
    return row


def plugins(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """What is installed, what is loaded, and what is set aside and why."""
    _, found = load_all(config)
    if json:
        print_json([attrs.asdict(info) for info in found.infos])
        return FINE
    rows = [attrs.asdict(info) for info in found.infos]
    headings = {"name": "NAME", "distribution": "PACKAGE", "version": "VERSION", "state": "STATE"}
    print(table([{**row, "what": row["reason"] or row["provides"]} for row in rows], {**headings, "what": "GIVES"}))
    return FINE
