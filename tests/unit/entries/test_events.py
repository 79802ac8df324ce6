"""What is told of connections and of issues: each change once, and nothing that is none."""

from __future__ import annotations

from typing import Any

import attrs
import trio
from trio.testing import wait_all_tasks_blocked

from siperb_core import ConnectionAuthFailed, ConnectionEvent, ConnectionNotReady, Registration
from siperb_core.entries.lifecycle import Entries
from siperb_core.entries.model import Entry

from .test_lifecycle import FakeOutside, FakeType, Script, loads

OFFICE = Entry("office", "fake")


class Listened:
    """Entries, and what they told."""

    def __init__(self, script: Script = loads) -> None:
        self.type = FakeType(script)
        self.told: list[ConnectionEvent] = []
        self.entries = Entries({"fake": self.type}, FakeOutside(), jitter=lambda: 0.0, tell=self.told.append)

    @property
    def context(self) -> Any:
        return self.type.contexts[-1]

    def names(self) -> list[str]:
        """What was told since this was last asked."""
        found = [event.what for event in self.told]
        self.told.clear()
        return found


async def started(nursery: trio.Nursery, script: Script = loads) -> Listened:
    world = Listened(script)
    await nursery.start(world.entries.run, [OFFICE])
    await wait_all_tasks_blocked()
    return world


async def test_a_state_is_told_once_with_the_one_before_and_the_reason(
    autojump_clock: trio.testing.MockClock,
) -> None:
    failures: list[Exception] = [ConnectionNotReady("no answer"), ConnectionAuthFailed("403 Forbidden")]

    async def script(ctx: Any, task_status: Any) -> None:
        if failures:
            raise failures.pop(0)
        await loads(ctx, task_status)

    async with trio.open_nursery() as nursery:
        world = await started(nursery, script)
        (event,) = world.told
        assert event == ConnectionEvent(
            "state_changed", event.when, "office", "retry", was="setting_up", reason="no answer",
            next_attempt=event.next_attempt,
        )  # fmt: skip
        assert event.next_attempt is not None
        assert event.next_attempt > event.when
        await trio.sleep(10)
        assert [(event.what, event.was, event.state) for event in world.told[1:]] == [
            ("state_changed", "retry", "setting_up"),
            ("state_changed", "setting_up", "auth_failed"),
            ("issue_raised", "", "auth_failed"),
        ]
        raised = world.told[-1]
        assert (raised.connection, raised.issue) == ("office", "auth_failed")
        assert "403 Forbidden" in raised.text
        assert "siperb connection edit office" in raised.mend
        world.told.clear()

        await world.entries.restart("office")
        await wait_all_tasks_blocked()
        assert [(event.what, event.state, event.issue) for event in world.told] == [
            ("state_changed", "unloading", ""),
            ("issue_mended", "unloading", "auth_failed"),
            ("state_changed", "loaded", ""),
        ]
        nursery.cancel_scope.cancel()


async def test_a_registration_is_told_when_it_is_made_lost_and_made_again_not_when_it_is_refreshed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    made = Registration("registered", 300.0, 200, "OK")
    async with trio.open_nursery() as nursery:
        world = await started(nursery)
        world.names()
        for registration in (made, made, attrs.evolve(made, expires_at=600.0)):
            world.context.report(registration)
        (event,) = world.told
        assert (event.what, event.connection, event.state) == ("registered", "office", "loaded")
        assert (event.status, event.reason, event.expires_at) == (200, "OK", 300.0)
        assert world.names() == ["registered"]

        world.context.report(Registration("unreachable", reason="no answer"))
        world.context.report(Registration("rejected", None, 503, "Later"))
        (event,) = world.told
        assert (event.what, event.status, event.reason) == ("registration_lost", None, "no answer")
        world.context.report(made)
        assert world.names() == ["registration_lost", "registered"]
        nursery.cancel_scope.cancel()


async def test_a_pbx_that_falls_silent_is_told_and_that_it_is_back(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = await started(nursery)
        world.names()
        for latency in (12.0, 14.0, None, None, 11.0):
            world.context.qualified(latency)
        assert world.names() == ["reachable", "unreachable", "reachable"]
        nursery.cancel_scope.cancel()


async def test_an_issue_is_told_when_it_is_raised_and_when_it_is_mended(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        world = await started(nursery)
        world.names()
        world.context.raise_issue("odd", "it is odd", "make it even")
        world.context.raise_issue("odd", "it is very odd", "make it even")
        world.context.clear_issue("odd")
        world.context.clear_issue("odd")
        raised, mended = world.told
        assert (raised.what, raised.text, raised.mend) == ("issue_raised", "it is odd", "make it even")
        assert (mended.what, mended.issue, mended.text) == ("issue_mended", "odd", "it is very odd")
        assert {raised.connection, mended.connection} == {"office"}
        world.told.clear()
        world.entries.issues.raise_issue("", "plugin:x", "a plugin is broken", "mend it", 5.0)
        world.entries.issues.clear("", "plugin:x")
        assert [(event.what, event.connection, event.state) for event in world.told] == [
            ("issue_raised", "", ""),
            ("issue_mended", "", ""),
        ]
        nursery.cancel_scope.cancel()


async def test_what_a_probe_beside_the_connection_finds_is_not_told_of_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def script(ctx: Any, task_status: Any) -> None:
        task_status.started(None)
        ctx.report(Registration("registered", 300.0, 200, "OK"))
        ctx.qualified(10.0)

    async with trio.open_nursery() as nursery:
        world = await started(nursery)
        world.names()
        world.type.script = script
        assert await world.entries.probe(OFFICE) is None
        assert world.names() == []
        nursery.cancel_scope.cancel()
