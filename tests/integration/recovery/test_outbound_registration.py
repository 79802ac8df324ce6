"""A whole gateway that registers with a PBX which fails in every way PBXs do: what both ends think, on virtual time.

Sockets are real, on loopback, where what was sent has arrived by the next look; hours pass at once when nobody has
anything to do.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from siperb_core.gateway import Gateway
from siperb_core.sip import Message, response_to
from siperb_core.sip.transaction import ServerTransaction
from siperb_core.testing.gateway import open_gateway
from siperb_core.testing.pbx import Pbx, PbxSettings
from siperb_core.transport.stream import StreamFlow

EPOCH = 1_800_000_000.0
NAME = "pbx.test"
SETTLED = 0.002  # real seconds in which nothing happens, before virtual ones pass

CONNECTION = """
[[connection]]
name = "office"
type = "outbound_registration"
users = ["alice"]
[connection.settings]
server = "{server}"
port = {port}
transport = "{transport}"
username = "200"
password = "two-hundred"
"""


def now() -> float:
    return EPOCH + trio.current_time()


class VirtualGateway(Gateway):
    """A gateway by whose calendar virtual time passes, too."""

    def now(self) -> float:
        return now()


Answer = Callable[["ScriptedPbx", ServerTransaction, Message], None]


class ScriptedPbx(Pbx):
    """The demo PBX, whose next answers to REGISTER may be laid down; and what it has been sent."""

    def __init__(self, settings: PbxSettings) -> None:
        super().__init__(settings, now=now)
        self.script: deque[Answer] = deque()
        self.always: Answer | None = None
        """What every REGISTER gets after the script."""
        self.registers: list[tuple[float, Message]] = []
        self.ignores_options = False
        self.asked = 0

    def on_request(self, transaction: ServerTransaction, request: Message) -> None:
        self.asked += request.method == "OPTIONS"
        if request.method != "OPTIONS" or not self.ignores_options:
            super().on_request(transaction, request)

    def _register(self, transaction: ServerTransaction, request: Message) -> None:
        self.registers.append((trio.current_time(), request))
        answer = self.script.popleft() if self.script else self.always
        if answer is None:
            super()._register(transaction, request)
        else:
            answer(self, transaction, request)

    @property
    def contacts(self) -> list[str]:
        """What is bound to the account and has not run out."""
        return [binding.contact for binding in self.registrar.bindings("200") if binding.expires_at > now()]

    @property
    def flow(self) -> Any:
        """What the account's binding was made over."""
        (binding,) = self.registrar.bindings("200")
        return binding.flow


def saying(status: int, reason: str = "", *headers: tuple[str, str]) -> Answer:
    def answer(pbx: ScriptedPbx, transaction: ServerTransaction, request: Message) -> None:
        pbx.agent.respond(transaction, response_to(request, status, reason, to_tag="t", headers=headers))

    return answer


def normally(pbx: ScriptedPbx, transaction: ServerTransaction, request: Message) -> None:
    """As the demo PBX answers: a challenge, or 200."""
    Pbx._register(pbx, transaction, request)


def too_late(pbx: ScriptedPbx, transaction: ServerTransaction, request: Message) -> None:
    """The nonce has grown old meanwhile (RFC 3261 section 22.4, `stale`)."""
    headers = [("WWW-Authenticate", value) for value in pbx._digest.challenge(trio.current_time(), stale=True)]
    pbx.agent.respond(transaction, response_to(request, 401, to_tag="t", headers=headers))


def reset(flow: Any) -> None:
    """End a connection with RST: without a word, whatever is under way."""
    assert isinstance(flow, StreamFlow)
    flow._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    flow.end("reset")


def resetting(pbx: ScriptedPbx, transaction: ServerTransaction, request: Message) -> None:
    reset(transaction.flow)


class Site:
    """Where the PBX stands: it can be switched off, and on again at the same port, having forgotten everything."""

    def __init__(self, nursery: trio.Nursery, settings: PbxSettings) -> None:
        self._nursery = nursery
        self._settings = settings
        self._scope = trio.CancelScope()
        self._off = trio.Event()
        self.pbx: ScriptedPbx

    async def switch_on(self, **changes: Any) -> None:
        self._settings = attrs.evolve(self._settings, **changes)
        self._scope, self._off = trio.CancelScope(), trio.Event()
        self.pbx = await self._nursery.start(self._run)
        self._settings = attrs.evolve(self._settings, port=self.pbx.local[1])

    async def switch_off(self) -> None:
        self._scope.cancel()
        await self._off.wait()

    async def _run(self, *, task_status: trio.TaskStatus[ScriptedPbx]) -> None:
        pbx = ScriptedPbx(self._settings)
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(pbx.run)
                task_status.started(pbx)
        self._off.set()


class Names:
    """The hosts file and DNS."""

    def __init__(self) -> None:
        self.addresses = ["127.0.0.1"]
        self.broken = ""

    async def getaddrinfo(self, host: Any, port: Any, family: int = 0, *_: int) -> list[Any]:
        await trio.lowlevel.checkpoint()
        if self.broken == "silent":
            await trio.sleep_forever()
        if self.broken:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, 0)) for address in self.addresses]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@attrs.define
class World:
    """The gateway and its surroundings."""

    site: Site
    names: Names
    gateway: Gateway = attrs.field(init=False)
    states: list[str] = attrs.field(factory=list)
    """Every state the entry has come into since the gateway has started up."""

    @property
    def pbx(self) -> ScriptedPbx:
        return self.site.pbx

    @property
    def entry(self) -> dict[str, Any]:
        status = self.gateway.entries.status("office")
        return status | {"registration": (status["registration"] or {}).get("state")}

    @property
    def registered(self) -> bool:
        """Both ends say so, of one and the same contact."""
        token = self.gateway.errands.token("office")
        contacts = self.pbx.contacts
        ours = self.entry["state"] == "loaded" and self.entry["registration"] == "registered"
        return ours and len(contacts) == 1 and contacts[0].startswith(f"sip:{token}@")

    @property
    def issues(self) -> set[str]:
        return {issue.id for issue in self.gateway.entries.issues.all() if issue.connection == "office"}

    async def until(self, look: Callable[[], object], seconds: float) -> float:
        """Wait until it is so, for so many seconds at most; how long that took."""
        begin = trio.current_time()
        while not look():
            assert trio.current_time() - begin <= seconds, (self.entry, self.pbx.contacts)
            await trio.sleep(1)
        return trio.current_time() - begin


@asynccontextmanager
async def world(
    folder: Path, clock: MockClock, *, transport: str = "udp", server: str = "127.0.0.1", **settings: Any
) -> AsyncIterator[World]:
    clock.autojump_threshold = SETTLED
    names = Names()
    trio.socket.set_custom_hostname_resolver(names)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        accounts = {"200": "two-hundred"}
        site = Site(nursery, PbxSettings(transports=(transport,), accounts=accounts, **settings))
        await site.switch_on()
        it = World(site, names)
        if server == NAME:
            names.broken = "refused"
        connection = CONNECTION.format(server=server, port=site.pbx.local[1], transport=transport)
        async with open_gateway(folder, connection, make=VirtualGateway) as gateway:
            it.gateway = gateway
            before = gateway.entries.changed

            def changed(name: str) -> None:
                state = gateway.entries.status(name)["state"] if name in gateway.entries.names() else ""
                if [state] != it.states[-1:]:
                    it.states.append(state)
                before(name)

            gateway.entries.changed = changed
            yield it
        assert not site.pbx.contacts or site.pbx.always is not None, "a gateway that stops takes its contact back"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("broken", ["refused", "silent"])
@pytest.mark.parametrize("seconds", [10, 400])
async def test_dns_that_fails_at_the_start(
    tmp_path: Path, autojump_clock: MockClock, broken: str, seconds: float
) -> None:
    async with world(tmp_path, autojump_clock, server=NAME) as it:
        it.names.broken = broken
        assert it.entry["state"] == "retry"
        assert "cannot be resolved" in it.entry["reason"]
        await trio.sleep(seconds)
        assert it.entry["state"] in ("retry", "setting_up")
        assert not it.pbx.registers
        it.names.broken = ""
        await it.until(lambda: it.registered, 30)


@pytest.mark.parametrize("broken", ["refused", "silent"])
async def test_dns_that_fails_later(tmp_path: Path, autojump_clock: MockClock, broken: str) -> None:
    """The last good answer is used as long as it has to be; afterwards DNS is believed again."""
    async with world(tmp_path, autojump_clock, server=NAME) as it:
        it.names.broken = ""
        await it.until(lambda: it.registered, 30)
        it.names.broken = broken
        it.pbx.registers.clear()
        for _ in range(10):
            await trio.sleep(100)
            assert it.registered
        assert len(it.pbx.registers) >= 6, "it was refreshed"
        assert it.states[-1] == "loaded"
        assert it.states.count("loaded") == 1

        await it.site.switch_off()
        await it.site.switch_on(address="127.0.0.2")
        it.names.addresses, it.names.broken = ["127.0.0.2"], ""
        await it.until(lambda: it.registered, 330)


async def test_a_connection_reset_while_registering(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path, autojump_clock, transport="tcp", server=NAME) as it:
        it.pbx.script += [resetting, normally, resetting]  # before the challenge; then after it
        it.names.broken = ""
        await it.until(lambda: it.registered, 45)
        assert not it.pbx.script
        assert len(it.pbx.registers) == 5


async def test_a_connection_reset_while_nothing_happens(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path, autojump_clock, transport="tcp") as it:
        assert it.registered
        await trio.sleep(100)
        first = it.pbx.flow
        reset(first)
        await it.until(lambda: it.registered and it.pbx.flow is not first, 2)
        assert it.states in ([], ["loaded"]), "the entry has not even been down"
        assert it.pbx.flow.ended is None


RESTARTS = [("tcp", 3), ("tcp", 60), ("tcp", 400), ("tcp", 1500), ("udp", 45), ("udp", 400), ("udp", 1500)]


@pytest.mark.parametrize(("transport", "down"), RESTARTS)
async def test_a_pbx_that_restarts(tmp_path: Path, autojump_clock: MockClock, transport: str, down: float) -> None:
    """It has forgotten its bindings; within 30 s of its return it has ours again."""
    async with world(tmp_path, autojump_clock, transport=transport) as it:
        assert it.registered
        await trio.sleep(100)
        await it.site.switch_off()
        await trio.sleep(down)
        await it.site.switch_on()
        assert not it.pbx.contacts
        await it.until(lambda: it.registered, 30)
        await trio.sleep(1000)
        assert it.registered


async def test_a_restart_nobody_sees_is_mended_by_the_next_refresh(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Over UDP a PBX may be gone and back between two questions."""
    async with world(tmp_path, autojump_clock) as it:
        assert it.registered
        await trio.sleep(101)
        await it.site.switch_off()
        await trio.sleep(3)
        await it.site.switch_on()
        await it.until(lambda: it.registered, 260)


async def test_a_pbx_that_ignores_options_is_not_taken_for_dead(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path, autojump_clock, server=NAME) as it:
        it.pbx.ignores_options = True
        it.names.broken = ""
        await it.until(lambda: it.registered, 30)
        it.pbx.registers.clear()
        await trio.sleep(1000)
        assert it.registered
        assert 6 <= len(it.pbx.registers) <= 8, "refreshes, each with its challenge, and no others"
        assert it.pbx.asked <= 5


async def test_a_pbx_that_is_overloaded_says_when_to_come_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path, autojump_clock, server=NAME) as it:
        it.pbx.script += [saying(503, "Service Unavailable", ("Retry-After", "100"))]
        it.names.broken = ""
        await it.until(lambda: it.pbx.registers, 30)
        refused_at = trio.current_time()
        await trio.sleep(1)
        assert it.entry["state"] == "retry"
        assert it.entry["registration"] == "rejected"
        assert "503" in it.entry["reason"]
        assert not it.pbx.contacts
        await it.until(lambda: it.registered, 130)
        assert trio.current_time() - refused_at >= 100
        assert len(it.pbx.registers) == 3


async def test_an_overloaded_pbx_keeps_what_it_has(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A refresh is refused: the binding still lasts, calls go on coming in, and the refresh comes when it was told."""
    async with world(tmp_path, autojump_clock) as it:
        assert it.registered
        it.pbx.registers.clear()
        it.pbx.script += [saying(503, "Service Unavailable", ("Retry-After", "20"))]
        await it.until(lambda: it.pbx.registers, 300)
        await trio.sleep(1)
        assert it.registered
        await trio.sleep(40)
        (refused, _), (again, _), _ = it.pbx.registers
        assert again - refused == pytest.approx(20, abs=1)
        assert it.registered
        assert it.states in ([], ["loaded"])


async def test_a_pbx_that_wants_longer_intervals(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path, autojump_clock, min_expires=600) as it:
        assert it.registered
        assert [request.expires for _, request in it.pbx.registers][:2] == [300, 300]
        assert it.pbx.registers[-1][1].expires == 600
        it.pbx.registers.clear()
        await trio.sleep(1200)
        assert it.registered
        assert {request.expires for _, request in it.pbx.registers} == {600}, "it is asked for at once from then on"


async def test_a_nonce_that_has_grown_old(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with world(tmp_path, autojump_clock, server=NAME) as it:
        it.pbx.script += [normally, too_late]
        it.names.broken = ""
        await it.until(lambda: it.registered, 30)
        assert len(it.pbx.registers) == 3
        assert not it.issues
        it.pbx.registers.clear()
        it.pbx.script += [normally, too_late]
        await it.until(lambda: len(it.pbx.registers) == 3, 300)
        await trio.sleep(1)
        assert it.registered
        assert "auth_failed" not in it.states


@pytest.mark.parametrize("when", ["at the start", "later"])
async def test_credentials_that_are_refused(tmp_path: Path, autojump_clock: MockClock, when: str) -> None:
    """403: nothing more is sent until somebody has edited the entry, who is told by an issue."""
    async with world(tmp_path, autojump_clock, server=NAME) as it:
        if when == "at the start":
            it.pbx.always = saying(403, "Banned")
            it.names.broken = ""
        else:
            it.names.broken = ""
            await it.until(lambda: it.registered, 30)
            it.pbx.always = saying(403, "Banned")
        await it.until(lambda: it.entry["state"] == "auth_failed", 330)
        assert it.entry["registration"] == "rejected"
        assert "403 Banned" in it.entry["reason"]
        assert it.issues == {"auth_failed"}
        it.pbx.registers.clear()
        await trio.sleep(1000)
        assert not it.pbx.registers
        assert not it.pbx.contacts

        it.pbx.always = None
        config = it.gateway.config_path
        config.write_text(config.read_text().replace('"two-hundred"', '"two-hundred" # they have let us in again'))
        await it.gateway.reload()
        assert not it.pbx.registers, "nothing that matters has changed"
        config.write_text(config.read_text().replace('username = "200"', 'username = "200"\nexpires = 200'))
        await it.gateway.reload()
        await it.until(lambda: it.registered, 30)
        assert not it.issues
