"""siperb route: where a number goes, and who rings for one that is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import trio

from siperb_core.control import ControlServer

from .terminal import ANSWERS, TEXT, FakeGateway, Terminal


def test_route(siperb: Terminal) -> None:
    assert siperb("route", "234") == 0
    assert siperb.out.startswith("234 (INVITE) goes to office\n")
    assert siperb("route", "600", "--user", "alice", "--method", "message") == 1
    assert r"pattern ^2\d{2}$ does not match 600" in siperb.out
    assert siperb("route", "600", "--json") == 1
    assert json.loads(siperb.out) == {
        "number": "600",
        "user": None,
        "method": "INVITE",
        "taken": None,
        "candidates": [
            {
                "connection": "office",
                "weight": 10,
                "dial_pattern": r"^2\d{2}$",
                "taken": False,
                "why": r"pattern ^2\d{2}$ does not match 600: ^2 already fails",
            }
        ],
    }


def test_route_of_a_number_that_is_called(siperb: Terminal, config: Path) -> None:
    config.write_text(
        TEXT.replace("[[device]]", "[connection.did]\n'^49301$' = \"alice\"\n'^49302' = \"bob\"\n[[device]]")
    )
    assert siperb("route", "49301", "--from", "office") == 0, siperb.err
    assert siperb.out.startswith("49301 from office rings laptop\n")
    assert siperb("route", "49302", "--from", "office") == 1
    assert "rings nobody: nobody of bob has a device" in siperb.out
    assert siperb("route", "7", "--from", "office") == 0
    assert "no row of its did table matches" in siperb.out
    assert "pattern ^49301$ does not match 7: ^4 already fails" in siperb.out
    assert siperb("route", "49301", "--from", "office", "--json") == 0
    assert json.loads(siperb.out) == {
        "number": "49301",
        "connection": "office",
        "method": "INVITE",
        "taken": True,
        "why": "",
        "users": ["alice"],
        "rows": [
            {
                "pattern": "^49301$",
                "users": ["alice"],
                "taken": True,
                "why": "pattern ^49301$ matches 49301, and none before it does",
            },
            {
                "pattern": "^49302",
                "users": ["bob"],
                "taken": False,
                "why": "pattern ^49302 does not match 49301: ^4930 matches, 2 behind it fails",
            },
        ],
        "devices": [{"device": "laptop", "user": "alice", "registered": None}],
    }
    assert siperb("connection", "disable", "office") == 0
    assert siperb("route", "49301", "--from", "office") == 1
    assert "siperb connection enable office" in siperb.out
    assert siperb("route", "49301", "--from", "cellar") == 2
    assert siperb.err == f"siperb: there is no connection cellar in {config}: there are office\n"


def test_route_says_what_a_mistake_costs(siperb: Terminal, config: Path) -> None:
    config.write_text(TEXT.replace('server = "pbx.example.com"', "port = 70000"))
    assert siperb("route", "234") == 1
    assert "its configuration has a mistake" in siperb.out


def test_route_from_a_connection_asks_plugins_who_rings(
    siperb: Terminal, config: Path, install_plugin: Callable[..., None]
) -> None:
    install_plugin(
        "night",
        "from siperb_core import Refusal, hookimpl\n@hookimpl\ndef siperb_ring(call, devices):\n"
        "    assert call.request.method == 'INVITE' and call.connection == 'office' and call.users == ('alice',)\n"
        "    return {'1': [], '2': Refusal(486, 'Asleep'), '3': devices[:1]}.get(call.number)\n",
    )
    tablet = '[[device]]\nname = "tablet"\nuser = "alice"\npassword = { env = "LAPTOP" }\n'
    config.write_text(TEXT.replace("weight = 10", 'weight = 10\nusers = ["alice"]') + tablet)
    found = [siperb("route", number, "--from", "office") or siperb.out.splitlines()[0] for number in "034"]
    assert found == [
        "0 from office rings laptop, tablet",
        "3 from office rings laptop",
        "4 from office rings laptop, tablet",
    ]
    assert siperb("route", "1", "--from", "office") == 1
    assert "a plugin lets none of its devices ring (laptop, tablet)" in siperb.out
    assert siperb("route", "2", "--from", "office") == 1
    assert "a plugin refuses the call: 486 Asleep" in siperb.out


async def test_route_with_a_running_gateway_says_who_is_there(
    siperb: Terminal, config: Path, nursery: trio.Nursery
) -> None:
    (config.parent / "var").mkdir()
    gateway = FakeGateway({**ANSWERS, "show.registrations": [{"device": "laptop"}]})
    await nursery.start(ControlServer(config.parent / "var" / "control.sock", gateway.methods()).run)

    async def run(*words: str) -> int:
        return await trio.to_thread.run_sync(lambda: siperb(*words))

    assert await run("route", "7", "--from", "office", "--json") == 0
    assert json.loads(siperb.out)["devices"][0]["registered"] is True
    gateway.answers = {**gateway.answers, "show.registrations": []}
    assert await run("route", "7", "--from", "office") == 1
    assert "rings nobody: none of its devices is registered (laptop)" in siperb.out
    rows = [{**ANSWERS["show.connections"][0], "state": "retry", "reason": "no answer"}]  # type: ignore[index]
    gateway.answers = {**gateway.answers, "show.connections": rows}
    assert await run("route", "7", "--from", "office") == 1
    assert "down now, retry (no answer)" in siperb.out
