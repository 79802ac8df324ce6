"""What plugins and metrics are told of a connection whose PBX goes and comes back: whole gateway, virtual time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from trio.testing import MockClock

from siperb_core import ConnectionEvent, hookimpl

from .test_outbound_registration import World, saying, world


class Heard:
    """A plugin that listens."""

    def __init__(self) -> None:
        self.events: list[ConnectionEvent] = []

    @hookimpl
    def siperb_connection_event(self, event: ConnectionEvent) -> None:
        self.events.append(event)

    def names(self) -> list[str]:
        return [event.what for event in self.events]

    def of(self, what: str) -> list[ConnectionEvent]:
        return [event for event in self.events if event.what == what]


async def metric(it: World, name: str, **labels: str) -> Any:
    (row,) = [row for row in await it.gateway.operations.call("show.metrics") if row["name"] == f"siperb_{name}"]
    (sample,) = [sample for sample in row["samples"] if sample["labels"] == labels]
    return sample["value"]


async def state(it: World, name: str) -> Any:
    return await metric(it, "connection_state", connection="office", state=name)


async def test_a_registration_that_is_lost_and_made_again_is_told_once_each(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    heard = Heard()
    async with world(tmp_path, autojump_clock) as it:
        assert it.registered
        it.gateway.plugins.register("heard", heard)
        await it.until(lambda: it.pbx.asked >= 2 and not it.gateway.signalling.transactions, 200)
        assert await metric(it, "transactions_active") == 0
        assert (await state(it, "loaded"), await state(it, "retry")) == (1, 0)
        assert heard.events == [], "refreshes and OPTIONS are nothing to tell"

        await it.site.switch_off()
        await it.until(lambda: "registration_lost" in heard.names(), 700)
        await it.until(lambda: it.entry["state"] == "retry", 10)
        assert (await state(it, "loaded"), await state(it, "retry")) == (0, 1)
        await it.until(lambda: len(heard.of("state_changed")) >= 5, 700)

        await it.site.switch_on()
        await it.until(lambda: it.registered, 120)
        assert (await state(it, "loaded"), await state(it, "retry")) == (1, 0)
        await it.until(lambda: not it.gateway.signalling.transactions, 60)
        assert await metric(it, "transactions_active") == 0
        (lost,), (made,) = heard.of("registration_lost"), heard.of("registered")
        assert lost.reason
        assert lost.status is None
        assert (made.status, made.state) == (200, "setting_up")
        assert made.expires_at == it.gateway.entries.status("office")["registration"]["expires_at"]
        moves = [(event.was, event.state) for event in heard.of("state_changed")]
        assert moves[0] == ("loaded", "retry")
        assert moves[-1] == ("setting_up", "loaded")
        assert all(before[1] == after[0] for before, after in pairwise(moves))
        assert {event.connection for event in heard.events} == {"office"}
        assert not it.gateway.plugins.errors


async def test_refused_credentials_are_told_until_they_are_mended(tmp_path: Path, autojump_clock: MockClock) -> None:
    heard = Heard()
    async with world(tmp_path, autojump_clock) as it:
        it.gateway.plugins.register("heard", heard)
        it.pbx.always = saying(403, "Forbidden")
        await it.until(lambda: it.entry["state"] == "auth_failed", 700)
        assert heard.names() == ["registration_lost", "state_changed", "issue_raised"]
        lost, moved, raised = heard.events
        assert (lost.status, lost.reason) == (403, "Forbidden")
        assert (moved.was, moved.state) == ("loaded", "auth_failed")
        assert (raised.issue, raised.state) == ("auth_failed", "auth_failed")
        assert it.issues == {"auth_failed"}
        assert await state(it, "auth_failed") == 1
        it.pbx.always = None
        await it.gateway.entries.restart("office")
        await it.until(lambda: it.registered, 30)
        assert [event.what for event in heard.events[3:] if event.what != "state_changed"] == [
            "issue_mended",
            "registered",
        ]
        assert it.issues == set()
