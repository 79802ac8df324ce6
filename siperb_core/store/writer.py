"""The one thread that writes: what queues up while it is committing goes into the next transaction (group commit)."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import structlog
import trio

Operation = tuple[str, tuple[Any, ...]]
"""One SQL statement and its parameters."""
Then = Callable[[], None]
Failed = Callable[[Exception], None]

MAX_QUEUED = 100_000
MAX_GROUP = 1_000
LATE_SECONDS = 0.25
"""How long a write waits for company that nobody waits for."""

log = structlog.get_logger(__name__)


@attrs.frozen
class Write:
    """Operations that are committed together or not at all, and whom to tell."""

    operations: Sequence[Operation]
    then: Then | None
    failed: Failed | None


class Writer:
    """Commits writes in the order they came and calls back in trio's thread. `connection` belongs to the thread until
    `close` returns.
    """

    def __init__(self, connection: sqlite3.Connection, token: trio.lowlevel.TrioToken) -> None:
        self._connection = connection
        self._token = token
        self._waiting: deque[Write] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._rung = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="siperb-store", daemon=True)
        self._thread.start()

    def submit(self, write: Write, *, soon: bool = True) -> None:
        """Queue a write; never waits. A full queue (the disk hangs) or a closed store fails this write.

        Waking the thread and a transaction of its own cost more than the write itself: one that is not wanted `soon`
        goes with the next that is, or after `LATE_SECONDS`.
        """
        if self._closed or len(self._waiting) >= MAX_QUEUED:
            why = "the store is closed" if self._closed else f"{MAX_QUEUED} writes are waiting for the disk"
            log.error("store.refused", reason=why)
            _call_failed(write, sqlite3.OperationalError(why))
            return
        self._waiting.append(write)
        if soon:
            self._ring()

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._bell.put(None)

    def close(self) -> None:
        """Write what is queued, then end the thread. Blocks until done."""
        self._closed = True
        self._ring()
        self._thread.join()

    def _run(self) -> None:
        while True:
            group = self._next_group()
            if not group:
                if self._closed:
                    return
                continue
            done = self._commit(group)
            if any(write.then is not None or error is not None for write, error in done):
                try:
                    self._token.run_sync_soon(_call_back, done)
                except trio.RunFinishedError:
                    return

    def _next_group(self) -> list[Write]:
        """What waits once somebody rings, or after a while."""
        if not self._closed:
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=LATE_SECONDS)
        self._rung = False  # before looking: whoever adds a write from now on rings again
        waiting = self._waiting
        group: list[Write] = []
        while waiting and len(group) < MAX_GROUP:
            group.append(waiting.popleft())
        if waiting:
            self._ring()
        return group

    def _commit(self, group: list[Write]) -> list[tuple[Write, Exception | None]]:
        try:
            self._transaction(group)
        except Exception as error:  # whatever it is, it is reported to those who wrote, and the thread lives on
            if len(group) == 1:
                log.error("store.write_failed", error=str(error), statements=[sql for sql, _ in group[0].operations])
                return [(group[0], error)]
            # One bad write must not take its neighbours with it: each once more, by itself.
            return [result for write in group for result in self._commit([write])]
        return [(write, None) for write in group]

    def _transaction(self, group: list[Write]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for write in group:
                for sql, parameters in write.operations:
                    execute(sql, parameters)
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise


def _call_back(done: list[tuple[Write, Exception | None]]) -> None:
    for write, error in done:
        if error is not None:
            _call_failed(write, error)
        elif write.then is not None:
            try:
                write.then()
            except Exception:  # an exception in here would end trio's whole run
                log.exception("store.callback_failed")


def _call_failed(write: Write, error: Exception) -> None:
    if write.failed is not None:
        try:
            write.failed(error)
        except Exception:
            log.exception("store.callback_failed")
