"""The media sockets of a worker, and the loop that serves them.

To wake a task through trio costs as much CPU as to carry several packets. So while packets flow the loop waits for
them by itself, in the kernel, and lets them gather for a tick, as any wake-up costs more than a packet. That blocks
trio only while it has nothing to do: the loop gives way when a task can run, when a deadline is due, when the main
process has said something, and after `LONGEST_ALONE` at the latest.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from typing import Final

import trio

MAX_EVENTS: Final = 512
ROUNDS: Final = 32  # datagrams taken from one socket in a row: a flood waits in its buffer
STEADY: Final = 3  # datagrams in a tick
LONGEST_ALONE: Final = 0.05  # seconds: what trio itself waits for, besides `control`, is not seen meanwhile


class MediaSockets:
    """All of them in one epoll set, and `control` with them, which somebody else reads.

    `tick` is in seconds. `complain` is told of a callback that raised: one call's mishap is not the others'.
    """

    def __init__(self, control: socket.socket, tick: float, complain: Callable[[str, object], None]) -> None:
        self._tick, self._complain = tick, complain
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._give_way = False
        self.serve(control, self._called)

    def _called(self) -> None:
        self._give_way = True

    def serve(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        """Call back when something has come on a socket, to take one datagram; again as long as there are more."""
        self._callbacks[sock.fileno()] = callback
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def forget(self, sock: socket.socket) -> None:
        """Serve a socket no longer; one that is not served is ignored."""
        if self._callbacks.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    async def run(self) -> None:
        """Serve all sockets for ever."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())  # an epoll set is readable when one of its is
            self._run_alone(time.monotonic() + LONGEST_ALONE)

    def _run_alone(self, until: float) -> None:
        """Serve what is there and what comes, until somebody else has something to do."""
        while True:
            if self._tick:
                time.sleep(self._tick)
            served = self._serve_ready()
            patience = min(until - time.monotonic(), _seconds_idle())
            if self._give_way or patience <= 0:
                break
            # Where several have come in a tick, more will in the next: to wait for the first is a wake-up too many.
            if served < STEADY and not self._epoll.poll(patience, 1):
                break
        self._give_way = False

    def _serve_ready(self) -> int:
        """Serve whoever has something, until there is no more; how many datagrams that were."""
        poll, callbacks = self._epoll.poll, self._callbacks
        served = 0
        for _ in range(ROUNDS):
            ready = poll(0, MAX_EVENTS)
            served += len(ready)
            for fd, _ in ready:
                callback = callbacks.get(fd)  # none where the one before has ended the session
                if callback is not None:
                    try:
                        callback()
                    except Exception as error:
                        self._complain("serving a packet", error)
            if self._give_way or not ready:
                break
        return served


def _seconds_idle() -> float:
    """For how long no task has anything to do, as far as trio knows."""
    now = trio.lowlevel.current_statistics()
    return 0.0 if now.tasks_runnable or now.run_sync_soon_queue_size else now.seconds_to_next_deadline
