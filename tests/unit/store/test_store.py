"""The store: committed before told, in order, all or nothing, and there after kill -9."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio

from siperb_core.store import Store, StoreError
from siperb_core.store.writer import CHECKPOINT_COMMITS, SLOW_SECONDS


async def written(write) -> None:
    """Wait until a write is committed; raises what it failed with."""
    done = trio.Event()
    errors: list[Exception] = []

    def failed(error: Exception) -> None:
        errors.append(error)
        done.set()

    write(then=done.set, failed=failed)
    await done.wait()
    if errors:
        raise errors[0]


async def test_what_was_put_is_there_after_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "siperb.db"
    async with Store.open(path) as store:
        store.put_binding("sip:alice@x", "k1", {"contact": "sip:a@b.invalid", "path": ["one"]}, 100.0)
        store.put_binding("sip:alice@x", "k2", {"contact": "sip:c@d"}, 50.0)
        store.put_binding("sip:alice@x", "k3", {"contact": "gone"}, 100.0)
        store.delete_binding("sip:alice@x", "k3")
        store.put_dialog("d1", {"state": "early"}, 1.0)
        store.put_dialog("d1", {"state": "confirmed"}, 2.0)
        store.put_dialog("d2", {}, 2.0)
        store.delete_dialog("d2")
        store.put_memory("office", "password", "x\udcff")
        store.add_call("c1", {"cause": "busy"}, 1.0, 2.0)
    async with Store.open(path) as store:
        assert {(b.key, b.expires) for b in store.load_bindings()} == {("k1", 100.0), ("k2", 50.0)}
        (binding,) = store.load_bindings(now=50.0)
        assert (binding.key, binding.data) == ("k1", {"contact": "sip:a@b.invalid", "path": ["one"]})
        (dialog,) = store.load_dialogs()
        assert (dialog.id, dialog.data, dialog.updated) == ("d1", {"state": "confirmed"}, 2.0)
        assert store.memory("office") == {"password": "x\udcff"}
        (call,) = store.load_calls()
        assert (call.call_id, call.data, call.started, call.ended) == ("c1", {"cause": "busy"}, 1.0, 2.0)


async def test_then_comes_in_trios_thread_after_commit_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "siperb.db"
    seen: list[tuple[int, int]] = []
    done = trio.Event()
    async with Store.open(path) as store:
        with closing(sqlite3.connect(path)) as other:

            def then(number: int) -> None:
                assert threading.current_thread() is threading.main_thread()
                (count,) = other.execute("SELECT count(*) FROM dialogs WHERE id = ?", (str(number),)).fetchone()
                seen.append((number, count))
                if number == 499:
                    done.set()

            for number in range(500):
                store.put_dialog(str(number), {}, 0.0, then=partial(then, number))
            await done.wait()
    assert seen == [(number, 1) for number in range(500)]


async def test_a_quick_disk_is_written_to_at_once(tmp_path: Path) -> None:
    told: list[str] = []
    async with Store.open(tmp_path / "siperb.db") as store:
        store.delete_dialog("late")
        store.put_dialog("a", {}, 0.0, then=lambda: told.append("a"))
        assert told == ["a"]
        assert [dialog.id for dialog in store.load_dialogs()] == ["a"]


async def test_a_locked_or_slow_disk_holds_nobody_up(tmp_path: Path) -> None:
    """Another program holds the lock; then a write is slow. Both times the thread takes over, in order."""
    path = tmp_path / "siperb.db"
    told: list[tuple[str, str]] = []
    done = trio.Event()

    def tell(name: str) -> None:
        told.append((name, ran.pop(name)))

    ran: dict[str, str] = {}
    async with Store.open(path) as store:
        writing = store._writing
        writing.create_function("here", 1, lambda name: ran.__setitem__(name, threading.current_thread().name))
        writing.create_function("slow", 0, lambda: time.sleep(SLOW_SECONDS * 1.5))

        def write(name: str, then: Callable[[], None], *more: str) -> None:
            store.write([("SELECT here(?)", (name,)), *((sql, ()) for sql in more)], then)

        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            write("locked", partial(tell, "locked"))
            write("behind", done.set)
            assert told == []
            other.execute("ROLLBACK")
        await done.wait()
        assert told == [("locked", "siperb-store")]
        store._writer._wary_until = 0.0
        write("slow", partial(tell, "slow"), "SELECT slow()")
        assert told[1:] == [("slow", "MainThread")]
        done = trio.Event()
        write("after", lambda: (tell("after"), done.set()))
        await done.wait()
        assert told[2:] == [("after", "siperb-store")]


async def test_the_log_ahead_goes_into_the_database_behind_the_loops_back(tmp_path: Path) -> None:
    path = tmp_path / "siperb.db"
    async with Store.open(path) as store:
        for number in range(CHECKPOINT_COMMITS + 1):
            store.put_dialog(str(number), {"text": "x" * 500}, 0.0, then=lambda: None)
        with trio.fail_after(30):
            while path.stat().st_size < CHECKPOINT_COMMITS * 500:
                await trio.lowlevel.checkpoint()


async def test_a_bad_write_fails_alone_and_whole(tmp_path: Path) -> None:
    told: list[str] = []
    done = trio.Event()
    async with Store.open(tmp_path / "siperb.db") as store:
        store.put_dialog("before", {}, 0.0, then=lambda: told.append("before"))
        store.write(
            [
                ("INSERT INTO dialogs (id, data, updated) VALUES ('half', '{}', 0)", ()),
                ("INSERT INTO nowhere VALUES (1)", ()),
            ],
            lambda: told.append("bad"),
            lambda error: told.append(type(error).__name__),
        )
        store.put_dialog("after", {}, 0.0, then=done.set)
        await done.wait()
        assert told == ["before", "OperationalError"]
        assert {dialog.id for dialog in store.load_dialogs()} == {"before", "after"}


async def test_a_callback_that_raises_harms_nobody(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "siperb.db") as store:
        store.put_dialog("a", {}, 0.0, then=lambda: 1 / 0)
        await written(partial(store.put_dialog, "b", {}, 0.0))
        assert len(store.load_dialogs()) == 2


async def test_writes_after_close_fail(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "siperb.db")
    store.close()
    store.close()
    with pytest.raises(sqlite3.OperationalError, match="closed"):
        await written(partial(store.put_dialog, "a", {}, 0.0))


async def test_closing_waits_for_what_is_queued_even_when_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "siperb.db"
    with trio.CancelScope() as scope:
        async with Store.open(path) as store:
            for number in range(2000):
                store.put_dialog(str(number), {"n": number}, 0.0)
            scope.cancel()
    async with Store.open(path) as store:
        assert len(store.load_dialogs()) == 2000


async def test_memory_is_read_back_at_once_and_is_a_snapshot(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "siperb.db") as store:
        value = {"a": [1]}
        store.put_memory("office", "k", value)
        value["a"].append(2)
        assert store.memory("office") == {"k": {"a": [1]}}
        store.put_memory("office", "l", 1)
        store.delete_memory("office", "k")
        assert store.memory("office") == {"l": 1}
        store.delete_memory("office")
        assert store.memory("office") == {}
        with pytest.raises(TypeError):
            store.put_memory("office", "k", object())
        assert store.memory("office") == {}


async def test_old_calls_bindings_and_dialogs_go(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "siperb.db", keep_calls=3) as store:
        for number in range(10):
            store.add_call(f"c{number % 2}", {"n": number}, float(number))
        store.put_binding("a", "old", {}, 10.0)
        store.put_binding("a", "new", {}, 11.0)
        store.delete_expired_bindings(10.0)
        store.put_dialog("old", {}, 9.0)
        store.put_dialog("new", {}, 10.0)
        store.delete_dialogs_before(10.0)
        await written(partial(store.put_memory, "x", "y", 1))
        assert [call.data["n"] for call in store.load_calls()] == [9, 8, 7]
        assert [call.data["n"] for call in store.load_calls(limit=1)] == [9]
        assert [call.data["n"] for call in store.load_calls(call_id="c1")] == [9, 7]
        assert [binding.key for binding in store.load_bindings()] == ["new"]
        assert [dialog.id for dialog in store.load_dialogs()] == ["new"]


async def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    async with Store.open(tmp_path / "siperb.db") as store:
        await written(partial(store.put_memory, "x", "secret", "s"))
        for file in sorted(tmp_path.iterdir()):  # noqa: ASYNC240
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_what_is_no_database_is_said_clearly(tmp_path: Path) -> None:
    path = tmp_path / "siperb.db"
    path.write_bytes(b"not a database, but a text of some length" * 50)
    with pytest.raises(StoreError, match=r"siperb\.db.*move the file away"):
        Store.open(path)
    assert path.read_bytes().startswith(b"not a database")
    with pytest.raises(StoreError, match="data_dir"):
        Store.open(tmp_path / "missing" / "siperb.db")


async def test_a_file_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "siperb.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreError, match="newer version"):
        Store.open(path)


VICTIM = """
import os, sys, trio
from siperb_core.store import Store

async def main():
    store = Store.open(sys.argv[1])
    def then(number):
        os.write(1, b"%d\\n" % number)   # from here on the parent may rely on it
    number = 0
    while True:
        store.put_dialog(str(number), {"number": number}, 0.0, then=lambda number=number: then(number))
        number += 1
        if number % 50 == 0:
            await trio.sleep(0.001)

trio.run(main)
"""


class Victim:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> trio.Process:
        self._process = await trio.lowlevel.open_process(
            [sys.executable, "-c", VICTIM, str(self._path)], stdout=subprocess.PIPE
        )
        return self._process

    async def __aexit__(self, *error: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            with trio.CancelScope(shield=True):
                await self._process.wait()


async def test_kill_9_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "siperb.db"
    confirmed = b""
    async with Victim(path) as process:
        async with process.stdout:
            while confirmed.count(b"\n") < 3000:
                confirmed += await process.stdout.receive_some(4096)
            os.kill(process.pid, signal.SIGKILL)
            while chunk := await process.stdout.receive_some(4096):
                confirmed += chunk
        await process.wait()
    numbers = [int(line) for line in confirmed.splitlines()]
    assert len(numbers) >= 3000
    async with Store.open(path) as store:
        found = {dialog.id: dialog.data for dialog in store.load_dialogs()}
        assert [number for number in numbers if found.get(str(number)) != {"number": number}] == []
