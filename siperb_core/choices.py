"""What plugins have a say in while a call comes about: gates, who rings, who answers, what becomes of its media."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from siperb_core.answering import Answering
from siperb_core.calls.policy import MediaDecision, media_policy
from siperb_core.entries.contract import Refusal
from siperb_core.entries.decisions import CallAttempt, MediaEndpoint
from siperb_core.entries.live import LoadedConnection
from siperb_core.entries.loaded import LoadedConnections
from siperb_core.entries.model import Device, Entry
from siperb_core.gates import Gates
from siperb_core.plugins import Plugins
from siperb_core.routing import Explanation
from siperb_core.signalling import Signalling
from siperb_core.sip import Flow
from siperb_core.sip.registrar import Binding
from siperb_core.softphones import Softphones


class ChoicesHost(Protocol):
    """What is needed of the gateway around."""

    plugins: Plugins
    signalling: Signalling
    softphones: Softphones

    def loaded(self) -> LoadedConnections:
        """Connections that are loaded now."""

    def route(self, number: str, user: str, method: str) -> Explanation:
        """Which connection takes a softphone's request."""


class Choices:
    """Asks the plugins, as `siperb_core.calls.host.Choices` and `siperb_core.admission.RingChoice`. `spawn` runs a task
    as long as the gateway runs.
    """

    def __init__(self, host: ChoicesHost, spawn: Callable[..., None]) -> None:
        self._host = host
        self._gates = Gates(host.plugins.gates(), host.plugins.fault, spawn, host.plugins.is_on)
        self._answering = Answering(host.signalling.received, spawn)

    def admit(self, call: CallAttempt, then: Callable[[Refusal | None], None]) -> None:
        """Ask the gates, and call `then` with a refusal or None: at once where none is concerned."""
        self._gates.admit(call, then)

    def devices(self, call: CallAttempt) -> Sequence[Device] | Refusal:
        """The softphones that are to ring for a call."""
        return self._host.plugins.ring(call)

    def ring(self, call: CallAttempt) -> Sequence[Binding] | Refusal:
        """Where the softphones that are to ring for a call can be reached now."""
        devices = self.devices(call)
        if isinstance(devices, Refusal):
            return devices
        return self._host.softphones.bindings_of(device.name for device in devices)

    def connections(self, number: str, user: str, method: str) -> list[LoadedConnection]:
        """The connections that may take a softphone's call, in order."""
        found = map(self._host.loaded().named, self._host.route(number, user, method).order)
        return [loaded for loaded in found if loaded is not None]

    def answer(self, connection: str, endpoint: MediaEndpoint, fault: Callable[[str], None]) -> Flow | None:
        """The flow to a peer in this process that answers with this endpoint; None where there are too many."""
        return self._answering.flow(connection, endpoint, fault)

    def media_policy(self, entry: Entry, transport: str, peer_offer: bytes, call: CallAttempt) -> MediaDecision:
        """What is done with a call's media. Raises `SdpError` 488 where they cannot be secured as they should."""
        found = self._host.plugins.media_policy(entry, transport, peer_offer, call)
        return media_policy(entry, transport, peer_offer) if found is None else found
