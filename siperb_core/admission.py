"""Who may send what: every request from outside a dialog is brought to whoever it belongs to, or refused.

Softphones come over WebSocket and prove who they are by digest; PBXs come over UDP, TCP or TLS and are claimed by a
connection. What nobody claims goes nowhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol

import structlog

from siperb_core.calls import Calls
from siperb_core.calls.destinations import Instance
from siperb_core.calls.record import dialled_number
from siperb_core.entries import networks
from siperb_core.entries.contract import Claim, Credentials, Refusal, Source
from siperb_core.entries.decisions import CallAttempt
from siperb_core.entries.live import ConnectionFault, LoadedConnection
from siperb_core.entries.loaded import LoadedConnections
from siperb_core.entries.model import Device, Entry
from siperb_core.guard import Guard, name_shown
from siperb_core.lockout import source_of
from siperb_core.routing import Explanation, rung_users
from siperb_core.signalling import Signalling
from siperb_core.sip import Flow, Message, ParseError, response_to
from siperb_core.sip.digest import DigestServer, by_strength
from siperb_core.sip.registrar import Binding
from siperb_core.sip.transaction import ServerTransaction
from siperb_core.softphones import WEBSOCKET, Softphones
from siperb_core.sources import Sources
from siperb_core.store import Store
from siperb_core.transport.contract import vouch

log = structlog.get_logger()

ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, MESSAGE, REFER, SUBSCRIBE, NOTIFY, PUBLISH, REGISTER"

SUPPORTED = ("outbound", "path", "gruu")
"""Extensions the gateway itself has a part in; all others pass."""


class RingChoice(Protocol):
    """Who rings, as plugins have it (`siperb_core.choices`)."""

    def devices(self, call: CallAttempt) -> Sequence[Device] | Refusal:
        """The softphones that are to ring for a call."""


class AdmissionHost(Protocol):
    """What admission needs of the gateway around it."""

    signalling: Signalling
    store: Store
    guard: Guard
    sources: Sources
    draining: bool

    @property
    def choices(self) -> RingChoice:
        """Who rings."""

    def loaded(self) -> LoadedConnections:
        """Connections that are loaded now."""

    def state_of(self, connection: str) -> str:
        """The state of an entry."""

    def route(self, number: str, user: str, method: str) -> Explanation:
        """Which connection takes a softphone's request."""

    @property
    def answers_strangers(self) -> bool:
        """Whether who is on no list is told so; else nothing is."""

    def is_peer(self, flow: Flow) -> bool:
        """Whether requests of ours are sent to the other end of this flow by our own choice."""

    def sign(self, text: str) -> str:
        """Letters and digits that only this gateway can make out of a text."""

    def emergency_failed(self, number: str, user: str) -> None:
        """An emergency call of this user could be made through no connection."""

    def now(self) -> float:
        """Seconds since the epoch."""


class Admission:
    """The user of the transaction layer (`siperb_core.signalling.RequestUser`)."""

    def __init__(self, host: AdmissionHost, softphones: Softphones, calls: Calls, digest: DigestServer) -> None:
        self._host = host
        self._softphones = softphones
        self._calls = calls
        self._digest = digest
        host.signalling.known = self.knows

    def knows(self, flow: Flow) -> bool:
        """Whether who has connected is a PBX's address: in some `allow_from`, or one that we send requests to. A
        softphone has to sign in, wherever it is.
        """
        if flow.transport in WEBSOCKET:
            return False
        host = flow.remote[0]
        return self._host.loaded().listing(host) or self._host.is_peer(flow)

    def on_request(self, transaction: ServerTransaction, request: Message) -> None:
        """A new request."""
        try:
            self._admit(transaction, request)
        except ParseError as error:
            self._host.signalling.refuse(transaction, error.status, error.reason)

    def on_ack(self, request: Message, flow: Flow) -> None:
        """The ACK of a 2xx finds its dialog or is dropped: it is never answered."""
        try:
            self._calls.on_ack(request, flow)
        except ParseError as error:
            log.debug("sip.bad_ack", source=flow.remote[0], reason=error.reason)

    def on_stray_response(self, response: Message, flow: Flow) -> None:
        """A 2xx whose transaction is gone: whoever gave it waits for an ACK."""
        try:
            self._calls.strays.on_response(response, flow)
        except ParseError as error:
            log.debug("sip.bad_response", source=flow.remote[0], reason=error.reason)

    def on_flow_closed(self, flow: Flow, reason: str) -> None:
        """A softphone or a PBX's connection is gone."""
        if flow.transport in WEBSOCKET:
            log.debug("flow.closed", remote=flow.remote[0], reason=reason)
            self._softphones.flow_closed(flow)

    def _admit(self, transaction: ServerTransaction, request: Message) -> None:
        websocket = transaction.flow.transport in WEBSOCKET
        if request.method == "REGISTER":
            if websocket:
                self._softphones.register(transaction, request)
            else:
                self._from_pbx(transaction, request)
        elif request.to_tag:
            if not websocket:
                self._in_dialog(transaction, request)
                return
            device = self._softphones.authenticated(transaction, request)
            if device is not None and not self._calls.on_request(transaction, request, device=device.name):
                self._host.signalling.refuse(transaction, 481)
        elif self._host.draining and request.method == "INVITE":
            self._host.signalling.refuse(transaction, 503, "Gateway Is Stopping", retry_after="30")
        elif websocket:
            self._from_softphone(transaction, request)
        else:
            self._from_pbx(transaction, request)

    def _from_softphone(self, transaction: ServerTransaction, request: Message) -> None:
        """A softphone's request: through a connection, by its number.

        Another softphone's GRUU is no way around the PBX, which decides who may call whom: it may be called as part of
        a transfer, where a live call of the one or the other has named it, and by who could call its user by name
        without a PBX.
        """
        host = self._host
        device = self._softphones.authenticated(transaction, request)
        if device is None:
            return
        named = self._softphones.instance_named(request.uri)
        if named is not None:
            self._to_instance(transaction, request, device, named[0])
            return
        number = dialled_number(request)
        if not number:
            self._answer_for_gateway(transaction, request)
            return
        explanation = host.route(number, device.user, request.method)
        if explanation.taken is None and not explanation.emergency:
            log.info("route.none", number=number, user=device.user, call_id=request.call_id)
            host.signalling.refuse(transaction, 404, "No Connection Takes This Number")
            return
        candidates = self._candidates(explanation, request)
        if not candidates and explanation.emergency:
            host.emergency_failed(number, device.user)
            host.signalling.refuse(transaction, 503, "No Connection Is Up For Emergency Calls")
            return
        if not candidates:
            host.signalling.refuse(transaction, 503, "Connection Not Available")
            return
        self._calls.outbound(
            transaction, candidates, user=device.user, device=device.name, emergency=explanation.emergency
        )

    def _candidates(self, explanation: Explanation, request: Message) -> list[LoadedConnection]:
        """The connections that may take a request, in order, as far as they are loaded."""
        host = self._host
        loaded = host.loaded()
        found = []
        for name in explanation.order:
            connection = loaded.named(name)
            if connection is not None:
                found.append(connection)
            elif name == explanation.taken:
                log.warning("route.not_loaded", connection=name, state=host.state_of(name), call_id=request.call_id)
        return found

    def _to_instance(
        self, transaction: ServerTransaction, request: Message, device: Device, called: Device | None
    ) -> None:
        """A softphone's request for the one instance that a GRUU names."""
        host = self._host

        def reach() -> Sequence[Binding]:
            named = self._softphones.instance_named(request.uri)
            return () if named is None else named[1]

        if called is not None and self._calls.is_transfer(request, device.name, called.name):
            self._calls.inbound(transaction, None, reach, called.user, device=device.name, rings=(called.name,))
            return
        explanation = None if called is None else host.route(called.user, device.user, request.method)
        candidates = [] if explanation is None or explanation.emergency else self._candidates(explanation, request)
        if called is None or not candidates:
            host.signalling.refuse(transaction, 404)
            return
        instance = Instance(called.user, reach)
        self._calls.outbound(transaction, candidates, user=device.user, device=device.name, instance=instance)

    def _from_pbx(self, transaction: ServerTransaction, request: Message) -> None:
        host = self._host
        flow = transaction.flow
        source = Source(*flow.remote, flow.transport, flow)
        found = self._claimant(request, source)
        if found is None:
            host.guard.stranger(source.host, request.method)
            self._refuse_stranger(transaction, request, source)
            return
        connection, claim = found
        entry = connection.entry
        if claim.authenticate is not None and not self._proven(
            transaction, request, claim.authenticate, entry.algorithms
        ):
            return
        vouch(flow)
        try:
            answer = connection.answer(request, source)
        except ConnectionFault:
            host.signalling.refuse(transaction, 500)
            return
        if answer is not None:
            # What the answer promises is in the entry's memory: it has to be on disk first. Where the disk has failed
            # the answer goes out all the same: a PBX that gets none cannot be called, nor call.
            def respond(failure: Exception | None = None) -> None:
                host.signalling.respond(transaction, answer)

            host.store.write([], respond, respond)
        elif request.method in ("OPTIONS", "REGISTER"):
            self._answer_for_gateway(transaction, request)
        else:
            self._ring(transaction, request, entry, claim.number)

    def _ring(self, transaction: ServerTransaction, request: Message, entry: Entry, number: str) -> None:
        """A PBX's request: to the instance its GRUU names, else to everybody who rings for the number."""
        host = self._host
        named = self._softphones.instance_named(request.uri)
        if named is not None:
            called, bindings = named
            if called is None or not _serves(entry, called.user):
                host.signalling.refuse(transaction, 404)
                return
            self._calls.inbound(transaction, entry, lambda: bindings, called.user, rings=(called.name,))
            return
        devices = host.choices.devices(
            CallAttempt(
                call_id=request.call_id, direction="inbound", method=request.method, number=number,
                caller=request.from_.uri, request=request, connection=entry.name,
                users=rung_users(entry.did, number, entry.users),
            )
        )  # fmt: skip
        if isinstance(devices, Refusal):
            host.signalling.refuse(transaction, devices.status, devices.reason)
            return
        user = next(iter({device.user for device in devices}), "")
        names = [device.name for device in devices]
        self._calls.inbound(transaction, entry, lambda: self._softphones.bindings_of(names), user, rings=names)

    def _claimant(self, request: Message, source: Source) -> tuple[LoadedConnection, Claim] | None:
        for connection in self._host.loaded().asked(request, source):
            try:
                claim = connection.claims(request, source)
            except (ParseError, ConnectionFault):
                continue  # nobody's, then
            if claim is not None and allowed(connection.entry, source):
                return connection, claim
        return None

    def _refuse_stranger(self, transaction: ServerTransaction, request: Message, source: Source) -> None:
        """The same answer to everything nobody claims: where some PBX would be challenged everyone is, so that nobody
        learns which names exist.
        """
        host = self._host
        loaded = host.loaded()
        listed = loaded.listing(source.host)
        if not listed and loaded.algorithms:
            self._proven(transaction, request, None)
        elif listed or host.answers_strangers:
            host.signalling.refuse(transaction, 403)
        else:
            host.signalling.drop(transaction)

    def _in_dialog(self, transaction: ServerTransaction, request: Message) -> None:
        """A PBX's request inside a dialog. Token and tags are known to the call's parties, and to whoever has seen
        their messages: so it has to come from its PBX, too, or to be proved.
        """
        host = self._host
        flow = transaction.flow
        asker = self._calls.asker(request)
        if asker is not None and not asker[0].device and not host.sources.comes_from(flow, *asker):
            source = Source(*flow.remote, flow.transport, flow)
            found = self._claimant(request, source)
            if found is None or found[0].entry.name != asker[1]:
                host.guard.stranger(source.host, request.method)
                if host.answers_strangers or self.knows(flow):
                    host.signalling.refuse(transaction, 403)
                else:
                    host.signalling.drop(transaction)
                return
            connection, claim = found
            if claim.authenticate is not None and not self._proven(
                transaction, request, claim.authenticate, connection.entry.algorithms
            ):
                return
        if not self._calls.on_request(transaction, request, device=""):
            self._refuse_lost(transaction, request)
        elif flow.reliable:
            vouch(flow)

    def _refuse_lost(self, transaction: ServerTransaction, request: Message) -> None:
        """A request that belongs to no dialog: a PBX is told so, and strangers where they are told anything."""
        host = self._host
        flow = transaction.flow
        source = Source(*flow.remote, flow.transport, flow)
        if not (host.answers_strangers or self.knows(flow)):
            found = self._claimant(request, source)
            if found is None or found[1].authenticate is not None:  # who would have to be challenged is nobody's yet
                host.guard.stranger(source.host, request.method)
                host.signalling.drop(transaction)
                return
        host.signalling.refuse(transaction, 481)

    def _proven(
        self,
        transaction: ServerTransaction,
        request: Message,
        credentials: Credentials | None,
        algorithms: Sequence[str] = (),
    ) -> bool:
        """Check a PBX's digest answer, or challenge it; without credentials nothing is right."""
        host = self._host
        name = name_shown(request)
        if credentials is None or name != credentials.username:
            algorithms = self._pretended(name)
        algorithms = by_strength(algorithms)
        now = host.now()
        source = source_of(transaction.flow.remote[0])
        stale = False
        for value in request.get_all("Authorization"):
            result = self._digest.verify(
                value,
                method=request.method,
                secret_of=lambda name: credentials.password if credentials and name == credentials.username else None,
                now=now,
                source=source,
                algorithms=algorithms,
            )
            if result.ok:
                host.guard.proved(transaction.flow, result.username)
                return True
            stale = stale or result.stale
            host.guard.refused(transaction.flow, result)
        challenges = self._digest.challenge(now, source=source, stale=stale, algorithms=algorithms)
        headers = [("WWW-Authenticate", value) for value in challenges]
        host.signalling.challenge(transaction, 401, headers)
        return False

    def _pretended(self, name: str) -> tuple[str, ...]:
        """The algorithms a name that nobody has is asked for: one of the sets in use, the same one each time, so that
        no challenge tells which names exist.
        """
        host = self._host
        used = sorted({by_strength(algorithms) for algorithms in host.loaded().algorithms})
        if len(used) < 2:
            return used[0] if used else ("MD5",)
        return used[sum(host.sign(f"algorithms:{name}").encode()) % len(used)]

    def _answer_for_gateway(self, transaction: ServerTransaction, request: Message) -> None:
        """Requests to the gateway itself: OPTIONS says what passes (RFC 3261 section 11.2), all else is not for it."""
        if request.method != "OPTIONS":
            self._host.signalling.refuse(transaction, 405 if request.method != "INVITE" else 404, allow=ALLOW)
            return
        unknown = [tag for tag in request.values("Require") if tag.lower() not in SUPPORTED]
        if unknown:  # section 8.2.2.3: of others' requests this is for their addressee to judge
            self._host.signalling.refuse(transaction, 420, unsupported=", ".join(unknown))
            return
        headers = [("Allow", ALLOW), ("Accept", "application/sdp"), ("Supported", ", ".join(SUPPORTED))]
        response = response_to(request, 200, "OK", to_tag=secrets.token_hex(5), headers=headers)
        self._host.signalling.respond(transaction, response)


def _serves(entry: Entry, user: str) -> bool:
    return "*" in entry.users or user in entry.users


def allowed(entry: Entry, source: Source) -> bool:
    """Whether `allow_from` lets this source in; an empty list leaves it to the connection's own proof."""
    if not entry.allow_from and not entry.allow_names:
        return True
    return networks.allowed(entry.allow_from, source.host)


__all__ = ["Admission", "AdmissionHost", "allowed"]
