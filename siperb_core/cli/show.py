"""`siperb show ...`: state of the running gateway, asked for at its control socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from siperb_core.cli.output import FINE, clock, print_json, table
from siperb_core.cli.setup import DEFAULT_CONFIG, ConfigOption, JsonOption, ask


def _show(what: str, config: Any, json: bool, columns: Mapping[str, str], none: str) -> int:
    rows: list[dict[str, Any]] = ask(config, f"show.{what}")
    if json:
        print_json(rows)
    elif rows:
        print(table([_flat(row) for row in rows], columns))
    else:
        print(none)
    return FINE


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its times readable and `registration.state` and the like beside its own keys."""
    flat = dict(row)
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": item for inner, item in value.items()})
        elif key in ("since", "next_attempt", "started", "answered", "ended"):
            flat[key] = clock(value)
    return flat


def connections(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """Connections with their state and, where they register, their registration."""
    columns = {
        "name": "NAME",
        "type": "TYPE",
        "state": "STATE",
        "registration.state": "REGISTRATION",
        "weight": "WEIGHT",
        "dial_pattern": "PATTERN",
        "users": "USERS",
        "calls": "CALLS",
        "since": "SINCE",
        "reason": "REASON",
    }
    return _show("connections", config, json, columns, "No connections: siperb connection add makes one.")


def registrations(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """Softphones that are registered."""
    columns = {
        "device": "DEVICE",
        "user": "USER",
        "transport": "TRANSPORT",
        "remote": "FROM",
        "expires_in": "EXPIRES IN",
        "latency_ms": "LATENCY MS",
        "user_agent": "USER AGENT",
    }
    return _show("registrations", config, json, columns, "No softphone is registered.")


def calls(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """Calls, those that last first, with what became of them."""
    columns = {
        "state": "STATE",
        "direction": "DIRECTION",
        "device": "DEVICE",
        "connection": "CONNECTION",
        "from": "FROM",
        "to": "TO",
        "started": "STARTED",
        "media.mode": "MEDIA",
        "media.effort": "EFFORT",
        "cause": "CAUSE",
        "diagnosis": "DIAGNOSIS",
        "call_id": "CALL-ID",
    }
    return _show("calls", config, json, columns, "No calls.")


def devices(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """Devices of the configuration."""
    columns = {"name": "NAME", "user": "USER", "mode": "MODE", "registrations": "REGISTRATIONS"}
    return _show("devices", config, json, columns, "No devices: siperb device add makes one.")


def plugins(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """Plugins of the running gateway, with the errors they have raised."""
    columns = {"name": "NAME", "version": "VERSION", "state": "STATE", "errors": "ERRORS", "reason": "REASON"}
    return _show("plugins", config, json, columns, "No plugins.")


def issues(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """What has to be mended."""
    columns = {"connection": "CONNECTION", "since": "SINCE", "text": "WHAT", "mend": "MEND"}
    return _show("issues", config, json, columns, "Nothing to mend.")


def metrics(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """What Prometheus gets of the console's /metrics, whether the console is installed or not."""
    found: list[dict[str, Any]] = ask(config, "show.metrics")
    if json:
        print_json(found)
        return FINE
    rows = [
        {
            "name": metric["name"],
            "labels": " ".join(f"{label}={value}" for label, value in sample["labels"].items()),
            "value": _number(sample),
        }
        for metric in found
        for sample in metric["samples"]
    ]
    print(table(rows, {"name": "NAME", "labels": "LABELS", "value": "VALUE"}))
    return FINE


def _number(sample: Mapping[str, Any]) -> str:
    """A sample's value; of a histogram how many there were, and their mean."""
    if "value" in sample:
        return f"{sample['value']:.12g}"
    count = sample["count"]
    return f"{count}, mean {sample['sum'] / count:.3g}" if count else "0"
