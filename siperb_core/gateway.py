"""The gateway: puts the rooms together, starts and stops them."""

from __future__ import annotations

import hmac
import random
import secrets
import time
from base64 import b32encode
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import structlog
import trio

from siperb_core.admission import Admission
from siperb_core.calls import CallMedia, Calls
from siperb_core.calls.media import new_session_id, new_ssrc
from siperb_core.calls.policy import MediaPolicy
from siperb_core.calls.record import CallRecord
from siperb_core.choices import Choices
from siperb_core.defaults.devices import ConfiguredDevices
from siperb_core.defaults.records import KeptRecords
from siperb_core.defaults.returning import ReturningSoftphones
from siperb_core.entries.contract import ConnectionNotReady, Credentials, Target
from siperb_core.entries.lifecycle import Entries
from siperb_core.entries.live import ConnectionFault
from siperb_core.entries.loaded import LoadedConnections
from siperb_core.entries.model import Device, Entry, GatewayConfig, Listen
from siperb_core.entries.source import LoadResult, load
from siperb_core.errands import Errands, kept
from siperb_core.events import CallEvent, RegistrationEvent
from siperb_core.guard import Guard
from siperb_core.hops import Hops
from siperb_core.media.engine import MediaElsewhere, MediaEngine, MediaSettings
from siperb_core.operations import Operations
from siperb_core.plugins import Plugins, load_plugins
from siperb_core.routing import Explanation, Route
from siperb_core.sdp import Bridge, BridgeSettings
from siperb_core.sdp.crypto import new_keys
from siperb_core.sdp.settings import CLIENT_CODECS
from siperb_core.service_view import run_service
from siperb_core.signalling import Signalling
from siperb_core.sip import Flow, Message, ParseError
from siperb_core.sip.dialog import Leg
from siperb_core.sip.digest import DigestServer
from siperb_core.sip.registrar import Registrar
from siperb_core.softphones import Softphones
from siperb_core.sources import Sources
from siperb_core.store import Store
from siperb_core.store.contract import LocationStore
from siperb_core.targets import ASIDE_SECONDS, Targets, Ways, is_address
from siperb_core.transport.contract import Listener
from siperb_core.transport.resolver import Resolver
from siperb_core.upkeep import Upkeep
from siperb_core.watch import Watch

log = structlog.get_logger()


class ConfigurationError(Exception):
    """The file cannot be used; `result` has every mistake."""

    def __init__(self, result: LoadResult) -> None:
        super().__init__("the configuration cannot be used")
        self.result = result


class Gateway:
    """One running gateway. `run` is its whole life; `stop` ends it."""

    def __init__(self, config_path: Path) -> None:
        self.config_path = config_path
        self.config: GatewayConfig
        self.problems: frozenset[str] = frozenset()
        """Of the configuration in force."""
        self.domain = ""
        """The softphones' domain, and the digest realm."""
        self.plugins: Plugins
        self.store: Store
        self.targets: Targets
        self.signalling: Signalling
        self.softphones: Softphones
        self.calls: Calls
        self.entries: Entries
        self.media: MediaEngine
        self.locations: LocationStore
        self.choices: Choices
        self.listeners: dict[str, list[Listener]] = {}
        self.draining = False
        self.started_at = 0.0
        self.stopped = trio.Event()
        self._stopping = trio.Event()
        self._drain_scope = trio.CancelScope()
        self._changed = trio.Event()
        self._entries_scope = trio.CancelScope()
        self._entries_stopped = trio.Event()
        self._devices = ConfiguredDevices()
        self._returning: ReturningSoftphones
        self._nursery: trio.Nursery
        self._secret = b""

    # ---- life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop`. Started once every listener is bound; entries may still be setting up then.

        Raises ConfigurationError, and OSError where a port is taken.
        """
        self._read_configuration()
        settings = self.config.gateway
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        async with Store.open(settings.data_dir / "siperb.db") as self.store:
            self._prepare()
            async with self.media, trio.open_nursery() as self._nursery:
                nursery = self._nursery
                self.choices = Choices(self, nursery.start_soon)
                nursery.start_soon(self.signalling.run_timers)
                for listen in self.config.listen:
                    await self._listen(listen)
                await self._listen_beside()
                nursery.start_soon(self.upkeep.run)
                await nursery.start(self._run_entries)
                nursery.start_soon(self.watch.run)
                await nursery.start(self.operations.serve)
                for name, service in self.plugins.services():
                    await nursery.start(run_service, self, name, service)
                self.softphones.restore()
                for dialog in self.store.load_dialogs():
                    self.calls.restore(dialog.id, dialog.data)
                self.started_at = self.now()
                log.info("gateway.started", domain=settings.domain, plugins=len(self.plugins.infos))
                task_status.started()
                await self._stopping.wait()
                await self._drain()
                nursery.cancel_scope.cancel()
        log.info("gateway.stopped")
        self.stopped.set()

    def stop(self, drain_seconds: float | None = None) -> None:
        """Stop: refuse new calls, let running ones end for `drain_seconds` (default: the configuration's), then go."""
        seconds = self.config.gateway.drain_seconds if drain_seconds is None else drain_seconds
        self._drain_scope.deadline = trio.current_time() + seconds
        self.draining = True
        self._stopping.set()

    async def reload(self) -> LoadResult:
        """Read the file again and apply what changed. A file that cannot be used changes nothing."""
        result = load(self.config_path, self.plugins.connection_types, self.plugins.transports, self.plugins.settings)
        if result.config is not None:
            self.config = result.config
            self._devices.update(result.config.devices)
            self.problems = frozenset(map(str, result.problems))
            changes = await self.entries.reload(result.config.connections)
            self.upkeep.drain((*changes.removed, *changes.restarted))
            for name in changes.removed:
                self.store.delete_memory(f"entry:{name}")
            self.watch.look()
        return result

    async def wait_settled(self) -> None:
        """Wait until no entry is setting up any more."""
        while any(self.state_of(name) == "setting_up" for name in self.entries.names()):
            await self._changed.wait()

    def _entry_changed(self, name: str) -> None:
        entry = self.config.connection(name)
        if entry is not None and self.entries.get(name) is not None:
            for issue in self.entries.issues.all():
                if issue.id.startswith("emergency:") and entry.rings(issue.id.partition(":")[2]):
                    self.entries.issues.clear("", issue.id)
        self._changed.set()
        self._changed = trio.Event()

    async def _run_entries(self, *, task_status: trio.TaskStatus[None]) -> None:
        """In a scope of its own: when the gateway stops, entries un-register while everything else still works."""
        with self._entries_scope:
            await self.entries.run(self.config.connections, task_status=task_status)
        self._entries_stopped.set()

    def _read_configuration(self) -> None:
        first = load(self.config_path)
        if first.config is None:
            raise ConfigurationError(first)
        self._devices = ConfiguredDevices(first.config.devices)
        self._returning = ReturningSoftphones()
        own = {"devices": self._devices, "returning": self._returning}
        self.plugins = load_plugins(first.config.plugins.disable, own=own)
        result = load(self.config_path, self.plugins.connection_types, self.plugins.transports, self.plugins.settings)
        if result.config is None:
            raise ConfigurationError(result)
        for problem in (*result.problems, *result.warnings):
            log.warning("config.problem", path=problem.path, wrong=problem.wrong, mend=problem.mend)
        self.config = result.config
        self.problems = frozenset(map(str, result.problems))
        self.domain = result.config.gateway.domain

    def _prepare(self) -> None:
        config = self.config
        memory = kept(self.store, "gateway")
        if "secret" not in memory:
            memory["secret"] = secrets.token_hex(32)
        self._secret = bytes.fromhex(memory["secret"])
        # MD5 stands last: JsSIP and SIP.js know nothing else and keep only the last challenge, while who knows RFC 8760
        # takes the topmost (section 2.4).
        digest = DigestServer(config.gateway.domain, self._secret, algorithms=("SHA-256", "MD5"))
        self.signalling = Signalling()
        self.guard = Guard(self)
        self.signalling.ignores = self.guard.ignores
        self.locations = self.plugins.location_store(self.store)
        self.softphones = Softphones(self, digest, Registrar(gruu_key=self._secret))
        self._returning.expected = lambda devices: self.softphones.expected_back(devices, self.started_at)
        self.calls = Calls(self)
        # What PBXs get of these their entries say: SIPp and baresip 1.0 fail at a challenge other than MD5.
        pbx_digest = DigestServer(config.gateway.domain, self._secret, algorithms=("MD5", "SHA-256", "SHA-512-256"))
        self.signalling.user = Admission(self, self.softphones, self.calls, pbx_digest)
        self.resolver = Resolver(random.random)
        self.targets = Targets(self.resolver, self.listeners, self._listen)
        self.signalling.ways = self.targets
        self.hops = Hops(self, lambda task: self._nursery.start_soon(task))  # noqa: PLW0108 - the nursery comes later
        self.plugins.add_own("records", KeptRecords(self.store))
        self.sources = Sources(self)
        self.operations = Operations(self)
        self.errands = Errands(self)
        types, tell = self.plugins.connection_types, self.plugins.connection_event
        blame = partial(self.plugins.blame, "connection type")
        self.entries = Entries(types, self.errands, changed=self._entry_changed, tell=tell, blame=blame)
        self.watch = Watch(self)
        self.plugins.add_own("watch", self.watch)
        self.upkeep = Upkeep(self)
        transcoders = tuple(info.name for info in self.plugins.infos if info.gives_transcoders)
        media = config.media
        self.media = self.plugins.media_engine(
            MediaSettings(media.ports, media.workers or "auto", media.rtp_timeout, transcoders, media.opus_effort)
        )

    async def _listen(self, listen: Listen) -> Listener:
        transport = self.plugins.transports[listen.transport]
        external = self.config.gateway.external_address
        start = partial(
            transport.listen, listen, self.signalling, external_address=None if external == "auto" else external
        )
        listener: Listener = await self._nursery.start(start)
        self.listeners.setdefault(listen.transport, []).append(listener)
        log.info("listening", transport=listen.transport, address="{}:{}".format(*listener.local))
        return listener

    async def _listen_beside(self) -> None:
        """TCP on every port of UDP: what is too large for a datagram comes by TCP (RFC 3261 section 18.2.1)."""
        served = {listen.bind for listen in self.config.listen if listen.transport == "tcp"}
        for listen, listener in zip(
            [listen for listen in self.config.listen if listen.transport == "udp"],
            list(self.listeners.get("udp", ())),
            strict=True,
        ):
            if listen.bind not in served:
                try:
                    await self._listen(Listen("tcp", (listen.bind[0], listener.local[1])))
                except OSError as error:
                    log.warning("listen.no_tcp", address="{}:{}".format(*listener.local), reason=str(error))

    async def _drain(self) -> None:
        with self._drain_scope:
            await self.calls.wait_idle()
        for call in self.calls.active():
            call.end("gateway is stopping")
        self._entries_scope.cancel()
        await self.upkeep.send_softphones_away(at_once=self._drain_scope.cancelled_caught)
        await self._entries_stopped.wait()

    # ---- what calls need (siperb_core.calls.CallHost)

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def flows_to(self, target: Target, then: Callable[[Ways], None]) -> None:
        """Find the ways to a target: at once where it is an address or an open flow, else by asking DNS."""
        ways = self.targets.at_once(target)
        if ways is not None:
            then(ways)
            return

        async def look_up() -> None:
            try:
                ways = await self.targets.find(target)
            except ConnectionNotReady as error:
                log.warning("target.unreachable", host=target.host, reason=str(error))
                ways = Ways(())
            try:
                then(ways)
            except Exception:  # ours, in one call: nobody else is left to catch it, and all calls would end
                log.exception("call.not_dialled", host=target.host)

        self._nursery.start_soon(look_up)

    def put_aside(self, flow: Flow, seconds: float | None = None) -> None:
        """Leave out a destination for a while."""
        self.targets.put_aside(flow, ASIDE_SECONDS if seconds is None else seconds)

    def is_peer(self, flow: Flow) -> bool:
        """Whether requests of ours are sent there."""
        return self.targets.is_peer(flow)

    def tls_of(self, leg: Leg) -> tuple[str, str, bool] | None:
        """What is kept of a leg's TLS connection."""
        return self.targets.tls_of(leg)

    def credentials(self, connection: str) -> Credentials | None:
        """What a connection shows when its PBX challenges a request."""
        loaded = self.entries.get(connection)
        try:
            return None if loaded is None else loaded.credentials
        except ConnectionFault:
            return None

    def leg_flow(self, leg: Leg, connection: str) -> Flow | None:
        """The flow that reaches this leg now."""
        return self.sources.leg_flow(leg) if leg.device else self.hops.flow(leg, connection)

    def entry(self, connection: str) -> Entry | None:
        """The entry of a connection that is loaded, with what the names in its `allow_from` stand for now."""
        loaded = self.entries.get(connection)
        return None if loaded is None else loaded.entry

    def contact(self, token: str, flow: Flow) -> str:
        """Our Contact on a flow."""
        parameter = "" if flow.transport == "udp" else f";transport={flow.transport}"
        address = self.targets.address_on(flow) if self.config.gateway.external_address == "auto" else flow.sent_by
        return f"<sip:{token}@{address}{parameter}>"

    def open_media(self, entry: Entry, call_id: str, client: Flow, peer: Flow, policy: MediaPolicy) -> CallMedia | None:
        """Ports and a worker for a call between these flows."""
        session = self.media.open(
            call_id, client_v6=":" in _host_of(client.sent_by), peer_v6=":" in _host_of(peer.sent_by)
        )
        address, local, peer_address = _host_of(client.sent_by), client.local[0], _host_of(peer.sent_by)
        if isinstance(session, MediaElsewhere):
            address = local = session.client_address
            peer_address = session.peer_address
        settings = BridgeSettings(
            address=address,
            extra_addresses=(local,) if local != address and is_address(local) else (),
            peer_address=peer_address,
            peer_port=session.peer_port,
            peer_ssrc=new_ssrc(),
            fingerprint=self.media.fingerprint,
            peer_codecs=policy.codecs or entry.codecs,
            client_codecs=(*CLIENT_CODECS, *self.plugins.codecs),
            codec_policy=policy.codec_policy,
            transcodable=self.transcodable if policy.transcodes else frozenset(),
            session_id=new_session_id(),
            peer_keys=new_keys(secrets.token_bytes) if policy.srtp else (),
            peer_events=entry.dtmf in ("auto", "rfc4733"),
        )
        return CallMedia(
            Bridge(settings), session, policy=policy.why, dtmf=entry.dtmf, phone_dtmf=entry.phone_dtmf,
            blame=partial(self.plugins.blame, "transcoder"),
        )  # fmt: skip

    @property
    def transcodable(self) -> frozenset[tuple[str, str]]:
        """The pairs of codecs the installed transcoders bridge."""
        return frozenset().union(*(transcoder.pairs() for transcoder in self.plugins.transcoders))

    def save_dialog(self, token: str, data: dict[str, Any], then: Callable[[], None]) -> None:
        """Write a dialog; its 200 OK leaves when it is on disk, or when the disk has failed, which is logged."""
        self.store.put_dialog(token, data, self.now(), then=then, failed=lambda error: then())

    def forget_dialog(self, token: str) -> None:
        """Remove a dialog."""
        self.store.delete_dialog(token)

    def keep_record(self, record: CallRecord) -> None:
        """A call is over: its record is whole."""
        self.plugins.call_record(record.as_json(None))

    def announce(self, event: CallEvent) -> None:
        """Tell the plugins of a call."""
        self.plugins.call_event(event)

    # ---- what softphones and admission need

    def device(self, name: str) -> Device | None:
        """The configured device of that name."""
        return self.config.device(name)

    def device_secret(self, name: str) -> str | None:
        """Its password, from whichever plugin knows it."""
        return self.plugins.device_secret(name)

    def registration_event(self, event: RegistrationEvent) -> None:
        """Tell the plugins of a binding, and the calls that a softphone is back."""
        if event.what != "removed":
            # A binding of before a restart is refreshed by its phone, not added.
            self.calls.on_registered(event.device)
        self.plugins.registration_event(event)

    def loaded(self) -> LoadedConnections:
        """Connections that are loaded now."""
        return self.entries.loaded()

    def state_of(self, connection: str) -> str:
        """The state of an entry."""
        return str(self.entries.status(connection)["state"])

    def route(self, number: str, user: str, method: str) -> Explanation:
        """Which connection takes a softphone's request."""
        emergency = self.config.gateway.emergency
        return self.plugins.route(self._routes(), number, user, method, emergency=emergency)

    def sign(self, text: str) -> str:
        """Letters and digits that only this gateway can make out of a text: 100 bits out of its secret."""
        return b32encode(hmac.digest(self._secret, text.encode(), "sha256"))[:20].decode().lower()

    def _routes(self) -> list[Route]:
        """The connections as routing sees them, with what is known of them now."""
        routes = ((route, self.entries.down(route.connection)) for route in self.config.routes)
        return [attrs.evolve(route, down=down) if down else route for route, down in routes]

    @property
    def answers_strangers(self) -> bool:
        """Whether who is on no list is told so."""
        return self.config.gateway.strangers == "refuse"

    def is_known(self, flow: Flow, request: Message) -> bool:
        """Whether a request is a proven softphone's, or belongs to a dialog that is alive."""
        if self.softphones.device_of(flow) is not None:
            return True
        try:
            return bool(request.to_tag) and self.calls.find(request) is not None
        except ParseError:
            return False

    def emergency_failed(self, number: str, user: str) -> None:
        """Tell the administrator; taken back when a connection of the user's is loaded anew."""
        log.error("call.emergency_failed", number=number, user=user)
        text = f"{user} called {number}, and no connection took the call"
        mend = f"see to it that a connection of {user}'s can reach it: siperb route {number} --user {user}"
        self.entries.issues.raise_issue("", f"emergency:{user}", text, mend, self.now())


def _host_of(sent_by: str) -> str:
    host = sent_by.rpartition(":")[0] if not sent_by.endswith("]") else sent_by
    return host.strip("[]")
