"""The life of config entries: set up, loaded, down, tried again, unloaded; each in a task of its own.

A connection type may fail, hang or crash: that costs its own entry. What it may do outside is given by an `Outside`,
which the gateway implements.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import attrs
import trio

from siperb_core.entries.contract import (
    Connection,
    ConnectionNotReady,
    ConnectionType,
    NoticesReturn,
)
from siperb_core.entries.diagnostics import Exchange
from siperb_core.entries.failure import DELAYS, Failure, classify, delay
from siperb_core.entries.issues import Issue, Issues
from siperb_core.entries.live import LoadedConnection, lacks
from siperb_core.entries.loaded import LoadedConnections
from siperb_core.entries.model import Entry, Network, down_because
from siperb_core.entries.outside import Outside
from siperb_core.entries.pacing import Pace
from siperb_core.entries.slot import Slot
from siperb_core.entries.states import State
from siperb_core.events import ConnectionEvent, ConnectionEventKind
from siperb_core.faults import FAULT_SECONDS, MOST_FAULTS

SETUP_SECONDS = 60.0
"""How long a connection type may take before it hands out its connection."""
UNLOAD_SECONDS = 10.0
"""How long it may take to un-register once it was told to unload."""

STARTED_AT_ONCE = 4
"""A thousand entries begin one after the other: what else the gateway has to do is not kept waiting."""
RETURN_SECONDS = 15.0
"""How long a PBX that did not answer is left alone before it is watched for its return."""


@attrs.frozen
class Changes:
    """What a reload did, by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()  # without a restart: weight, users, dial pattern and the like


class Entries:
    """All config entries and what has become of them.

    `changed` is told the name of every entry whose state or registration changes, `tell` what has happened to it, and
    of every issue, `blame` of the type of a live connection that has done wrong. `jitter` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        types: Mapping[str, ConnectionType],
        outside: Outside,
        *,
        changed: Callable[[str], None] = lambda name: None,
        tell: Callable[[ConnectionEvent], None] = lambda event: None,
        blame: Callable[[str], None] = lambda kind: None,
        jitter: Callable[[], float] = random.random,
        setup_seconds: float = SETUP_SECONDS,
    ) -> None:
        self.types = types
        self.outside = outside
        self.changed = changed
        self.issues = Issues(self._issue)
        self.pace = Pace()
        self.in_use: LoadedConnections | None = None  # until an entry changes: every request asks, several times
        self._addresses: dict[str, tuple[Network, ...]] = {}
        self._tell = tell
        self._blame = blame
        self._jitter = jitter
        self._setup_seconds = setup_seconds
        self._slots: dict[str, Slot] = {}
        self._nursery: trio.Nursery | None = None
        self._reloading = trio.Lock()

    async def run(
        self, entries: Iterable[Entry] = (), *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve these entries until cancelled; `started` as soon as each has a state, not when all are loaded.

        Cancelled, it lets every connection type un-register, `UNLOAD_SECONDS` at most.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            async with self._reloading:
                slots = [self._place(entry) for entry in entries]
                task_status.started()
                for number, slot in enumerate(slots, 1):
                    self._begin(slot)
                    if number % STARTED_AT_ONCE == 0:
                        await trio.lowlevel.checkpoint()
            await trio.sleep_forever()

    def _start(self, entry: Entry) -> None:
        self._begin(self._place(entry))

    def _place(self, entry: Entry) -> Slot:
        slot = self._slots[entry.name] = Slot(entry, self)
        return slot

    def _begin(self, slot: Slot) -> None:
        assert self._nursery is not None, "run() comes first"
        self._nursery.start_soon(self._supervise, slot, name=f"connection {slot.entry.name}")

    async def _stop(self, name: str) -> None:
        slot = self._slots[name]
        slot.connection = None  # takes no calls from here on
        slot.become("unloading")
        slot.scope.cancel()
        with trio.move_on_after(UNLOAD_SECONDS) as waiting:
            await slot.ended.wait()
        if waiting.cancelled_caught:  # it shields itself from cancellation for too long: it ends when it ends
            slot.log.error("connection.unload_slow", seconds=UNLOAD_SECONDS)
        self.issues.clear_all(name)

    async def reload(self, entries: Iterable[Entry]) -> Changes:
        """Bring what runs in line with these entries: only what differs is touched.

        A change of routing (weight, users, dial pattern, methods, `allow_from`, codecs...) takes effect at once and
        restarts nothing; a change of type, settings or `enabled` restarts that entry.
        """
        async with self._reloading:
            wanted = {entry.name: entry for entry in entries}
            removed = [name for name in self._slots if name not in wanted]
            added = [name for name in wanted if name not in self._slots]
            differ = [name for name in wanted if name in self._slots and wanted[name] != self._slots[name].written]
            restarted = [name for name in differ if _needs_restart(self._slots[name].written, wanted[name])]
            updated = [name for name in differ if name not in restarted]
            for name in updated:
                self._slots[name].written = wanted[name]
                self._slots[name].entry = self.with_addresses(wanted[name])
                self.changed(name)
            async with trio.open_nursery() as nursery:
                for name in removed:
                    nursery.start_soon(self._remove, name)
                for name in restarted:
                    nursery.start_soon(self._replace, wanted[name])
            for name in added:
                self._start(wanted[name])
            return Changes(tuple(added), tuple(removed), tuple(restarted), tuple(updated))

    async def _remove(self, name: str) -> None:
        await self._stop(name)
        del self._slots[name]
        self.changed(name)

    async def _replace(self, entry: Entry) -> None:
        await self._stop(entry.name)
        self._start(entry)

    async def restart(self, name: str) -> None:
        """Unload an entry and set it up anew, whatever its state. Raises KeyError where there is none of that name."""
        async with self._reloading:
            await self._replace(self._slots[name].written)

    def happened(self, slot: Slot, what: ConnectionEventKind, **details: Any) -> None:
        """Tell of an entry; what an attempt beside it has come to (`probe`) is not its own."""
        if self._slots.get(slot.entry.name) is slot:
            self._tell(ConnectionEvent(what, self.outside.now(), slot.entry.name, slot.state, **details))

    def _issue(self, what: Literal["issue_raised", "issue_mended"], issue: Issue) -> None:
        slot = self._slots.get(issue.connection)
        state = "" if slot is None else slot.state
        now = self.outside.now()
        self._tell(
            ConnectionEvent(what, now, issue.connection, state, issue=issue.id, text=issue.text, mend=issue.mend)
        )

    async def probe(self, entry: Entry) -> Failure | None:
        """Try an entry's settings once, beside what runs; None when they work."""
        found = self.types.get(entry.type)
        if found is None:
            return Failure("config_error", _missing(entry))
        if entry.problem:
            return Failure("config_error", entry.problem)
        failure: Failure | None = None
        with trio.move_on_after(self._setup_seconds) as scope:
            try:
                await found.probe(Slot(entry, self), entry.settings)
            except Exception as error:
                failure = classify(error)
        if scope.cancelled_caught:
            failure = Failure("retry", f"no result within {self._setup_seconds:g} s")
        return failure

    def with_addresses(self, entry: Entry) -> Entry:
        """An entry as it is in force: the names of `allow_from` let in the addresses they are known to stand for."""
        found = tuple(network for name in entry.allow_names for network in self._addresses.get(name, ()))
        return attrs.evolve(entry, allow_from=entry.allow_from + found) if found else entry

    def names_to_resolve(self) -> set[str]:
        """Every DNS name in an `allow_from`."""
        return {name for slot in self._slots.values() for name in slot.written.allow_names}

    def resolved(self, name: str, networks: tuple[Network, ...]) -> None:
        """What a name in `allow_from` stands for now."""
        if self._addresses.get(name) == networks:
            return
        self._addresses[name] = networks
        for slot in self._slots.values():
            if name in slot.written.allow_names:
                slot.entry = self.with_addresses(slot.written)

    def loaded(self) -> LoadedConnections:
        """The connections that take calls now."""
        if self.in_use is None:
            found = map(self._loaded, self._slots.values())
            self.in_use = LoadedConnections(loaded for loaded in found if loaded is not None)
        return self.in_use

    def get(self, name: str) -> LoadedConnection | None:
        """One connection, if it takes calls now."""
        slot = self._slots.get(name)
        return None if slot is None else self._loaded(slot)

    def look_again(self, slot: Slot) -> None:
        """A live connection may have more to say of itself (`KnowsItsPeer`, `ClaimsByName`)."""
        loaded = self._loaded(slot)
        if loaded is not None and self.in_use is not None and not self.in_use.knows(loaded):
            self.in_use = None

    def _loaded(self, slot: Slot) -> LoadedConnection | None:
        if slot.connection is None:
            return None
        fault = partial(self._fault, slot)
        return LoadedConnection(slot.entry, self.types[slot.entry.type], slot.connection, fault)

    def _fault(self, slot: Slot, what: str) -> None:
        """A live connection has done wrong: counted, and too many in a short time take its entry down, which is then
        set up anew with back-off.
        """
        self._blame(slot.entry.type)
        seconds = slot.faults.add(self.outside.now())
        if seconds is None or slot.connection is None or slot.serving is None:
            return
        slot.connection = None  # takes no calls from here on
        slot.switched_off = f"switched off after {MOST_FAULTS} faults in {seconds:.0f} s, the last: {what}"
        slot.serving.cancel()
        mend = "report it to the plugin's author, with the log; the entry is tried again by itself"
        slot.raise_issue("faults", f"connection {slot.entry.name} was {slot.switched_off}", mend)

    async def _forgive(self, slot: Slot, connection: Connection) -> None:
        """What was set up anew and has done well for long enough is no issue any more."""
        await trio.sleep(FAULT_SECONDS)
        if slot.connection is connection:
            slot.clear_issue("faults")

    def names(self) -> list[str]:
        """Every entry's name, loaded or not."""
        return list(self._slots)

    def states(self) -> dict[str, State]:
        """Every entry's state by its name."""
        return {name: slot.state for name, slot in self._slots.items()}

    def entries(self) -> list[Entry]:
        """Every entry as it is in force."""
        return [slot.entry for slot in self._slots.values()]

    def status(self, name: str) -> dict[str, Any]:
        """One entry by the names of the JSON output (`calls` is the gateway's to add). Raises KeyError."""
        slot = self._slots[name]
        registration = slot.registration
        return {
            "name": slot.entry.name,
            "type": slot.entry.type,
            "state": slot.state,
            "since": slot.since,
            "reason": slot.reason,
            "next_attempt": slot.next_attempt,
            "enabled": slot.entry.enabled,
            "weight": slot.entry.weight,
            "dial_pattern": slot.entry.dial_pattern,
            "users": list(slot.entry.users),
            "registration": None if registration is None else attrs.asdict(registration),
            "reachable": slot.reachable,
            "latency_ms": slot.latency_ms,
        }

    def down(self, name: str) -> str:
        """Why a connection cannot be used just now, in words; '' where it can. Raises KeyError."""
        slot = self._slots[name]
        return down_because(slot.state, slot.reason, slot.reachable)

    def exchanges(self, name: str) -> tuple[Exchange, ...]:
        """The last requests an entry's connection type has sent, oldest first. Raises KeyError."""
        return tuple(self._slots[name].exchanges)

    async def _supervise(self, slot: Slot) -> None:
        """One entry's task: ends when the entry is unloaded, never by an exception of the connection type."""
        try:
            with slot.scope:
                await self._keep_up(slot)
        except Exception as error:  # raised while unloading: logged, since nobody is left to act on it
            slot.log.error("connection.unload_failed", error=classify(error).reason, exc_info=error)
        finally:
            slot.connection = None
            slot.ended.set()

    async def _keep_up(self, slot: Slot) -> None:
        entry = slot.entry
        found = self.types.get(entry.type)
        if not entry.enabled:
            slot.become("disabled")
        elif found is None:
            slot.become("type_missing", _missing(entry))
        elif entry.problem:
            slot.become("config_error", entry.problem)
            if found.allow_from_required and not (entry.allow_from or entry.allow_names):
                mend = f"siperb connection edit {entry.name} --allow-from ADDRESS,NETWORK: where the PBX sends from"
                slot.raise_issue("allow_from_empty", f"allow_from of {entry.name} is empty: it takes no calls", mend)
        else:
            await self._serve(slot, found)
        await trio.sleep_forever()

    async def _serve(self, slot: Slot, found: ConnectionType) -> None:
        """Set up, again and again, until unloaded or only an edit can help."""
        attempt = 0
        while True:
            slot.become("setting_up")
            failure = await self._serve_once(slot, found)
            lasted = 0.0 if slot.loaded_at is None else self.outside.now() - slot.loaded_at
            slot.connection = slot.serving = slot.loaded_at = None
            slot.reachable = slot.latency_ms = None
            attempt = 1 if lasted >= DELAYS[-1] else attempt + 1
            if failure.state != "retry":
                slot.become(failure.state, failure.reason)
                if failure.state == "auth_failed":
                    mend = f"siperb connection edit {slot.entry.name}, or reload it once the PBX knows them"
                    slot.raise_issue("auth_failed", f"the PBX refuses the credentials: {failure.reason}", mend)
                return
            if failure.crash:
                mend = "report it to the plugin's author, with the log"
                slot.raise_issue("crashed", f"connection type {found.kind} {failure.reason}", mend)
            wait = delay(attempt, failure.retry_after, self._jitter())
            slot.become("retry", failure.reason, self.outside.now() + wait)
            await self._pause(slot, found, failure, wait)

    async def _pause(self, slot: Slot, found: ConnectionType, failure: Failure, seconds: float) -> None:
        """Wait for the next attempt; less, where the type notices that a silent PBX is back."""
        with trio.move_on_after(seconds):
            if isinstance(found, NoticesReturn) and not (failure.crash or failure.answered or failure.retry_after):
                await trio.sleep(RETURN_SECONDS)
                try:
                    await found.returned(slot, slot.entry.settings)
                except Exception as error:  # the plugin's own fault: the back-off stands
                    slot.log.error("connection.crashed", exc_info=error)
                else:
                    slot.log.info("connection.returned")
                    return
            await trio.sleep_forever()

    async def _serve_once(self, slot: Slot, found: ConnectionType) -> Failure:
        """Run the type's `serve` once; what its end means. Only cancellation comes out as an exception."""
        slot.switched_off = ""
        try:
            async with trio.open_nursery() as nursery:
                slot.serving = nursery.cancel_scope
                with trio.move_on_after(self._setup_seconds) as setting_up:
                    slot.setting_up = setting_up
                    connection = await nursery.start(partial(found.serve, slot, slot.entry.settings))
                if setting_up.cancelled_caught:
                    raise ConnectionNotReady(f"not set up within {self._setup_seconds:g} s")
                missing = lacks(connection)
                if missing:
                    raise TypeError(f"serve gave a {type(connection).__name__}, which has no {missing}")
                slot.connection = connection
                slot.loaded_at = self.outside.now()
                slot.become("loaded")
                if self.issues.has(slot.entry.name, "faults"):
                    assert self._nursery is not None, "run() came first"
                    self._nursery.start_soon(self._forgive, slot, connection)
                self.issues.clear(slot.entry.name, "auth_failed")
                self.issues.clear(slot.entry.name, "crashed")
        except Exception as error:
            failure = classify(error)
            if failure.crash:
                slot.log.error("connection.crashed", exc_info=error)
            return failure
        if slot.switched_off:
            return Failure("retry", slot.switched_off)
        return Failure("retry", "the connection ended by itself")


def _needs_restart(old: Entry, new: Entry) -> bool:
    return (old.type, old.enabled, old.settings, old.version, old.problem) != (
        new.type,
        new.enabled,
        new.settings,
        new.version,
        new.problem,
    )


def _missing(entry: Entry) -> str:
    return f"no installed plugin gives connection type {entry.type}: install it with pip, and restart"
