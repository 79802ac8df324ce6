"""Commits writes: at once where the disk is quick, otherwise in a thread, where what queues up while it is committing
goes into the next transaction (group commit).

In a write-ahead log without fsync a commit is a few writes into the page cache: 60 to 80 us. Waking a thread for it,
and being woken again, costs the event loop several times that, and the 200 OK that waits for it a millisecond. A disk
that is slow, busy or locked must not hold the loop up, though: that is found out by measuring, and what is slow by
nature, the checkpoint with its fsync, is always the thread's.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import attrs
import structlog
import trio

from siperb_core.store.contract import Failed, Then
from siperb_core.store.schema import BUSY_SECONDS

Operation = tuple[str, tuple[Any, ...]]
"""One SQL statement and its parameters."""

MAX_QUEUED = 100_000
MAX_GROUP = 1_000
LATE_SECONDS = 0.25
"""How long a write waits for company that nobody waits for."""
SLOW_SECONDS = 0.02
"""A commit in the event loop that took longer than this is the last one there for `WARY_SECONDS`."""
WARY_SECONDS = 10.0
CHECKPOINT_COMMITS = 500
"""Commits after which the thread moves the write-ahead log into the database."""

log = structlog.get_logger(__name__)


@attrs.frozen
class Write:
    """Operations that are committed together or not at all, and whom to tell."""

    operations: Sequence[Operation]
    then: Then | None
    failed: Failed | None


class Writer:
    """Commits writes in the order they came and calls back in trio's thread. `connection` belongs to the writer until
    `close` returns; `checkpoints` is one more, for the thread alone.
    """

    def __init__(
        self, connection: sqlite3.Connection, checkpoints: sqlite3.Connection, token: trio.lowlevel.TrioToken
    ) -> None:
        self._connection = connection
        self._checkpoints = checkpoints
        self._token = token
        self._waiting: deque[Write] = deque()
        self._using = threading.Lock()
        """Held by whoever takes writes out of the queue, until they are committed: it keeps them in order."""
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._rung = False
        self._closed = False
        self._wary_until = 0.0
        self._to_tell = 0
        """Groups the thread has committed; `_told` of them the event loop has heard of."""
        self._told = 0
        self._commits = 0
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA busy_timeout=0")
        self._thread = threading.Thread(target=self._run, name="siperb-store", daemon=True)
        self._thread.start()

    def submit(self, write: Write, *, soon: bool = True) -> None:
        """Commit a write now, or queue it; never waits for a slow disk. It may be told before this returns. A full
        queue (the disk hangs) or a closed store fails this write.

        A transaction of its own costs more than the write itself: one that is not wanted `soon` goes with the next that
        is, or after `LATE_SECONDS`.
        """
        if self._closed or len(self._waiting) >= MAX_QUEUED:
            why = "the store is closed" if self._closed else f"{MAX_QUEUED} writes are waiting for the disk"
            log.error("store.refused", reason=why)
            _call_failed(write, sqlite3.OperationalError(why))
            return
        self._waiting.append(write)
        if soon and not self._commit_here():
            self._ring()

    def _commit_here(self) -> bool:
        """Commit what waits, in the event loop; False where that is the thread's."""
        started = time.monotonic()
        if started < self._wary_until or len(self._waiting) > MAX_GROUP or not self._using.acquire(blocking=False):
            return False
        try:
            if self._to_tell != self._told:
                return False  # those who wrote earlier hear of it first
            group = list(self._waiting)
            try:
                self._transaction(group)
            except Exception:
                self._wary_until = started + WARY_SECONDS
                return False  # locked, or one of them is bad: the thread waits for the lock, and tells which
            self._waiting.clear()
        finally:
            self._using.release()
        if time.monotonic() - started > SLOW_SECONDS:
            self._wary_until = started + WARY_SECONDS
        _call_back([(write, None) for write in group])
        return True

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
            self._wait()
            with self._using:
                group = self._next_group()
                if not group and self._closed:
                    return
                done = self._commit(group) if group else []
                told = any(write.then is not None or error is not None for write, error in done)
                self._to_tell += told
            if told:
                try:
                    self._token.run_sync_soon(self._tell, done)
                except trio.RunFinishedError:
                    return
            if self._commits >= CHECKPOINT_COMMITS:
                self._checkpoint()

    def _tell(self, done: list[tuple[Write, Exception | None]]) -> None:
        self._told += 1
        _call_back(done)

    def _wait(self) -> None:
        """Until somebody rings, or for a while."""
        if not self._closed:
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=LATE_SECONDS)

    def _next_group(self) -> list[Write]:
        self._rung = False  # before looking: whoever adds a write from now on rings again
        waiting = self._waiting
        group: list[Write] = []
        while waiting and len(group) < MAX_GROUP:
            group.append(waiting.popleft())
        if waiting:
            self._ring()
        return group

    def _commit(self, group: list[Write]) -> list[tuple[Write, Exception | None]]:
        self._connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000:.0f}")
        try:
            return self._committed(group)
        finally:
            self._connection.execute("PRAGMA busy_timeout=0")

    def _committed(self, group: list[Write]) -> list[tuple[Write, Exception | None]]:
        try:
            self._transaction(group)
        except Exception as error:  # whatever it is, it is reported to those who wrote, and the thread lives on
            if len(group) == 1:
                log.error("store.write_failed", error=str(error), statements=[sql for sql, _ in group[0].operations])
                return [(group[0], error)]
            # One bad write must not take its neighbours with it: each once more, by itself.
            return [result for write in group for result in self._committed([write])]
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
        self._commits += 1

    def _checkpoint(self) -> None:
        self._commits = 0
        try:
            self._checkpoints.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            log.warning("store.checkpoint_failed", error=str(error))


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
