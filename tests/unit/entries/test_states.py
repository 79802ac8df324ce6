"""The table of an entry's states, which the documentation is drawn from, says what entries go through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from siperb_core import ConnectionAuthFailed, ConnectionConfigError, ConnectionNotReady
from siperb_core.entries.lifecycle import RETURN_SECONDS, Entries
from siperb_core.entries.model import Entry
from siperb_core.entries.states import TRANSITIONS

from .test_lifecycle import FakeOutside, FakeType, Live, loads, raising

ENTRY = Entry("office", "fake")
Script = Callable[[Any, Any], Awaitable[None]]
Then = Callable[[Entries], Awaitable[object]]


class Watched:
    """One entry, and every state it was in."""

    def __init__(self, type_: FakeType) -> None:
        self.states: list[str] = ["setting_up"]
        self.entries = Entries({"fake": type_}, FakeOutside(), changed=self._changed, jitter=lambda: 0.0)

    def _changed(self, name: str) -> None:
        if name in self.entries.names():
            state = self.entries.status(name)["state"]
            if self.states[-1] == "unloading" != state:
                self.states.append("setting_up")  # what takes the old one's place begins there, without a word
            if state != self.states[-1]:
                self.states.append(state)


class Returning(FakeType):
    """A type whose PBX is back as soon as it is looked for."""

    async def returned(self, ctx: Any, config: Any) -> None:
        return


async def never_ready(ctx: Any, task_status: Any) -> None:
    await trio.sleep_forever()


def after_loading(error: Exception | None) -> Script:
    async def script(ctx: Any, task_status: Any) -> None:
        task_status.started(Live())
        await trio.sleep(1)
        if error is not None:
            raise error

    return script


async def edit(entries: Entries) -> None:
    await entries.reload([attrs.evolve(ENTRY, enabled=True, type="fake", settings=object())])


async def restart(entries: Entries) -> None:
    await entries.restart("office")


async def remove(entries: Entries) -> None:
    await entries.reload([])
    assert entries.names() == []


async def leave(entries: Entries) -> None:
    """Nothing is done to it."""


DISABLED = attrs.evolve(ENTRY, enabled=False)
MISSING = attrs.evolve(ENTRY, type="gone")
WRONG = attrs.evolve(ENTRY, problem="server is missing")
NOT_READY, REFUSED, WRONG_SETTINGS = ConnectionNotReady("x"), ConnectionAuthFailed("x"), ConnectionConfigError("x")

# Source, event, target; every way there is: the type, the entry, what is done to it, after how many seconds.
WAYS: dict[tuple[str, str], list[tuple[FakeType, Entry, Then, float]]] = {
    ("setting_up", "loaded"): [(FakeType(loads), ENTRY, leave, 0)],
    ("setting_up", "retry"): [
        (FakeType(raising(NOT_READY)), ENTRY, leave, 0),
        (FakeType(raising(ZeroDivisionError())), ENTRY, leave, 0),
        (FakeType(never_ready), ENTRY, leave, 61),
    ],
    ("setting_up", "auth_failed"): [(FakeType(raising(REFUSED)), ENTRY, leave, 0)],
    ("setting_up", "config_error"): [
        (FakeType(raising(WRONG_SETTINGS)), ENTRY, leave, 0),
        (FakeType(), WRONG, leave, 0),
    ],
    ("setting_up", "disabled"): [(FakeType(), DISABLED, leave, 0)],
    ("setting_up", "type_missing"): [(FakeType(), MISSING, leave, 0)],
    ("setting_up", "unloading"): [(FakeType(never_ready), ENTRY, then, 0) for then in (edit, restart, remove)],
    ("loaded", "retry"): [
        (FakeType(after_loading(error)), ENTRY, leave, 2) for error in (NOT_READY, ZeroDivisionError(), None)
    ],
    ("loaded", "auth_failed"): [(FakeType(after_loading(REFUSED)), ENTRY, leave, 2)],
    ("loaded", "config_error"): [(FakeType(after_loading(WRONG_SETTINGS)), ENTRY, leave, 2)],
    ("loaded", "unloading"): [(FakeType(loads), ENTRY, then, 0) for then in (edit, restart, remove)],
    ("retry", "setting_up"): [
        (FakeType(raising(NOT_READY)), ENTRY, leave, 100),
        (Returning(raising(NOT_READY)), ENTRY, leave, RETURN_SECONDS + 1),
    ],
    ("retry", "unloading"): [(FakeType(raising(NOT_READY)), ENTRY, then, 0) for then in (edit, restart, remove)],
    ("auth_failed", "unloading"): [(FakeType(raising(REFUSED)), ENTRY, then, 0) for then in (edit, restart, remove)],
    ("config_error", "unloading"): [
        (FakeType(raising(WRONG_SETTINGS)), ENTRY, then, 0) for then in (edit, restart, remove)
    ],
    ("disabled", "unloading"): [(FakeType(), DISABLED, then, 0) for then in (edit, restart, remove)],
    ("type_missing", "unloading"): [(FakeType(), MISSING, then, 0) for then in (edit, restart, remove)],
    ("unloading", "setting_up"): [(FakeType(loads), ENTRY, then, 0) for then in (edit, restart)],
}


@pytest.mark.parametrize("step", WAYS, ids="-".join)
async def test_every_row_of_the_table_happens_and_nothing_else_does(
    nursery: trio.Nursery, autojump_clock: Any, step: tuple[str, str]
) -> None:
    listed = {(source, target) for source, _, target in TRANSITIONS}
    for type_, entry, then, seconds in WAYS[step]:
        watched = Watched(type_)
        await nursery.start(watched.entries.run, [entry])
        await wait_all_tasks_blocked()
        await trio.sleep(seconds)
        await then(watched.entries)
        await wait_all_tasks_blocked()
        assert step in set(pairwise(watched.states)), watched.states
        assert set(pairwise(watched.states)) <= listed


def test_every_row_of_the_table_is_tried() -> None:
    assert set(WAYS) == {(source, target) for source, _, target in TRANSITIONS}
