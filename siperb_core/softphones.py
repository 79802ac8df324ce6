"""Softphones: who they are, where they are, and whether they may.

A softphone REGISTERs over a WebSocket and is then known by that flow: requests on it count as that device's, and calls
to the device go out on it, since the Contact a browser writes cannot be reached in any other way (RFC 7118 section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import structlog

from siperb_core.entries.model import Device
from siperb_core.events import RegistrationEvent
from siperb_core.guard import Guard
from siperb_core.lockout import source_of
from siperb_core.signalling import Signalling
from siperb_core.sip import Flow, Message
from siperb_core.sip.digest import DigestServer
from siperb_core.sip.gruu import is_temporary, named_by, same_instance
from siperb_core.sip.registrar import Binding, BindingChange, Registrar
from siperb_core.sip.transaction import ServerTransaction
from siperb_core.store.contract import LocationStore

log = structlog.get_logger()

WEBSOCKET = frozenset({"ws", "wss"})
RETURN_SECONDS = 60.0
"""After the start softphones are expected back for so long."""


class SoftphoneHost(Protocol):
    """What softphones need of the gateway around them."""

    signalling: Signalling
    locations: LocationStore
    guard: Guard

    @property
    def domain(self) -> str:
        """The softphones' domain."""

    def device(self, name: str) -> Device | None:
        """The configured device of that name."""

    def device_secret(self, name: str) -> str | None:
        """Its password, from whichever plugin knows it."""

    def registration_event(self, event: RegistrationEvent) -> None:
        """Tell the plugins."""

    def now(self) -> float:
        """Seconds since the epoch."""


class Softphones:
    """Registrar and authenticator of the devices in the configuration."""

    def __init__(self, host: SoftphoneHost, digest: DigestServer, registrar: Registrar) -> None:
        self._host = host
        self._digest = digest
        self._registrar = registrar
        self._devices: dict[Flow, Device] = {}

    # ---- who sends this?

    def device_of(self, flow: Flow) -> Device | None:
        """The device whose REGISTER was authenticated on this flow, as long as the configuration has it like that."""
        known = self._devices.get(flow)
        if known is None:
            return None
        device = self._host.device(known.name)
        if device is None or device.password != known.password:
            # Taken out, or given another password: an open connection is no longer proof.
            del self._devices[flow]
            return None
        return device

    def flows(self) -> list[Flow]:
        """Every flow a device is known by."""
        return list(self._devices)

    def authenticated(self, transaction: ServerTransaction, request: Message) -> Device | None:
        """The device a request comes from; None when it was challenged or refused, and the answer has gone out."""
        device = self.device_of(transaction.flow) or self._by_digest(
            transaction, request, "Proxy-Authorization", 407, "Proxy-Authenticate"
        )
        if device is None:
            return None
        if request.from_.parsed_uri.user != device.name:
            self._host.signalling.refuse(transaction, 403, "From Is Not This Device")
            return None
        return device

    def _by_digest(
        self, transaction: ServerTransaction, request: Message, header: str, status: int, challenge: str
    ) -> Device | None:
        host = self._host
        now = host.now()
        source = source_of(transaction.flow.remote[0])
        stale = False
        for value in request.get_all(header):
            result = self._digest.verify(
                value, method=request.method, secret_of=host.device_secret, now=now, source=source
            )
            device = host.device(result.username) if result.ok else None
            if device is not None:
                host.guard.proved(transaction.flow, device.name)
                return device
            stale = stale or result.stale
            host.guard.refused(transaction.flow, result)
        headers = [(challenge, value) for value in self._digest.challenge(now, source=source, stale=stale)]
        host.signalling.challenge(transaction, status, headers)
        return None

    # ---- REGISTER

    def register(self, transaction: ServerTransaction, request: Message) -> None:
        """Answer a softphone's REGISTER: challenge it, bind its contact, and answer once the binding is on disk."""
        host = self._host
        device = self._by_digest(transaction, request, "Authorization", 401, "WWW-Authenticate")
        if device is None:
            return
        if request.to.parsed_uri.user != device.name:
            host.signalling.refuse(transaction, 403, "To Is Not This Device")
            return
        flow = transaction.flow
        result = self._registrar.register(request, device.name, flow, host.now(), host.domain)
        if result.response.status < 300:
            self._devices[flow] = device
        self._publish(result.changed, then=lambda: host.signalling.respond(transaction, result.response))

    def _publish(self, changes: list[BindingChange], then: Callable[[], None] | None = None) -> None:
        host = self._host
        last = changes[-1] if changes else None
        for change in changes:
            binding = change.binding
            key = _storable(f"{binding.instance};{binding.reg_id}" if binding.instance else binding.contact)
            # Writes are done in order: the last one on disk means all are. Where the disk has failed the answer goes
            # out all the same; the failure is logged.
            done = then if change is last else None
            failed = None if done is None else partial(_go_on, done)
            if change.what == "removed":
                host.locations.delete_binding(binding.aor, key, then=done, failed=failed)
            else:
                host.locations.put_binding(
                    binding.aor, key, _as_stored(binding), binding.expires_at, then=done, failed=failed
                )
            device = host.device(binding.aor)
            user = device.user if device else ""
            if change.what != "refreshed":
                log.info(f"registration.{change.what}", device=binding.aor, user=user)
            flow = binding.flow
            host.registration_event(
                RegistrationEvent(
                    change.what, host.now(), binding.aor, user, binding.contact, binding.expires_at, binding.user_agent,
                    flow.transport if flow else "", "{}:{}".format(*flow.remote) if flow else "",
                )
            )  # fmt: skip
        if then is not None and last is None:
            then()

    def flow_closed(self, flow: Flow) -> None:
        """A closed socket drops its bindings: nobody can be reached there any more."""
        self._devices.pop(flow, None)
        self._publish(self._registrar.drop_flow(flow))

    def expire(self) -> None:
        """Drop what has run out."""
        self._publish(self._registrar.expire(self._host.now()))

    def restore(self) -> None:
        """Know the bindings of before a restart; their flows are gone, and each phone that is back replaces its own."""
        stored = self._host.locations.load_bindings(self._host.now())
        self._registrar.restore(
            Binding(aor=item.aor, expires_at=item.expires, **{**item.data, "path": tuple(item.data["path"])})
            for item in stored
        )

    # ---- where is this device?

    def bindings(self, device: str) -> list[Binding]:
        """Contacts of a device that can be reached now."""
        return [binding for binding in self._registrar.bindings(device) if binding.flow is not None]

    @property
    def reachable(self) -> int:
        """How many contacts of all devices can be reached now."""
        return self._registrar.reachable

    def bindings_of(self, devices: Iterable[str]) -> list[Binding]:
        """Contacts of all these devices that can be reached now."""
        return [binding for device in devices for binding in self.bindings(device)]

    def expected_back(self, devices: Sequence[str], started_at: float) -> bool:
        """Whether none of these can be reached, but one was registered when the gateway went down, not long ago."""
        if self._host.now() - started_at > RETURN_SECONDS or self.bindings_of(devices):
            return False
        return any(self._registrar.bindings(device) for device in devices)

    def instance_named(self, uri: str) -> tuple[Device | None, list[Binding]] | None:
        """The device whose GRUU this is, None where there is none, and the contact that the instance is reached at now
        (RFC 5627 section 5.4), if any; None for a URI that is no GRUU of ours.
        """
        named = named_by(uri, self._host.domain)
        if named is None and is_temporary(uri, self._host.domain):
            binding = self._registrar.temporarily(uri, self._host.domain)
            if binding is None:
                return None, []
            named = binding.aor, binding.instance
        if named is None:
            return None
        name, instance = named
        device = self._host.device(name)
        if device is None:
            return None, []
        found = [binding for binding in self.bindings(name) if same_instance(binding.instance, instance)]
        # Over several flows (RFC 5626 section 6) it is one phone still, and rings once.
        return device, sorted(found, key=lambda binding: binding.registered_at)[-1:]

    def flow_of(self, device: str) -> Flow | None:
        """The flow of the device's newest binding."""
        bindings = self.bindings(device)
        return max(bindings, key=lambda binding: binding.registered_at).flow if bindings else None

    def as_json(self, devices: tuple[Device, ...]) -> list[dict[str, Any]]:
        """`siperb show registrations`."""
        now = self._host.now()
        return [
            {
                "device": device.name,
                "user": device.user,
                "contact": binding.contact,
                "transport": binding.flow.transport,
                "remote": "{}:{}".format(*binding.flow.remote),
                "user_agent": binding.user_agent,
                "instance": binding.instance,
                "expires_in": max(0, round(binding.expires_at - now)),
                "latency_ms": getattr(binding.flow, "latency_ms", None),
            }
            for device in devices
            for binding in self.bindings(device.name)
            if binding.flow is not None
        ]


def _go_on(then: Callable[[], None], error: Exception) -> None:
    then()


def _storable(text: str) -> str:
    """Text as the database takes it: octets that are not UTF-8, which are surrogates here, as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _as_stored(binding: Binding) -> dict[str, Any]:
    return {
        "contact": binding.contact,
        "instance": binding.instance,
        "reg_id": binding.reg_id,
        "call_id": binding.call_id,
        "cseq": binding.cseq,
        "user_agent": binding.user_agent,
        "path": list(binding.path),
        "registered_at": binding.registered_at,
        "since": binding.since,
    }
