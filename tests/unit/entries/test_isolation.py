"""One entry's trouble is its own; a thousand start gently; a PBX that is back is noticed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from siperb_core import ConnectionNotReady, Target
from siperb_core.entries.lifecycle import RETURN_SECONDS, Entries
from siperb_core.entries.model import Entry
from siperb_core.sip import Message

from .test_lifecycle import FakeOutside, FakeType, Live, loads, make, start


async def spins_while_setting_up(ctx: Any, task_status: Any) -> None:
    while True:
        await trio.lowlevel.checkpoint()


async def spins_when_loaded(ctx: Any, task_status: Any) -> None:
    task_status.started(Live())
    await spins_while_setting_up(ctx, task_status)


async def test_endless_loops_of_await_leave_the_others_alone(nursery: trio.Nursery) -> None:
    outside = FakeOutside()
    types = {"spins": FakeType(spins_while_setting_up), "late": FakeType(spins_when_loaded), "fine": FakeType()}
    entries = Entries(types, outside, setup_seconds=0.2)
    await nursery.start(entries.run, [Entry(name, name) for name in types])
    with trio.fail_after(30):
        while entries.status("spins")["state"] != "retry":  # noqa: ASYNC110
            await trio.sleep(0.05)
    assert entries.status("spins")["reason"] == "not set up within 0.2 s"
    assert {item.entry.name for item in entries.loaded()} == {"late", "fine"}
    with trio.fail_after(30):
        await entries.reload([Entry("fine", "fine")])
    assert entries.names() == ["fine"]
    nursery.cancel_scope.cancel()


N = 1000


class Registrations(FakeOutside):
    """Answers every request at once, and remembers when it came."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[float, bool]] = []

    async def request(self, message: Any, target: Any) -> Any:
        self.times.append((trio.current_time(), message.get("Authorization") is not None))
        return message


def register(*headers: tuple[str, str]) -> Message:
    return Message.request("REGISTER", "sip:pbx", [("CSeq", "1 REGISTER"), ("Expires", "300"), *headers])


async def registers(ctx: Any, task_status: Any) -> None:
    target = Target("pbx")
    await ctx.request(register(), target)
    await ctx.request(register(("Authorization", "Digest x")), target)
    await loads(ctx, task_status)


async def test_a_thousand_connections_start_with_20_registers_a_second(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    outside = Registrations()
    entries = Entries({"fake": FakeType(registers)}, outside)
    begin = trio.current_time()
    await nursery.start(entries.run, [Entry(f"c{index}", "fake") for index in range(N)])
    await trio.sleep(N * 0.1 + 10)
    assert len(entries.loaded()) == N, "waiting for its turn does not count as hanging"
    seconds = Counter(int((when - begin) * 10 + 0.5) // 10 for when, _ in outside.times)
    assert max(seconds.values()) <= 20
    answers = [when for when, challenged in outside.times if challenged]
    firsts = [when for when, challenged in outside.times if not challenged]
    assert max(answer - first for first, answer in zip(firsts, answers, strict=True)) < 1, "no nonce grows stale"
    nursery.cancel_scope.cancel()


class Noticing(FakeType):
    """Sees the PBX come back at a given time."""

    back_at = float("inf")

    async def returned(self, ctx: Any, config: Any) -> None:
        await trio.sleep_until(self.back_at)


@pytest.mark.parametrize("down_for", [10, 100, 1000, 5000])
async def test_a_pbx_that_is_back_is_used_again_within_30_s(
    nursery: trio.Nursery, autojump_clock: Any, down_for: float
) -> None:
    async def script(ctx: Any, task_status: Any) -> None:
        if trio.current_time() < type_.back_at:
            raise ConnectionNotReady("no answer")
        await loads(ctx, task_status)

    type_ = Noticing(script)
    type_.back_at = trio.current_time() + down_for
    entries = make(type_)
    await start(nursery, entries, Entry("office", "fake"))
    await trio.sleep(down_for + 30)
    assert entries.status("office")["state"] == "loaded"
    nursery.cancel_scope.cancel()


async def test_a_pbx_that_answers_and_refuses_is_not_hurried(nursery: trio.Nursery, autojump_clock: Any) -> None:
    async def script(ctx: Any, task_status: Any) -> None:
        raise ConnectionNotReady("500 Server Error", answered=True)

    type_ = Noticing(script)
    type_.back_at = 0
    await start(nursery, make(type_), Entry("office", "fake"))
    await trio.sleep(5 + 10 + 20 + 40 + 1)
    assert len(type_.started) == 5
    nursery.cancel_scope.cancel()


async def test_what_is_raised_while_watching_leaves_the_back_off(nursery: trio.Nursery, autojump_clock: Any) -> None:
    class Broken(FakeType):
        async def returned(self, ctx: Any, config: Any) -> None:
            raise ZeroDivisionError

    async def script(ctx: Any, task_status: Any) -> None:
        raise ConnectionNotReady("no answer")

    type_ = Broken(script)
    await start(nursery, make(type_), Entry("office", "fake"))
    await trio.sleep(5 + 10 + 20 + 1)
    assert [round(when - type_.started[0]) for when in type_.started] == [0, 5, 15, 35]
    assert RETURN_SECONDS < 20
    nursery.cancel_scope.cancel()


async def test_names_let_in_the_addresses_they_stand_for(nursery: trio.Nursery) -> None:
    from ipaddress import ip_network

    entries = make()
    entry = Entry("office", "fake", allow_names=("pbx.example",))
    await start(nursery, entries, entry)
    assert entries.names_to_resolve() == {"pbx.example"}
    entries.resolved("pbx.example", (ip_network("192.0.2.1"),))
    assert entries.loaded()[0].entry.allow_from == (ip_network("192.0.2.1"),)
    changes = await entries.reload([entry])
    assert changes.restarted == changes.updated == ()
    await wait_all_tasks_blocked()
    assert entries.loaded()[0].entry.allow_from == (ip_network("192.0.2.1"),)
    nursery.cancel_scope.cancel()


async def test_reachability_is_published(nursery: trio.Nursery) -> None:
    type_ = FakeType()
    entries = make(type_)
    await start(nursery, entries, Entry("office", "fake"))
    assert (entries.status("office")["reachable"], entries.down("office")) == (None, "")
    type_.contexts[0].qualified(12.345)
    assert (entries.status("office")["reachable"], entries.status("office")["latency_ms"]) == (True, 12.3)
    type_.contexts[0].qualified(None)
    assert entries.down("office") == "down now: the PBX does not answer"
    nursery.cancel_scope.cancel()
