"""Every kind of issue, in a whole gateway: raised when something is wrong, gone when it is mended.

The table in docs/how-to/find-out-what-is-wrong.md is the list: a kind that stands there needs a test here.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_core import upkeep
from siperb_core.gateway import Gateway
from siperb_core.testing.gateway import open_gateway, websocket_url
from siperb_core.testing.pbx import Pbx, PbxSettings, open_pbx
from siperb_core.testing.session import CallFailed
from siperb_core.testing.softphone import open_softphone
from siperb_core.transport.resolver import Destination, ResolveError, Resolver

from .test_doctor import Authority
from .test_issues_and_diagnostics import HEAD, REGISTRATION, TRUNK, issues

TABLE = Path(__file__).parents[3] / "docs/how-to/find-out-what-is-wrong.md"


def test_every_kind_in_the_table_has_its_test() -> None:
    text = TABLE.read_text(encoding="utf-8").partition("## `siperb show issues`")[2]
    kinds = {kind.partition(":")[0] for kind in re.findall(r"^\| `([a-z_:A-Z]+)` \|", text, re.MULTILINE)}
    assert len(kinds) >= 10
    tested = {name.removeprefix("test_issue_") for name in globals() if name.startswith("test_issue_")}
    assert kinds == tested


async def until(gateway: Gateway, *expected: tuple[str, str]) -> None:
    """Wait until these are the open issues."""
    with trio.fail_after(60):
        while sorted(await issues(gateway)) != sorted(expected):  # noqa: ASYNC110
            await trio.sleep(0.02)


async def rewrite(gateway: Gateway, text: str, head: str = HEAD) -> None:
    gateway.config_path.write_text(f"{head}\n{text}")
    await gateway.operations.call("reload")


@asynccontextmanager
async def trunk_to(folder: Path, pbx: Pbx, codecs: str = '"PCMA"', more: str = "") -> AsyncIterator[Gateway]:
    text = TRUNK.format(port=pbx.local[1], codecs=codecs, allowed='"127.0.0.1"') + more
    async with open_gateway(folder, text, head=HEAD) as gateway:
        yield gateway


async def test_issue_auth_failed(tmp_path: Path) -> None:
    async with open_pbx(PbxSettings(accounts={"200": "right-password"})) as pbx:
        keys = {"name": "office", "weight": 1, "port": pbx.local[1], "username": "200"}
        async with open_gateway(tmp_path, REGISTRATION.format(password="wrong-password", **keys), head=HEAD) as gateway:
            await until(gateway, ("office", "auth_failed"))
            asked = len(pbx.agent.received_messages)
            assert asked <= 3, "it is not hammered"
            await rewrite(gateway, REGISTRATION.format(password="right-password", **keys))
            await gateway.wait_settled()
            assert pbx.registrar.bindings("200")
            assert await issues(gateway) == []


async def test_issue_allow_from_empty(tmp_path: Path) -> None:
    text = TRUNK.format(port=5060, codecs='"PCMA"', allowed="")
    async with open_gateway(tmp_path, text, head=HEAD) as gateway:
        await until(gateway, ("office", "allow_from_empty"))
        await rewrite(gateway, TRUNK.format(port=5060, codecs='"PCMA"', allowed='"192.0.2.1"'))
        await until(gateway)


async def test_issue_allow_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[str] = []

    async def resolve(self: Resolver, host: str, port: int | None, transport: str) -> list[Destination]:
        if host.endswith(".example") and host not in known:
            raise ResolveError(f"there is no {host}")
        return [("192.0.2.1", 5060, "udp")]

    monkeypatch.setattr(Resolver, "resolve", resolve)
    monkeypatch.setattr(upkeep, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(upkeep, "NAMES_SECONDS", 0.1)
    text = TRUNK.format(port=5060, codecs='"PCMA"', allowed='"pbx.example", "other.example"')
    async with open_gateway(tmp_path, text, head=HEAD) as gateway:
        await until(gateway, ("office", "allow_from:pbx.example"), ("office", "allow_from:other.example"))
        known.append("pbx.example")
        await until(gateway, ("office", "allow_from:other.example"))
        await rewrite(gateway, TRUNK.format(port=5060, codecs='"PCMA"', allowed='"pbx.example"'))
        await until(gateway)


async def test_issue_no_common_codec(tmp_path: Path) -> None:
    async with (
        open_pbx(PbxSettings(codecs=("PCMU",))) as pbx,
        trunk_to(tmp_path, pbx) as gateway,
        open_softphone(websocket_url(gateway), "alice-web", "gw.example", "planted-device-9b1f") as phone,
    ):
        with pytest.raises(CallFailed):
            await (await phone.call("601")).answered()
        await until(gateway, ("office", "no_common_codec"))
        await rewrite(gateway, TRUNK.format(port=pbx.local[1], codecs='"PCMU"', allowed='"127.0.0.1"'))
        call = await phone.call("601")
        await call.answered()
        await until(gateway)
        await call.hangup()


async def test_issue_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    shown = tmp_path / "shown.pem"
    shutil.copy(authority.write("gw.example", 5), shown)
    listen = f'[[listen]]\ntransport = "tls"\nbind = "127.0.0.1:0"\ncertificate = "{shown}"\nkey = "{shown}"\n[media]'
    async with open_gateway(tmp_path, head=HEAD.replace("[media]", listen)) as gateway:
        await until(gateway, ("", f"certificate:{shown}"))
        shutil.copy(authority.write("gw.example", 90), shown)
        gateway.watch.look()
        await until(gateway)


async def test_issue_peer_certificate(tmp_path: Path, nursery: trio.Nursery) -> None:
    authority = Authority(tmp_path)
    more = f'transport = "tls"\nca = "{authority.file}"\nqualify = 5\n'

    def pbx_settings(days: float, port: int = 0) -> PbxSettings:
        file = authority.write("127.0.0.1", days)
        return PbxSettings(transports=("tls",), certificate=file, key=file, port=port)

    first, gone = trio.CancelScope(), trio.Event()

    async def before(*, task_status: trio.TaskStatus[Pbx]) -> None:
        with first:
            async with open_pbx(pbx_settings(5)) as pbx:
                task_status.started(pbx)
                await trio.sleep_forever()
        gone.set()

    pbx = await nursery.start(before)
    port = pbx.local[1]
    text = TRUNK.format(port=port, codecs='"PCMA"', allowed='"127.0.0.1"') + more
    async with open_gateway(tmp_path, text, head=HEAD) as gateway:
        await looked_until(gateway, ("office", "peer_certificate"))
        first.cancel()
        await gone.wait()
        async with open_pbx(pbx_settings(90, port)):
            await gateway.operations.call("connection.reload", {"name": "office"})
            await gateway.wait_settled()
            await looked_until(gateway)
            assert gateway.entries.down("office") == ""


async def looked_until(gateway: Gateway, *expected: tuple[str, str]) -> None:
    """As `until`, looking at certificates again and again, and not once a minute."""
    with trio.fail_after(60):
        while sorted(await issues(gateway)) != sorted(expected):
            gateway.watch.look()
            await trio.sleep(0.05)


async def test_issue_clock_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    off = [-3600]
    async with open_pbx(PbxSettings(accounts={"200": "right-password"})) as pbx:
        respond = pbx.agent.respond

        def dated(transaction: Any, response: Any) -> None:
            response.set("Date", formatdate(time.time() + off[0], usegmt=True))
            respond(transaction, response)

        monkeypatch.setattr(pbx.agent, "respond", dated)
        keys = {"name": "office", "weight": 1, "port": pbx.local[1], "username": "200"}
        async with open_gateway(tmp_path, REGISTRATION.format(password="right-password", **keys), head=HEAD) as gateway:
            await until(gateway, ("", "clock_off:127.0.0.1"))
            off[0] = 0
            await gateway.operations.call("connection.reload", {"name": "office"})
            await until(gateway)


async def test_issue_plugin_set_aside(tmp_path: Path, install_plugin: Callable[..., None]) -> None:
    install_plugin("odd", "import no_such_module_at_all\n")
    async with open_gateway(tmp_path, head=HEAD) as gateway:
        await until(gateway, ("", "plugin_set_aside:odd"))
        await rewrite(gateway, "", HEAD.replace('["console"]', '["console", "odd"]'))
        gateway.watch.look()
        await until(gateway)


TYPE = """
import attrs, trio
from siperb_core import hookimpl

@attrs.frozen
class Settings:
    crashes: bool = True

class Live:
    credentials = None
    def outbound_leg(self, call): raise ZeroDivisionError
    def claims(self, request, source): return None
    def answer(self, request, source): return None

class Type:
    kind, title, version, config_class, allow_from_required = "odd", "Odd", 1, Settings, False
    def unique_id(self, config): return None
    def migrate(self, data, old): return data
    async def probe(self, ctx, config): pass
    async def serve(self, ctx, config, *, task_status):
        if config.crashes:
            raise ZeroDivisionError
        task_status.started(Live())
        await trio.sleep_forever()

@hookimpl
def siperb_connection_types(): return [Type()]

def block(until):
    while not until.wait(0.01):
        pass
"""
ODD = '[[connection]]\nname = "odd"\ntype = "odd"\n[connection.settings]\ncrashes = {crashes}\n'


async def test_issue_crashed(tmp_path: Path, install_plugin: Callable[..., None]) -> None:
    install_plugin("odd", TYPE)
    async with open_gateway(tmp_path, ODD.format(crashes="true"), head=HEAD) as gateway:
        await until(gateway, ("odd", "crashed"))
        await rewrite(gateway, ODD.format(crashes="false"))
        await until(gateway)


async def test_issue_faults(tmp_path: Path, install_plugin: Callable[..., None]) -> None:
    install_plugin("odd", TYPE)
    async with (
        open_gateway(tmp_path, ODD.format(crashes="false"), head=HEAD) as gateway,
        open_softphone(websocket_url(gateway), "alice-web", "gw.example", "planted-device-9b1f") as phone,
    ):
        statuses = []
        for _ in range(11):
            with pytest.raises(CallFailed) as failed:
                await (await phone.call("601")).answered()
            statuses.append(failed.value.status)
        assert statuses == [500] * 10 + [503], "the eleventh finds it switched off"
        await until(gateway, ("odd", "faults"))
        await rewrite(gateway, "")
        await until(gateway)


async def test_issue_emergency(tmp_path: Path) -> None:
    head = HEAD.replace("[gateway]", '[gateway]\nemergency = ["112"]', 1)
    async with (
        open_pbx() as pbx,
        open_gateway(tmp_path, head=head) as gateway,
        open_softphone(websocket_url(gateway), "alice-web", "gw.example", "planted-device-9b1f") as phone,
    ):
        with pytest.raises(CallFailed) as failed:
            await (await phone.call("112")).answered()
        assert (failed.value.status, failed.value.reason) == (503, "No Connection Is Up For Emergency Calls")
        await until(gateway, ("", "emergency:alice"))
        await rewrite(gateway, TRUNK.format(port=pbx.local[1], codecs='"PCMA"', allowed='"127.0.0.1"'), head)
        await until(gateway)


async def test_issue_plugin_blocks(tmp_path: Path) -> None:
    """Who blocks the loop is found in tests/unit/plugins/test_guard_rails.py; here, what becomes of it."""
    async with open_gateway(tmp_path, head=HEAD) as gateway:
        gateway.watch.blocked("odd", "siperb_odd:1 in f")
        await until(gateway, ("", "plugin_blocks:odd"))
        await rewrite(gateway, "", HEAD.replace('["console"]', '["console", "odd"]'))
        gateway.watch.look()
        await until(gateway)
