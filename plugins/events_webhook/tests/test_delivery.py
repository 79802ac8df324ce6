"""Delivery on virtual time: the receiver is httpx's network."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from siperb_events_webhook.sender import seconds_of, verdict
from siperb_events_webhook.service import pause


async def test_events_arrive_in_order_and_signed(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver())
    hook.ring(1, 2)  # before the service runs: the gateway has listened for a moment already
    await nursery.start(hook.run)
    hook.ring(3)
    posts = await hook.receiver.took(3)
    assert hook.numbers() == [1, 2, 3]
    assert all(post.is_genuine() for post in posts)
    assert not any(post.is_genuine("another-secret-of-somebody") for post in posts)
    assert len({post.headers["x-siperb-event-id"] for post in posts}) == 3
    assert [post.json["sequence"] for post in posts] == [1, 2, 3]
    assert all(post.json["id"] == post.headers["x-siperb-event-id"] for post in posts)
    assert posts[0].headers["x-siperb-event"] == posts[0].json["event"] == "call.record"
    assert posts[0].json["gateway"] == "sip.example.net"
    assert posts[0].json["time"] == 5.0
    assert posts[0].headers["x-siperb-signature"].startswith("t=1700000000,")
    assert posts[0].headers["authorization"].startswith("Basic ")
    assert posts[0].target == "/a-token?key=a-key"
    await hook.stop()
    assert hook.status["delivered"] == 3


async def test_a_receiver_that_comes_back_gets_everything_in_order_with_the_same_ids(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver(*[500, 502, 503, 408, 425, 429] * 2, 200))
    await nursery.start(hook.run)
    hook.ring(1, 2, 3)
    await hook.receiver.took(3)
    posts = hook.receiver.posts
    assert hook.numbers() == [1, 2, 3]
    gaps = [round(later.at - post.at) for post, later in pairwise(posts)]
    assert gaps == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 0, 0]
    assert {post.headers["x-siperb-event-id"] for post in posts[:13]} == {posts[0].json["id"]}
    assert all(post.is_genuine() for post in posts)
    assert len({post.headers["x-siperb-signature"] for post in posts[:13]}) == 13, "each attempt is signed anew"
    assert len(hook.logged("webhook.delivered_again")) == 1
    await hook.stop()
    assert (hook.status["delivered"], hook.status["failed"], hook.status["failures_in_a_row"]) == (3, 0, 0)


async def test_a_pause_begins_anew_after_a_success(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver(500, 500, 200, 500, 200))
    await nursery.start(hook.run)
    hook.ring(1, 2)
    await hook.receiver.took(2)
    assert [round(post.at) for post in hook.receiver.posts] == [0, 1, 3, 3, 4]
    await hook.stop()


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 410, 413])
async def test_what_would_be_answered_the_same_is_given_up(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any, status: int
) -> None:
    hook = webhook(receiver((status, {"Location": "https://elsewhere.example.net/"}), 200))
    await nursery.start(hook.run)
    hook.ring(1, 2)
    await hook.receiver.took(1)
    assert hook.numbers() == [2]
    assert [post.json["data"]["number"] for post in hook.receiver.posts] == [1, 2]
    assert [round(post.at) for post in hook.receiver.posts] == [0, 0]
    await hook.stop()
    assert (hook.status["delivered"], hook.status["failed"], hook.status["queue"]) == (1, 1, 0)
    assert hook.status["last_error"] == f"HTTP {status}"


async def test_retry_after_is_waited_for(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    date = "Tue, 14 Nov 2023 22:15:00 GMT"  # 1700000100, and the clock begins at 1700000000
    hook = webhook(receiver((429, {"Retry-After": "40"}), (503, {"Retry-After": date}), 200))
    await nursery.start(hook.run)
    hook.ring(1)
    await hook.receiver.took(1)
    assert [round(post.at) for post in hook.receiver.posts] == [0, 40, 100]
    await hook.stop()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("", 0), ("7", 7), (" 7 ", 7), ("999999999999999999999", 3600), ("-5", 0), ("soon", 0), ("²", 0)),
        *(("Thu, 01 Jan 1970 00:00:10 GMT", 10), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)),
        *(("Fri, 31 Dec 9999 23:59:59 GMT", 3600), ("Fri, 99 Dec 9999 23:59:59 GMT", 0)),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float) -> None:
    assert seconds_of(text, 0.0) == seconds


def test_pauses_are_bounded_and_spread() -> None:
    assert [pause(tries, 0.0) for tries in (1, 2, 3, 9, 10, 5000)] == [1, 2, 4, 256, 300, 300]
    assert [pause(tries, 1.0) for tries in (1, 10)] == [1.25, 375]


def test_what_statuses_mean() -> None:
    delivered = [status for status in range(100, 600) if verdict(status, "", 0).delivered]
    retried = [status for status in range(100, 600) if verdict(status, "", 0).retry]
    assert delivered == list(range(200, 300))
    assert retried == [408, 425, 429, *range(500, 600)]


async def test_a_receiver_that_never_answers_is_left_after_the_timeout(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver(0, 200), timeout=7)
    await nursery.start(hook.run)
    hook.ring(1)
    await hook.receiver.took(1)
    assert [round(post.at) for post in hook.receiver.posts] == [0, 8]
    assert hook.status["last_error"] == "no answer within 7 s"
    await hook.stop()


async def test_a_full_queue_drops_the_oldest_and_says_so_once(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver(503, 503, 200), max_queue=10)
    await nursery.start(hook.run)
    hook.ring(*range(10))
    await hook.receiver.got(1)
    await trio.sleep(0.5)  # in the pause: none is on the wire
    hook.ring(*range(10, 25))
    assert (hook.status["queue"], hook.status["dropped"]) == (10, 15)
    assert len(hook.logged("webhook.dropping")) == 1
    await hook.receiver.took(10)
    assert hook.numbers() == list(range(15, 25))
    sequence = [post.json["sequence"] for post in hook.receiver.taken]
    assert sequence == list(range(16, 26)), "the receiver can see the gap"
    assert [line["dropped"] for line in hook.logged("webhook.room_again")] == [15]
    await hook.stop()


async def test_what_is_on_the_wire_is_not_dropped(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver(0, 200), max_queue=10)
    await nursery.start(hook.run)
    hook.ring(0)
    await hook.receiver.got(1)
    hook.ring(*range(1, 14))
    await hook.receiver.took(10)
    assert hook.numbers() == [0, *range(5, 14)]
    assert hook.status["dropped"] == 4
    await hook.stop()


async def test_only_what_is_wanted_is_sent(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver(), events=["call.ended", "registration.*"])
    for early in (True, False):
        for name in ("call.started", "call.ended", "registration.refreshed", "call.record"):
            hook.ring(int(early), name=name)
        if early:
            await nursery.start(hook.run)
    await hook.receiver.took(4)
    await hook.stop()
    assert hook.receiver.names() == ["call.ended", "registration.refreshed"] * 2
    assert [post.json["sequence"] for post in hook.receiver.taken] == [1, 2, 3, 4]


async def test_what_is_queued_leaves_when_the_gateway_stops(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver(503, 503, 503, 503, 503, 200))
    await nursery.start(hook.run)
    hook.ring(1, 2, 3)
    await hook.receiver.got(4)
    await trio.sleep(1)  # in the pause of 8 s
    before = trio.current_time()
    await hook.stop()
    assert hook.numbers() == [1, 2, 3]
    assert trio.current_time() - before < 5
    assert hook.logged("webhook.left_behind") == []
    hook.ring(4)
    assert len(hook.outbox) == 0, "nobody would fetch it"


@pytest.mark.parametrize("status", [0, 503])
async def test_a_dead_receiver_holds_up_the_end_no_longer_than_it_may(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any, status: int
) -> None:
    hook = webhook(receiver(status))
    await nursery.start(hook.run)
    hook.ring(1, 2, 3)
    await hook.receiver.got(1)
    before = trio.current_time()
    await hook.stop()
    assert trio.current_time() - before == pytest.approx(5)
    assert [line["events"] for line in hook.logged("webhook.left_behind")] == [3]


async def test_a_receiver_away_for_ten_minutes_is_an_issue_until_it_is_back(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver(*[503] * 12, 200))
    await nursery.start(hook.run)
    hook.ring(1)
    await trio.sleep(599)
    assert hook.gateway.issues == {}
    await trio.sleep(2)
    (issue,) = hook.gateway.issues.values()
    assert "https://hooks.example.net has taken none for ten minutes: HTTP 503" in issue
    assert hook.gateway.raised_at == [pytest.approx(600)], "in the middle of a pause"
    await hook.receiver.took(1)
    await trio.sleep(0.1)
    assert hook.gateway.issues == {}
    assert len(hook.logged("webhook.failed")) == 1, "the same reason is logged once"
    await hook.stop()


async def test_a_receiver_that_refuses_every_event_is_an_issue_too(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver(404, 404, 404, 200))
    await nursery.start(hook.run)
    for number, seconds in enumerate((300, 301, 1)):
        assert hook.gateway.issues == {}
        hook.ring(number)
        await trio.sleep(seconds)
    assert len(hook.gateway.issues) == 1
    hook.ring(9)
    await hook.receiver.took(1)
    await trio.sleep(1)
    assert hook.gateway.issues == {}
    assert (hook.status["failed"], hook.status["delivered"]) == (3, 1)
    await hook.stop()


async def test_an_event_that_is_no_json_costs_itself(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver())
    await nursery.start(hook.run)
    hook.outbox.put("call.record", {"number": object()})
    hook.ring(2)
    await hook.receiver.took(1)
    await hook.stop()
    assert hook.numbers() == [2]
    assert hook.status["failed"] == 1


async def test_without_a_table_nothing_runs_and_nothing_is_kept(
    nursery: trio.Nursery, autojump_clock: MockClock, webhook: Any, receiver: Any
) -> None:
    hook = webhook(receiver())
    hook.gateway.settings = None
    await nursery.start(hook.run)
    await hook.stopped.wait()
    hook.ring(1)
    assert len(hook.outbox) == 0
    assert hook.service.status() is None
