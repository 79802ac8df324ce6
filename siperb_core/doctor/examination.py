"""The whole examination: this machine, then every connection, several at a time, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from siperb_core.doctor import machine, peer
from siperb_core.doctor.calling import Way, check_call, trial_call
from siperb_core.doctor.finding import Finding, Notes
from siperb_core.doctor.our_end import OurEnd, open_our_end
from siperb_core.entries.contract import ConnectionNotReady, OutboundLeg, Refusal
from siperb_core.entries.lifecycle import Entries
from siperb_core.entries.live import ConnectionFault, LoadedConnection
from siperb_core.entries.model import Entry, GatewayConfig
from siperb_core.entries.peer import PeerSettings
from siperb_core.entries.source import LoadResult
from siperb_core.plugins import Plugins
from siperb_core.sip import ParseError
from siperb_core.transport.resolver import Resolver

AT_A_TIME = 8
"""Connections that are looked at side by side."""


@attrs.frozen
class Running:
    """What a running gateway has said of itself, by its control methods."""

    status: Mapping[str, Any]
    connections: tuple[Mapping[str, Any], ...] = ()
    issues: tuple[Mapping[str, Any], ...] = ()
    memories: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    """Of connections whose PBX registers: where it is, by connection."""

    @property
    def listening(self) -> list[str]:
        """`transport address:port` of each listener."""
        return [f"{item['transport']} {item['address']}" for item in self.status.get("listeners", ())]


@attrs.frozen
class Examination:
    """What is looked at: a configuration, and the gateway that runs with it, if one does."""

    result: LoadResult
    config: GatewayConfig
    path: Path
    plugins: Plugins
    running: Running | None = None
    resolver: Resolver | None = None

    async def examine(self, connection: str | None = None, number: str | None = None) -> list[Finding]:
        """Look at everything, or at this machine and one connection; `number` is called over each.

        Raises OSError where not even a socket can be had.
        """
        async with open_our_end(self.config, self.plugins, resolver=self.resolver) as end:
            here = Notes()
            await trio.to_thread.run_sync(self._machine, here, end.now())
            entries = Entries(self.plugins.connection_types, end)
            wanted = [entry for entry in self.config.connections if connection in (None, entry.name)]
            notes = [Notes(entry.name) for entry in wanted]
            limit = trio.CapacityLimiter(AT_A_TIME)

            async def one(note: Notes, entry: Entry) -> None:
                async with limit:
                    try:
                        await self._connection(note, end, entries, entry, number)
                    except Exception as error:  # a plugin's settings, or ours: it costs this connection's report only
                        text = f"the doctor himself fell ill: {type(error).__name__}: {error}"
                        note.wrong("doctor", text[:300], "report it, with siperb diagnostics of this connection")

            async with trio.open_nursery() as nursery:
                for note, entry in zip(notes, wanted, strict=True):
                    nursery.start_soon(one, note, entry)
        return [finding for note in (here, *notes) for finding in note.findings]

    def _machine(self, notes: Notes, now: float) -> None:
        running = self.running
        machine.check_configuration(notes, self.result)
        if running is None:
            notes.skipped(
                "gateway", "none is running with this configuration: states and issues are unknown", "siperb run"
            )
        else:
            notes.ok("gateway", f"version {running.status.get('version')} is running")
        machine.check_files(notes, self.config, self.path)
        machine.check_ports(notes, self.config, None if running is None else running.listening)
        machine.check_certificates(notes, self.config, now)
        machine.check_plugins(notes, self.plugins.infos)
        machine.check_issues(notes, () if running is None else running.issues, "")

    async def _connection(self, notes: Notes, end: OurEnd, entries: Entries, entry: Entry, number: str | None) -> None:
        if not self._settings(notes, entry):
            return
        self._state(notes, entry)
        settings = entry.settings
        if isinstance(settings, PeerSettings):
            await self._peer(notes, end, entries, entry, settings, number)
        else:
            if entry.type != "inbound_registration":
                await peer.check_authentication(notes, end, entries, entry)
            if number is not None:
                await self._call_registered(notes, end, entry, number)
        machine.check_issues(notes, () if self.running is None else self.running.issues, entry.name)

    def _settings(self, notes: Notes, entry: Entry) -> bool:
        """Whether there is anything to look at."""
        problems = [problem for problem in self.result.problems if problem.connection == entry.name]
        for problem in problems:
            notes.wrong("configuration", f"{problem.path}: {problem.wrong}", problem.mend)
        if not problems and not entry.enabled:
            notes.skipped("state", "is disabled", f"siperb connection enable {entry.name}")
        return not problems and entry.enabled

    def _state(self, notes: Notes, entry: Entry) -> None:
        """What the running gateway has of this connection."""
        rows: Iterable[Mapping[str, Any]] = () if self.running is None else self.running.connections
        row = next((row for row in rows if row.get("name") == entry.name), None)
        if self.running is None:
            notes.skipped("state", "only a running gateway knows it", "siperb run")
        elif row is None:
            notes.wrong("state", "the running gateway does not know this connection", "siperb reload")
        elif row.get("state") != "loaded":
            why = f": {row['reason']}" if row.get("reason") else ""
            notes.wrong("state", f"{row.get('state')}{why}", f"see below; then siperb connection reload {entry.name}")
        else:
            self._registration(notes, row)

    def _registration(self, notes: Notes, row: Mapping[str, Any]) -> None:
        registration = row.get("registration")
        state = registration.get("state") if isinstance(registration, Mapping) else None
        if state in (None, "registered"):
            notes.ok("state", "loaded" if state is None else "loaded, registered")
        else:
            mend = "let the PBX register: siperb show connections tells when it has"
            if row.get("type") != "inbound_registration":
                mend = f"see below; then siperb connection reload {row.get('name')}"
            why = registration.get("reason") if isinstance(registration, Mapping) else ""
            notes.wrong("state", f"loaded, but {state}" + (f": {why}" if why else ""), mend)

    async def _peer(
        self, notes: Notes, end: OurEnd, entries: Entries, entry: Entry, settings: PeerSettings, number: str | None
    ) -> None:
        target = settings.target
        destinations = await peer.check_dns(notes, end, target)
        if not destinations or not await peer.check_connection(notes, target, destinations, end.now()):
            return
        before = len(end.heard)
        try:
            response = await peer.check_options(notes, end, settings)
        except ConnectionNotReady as error:
            notes.wrong("options", str(error), "look at the lines above")
            return
        if response is None:
            return
        flow, via = next((flow, via) for heard, flow, via in end.heard[before:] if heard is response)
        await peer.check_authentication(notes, end, entries, entry)
        peer.check_nat(notes, end, flow, via)
        peer.check_clock(
            notes, [heard for heard, used, _ in end.heard[before:] if used.remote == flow.remote], end.now()
        )
        if number is None:
            peer.check_offered(notes, entry, response)
        else:
            try:
                leg = settings.outbound_leg(trial_call(entry, number, settings.username))
            except (ParseError, ValueError) as error:
                notes.wrong("call", f"{number} cannot be called: {error}", "look at the lines above")
                return
            await check_call(notes, end, entry, Way(leg, settings.credentials), number, media=self._ports)

    @property
    def _ports(self) -> range:
        first, last = self.config.media.ports
        return range(first, last + 1)

    async def _call_registered(self, notes: Notes, end: OurEnd, entry: Entry, number: str) -> None:
        """Call the contact a PBX has registered: the connection type itself says how, by the gateway's memory of it."""
        memory = None if self.running is None else self.running.memories.get(entry.name)
        if memory is None:
            text = "where this PBX is only the running gateway knows, once it has registered"
            notes.skipped("call", text, "siperb run, and wait until the PBX has registered")
            return
        end.memories[entry.name] = dict(memory)
        settled = trio.Event()
        entries = Entries(self.plugins.connection_types, end, changed=lambda name: settled.set())
        async with trio.open_nursery() as nursery:
            await nursery.start(entries.run, [entry])
            loaded = None
            with trio.move_on_after(5):
                while (loaded := entries.get(entry.name)) is None:
                    await settled.wait()
                    settled = trio.Event()
            if loaded is None:
                notes.wrong("call", f"it cannot be set up here: {entries.status(entry.name)['reason']}", "siperb check")
            else:
                await self._call_through(notes, end, loaded, number)
            nursery.cancel_scope.cancel()

    async def _call_through(self, notes: Notes, end: OurEnd, loaded: LoadedConnection, number: str) -> None:
        entry = loaded.entry
        try:
            leg = loaded.outbound_leg(trial_call(entry, number))
            credentials = loaded.credentials
        except (ConnectionFault, ParseError) as error:
            notes.wrong("call", f"{entry.type} cannot say how to call: {error}", "report it to the plugin's author")
            return
        if isinstance(leg, Refusal):
            notes.wrong("call", f"{number} cannot be called: {leg.reason}", "let the PBX register")
        elif not isinstance(leg, OutboundLeg):
            notes.skipped("call", f"{entry.type} answers this number without a PBX")
        else:
            unheard = "behind a NAT only the gateway's own socket reaches this PBX"
            await check_call(notes, end, entry, Way(leg, credentials, unheard), number, media=self._ports)
