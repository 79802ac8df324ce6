"""Config entries live and fail each on its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_network
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from siperb_core import ConnectionAuthFailed, ConnectionConfigError, ConnectionNotReady, Registration
from siperb_core.entries.failure import DELAYS, classify, delay
from siperb_core.entries.lifecycle import UNLOAD_SECONDS, Entries
from siperb_core.entries.model import Entry


class FakeOutside:
    """The gateway, as far as connection types see it, on trio's clock."""

    domain = "sip.example.net"

    def __init__(self) -> None:
        self.memories: dict[str, dict[str, Any]] = {}

    async def request(self, message: Any, target: Any) -> Any:
        raise ConnectionNotReady("no answer")

    async def contact_uri(self, entry: str, target: Any) -> str:
        return f"sip:{entry}@192.0.2.1"

    def memory(self, entry: str) -> MutableMapping[str, Any]:
        return self.memories.setdefault(entry, {})

    def now(self) -> float:
        return trio.current_time()

    def random_token(self, octets: int = 12) -> str:
        return "t" * octets


@attrs.frozen
class Settings:
    server: str = "pbx"


class Live:
    """A connection that takes nothing."""

    credentials: Any = None

    def outbound_leg(self, call: Any) -> Any:
        raise NotImplementedError

    def claims(self, request: Any, source: Any) -> None:
        return None

    def answer(self, request: Any, source: Any) -> None:
        return None


Script = Callable[[Any, Any], Awaitable[None]]


class FakeType:
    """A connection type whose `serve` runs what the test hands it, and remembers when it was started."""

    kind: ClassVar[str] = "fake"
    title: ClassVar[str] = "Fake"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Any]] = Settings
    allow_from_required: ClassVar[bool] = False

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or loads
        self.started: list[float] = []
        self.unloaded = 0
        self.contexts: list[Any] = []

    def unique_id(self, config: Any) -> None:
        return None

    def migrate(self, data: Any, old: int) -> Any:
        return data

    async def probe(self, ctx: Any, config: Any) -> None:
        await self.script(ctx, trio.TASK_STATUS_IGNORED)

    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None:
        self.started.append(trio.current_time())
        self.contexts.append(ctx)
        try:
            await self.script(ctx, task_status)
        except trio.Cancelled:
            self.unloaded += 1
            raise


async def loads(ctx: Any, task_status: Any) -> None:
    task_status.started(Live())
    await trio.sleep_forever()


def raising(error: Exception) -> Script:
    async def script(ctx: Any, task_status: Any) -> None:
        raise error

    return script


def make(type_: FakeType | None = None, **types: FakeType) -> Entries:
    return Entries({"fake": type_ or FakeType(), **types}, FakeOutside(), jitter=lambda: 0.0)


async def start(nursery: trio.Nursery, entries: Entries, *given: Entry) -> None:
    await nursery.start(entries.run, given)
    await wait_all_tasks_blocked()


async def test_a_loaded_connection_takes_calls(nursery: trio.Nursery) -> None:
    entries = make()
    await start(nursery, entries, Entry("office", "fake"))
    assert [(item.entry.name, type(item.connection)) for item in entries.loaded()] == [("office", Live)]
    status = entries.status("office")
    assert status["state"] == "loaded"
    assert status["reason"] == ""
    assert status["next_attempt"] is None


async def test_not_ready_is_tried_again_with_growing_delays(nursery: trio.Nursery, autojump_clock: Any) -> None:
    type_ = FakeType(raising(ConnectionNotReady("pbx.example.com does not resolve")))
    entries = make(type_)
    begin = trio.current_time()
    await start(nursery, entries, Entry("office", "fake"))
    status = entries.status("office")
    assert (status["state"], status["reason"]) == ("retry", "pbx.example.com does not resolve")
    assert status["next_attempt"] == pytest.approx(begin + 5)
    await trio.sleep(5 + 10 + 20 + 40 + 80 + 80 + 1)
    steps = [round(later - earlier) for earlier, later in zip(type_.started, type_.started[1:], strict=False)]
    assert steps == [5, 10, 20, 40, 80, 80]


async def test_retry_after_is_honoured(nursery: trio.Nursery, autojump_clock: Any) -> None:
    type_ = FakeType(raising(ConnectionNotReady("overloaded", retry_after=123)))
    entries = make(type_)
    await start(nursery, entries, Entry("office", "fake"))
    await trio.sleep(122)
    assert len(type_.started) == 1
    await trio.sleep(2)
    assert len(type_.started) == 2


async def test_a_wrong_password_stops_and_raises_an_issue(nursery: trio.Nursery, autojump_clock: Any) -> None:
    type_ = FakeType(raising(ConnectionAuthFailed("403 Forbidden")))
    entries = make(type_)
    await start(nursery, entries, Entry("office", "fake"))
    await trio.sleep(10_000)
    assert len(type_.started) == 1
    assert entries.status("office")["state"] == "auth_failed"
    (issue,) = entries.issues.all()
    assert (issue.connection, issue.id) == ("office", "auth_failed")
    assert "403 Forbidden" in issue.text
    type_.script = loads
    await entries.restart("office")
    await wait_all_tasks_blocked()
    assert entries.status("office")["state"] == "loaded"
    assert entries.issues.all() == []


async def test_wrong_settings_wait_for_an_edit(nursery: trio.Nursery, autojump_clock: Any) -> None:
    type_ = FakeType(raising(ConnectionConfigError("no such transport")))
    entries = make(type_)
    await start(nursery, entries, Entry("office", "fake"), Entry("broken", "fake", problem="weight: is text: mend it"))
    await trio.sleep(10_000)
    assert len(type_.started) == 1
    assert entries.status("office")["state"] == "config_error"
    assert entries.status("broken")["reason"] == "weight: is text: mend it"


async def test_the_gravest_leaf_of_a_group_decides() -> None:
    group = ExceptionGroup(
        "both", [ConnectionNotReady("later"), ExceptionGroup("inner", [ConnectionAuthFailed("wrong password")])]
    )
    assert classify(group).state == "auth_failed"
    assert classify(ExceptionGroup("g", [ConnectionNotReady("later"), KeyError("x")])).crash


async def test_a_crash_leaves_the_others_alone(nursery: trio.Nursery, autojump_clock: Any) -> None:
    crashing, fine = FakeType(raising(ZeroDivisionError("oops"))), FakeType()
    entries = make(crashing, fine=fine)
    await start(nursery, entries, Entry("bad", "fake"), Entry("good", "fine"))
    await trio.sleep(1)
    assert entries.status("bad")["state"] == "retry"
    assert entries.status("bad")["reason"] == "crashed: ZeroDivisionError: oops"
    assert [issue.id for issue in entries.issues.all()] == ["crashed"]
    assert entries.status("good")["state"] == "loaded"
    assert len(fine.started) == 1


async def test_a_type_that_never_hands_out_its_connection_is_cut_off(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    async def hangs(ctx: Any, task_status: Any) -> None:
        await trio.sleep_forever()

    entries = make(FakeType(hangs))
    await start(nursery, entries, Entry("office", "fake"))
    assert entries.status("office")["state"] == "setting_up"
    await trio.sleep(61)
    assert entries.status("office")["reason"] == "not set up within 60 s"


async def test_ending_before_or_after_loading_counts_as_down(nursery: trio.Nursery, autojump_clock: Any) -> None:
    async def returns(ctx: Any, task_status: Any) -> None:
        task_status.started(Live())

    async def never(ctx: Any, task_status: Any) -> None:
        return

    entries = make(FakeType(returns), never=FakeType(never))
    await start(nursery, entries, Entry("a", "fake"), Entry("b", "never"))
    await trio.sleep(1)
    assert entries.status("a")["state"] == "retry"
    assert entries.status("b")["state"] == "retry"
    assert not entries.loaded()


async def test_after_a_long_life_the_delays_begin_anew(nursery: trio.Nursery, autojump_clock: Any) -> None:
    async def lives(ctx: Any, task_status: Any) -> None:
        if len(type_.started) == 3:
            task_status.started(Live())
            await trio.sleep(1000)
        raise ConnectionNotReady("gone")

    type_ = FakeType(lives)
    entries = make(type_)
    await start(nursery, entries, Entry("office", "fake"))
    await trio.sleep(5 + 10 + 1000 + 1)
    assert entries.status("office")["next_attempt"] == pytest.approx(type_.started[2] + 1000 + DELAYS[0])


async def test_disabled_and_missing_types_have_their_states(nursery: trio.Nursery) -> None:
    entries = make()
    await start(nursery, entries, Entry("off", "fake", enabled=False), Entry("odd", "carrier_x"))
    assert entries.status("off")["state"] == "disabled"
    assert entries.status("odd")["state"] == "type_missing"
    assert "carrier_x" in entries.status("odd")["reason"]


async def test_reload_touches_only_what_differs(nursery: trio.Nursery) -> None:
    type_ = FakeType()
    entries = make(type_)
    old = [Entry(name, "fake", settings=Settings(name)) for name in ("same", "heavier", "moved", "gone")]
    await start(nursery, entries, *old)
    same, heavier, moved, _ = old
    changes = await entries.reload(
        [
            same,
            attrs.evolve(heavier, weight=20),
            attrs.evolve(moved, settings=Settings("elsewhere")),
            Entry("new", "fake"),
        ]
    )
    await wait_all_tasks_blocked()
    assert (changes.added, changes.removed) == (("new",), ("gone",))
    assert (changes.restarted, changes.updated) == (("moved",), ("heavier",))
    assert sorted(ctx.entry.name for ctx in type_.contexts) == ["gone", "heavier", "moved", "moved", "new", "same"]
    assert type_.unloaded == 2
    assert entries.status("heavier")["weight"] == 20
    assert next(ctx for ctx in type_.contexts if ctx.entry.name == "heavier").entry.weight == 20
    assert sorted(item.entry.name for item in entries.loaded()) == ["heavier", "moved", "new", "same"]


async def test_what_takes_calls_is_found_once_for_all_requests_until_something_changes(nursery: trio.Nursery) -> None:
    entries = make()
    old = Entry("office", "fake", allow_names=("pbx.example",))
    await start(nursery, entries, old)
    (first,), (again,) = entries.loaded(), entries.loaded()
    assert first is again

    entries.resolved("pbx.example", (ip_network("192.0.2.1/32"),))
    assert entries.loaded()[0].entry.allow_from == (ip_network("192.0.2.1/32"),)
    await entries.reload([attrs.evolve(old, weight=20)])
    assert entries.loaded()[0].entry.weight == 20
    await entries.reload([])
    assert not entries.loaded()


async def test_whose_address_it_is_follows_what_a_connection_reports(nursery: trio.Nursery) -> None:
    type_ = FakeType()
    entries = make(type_)
    await start(nursery, entries, Entry("office", "fake"))
    (it,) = entries.loaded()
    assert not entries.loaded().at("192.0.2.1")
    it.connection.addresses = frozenset(("192.0.2.1",))  # type: ignore[attr-defined]
    type_.contexts[0].report(Registration("registered", expires_at=1.0))
    assert entries.loaded().at("192.0.2.1") == [it]
    known = entries.loaded()
    type_.contexts[0].report(Registration("registered", expires_at=2.0))
    assert entries.loaded() is known, "a refresh from where it was is no reason to look at everyone again"


async def test_cancellation_unregisters_in_a_shielded_finally(nursery: trio.Nursery, autojump_clock: Any) -> None:
    steps: list[str] = []

    async def registers(ctx: Any, task_status: Any) -> None:
        try:
            await loads(ctx, task_status)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
                steps.append("un-registered")

    entries = make(FakeType(registers))
    await start(nursery, entries, Entry("office", "fake"))
    await entries.reload([])
    assert steps == ["un-registered"]
    assert entries.names() == []


async def test_a_type_that_will_not_unload_is_not_waited_for_for_ever(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    async def stubborn(ctx: Any, task_status: Any) -> None:
        try:
            await loads(ctx, task_status)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(UNLOAD_SECONDS * 3)

    entries = make(FakeType(stubborn))
    await start(nursery, entries, Entry("office", "fake"))
    begin = trio.current_time()
    await entries.reload([])
    assert trio.current_time() - begin == pytest.approx(UNLOAD_SECONDS)


async def test_what_a_type_raises_while_unloading_hurts_nobody(nursery: trio.Nursery) -> None:
    async def fails(ctx: Any, task_status: Any) -> None:
        try:
            await loads(ctx, task_status)
        finally:
            raise OSError("socket is gone")

    entries = make(FakeType(fails), fine=FakeType())
    await start(nursery, entries, Entry("office", "fake"), Entry("other", "fine"))
    await entries.reload([Entry("other", "fine")])
    assert entries.names() == ["other"]
    assert len(entries.loaded()) == 1


async def test_registrations_are_reported_by_the_names_of_the_contract(nursery: trio.Nursery) -> None:
    told: list[str] = []
    type_ = FakeType()
    entries = Entries({"fake": type_}, FakeOutside(), changed=told.append)
    await start(nursery, entries, Entry("office", "fake"))
    told.clear()
    type_.contexts[0].report(Registration("registered", 1234.0, 200, "OK"))
    assert entries.status("office")["registration"] == {
        "state": "registered",
        "expires_at": 1234.0,
        "status": 200,
        "reason": "OK",
    }
    assert told == ["office"]


async def test_probe_tells_without_touching_what_runs(nursery: trio.Nursery) -> None:
    type_ = FakeType()
    entries = make(type_)
    await start(nursery, entries, Entry("office", "fake"))
    type_.script = raising(ConnectionAuthFailed("401"))
    failure = await entries.probe(Entry("office", "fake"))
    assert failure is not None
    assert failure.state == "auth_failed"
    assert entries.status("office")["state"] == "loaded"


def test_delays_are_never_undercut() -> None:
    assert [delay(attempt, None, 0.0) for attempt in range(1, 8)] == [5, 10, 20, 40, 80, 80, 80]
    assert all(5 <= delay(1, None, share) <= 5.5 for share in (0.0, 0.5, 1.0))
    assert delay(1, 30, 0.0) == 30
    assert delay(5, 1e9, 0.0) == 3600
