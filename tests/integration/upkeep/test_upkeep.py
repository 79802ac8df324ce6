"""While the gateway runs: a changed file is taken over, calls of changed connections drain, phones are sent away."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from siperb_core import upkeep
from siperb_core.entries.issues import Issues
from siperb_core.entries.model import Entry
from siperb_core.gateway import Gateway
from siperb_core.testing.gateway import address, open_gateway, websocket_url
from siperb_core.testing.pbx import open_pbx
from siperb_core.testing.softphone import open_softphone
from siperb_core.transport.resolver import ResolveError
from siperb_core.upkeep import Upkeep

TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
weight = {weight}
allow_from = ["127.0.0.1"]
[connection.settings]
server = "127.0.0.1"
port = {port}
qualify = 0
"""


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: gw.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(autouse=True)
def watch_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "WATCH_SECONDS", 0.05)


def rewrite(gateway: Gateway, old: str, new: str) -> None:
    text = gateway.config_path.read_text()
    assert old in text
    gateway.config_path.write_text(text.replace(old, new))


async def until(condition: Any) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - what is waited for is seen from outside only
            await trio.sleep(0.05)


async def test_a_changed_file_is_taken_over(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, TRUNK.format(weight=1, port=5060)) as gateway:
        rewrite(gateway, "weight = 1", "weight = 7")
        await until(lambda: gateway.entries.status("office")["weight"] == 7)


async def test_a_file_with_a_new_mistake_changes_nothing(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, TRUNK.format(weight=1, port=5060)) as gateway:
        rewrite(gateway, "weight = 1", "wieght = 7")
        await trio.sleep(0.5)
        assert gateway.entries.status("office")["state"] == "loaded"
        rewrite(gateway, "wieght = 7", "weight = 8")
        await until(lambda: gateway.entries.status("office")["weight"] == 8)


async def test_calls_of_a_connection_that_is_set_up_anew_drain_and_end(tmp_path: Path) -> None:
    async with open_pbx() as pbx, open_gateway(tmp_path, TRUNK.format(weight=1, port=pbx.local[1])) as gateway:
        rewrite(gateway, 'data_dir = "data"', 'data_dir = "data"\ndrain_seconds = 2')
        await until(lambda: gateway.config.gateway.drain_seconds == 2)
        async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone:
            with trio.fail_after(60):
                call = await phone.call("601")
                await call.answered()
                rewrite(gateway, "qualify = 0", 'qualify = 0\nfrom_user = "other"')
                await until(lambda: gateway.config.connections[0].settings.from_user == "other")
                assert not call.ended.is_set(), "the call goes on while it drains"
                await call.ended.wait()
                assert gateway.calls.active() == []
                again = await phone.call("601")
                await again.answered()
                await again.hangup()


async def test_a_stopping_gateway_takes_no_calls_and_tells_phones_to_come_back(tmp_path: Path) -> None:
    async with open_pbx() as pbx, open_gateway(tmp_path, TRUNK.format(weight=1, port=pbx.local[1])) as gateway:
        url = websocket_url(gateway)
        async with open_softphone(url, "alice-web", gateway.domain, "alice-secret") as phone:
            with trio.fail_after(60):
                call = await phone.call("601")
                await call.answered()
                gateway.stop()
                refused = await phone.request("INVITE", "600")
                assert (refused.status, refused.get("Retry-After")) == (503, "30")
                assert (await call.listen(0.5)).is_tone(1000), "no call is cut before the deadline"
                await call.hangup()
                await gateway.stopped.wait()


async def test_the_close_code_says_that_the_service_restarts(tmp_path: Path) -> None:
    async with open_gateway(tmp_path) as gateway, await trio.open_tcp_stream(*address(gateway, "ws")) as stream:
        with trio.fail_after(30):
            await stream.send_all(HANDSHAKE)
            assert b"101" in await stream.receive_some()
            flow = next(iter(gateway.listeners["ws"][0]._flows))  # type: ignore[attr-defined]
            gateway.softphones._devices[flow] = gateway.config.devices[0]
            gateway.stop()
            frame = await stream.receive_some()
        assert (frame[0], int.from_bytes(frame[2:4], "big")) == (0x88, 1012)


class FakeResolver:
    """Addresses by name; none is a failure of DNS."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {name.replace("_", "."): found for name, found in names.items()}
        self.asked = 0

    async def resolve(self, host: str, port: int, transport: str) -> list[tuple[str, int, str]]:
        self.asked += 1
        if not self.names[host]:
            raise ResolveError(f"{host} has no address")
        return [(address, port, transport) for address in self.names[host]]


async def test_names_in_allow_from_are_looked_up_again(
    nursery: trio.Nursery, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "WATCH_SECONDS", 2.0)
    resolver = FakeResolver(pbx_example=["192.0.2.1", "2001:db8::1"])
    known: dict[str, Any] = {}
    entry = Entry("carrier", "outbound_trunk", allow_names=("pbx.example",))
    entries = SimpleNamespace(
        names_to_resolve=lambda: {"pbx.example"},
        resolved=known.__setitem__,
        issues=Issues(),
    )
    gateway: Any = SimpleNamespace(
        resolver=resolver, entries=entries, config=SimpleNamespace(connections=(entry,)), now=trio.current_time
    )
    nursery.start_soon(Upkeep(gateway)._look_up_names)
    await trio.sleep(1)
    assert known["pbx.example"] == (ip_network("192.0.2.1"), ip_network("2001:db8::1"))
    resolver.names["pbx.example"] = []
    await trio.sleep(120)
    assert known["pbx.example"], "what is known stays while DNS fails"
    assert [issue.id for issue in entries.issues.all()] == ["allow_from:pbx.example"]
    resolver.names["pbx.example"] = ["192.0.2.9"]
    await trio.sleep(120)
    assert known["pbx.example"] == (ip_network("192.0.2.9"),)
    assert entries.issues.all() == []
    assert resolver.asked <= 6
    nursery.cancel_scope.cancel()
