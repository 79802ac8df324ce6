"""Bindings, dialogs, the memory of entries and call records, on disk before anybody is told that they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs
import trio

from siperb_core.store.contract import Failed, StoredBinding, Then
from siperb_core.store.schema import connect, migrate
from siperb_core.store.writer import Operation, Write, Writer

KEEP_CALLS = 10_000
_encode = json.JSONEncoder(separators=(",", ":")).encode


@attrs.frozen
class StoredDialog:
    """What is needed to route a request inside a dialog after a restart. `updated` is in seconds since the epoch."""

    id: str
    data: dict[str, Any]
    updated: float


@attrs.frozen
class StoredCall:
    """The record of a call. Times are in seconds since the epoch; `ended` is None for a call the record was made before
    the end of.
    """

    call_id: str
    data: dict[str, Any]
    started: float
    ended: float | None


class Store:
    """The database. To be opened inside trio; every method is synchronous and none waits for the disk except `open` and
    `close`.

    A write returns at once. Its `then` is called in trio's thread after COMMIT, perhaps before the write returns: from
    then on the data survives kill -9. Where the write fails `failed` is called instead, with the exception, and the
    failure is logged.
    """

    def __init__(self, path: Path, *, keep_calls: int = KEEP_CALLS) -> None:
        """Open the file, making it where there is none. Raises StoreError."""
        self.path = path
        self._keep_calls = keep_calls
        token = trio.lowlevel.current_trio_token()
        self._reader = connect(path)
        try:
            migrate(self._reader, path)
            self._memory: dict[str, dict[str, Any]] = {}
            for entry, key, value in self._reader.execute("SELECT entry, key, value FROM memory"):
                self._memory.setdefault(entry, {})[key] = json.loads(value)
            self._writing = connect(path)
            self._checkpoints = connect(path)
        except BaseException:
            self._reader.close()
            raise
        self._writer = Writer(self._writing, self._checkpoints, token)

    @classmethod
    def open(cls, path: str | Path, *, keep_calls: int = KEEP_CALLS) -> Store:
        """Open the file, making it where there is none; `async with Store.open(path) as store` closes it too. Raises
        StoreError.

        Of the call records the last `keep_calls` are kept.
        """
        return cls(Path(path), keep_calls=keep_calls)

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self.close)

    def close(self) -> None:
        """Write what is queued and close the file. Blocks for as long as that takes; calling it again does nothing."""
        self._writer.close()
        self._checkpoints.close()
        self._writing.close()
        self._reader.close()

    def write(
        self,
        operations: Sequence[Operation],
        then: Then | None = None,
        failed: Failed | None = None,
        *,
        soon: bool = True,
    ) -> None:
        """Commit SQL statements together, in the order writes were made; where nobody waits and a quarter of a second
        may be lost, `soon=False` lets them go with the next that matter.
        """
        self._writer.submit(Write(operations, then, failed), soon=soon)

    # Bindings

    def put_binding(
        self,
        aor: str,
        key: str,
        data: Mapping[str, Any],
        expires: float,
        *,
        then: Then | None = None,
        failed: Failed | None = None,
    ) -> None:
        """Add a binding, or replace the one of the same `aor` and `key`."""
        sql = "INSERT OR REPLACE INTO bindings (aor, key, data, expires) VALUES (?, ?, ?, ?)"
        self.write([(sql, (aor, key, _dump(data), expires))], then, failed)

    def delete_binding(self, aor: str, key: str, *, then: Then | None = None, failed: Failed | None = None) -> None:
        """Remove a binding; one that is not there is no mistake."""
        self.write([("DELETE FROM bindings WHERE aor = ? AND key = ?", (aor, key))], then, failed)

    def load_bindings(self, now: float | None = None) -> list[StoredBinding]:
        """All bindings on disk; with `now` only those that have not expired."""
        rows = self._reader.execute("SELECT aor, key, data, expires FROM bindings WHERE expires > ?", (now or 0.0,))
        return [StoredBinding(aor, key, json.loads(data), expires) for aor, key, data, expires in rows]

    def delete_expired_bindings(self, now: float) -> None:
        """Remove the bindings that expired at or before `now`."""
        self.write([("DELETE FROM bindings WHERE expires <= ?", (now,))])

    # Dialogs

    def put_dialog(
        self,
        dialog_id: str,
        data: Mapping[str, Any],
        updated: float,
        *,
        then: Then | None = None,
        failed: Failed | None = None,
    ) -> None:
        """Add a dialog, or replace the one of the same id."""
        sql = "INSERT OR REPLACE INTO dialogs (id, data, updated) VALUES (?, ?, ?)"
        self.write([(sql, (dialog_id, _dump(data), updated))], then, failed)

    def delete_dialog(self, dialog_id: str, *, then: Then | None = None, failed: Failed | None = None) -> None:
        """Remove a dialog; one that is not there is no mistake."""
        soon = then is not None or failed is not None
        self.write([("DELETE FROM dialogs WHERE id = ?", (dialog_id,))], then, failed, soon=soon)

    def load_dialogs(self) -> list[StoredDialog]:
        """All dialogs on disk."""
        rows = self._reader.execute("SELECT id, data, updated FROM dialogs")
        return [StoredDialog(dialog_id, json.loads(data), updated) for dialog_id, data, updated in rows]

    def delete_dialogs_before(self, when: float) -> None:
        """Remove the dialogs last updated before `when`: calls whose BYE never came."""
        self.write([("DELETE FROM dialogs WHERE updated < ?", (when,))])

    # The memory of entries

    def memory(self, entry: str) -> dict[str, Any]:
        """A copy of what an entry remembers, what is still being written included."""
        return dict(self._memory.get(entry, {}))

    def put_memory(
        self, entry: str, key: str, value: Any, *, then: Then | None = None, failed: Failed | None = None
    ) -> None:
        """Remember a JSON value for an entry. Raises TypeError where it is not one."""
        text = _dump(value)
        self._memory.setdefault(entry, {})[key] = json.loads(text)
        self.write(
            [("INSERT OR REPLACE INTO memory (entry, key, value) VALUES (?, ?, ?)", (entry, key, text))], then, failed
        )

    def delete_memory(
        self, entry: str, key: str | None = None, *, then: Then | None = None, failed: Failed | None = None
    ) -> None:
        """Forget one value of an entry, or all of them (the entry was removed)."""
        if key is None:
            self._memory.pop(entry, None)
            operation: Operation = ("DELETE FROM memory WHERE entry = ?", (entry,))
        else:
            self._memory.get(entry, {}).pop(key, None)
            operation = ("DELETE FROM memory WHERE entry = ? AND key = ?", (entry, key))
        self.write([operation], then, failed)

    # Call records

    def add_call(
        self,
        call_id: str,
        data: Mapping[str, Any],
        started: float,
        ended: float | None = None,
        *,
        then: Then | None = None,
        failed: Failed | None = None,
    ) -> None:
        """Add the record of a call; the oldest one beyond `keep_calls` goes."""
        self.write(
            [
                (
                    "INSERT INTO calls (call_id, data, started, ended) VALUES (?, ?, ?, ?)",
                    (call_id, _dump(data), started, ended),
                ),
                ("DELETE FROM calls WHERE id <= last_insert_rowid() - ?", (self._keep_calls,)),
            ],
            then,
            failed,
            soon=then is not None or failed is not None,
        )

    def load_calls(self, limit: int = 100, call_id: str | None = None) -> list[StoredCall]:
        """The last `limit` records on disk, newest first; with `call_id` those of one call (it may pass twice)."""
        where, parameters = ("", (limit,)) if call_id is None else ("WHERE call_id = ?", (call_id, limit))
        rows = self._reader.execute(
            f"SELECT call_id, data, started, ended FROM calls {where} ORDER BY id DESC LIMIT ?", parameters
        )
        return [StoredCall(name, json.loads(data), started, ended) for name, data, started, ended in rows]


def _dump(value: Any) -> str:
    # The text is made here and now, so a value changed later by its owner is not what gets written. surrogateescape
    # text (raw bytes of a
    # SIP header) survives as \udcXX escapes.
    return _encode(value)
