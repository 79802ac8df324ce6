"""Timers of the transaction layer: their values (RFC 3261 table 4, RFC 6026) and one wheel that holds them all.

Nothing here reads a clock: every time is handed in, as seconds on one monotonic scale.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

import attrs


@attrs.frozen
class TimerValues:
    """The base values of RFC 3261 section 17.1.1.1, in seconds, and what follows from them."""

    t1: float = 0.5  # round trip time estimate
    t2: float = 4.0  # longest wait between retransmissions of a non-INVITE request or an INVITE response
    t4: float = 5.0  # how long the network may keep a message
    timer_c: float = 180.0  # longest a proxied INVITE may ring (section 16.6 item 11: more than three minutes)
    trying_delay: float = 0.2  # section 17.2.1: a 100 goes out unless the user answers within this time

    @property
    def timeout(self) -> float:
        """64*T1: timers B, F, H, J, L and M."""
        return 64 * self.t1

    @property
    def timer_d(self) -> float:
        """At least 32 s over an unreliable flow (section 17.1.1.2), and never less than the peer's timer H."""
        return max(32.0, 64 * self.t1)


Owner = TypeVar("Owner")


class Timer(Generic[Owner]):
    """One pending timer: whose it is, which (`timer A`), and when it is due. `owner` is None once it was stopped."""

    __slots__ = ("deadline", "name", "owner")

    def __init__(self, owner: Owner, name: str, deadline: float) -> None:
        self.owner: Owner | None = owner
        self.name = name
        self.deadline = deadline


class TimerWheel(Generic[Owner]):
    """All timers, soonest first, in a heap.

    Most timers are stopped long before they are due, so stopping only marks them (and lets go of the owner); they
    leave the heap when their time comes, or all together once they are the greater part of it.
    """

    __slots__ = ("_heap", "_sequence", "_stopped")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer[Owner]]] = []
        self._sequence = 0
        self._stopped = 0

    def __len__(self) -> int:
        """Number of timers that are running."""
        return len(self._heap) - self._stopped

    def start(self, owner: Owner, name: str, deadline: float) -> Timer[Owner]:
        """Start a timer; timers due at the same moment fire in the order they were started."""
        timer = Timer(owner, name, deadline)
        self._sequence += 1
        heapq.heappush(self._heap, (deadline, self._sequence, timer))
        return timer

    def stop(self, timer: Timer[Owner]) -> None:
        """Stop a timer; one that has fired or was stopped already may be stopped again."""
        if timer.owner is None:
            return
        timer.owner = None
        self._stopped += 1
        if self._stopped > 512 and self._stopped * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].owner is not None]
            heapq.heapify(self._heap)
            self._stopped = 0

    def postpone(self, timer: Timer[Owner], deadline: float) -> None:
        """Move a running timer to a later moment. The heap learns of it when the old moment comes."""
        timer.deadline = max(timer.deadline, deadline)

    @property
    def next_deadline(self) -> float | None:
        """When the soonest timer is due; None where none is running."""
        heap = self._heap
        while heap:
            deadline, sequence, timer = heap[0]
            if timer.owner is None:
                heapq.heappop(heap)
                self._stopped -= 1
            elif timer.deadline > deadline:
                heapq.heapreplace(heap, (timer.deadline, sequence, timer))
            else:
                return deadline
        return None

    def pop_due(self, now: float) -> tuple[Owner, str] | None:
        """Take the soonest timer off if it is due: its owner and its name. None once nothing more is due."""
        deadline = self.next_deadline
        if deadline is None or deadline > now:
            return None
        timer = heapq.heappop(self._heap)[2]
        owner, timer.owner = timer.owner, None
        assert owner is not None  # next_deadline has cleared stopped ones from the top
        return owner, timer.name
