"""One entry's place among the entries: its state, and what its connection type is handed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import structlog
import trio

from siperb_core.entries.contract import Connection, ConnectionNotReady, Registration, Target
from siperb_core.entries.diagnostics import KEPT_EXCHANGES, MAX_SIP, Exchange
from siperb_core.entries.model import Entry
from siperb_core.entries.states import State
from siperb_core.events import ConnectionEventKind
from siperb_core.faults import Faults
from siperb_core.sip import Message

if TYPE_CHECKING:
    from siperb_core.entries.lifecycle import Entries

log = structlog.get_logger("siperb.entries")


class Slot:
    """The place of one of `entries`. It is its connection type's context, too (`EntryContext`)."""

    def __init__(self, entry: Entry, entries: Entries) -> None:
        self._entries = entries
        self.written = entry
        """As the file has it."""
        self.entry = entries.with_addresses(entry)
        self.domain = entries.outside.domain
        self.log = log.bind(connection=entry.name)
        self.memory = entries.outside.memory(entry.name)
        self.state: State = "setting_up"
        self.since = entries.outside.now()
        self.reason = ""
        self.next_attempt: float | None = None
        self.registration: Registration | None = None
        self.reachable: bool | None = None
        self.latency_ms: float | None = None
        self.setting_up: trio.CancelScope | None = None
        self.serving: trio.CancelScope | None = None
        self.loaded_at: float | None = None
        self.faults = Faults()
        self.switched_off = ""
        """Why the live connection is taken down, once it has done wrong too often."""
        self.connection = None
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.exchanges: deque[Exchange] = deque(maxlen=KEPT_EXCHANGES)

    @property
    def entry(self) -> Entry:
        """As it is in force."""
        return self._entry

    @entry.setter
    def entry(self, entry: Entry) -> None:
        self._entry = entry
        self._entries.in_use = None

    @property
    def connection(self) -> Connection | None:
        """The live connection, while it takes calls."""
        return self._connection

    @connection.setter
    def connection(self, connection: Connection | None) -> None:
        self._connection = connection
        self._entries.in_use = None

    async def request(self, message: Message, target: Target) -> Message:
        """As `EntryContext`, and kept for the diagnostics. Raises ConnectionNotReady."""
        wait = self._entries.pace.wait_for(message, trio.current_time())
        if wait:
            if self.setting_up is not None:
                self.setting_up.deadline += wait  # its turn is not the type's to hasten
            await trio.sleep(wait)
        sent = bytes(message)[:MAX_SIP]
        try:
            response = await self._entries.outside.request(message, target)
        except ConnectionNotReady as error:
            self.exchanges.append(Exchange(self.now(), sent, b"", str(error)))
            raise
        self.exchanges.append(Exchange(self.now(), sent, bytes(response)[:MAX_SIP]))
        return response

    async def contact_uri(self, target: Target) -> str:
        """As `EntryContext`."""
        return await self._entries.outside.contact_uri(self.entry.name, target)

    async def keep_alive(self, target: Target, interval: float) -> None:
        """As `EntryContext`."""
        await self._entries.outside.keep_alive(target, interval)

    def report(self, registration: Registration) -> None:
        """As `EntryContext`."""
        self._entries.look_again(self)
        if registration == self.registration:
            return
        was = self.registration is not None and self.registration.state == "registered"
        now = registration.state == "registered"
        self.registration = registration
        self._entries.changed(self.entry.name)
        if now is not was:
            self._entries.happened(
                self,
                "registered" if now else "registration_lost",
                status=registration.status,
                reason=registration.reason,
                expires_at=registration.expires_at,
            )

    def qualified(self, latency_ms: float | None) -> None:
        """As `EntryContext`."""
        was, self.reachable = self.reachable, latency_ms is not None
        self.latency_ms = None if latency_ms is None else round(latency_ms, 1)
        if was is not self.reachable:
            what: ConnectionEventKind = "reachable" if self.reachable else "unreachable"
            self.log.info(f"connection.{what}")
            self._entries.changed(self.entry.name)
            self._entries.happened(self, what)

    def raise_issue(self, issue_id: str, text: str, mend: str) -> None:
        """As `EntryContext`."""
        self._entries.issues.raise_issue(self.entry.name, issue_id, text, mend, self.now())

    def clear_issue(self, issue_id: str) -> None:
        """As `EntryContext`."""
        self._entries.issues.clear(self.entry.name, issue_id)

    def now(self) -> float:
        """As `EntryContext`."""
        return self._entries.outside.now()

    def random_token(self, octets: int = 12) -> str:
        """As `EntryContext`."""
        return self._entries.outside.random_token(octets)

    def become(self, state: State, reason: str = "", next_attempt: float | None = None) -> None:
        """Change state; `since` stays where only the words change."""
        was = self.state
        if state != was:
            self.since = self.now()
        self.state, self.reason, self.next_attempt = state, reason, next_attempt
        self.log.info("connection.state", state=state, reason=reason or None)
        self._entries.changed(self.entry.name)
        if state != was:
            self._entries.happened(self, "state_changed", was=was, reason=reason, next_attempt=next_attempt)
