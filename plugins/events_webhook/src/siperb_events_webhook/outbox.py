"""The queue between the gateway, which never waits, and the receiver, who may take its time."""

from __future__ import annotations

from collections import deque

import structlog
import trio

from siperb_events_webhook.events import NAMES, Item, What

log = structlog.get_logger("siperb.events_webhook")

_UNTIL_CONFIGURED = 1000
"""Events that are kept between the gateway's first listener and the start of the service."""


class Outbox:
    """At most so many events, in order; when there is no room the oldest goes. Counts what became of them.

    `put` runs in the task that handles SIP: it appends, and does nothing else.
    """

    def __init__(self) -> None:
        self.delivered = 0
        self.failed = 0
        """Events the receiver would not have, now or later."""
        self.retried = 0
        """Attempts after which the event still waited."""
        self.dropped = 0
        """Events there was no room for."""
        self._limit = _UNTIL_CONFIGURED
        self._wanted = frozenset(NAMES)
        self._items: deque[Item] = deque()
        self._sequence = 0
        self._held = False
        self._dropped_before = 0
        self._dropping = False
        self._wake = trio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def configure(self, wanted: frozenset[str], limit: int) -> None:
        """From now on these events, and no more than that; of those that wait already the same is kept."""
        kept = [item for item in self._items if item.name in wanted]
        self._wanted, self._limit, self._sequence = wanted, limit, 0
        self._items = deque()
        for item in kept:
            self.put(item.name, item.what)

    def put(self, name: str, what: What) -> None:
        """Take in an event, if it is wanted."""
        if name not in self._wanted:
            return
        self._sequence += 1
        if len(self._items) >= self._limit:
            # What is on the wire just now may well arrive.
            del self._items[1 if self._held and len(self._items) > 1 else 0]
            self.dropped += 1
            if not self._dropping:
                self._dropping = True
                log.warning("webhook.dropping", reason="the queue is full: the oldest events go", max_queue=self._limit)
        if not self._items:
            self._wake.set()  # nobody waits otherwise
        self._items.append(Item(self._sequence, name, what))

    def wake(self) -> None:
        """Let whoever waits for an event look again."""
        self._wake.set()

    async def wait(self) -> None:
        """Until there is an event, or `wake`."""
        if not self._items:
            self._wake = trio.Event()
            await self._wake.wait()

    def take(self) -> Item | None:
        """The oldest event, which stays in its place until `settle`."""
        if not self._items:
            return None
        self._held = True
        return self._items[0]

    def settle(self, *, delivered: bool = False, failed: bool = False, retry: bool = False) -> None:
        """What became of the event taken: gone if it was delivered or has failed for good, else it is still the
        oldest, be it to be tried again or that the attempt was broken off.
        """
        self._held = False
        self.delivered += delivered
        self.failed += failed
        self.retried += retry
        if delivered or failed:
            self._items.popleft()
        if self._dropping and len(self._items) < self._limit // 2:
            self._dropping = False
            log.info("webhook.room_again", dropped=self.dropped - self._dropped_before)
            self._dropped_before = self.dropped
