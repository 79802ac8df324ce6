"""A plugin that raises, blocks or returns nonsense, in every hook and in what a hook gives: calls go on.

A new hook needs a case here: the first test fails without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from siperb_core import hookspecs
from siperb_core.service_view import ServiceView
from siperb_core.testing.gateway import open_gateway, websocket_url
from siperb_core.testing.pbx import PbxSettings, open_pbx
from siperb_core.testing.softphone import open_softphone

GOOD = """
[[connection]]
name = "good"
type = "outbound_registration"
users = ["alice"]
weight = 5
[connection.settings]
server = "127.0.0.1"
port = {port}
username = "200"
password = "two-hundred"
"""

BAD = """
[[connection]]
name = "bad"
type = "bad"
users = ["alice"]
weight = 1
failover = true
"""

TYPE = """
import attrs, trio
from siperb_core import hookimpl, ConnectionNotReady

@attrs.frozen
class Settings:
    server: str = ""

class Live:
    credentials = None
    def outbound_leg(self, call): raise ZeroDivisionError
    def claims(self, request, source): return None
    def answer(self, request, source): return None

class Type:
    kind, title, version, config_class, allow_from_required = "bad", "Bad", 1, Settings, False
    def unique_id(self, config): return None
    def migrate(self, data, old): return data
    async def probe(self, ctx, config): pass
    async def serve(self, ctx, config, *, task_status):
        task_status.started(Live())
        await trio.sleep_forever()

@hookimpl
def siperb_connection_types(): return [Type()]
"""

HOOK = "from siperb_core import hookimpl\n@hookimpl\ndef {hook}: {body}\n"


def hook(signature: str, *bodies: str) -> list[str]:
    return [HOOK.format(hook=signature, body=body) for body in bodies]


def types(*changes: str) -> list[str]:
    """The type, with something in it replaced by something bad."""
    return [TYPE + change for change in changes]


RAISES = "raise ZeroDivisionError"
BLOCKS = "__import__('time').sleep(0.3)"
SERVICE = "class S:\n    name = 'bad'\n    async def run(self, gateway, *, task_status): {body}\n"
SERVICE += "from siperb_core import hookimpl\n@hookimpl\ndef siperb_services(): return [S()]\n"
GIVES = (
    "from siperb_core import hookimpl\nclass T:\n    name = 'bad'\n    {body}\n@hookimpl\ndef {hook}(): return [T()]\n"
)

GATE = """
from siperb_core import hookimpl
class Gate:
    name, seconds, admits_when_failing = "bad", 0.5, True
    def concerns(self, call): {concerns}
    async def admit(self, call): {admit}
@hookimpl
def siperb_call_gates(): return [Gate()]
"""

STARTING = (
    *("siperb_codecs()", "siperb_control_methods(gateway)", "siperb_http_routes(gateway)", "siperb_commands()"),
    *("siperb_media_engine(settings)", "siperb_location_store(own)"),
)
CALLING = (
    *("siperb_ring(call, devices)", "siperb_call_gates()", "siperb_diagnostics(connection)"),
    *("siperb_media_policy(entry, transport, peer_offer)", "siperb_call_record(record)"),
    *("siperb_connection_event(event)", "siperb_metrics()"),
)


def together(signatures: Iterable[str], *bodies: str) -> list[str]:
    """Several bad hooks in one plugin, for less time."""
    return ["".join(HOOK.format(hook=signature, body=body) for signature in signatures) for body in bodies]


CASES: dict[str, list[str]] = {
    "siperb_connection_types": [
        *hook("siperb_connection_types()", RAISES, "return 5", "return [5]", "return None", BLOCKS),
        *types(
            "",  # outbound_leg raises
            "Live.outbound_leg = lambda self, call: 5\n",
            "Live.outbound_leg = lambda self, call: __import__('siperb_core').OutboundLeg(None, 1, 2, 3)\n",
            "Live.outbound_leg = lambda self, call: __import__('time').sleep(0.3)\n",
            "Live.credentials = property(lambda self: 1 / 0)\n",
            "Live.claims = lambda self, request, source: 1 / 0\n",
            "Live.claims = lambda self, request, source: 'mine'\n",
            "Live.claims = lambda self, request, source: __import__('siperb_core').Claim(5)\n",
            "Live.answer = lambda self, request, source: 1 / 0\n",
            "Type.unique_id = lambda self, config: 1 / 0\n",
            "Type.unique_id = lambda self, config: ['x']\n",
            "Type.version = 2\nType.migrate = lambda self, data, old: 1 / 0\n",
            "Type.version = 2\nType.migrate = lambda self, data, old: 5\n",
            "async def serve(self, ctx, config, *, task_status): 1 / 0\nType.serve = serve\n",
            "async def serve(self, ctx, config, *, task_status): task_status.started(5)\nType.serve = serve\n",
            "async def serve(self, ctx, config, *, task_status): return 5\nType.serve = serve\n",
            "Type.serve = lambda self, ctx, config, *, task_status: 5\n",
            "async def serve(self, ctx, config, *, task_status):\n"
            "    ctx.qualified('x'); ctx.report(5); ctx.raise_issue(1, 2, 3)\n    raise ConnectionNotReady(None)\n"
            "Type.serve = serve\n",
            "async def serve(self, ctx, config, *, task_status):\n    await ctx.request(5, 6)\nType.serve = serve\n",
        ),
    ],
    "siperb_transports": [
        *hook("siperb_transports()", RAISES, "return 5", "return [5]", "return [None]"),
        GIVES.format(hook="siperb_transports", body="async def listen(self, *a, **k): 1 / 0"),
    ],
    "siperb_transcoders": [
        *hook("siperb_transcoders()", RAISES, "return 5", "return [5]"),
        GIVES.format(hook="siperb_transcoders", body="def pairs(self): 1 / 0"),
        GIVES.format(hook="siperb_transcoders", body="def pairs(self): return [5]"),
    ],
    "siperb_services": [
        *hook("siperb_services()", RAISES, "return 5", "return [5]", "return 'text'", BLOCKS),
        SERVICE.format(body="1 / 0"),
        SERVICE.format(body="return 5"),
        SERVICE.format(body="task_status.started(); 1 / 0"),
        SERVICE.format(body="task_status.started(); await __import__('trio').sleep_forever()"),
    ],
    "siperb_route": hook(
        "siperb_route(routes, number, user, method)",
        RAISES,
        "return 5",
        "return __import__('siperb_core').routing.Explanation(1, 2, 3, 4, 5, 6)",
        "return __import__('siperb_core').routing.Explanation(number, user, method, None, (), None)",
        BLOCKS,
    ),
    "siperb_settings": hook("siperb_settings()", RAISES, "return 5", "return [5]", "return None"),
    "siperb_routes": hook(
        "siperb_routes(routes, number, user, method)", RAISES, "return 5", "return []", "return routes * 2", BLOCKS
    ),
    "siperb_device_secret": hook("siperb_device_secret(username)", RAISES, "return 5", "return b'x'", BLOCKS),
    "siperb_registration_event": hook("siperb_registration_event(event)", RAISES, "return 5", BLOCKS),
    "siperb_call_event": hook("siperb_call_event(event)", RAISES, "return 5", BLOCKS),
    "starting": [
        *together(STARTING, RAISES, "return 5", "return [5]", BLOCKS),
        *hook("siperb_control_methods(gateway)", "return {'reload': 5, 7: print}"),
    ],
    "calling": together(CALLING, RAISES, "return 5", "return ['x']", "return {5: print}", BLOCKS),
    "gate": [
        GATE.format(concerns=concerns, admit=admit)
        for concerns, admit in (
            ("1 / 0", "pass"),
            ("return 5", "1 / 0"),
            ("return True", "return 5"),
            ("return True", "await __import__('trio').sleep_forever()"),
            ("__import__('time').sleep(0.3)", "pass"),
        )
    ],
}


def test_every_hook_has_its_cases() -> None:
    known = {name for name in vars(hookspecs) if name.startswith("siperb_")}
    several = {signature.partition("(")[0] for signature in (*STARTING, *CALLING)}
    assert known == several | {name for name in CASES if name.startswith("siperb_")}


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        pytest.param(hook, text, id=f"{hook}-{number}")
        for hook, texts in CASES.items()
        for number, text in enumerate(texts)
    ],
)
async def test_calls_go_on(tmp_path: Path, install_plugin: Callable[..., None], hook: str, text: str) -> None:
    install_plugin("a_bad", text)
    with capture_logs(), trio.fail_after(60):
        async with open_pbx(PbxSettings(accounts={"200": "two-hundred"})) as pbx:
            connections = GOOD.format(port=pbx.local[1]) + (BAD if "Type()" in text else "")
            async with (
                open_gateway(tmp_path, connections) as gateway,
                open_softphone(websocket_url(gateway), "alice-web", "gw.example", "alice-secret") as phone,
            ):
                (info,) = [info for info in gateway.plugins.infos if info.name == "a_bad"]
                assert info.state == "loaded" or info.reason
                call = await phone.call("605")
                await call.answered()
                assert gateway.calls.active()[0].record.connection == "good"
                await call.hangup()
                back = await phone.next_call()  # and one that comes in
                await back.accept()
                await back.hears(1000)
                await back.hangup()
                rows: list[dict[str, Any]] = await gateway.operations.call("show.connections")
                assert {row["name"]: row["state"] for row in rows}["good"] == "loaded"
                for what in ("plugins", "issues", "calls", "registrations", "metrics"):
                    await gateway.operations.call(f"show.{what}")
                await gateway.operations.call("diagnostics", {"name": "good"})
                gateway.plugins.http_routes(lambda plugin: ServiceView(gateway, plugin))
                gateway.plugins.commands()
                await gateway.operations.call("reload")
