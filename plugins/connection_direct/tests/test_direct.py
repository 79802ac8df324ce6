"""Numbers and names become users; what can never be reached is said."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given

from siperb_connection_direct import Direct, DirectPlugin, DirectSettings
from siperb_connection_direct.direct import LiveDirect
from siperb_core import (
    CallAttempt,
    CallEvent,
    ConnectionConfigError,
    Device,
    Entry,
    OutboundCall,
    Refusal,
    RingUsers,
    Route,
    Secret,
)
from siperb_core.sip import Message
from siperb_core.testing import FakeEntry, settings_of, strategies

REQUEST = Message.request("INVITE", "sip:x@gw.example", [])
NUMBERS = {"1000": ["alice", "bob", "alice"], "1001": "alice", "1002": "bob", "1003": "carol"}


def device(name: str, user: str) -> Device:
    return Device(name, user, Secret("secret"))


async def loaded(nursery: trio.Nursery, kind: Direct, ctx: FakeEntry, **settings: Any) -> Any:
    async def serve(*, task_status: Any) -> None:
        await kind.serve(ctx, settings_of(kind, settings), task_status=task_status)

    return await nursery.start(serve)


def call(number: str, user: str = "alice") -> OutboundCall:
    return OutboundCall(number, "INVITE", user, f"{user}-web", REQUEST)


@pytest.mark.parametrize(
    ("number", "users"),
    [
        ("1002", ("bob",)),
        ("bob", ("bob",)),
        ("1001", ("alice",)),  # herself: on her other devices
        ("1000", ("bob",)),  # a group, without her who calls
        ("1003", None),  # carol is no user of the connection
        ("carol", None),
        ("1009", ("1009",)),  # a name, as far as is known here
        ("a b", None),
        ("", None),
    ],
)
async def test_numbers_and_names_are_users(nursery: trio.Nursery, number: str, users: tuple[str, ...] | None) -> None:
    entry = Entry("house", "direct", users=("alice", "bob", "1009"))
    live = await loaded(nursery, Direct(), FakeEntry(entry), numbers=NUMBERS)
    wanted = Refusal(404, "No Such User") if users is None else RingUsers(users, caller="1001")
    assert live.outbound_leg(call(number)) == wanted
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("number", "note"),
    [
        ("1002", "bob would ring"),
        ("1000", "alice, bob would ring"),
        ("bob", "bob would ring, if there is such a user"),
        ("1003", "it is nobody's number there, the softphone gets 404"),  # carol is no user of the connection
    ],
)
def test_siperb_routes(number: str, note: str) -> None:
    settings = settings_of(Direct(), {"numbers": NUMBERS})
    mine, pbx = Route("house", users=("alice", "bob"), settings=settings), Route("office")
    found = DirectPlugin().siperb_routes([mine, pbx], number)
    assert [route.note for route in found] == [note, ""]
    assert list(found) == [attrs.evolve(mine, note=note), pbx], "which connection takes it stays as it was"


async def test_without_names_numbers_alone_are_taken_and_callers_without_one_are_named(nursery: trio.Nursery) -> None:
    live = await loaded(nursery, Direct(), FakeEntry(Entry("house", "direct")), numbers=NUMBERS, names=False)
    assert live.outbound_leg(call("bob")) == Refusal(404, "No Such User")
    assert live.outbound_leg(call("1002", "dave")) == RingUsers(("bob",), caller="dave")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("media", ["relay", "transcode"])
async def test_media_are_not_bridged_and_who_wants_that_is_told(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, media: Any
) -> None:
    ctx = FakeEntry(Entry("house", "direct", media=media))
    with pytest.raises(ConnectionConfigError, match="leave media out"):
        await Direct().probe(ctx, DirectSettings())
    live = await loaded(nursery, Direct(), ctx, numbers=NUMBERS)
    assert live.outbound_leg(call("1002")) == Refusal(503, "Media Cannot Be Bridged")
    await trio.sleep(1)
    assert list(ctx.issues) == ["media_bridged"]
    # As a reload does it, which does not set the connection up anew for that.
    ctx.entry = Entry("house", "direct", media="passthrough")
    assert isinstance(live.outbound_leg(call("1002")), RingUsers)
    await trio.sleep(11)
    assert not ctx.issues
    nursery.cancel_scope.cancel()


async def test_users_that_are_changed_count_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ctx = FakeEntry(Entry("house", "direct", users=("alice", "bob")))
    live = await loaded(nursery, Direct(), ctx, numbers=NUMBERS)
    await trio.sleep(1)
    assert list(ctx.issues) == ["numbers_closed"]
    assert isinstance(live.outbound_leg(call("1003")), Refusal)
    ctx.entry = Entry("house", "direct")
    assert isinstance(live.outbound_leg(call("1003")), RingUsers)
    await trio.sleep(11)
    assert not ctx.issues
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("entry", "issues"),
    [
        (Entry("house", "direct"), {}),
        (Entry("house", "direct", users=("alice", "bob")), {"numbers_closed": "1003"}),
        (Entry("house", "direct", dial_pattern="^100[012]$"), {"numbers_missed": "1003"}),
        (Entry("house", "direct", dial_pattern="^0100", strip=1), {}),  # what is dialled is another number
    ],
)
async def test_numbers_that_lead_nowhere_are_issues(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, entry: Entry, issues: dict[str, str]
) -> None:
    ctx = FakeEntry(entry)
    await loaded(nursery, Direct(), ctx, numbers=NUMBERS)
    await trio.sleep(1)
    assert {name: text.partition(":")[0] for name, (text, _) in ctx.issues.items()} == issues
    nursery.cancel_scope.cancel()


async def test_hooks_speak_of_our_own_calls_alone(nursery: trio.Nursery) -> None:
    plugin = DirectPlugin()
    (kind,) = plugin.siperb_connection_types()
    web, desk = device("alice-web", "alice"), device("alice-desk", "alice")

    def ring(connection: str, *devices: Device) -> Any:
        return plugin.siperb_ring(
            CallAttempt("c", "inbound", "INVITE", "1001", "sip:x@y", REQUEST, connection, "alice", "alice-web"), devices
        )

    assert ring("house", web, desk) is None, "it is not loaded"
    assert plugin.siperb_diagnostics("house") is None
    assert isinstance(kind, Direct)
    await loaded(nursery, kind, FakeEntry(Entry("house", "direct")), numbers=NUMBERS)
    assert ring("house", web, desk) == [desk]
    assert ring("house", web) == Refusal(480, "No Other Device")
    assert ring("house") == Refusal(404, "No Such User")
    assert ring("office", web, desk) is None
    assert plugin.siperb_diagnostics("house") == {
        "numbers": {"1000": ["alice", "bob"], "1001": ["alice"], "1002": ["bob"], "1003": ["carol"]},
        "names": True,
        "calls": {},
    }
    assert plugin.siperb_diagnostics("office") is None
    nursery.cancel_scope.cancel()


@given(strategies.event_orders("house"))
def test_what_became_of_calls_is_counted_in_any_order(events: list[CallEvent]) -> None:
    plugin = DirectPlugin()
    (kind,) = plugin.siperb_connection_types()
    assert isinstance(kind, Direct)
    kind.live["house"] = LiveDirect(FakeEntry(Entry("house", "direct")), settings_of(kind, {}))
    for event in events:
        plugin.siperb_call_event(event)
    found = plugin.siperb_diagnostics("house")
    ended = [event for event in events if event.what == "ended"]
    wanted = Counter("answered" if event.answered is not None else str(event.status) for event in ended)
    assert found is not None
    assert found["calls"] == dict(wanted)
