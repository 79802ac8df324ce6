"""`siperb route NUMBER --from CONNECTION`: who rings when a PBX calls that number through the connection, plugins asked
(hook `siperb_ring`) as for a call. What a plugin remembers in a running gateway is not known here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from siperb_core.cli.output import FINE, NOT_FINE, USAGE, CommandError, print_json, table
from siperb_core.cli.setup import ask_if_running, load_all, usable
from siperb_core.defaults.devices import ConfiguredDevices
from siperb_core.entries.contract import Refusal
from siperb_core.entries.decisions import CallAttempt
from siperb_core.entries.model import Entry, down_because
from siperb_core.entries.peer import escape_user
from siperb_core.routing import explain_inbound
from siperb_core.sip import parse


def route_inbound(number: str, connection: str, method: str, config: Path, *, as_json: bool) -> int:
    """Explain; it is the code that rings. Raises CommandError where there is no such connection."""
    result, plugins = load_all(config, only=("siperb_connection_types", "siperb_transports", "siperb_ring"))
    found = usable(result)
    entry = found.connection(connection)
    if entry is None:
        known = ", ".join(item.name for item in found.connections) or "none"
        raise CommandError(f"there is no connection {connection} in {config}: there are {known}", USAGE)
    explanation = explain_inbound(entry.did, number, entry.users)
    rows = ask_if_running(config, "show.connections")
    registered = ask_if_running(config, "show.registrations")
    here = None if registered is None else {row["device"] for row in registered}
    plugins.add_own("devices", ConfiguredDevices(found.devices))
    rings = plugins.ring(_attempt(number, entry, explanation.users, method))
    refused = f"a plugin refuses the call: {rings.status} {rings.reason}" if isinstance(rings, Refusal) else ""
    devices = [
        {"device": item.name, "user": item.user, "registered": None if here is None else item.name in here}
        for item in (() if isinstance(rings, Refusal) else rings)
    ]
    users = explanation.users
    if not refused and not devices and (silent := found.devices_of(entry, number)):
        refused = f"a plugin lets none of its devices ring ({', '.join(device.name for device in silent)})"
    wrong = _against(entry, rows) or refused or _nobody(users, devices)
    if as_json:
        row = {"number": number, "connection": connection, "method": method, "taken": not wrong, "why": wrong}
        print_json({**row, **_lists(explanation.users, explanation.rows), "devices": devices})
        return NOT_FINE if wrong else FINE
    if wrong:
        print(f"{number} from {connection} rings nobody: {wrong}")
    else:
        print(f"{number} from {connection} rings {', '.join(str(item['device']) for item in devices)}")
    if explanation.rows:
        shown = [{**attrs.asdict(item), "taken": "*" if item.taken else " "} for item in explanation.rows]
        print("\n" + table(shown, {"taken": " ", "pattern": "PATTERN", "users": "USERS", "why": "WHY"}))
    if not any(item.taken for item in explanation.rows):
        because = "no row of its did table matches" if explanation.rows else "it has no did table"
        print(f"\nThe connection's users ring ({', '.join(entry.users) or 'none'}): {because}.")
    if devices:
        print("\n" + table(devices, {"device": "DEVICE", "user": "USER", "registered": "REGISTERED"}))
    return NOT_FINE if wrong else FINE


def _attempt(number: str, entry: Entry, users: tuple[str, ...], method: str) -> CallAttempt:
    """A call as plugins would be asked about it; its request has what a request must have, and no more."""
    uri, caller = f"sip:{escape_user(number)}@localhost", "sip:anonymous@anonymous.invalid"
    headers = {
        "Via": "SIP/2.0/TCP localhost;branch=z9hG4bKexplained",
        "From": f"<{caller}>;tag=explained",
        "To": f"<{uri}>",
        "Call-ID": "explained",
        "CSeq": f"1 {method}",
        "Max-Forwards": "70",
        "Content-Length": "0",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return CallAttempt(
        call_id="explained", direction="inbound", method=method, number=number, caller=caller,
        request=parse(f"{method} {uri} SIP/2.0\r\n{lines}\r\n".encode()), connection=entry.name, users=users,
    )  # fmt: skip


def _lists(users: tuple[str, ...], rows: tuple[Any, ...]) -> dict[str, Any]:
    return {"users": list(users), "rows": [attrs.asdict(row) for row in rows]}


def _against(entry: Entry, rows: list[dict[str, Any]] | None) -> str:
    """What speaks against any call from this connection; '' where nothing does."""
    if not entry.enabled:
        return f"the connection is disabled: siperb connection enable {entry.name}"
    if entry.problem:
        return f"its configuration has a mistake: {entry.problem}"
    if rows is None:
        return ""
    row = next((row for row in rows if row["name"] == entry.name), None)
    if row is None:
        return "the running gateway does not know it: siperb reload"
    return "" if row["state"] == "loaded" else down_because(row["state"], row["reason"], None)


def _nobody(users: tuple[str, ...], devices: list[dict[str, Any]]) -> str:
    if not devices:
        who = ", ".join(users)
        return f"nobody of {who} has a device: siperb device add" if users else "the connection has no users"
    if all(item["registered"] is False for item in devices):
        return f"none of its devices is registered ({', '.join(item['device'] for item in devices)})"
    return ""
