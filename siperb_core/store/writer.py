"""The one thread that writes: what queues up while it is committing goes into the next transaction (group commit)."""

from __future__ import annotations

import queue
import sqlite3
import threading
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
        self._queue: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="siperb-store", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> None:
        """Queue a write; never waits. A full queue (the disk hangs) or a closed store fails this write."""
        if self._closed or self._queue.qsize() >= MAX_QUEUED:
            why = "the store is closed" if self._closed else f"{MAX_QUEUED} writes are waiting for the disk"
            log.error("store.refused", reason=why)
            _call_failed(write, sqlite3.OperationalError(why))
            return
        self._queue.put(write)

    def close(self) -> None:
        """Write what is queued, then end the thread. Blocks until done."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (group := self._next_group()) is not None:
            done = self._commit(group)
            try:
                self._token.run_sync_soon(_call_back, done)
            except trio.RunFinishedError:
                return

    def _next_group(self) -> list[Write] | None:
        first = self._queue.get()
        if first is None:
            return None
        group = [first]
        while len(group) < MAX_GROUP:
            try:
                write = self._queue.get_nowait()
            except queue.Empty:
                break
            if write is None:
                self._queue.put(None)  # seen again once this group is on disk; `close` is the last to put anything
                break
            group.append(write)
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
