"""Whose a flow is: what tells a call's far end from anybody else who has learnt its tags."""

from __future__ import annotations

from typing import Protocol

from siperb_core.entries import networks
from siperb_core.entries.lifecycle import Entries
from siperb_core.entries.model import GatewayConfig
from siperb_core.hops import Hops
from siperb_core.sip import Flow
from siperb_core.sip.dialog import Leg
from siperb_core.sip.gruu import same_instance
from siperb_core.softphones import WEBSOCKET, Softphones
from siperb_core.targets import Targets
from siperb_core.transport.address import literal


class SourcesHost(Protocol):
    """What is needed of the gateway around it."""

    config: GatewayConfig
    softphones: Softphones
    targets: Targets
    hops: Hops
    entries: Entries


class Sources:
    """Knows softphones by their device and instance, PBXs by their addresses."""

    def __init__(self, host: SourcesHost) -> None:
        self._host = host

    def leg_flow(self, leg: Leg) -> Flow | None:
        """The flow that reaches this leg now, None where there is none.

        A softphone's is its own or, once that is gone, the one the same instance has registered on: other instances of
        the device, another tab of the browser say, know nothing of the dialog.
        """
        if not leg.device:
            return self._host.targets.reopened(leg)
        if leg.flow is not None and self._host.softphones.device_of(leg.flow) is not None:
            return leg.flow
        if not leg.instance:
            return self._host.softphones.flow_of(leg.device)
        bindings = [
            binding
            for binding in self._host.softphones.bindings(leg.device)
            if same_instance(binding.instance, leg.instance)
        ]
        # Over several flows (RFC 5626 section 6) it is one phone still.
        return max(bindings, key=lambda binding: binding.registered_at).flow if bindings else None

    def any_flow(self, leg: Leg) -> Flow | None:
        """The flow to a leg's device, whichever of its instances is there."""
        return self._host.softphones.flow_of(leg.device) if leg.device else None

    def instance_on(self, flow: Flow) -> str:
        """The instance (RFC 5626 section 4.1) of the softphone that registered on a flow; '' where it has none."""
        device = self._host.softphones.device_of(flow)
        if device is None:
            return ""
        found = (binding.instance for binding in self._host.softphones.bindings(device.name) if binding.flow == flow)
        return next(found, "")

    def comes_from(self, flow: Flow, leg: Leg, connection: str) -> bool:
        """Whether what comes on a flow may come from this leg's far end.

        A softphone's comes on the leg's own flow, or on one its device has registered on. A PBX's comes from where the
        leg leads or says it is to be reached (Record-Route, Contact), or from wherever else the connection's PBX is, as
        its nodes take turns: an address in `allow_from`, one that the server's name stands for, one it has registered
        from.
        """
        if flow == leg.flow:
            return True
        websocket = flow.transport in WEBSOCKET
        if leg.device:
            device = self._host.softphones.device_of(flow) if websocket else None
            return device is not None and device.name == leg.device
        if websocket:
            return False
        host = flow.remote[0]
        known = leg.flow.remote[0] if leg.flow is not None else leg.address[1] if leg.address else ""
        return host == known or self._is_pbx(host, connection) or self._host.hops.leads_to(leg, host)

    def _is_pbx(self, host: str, connection: str) -> bool:
        loaded = self._host.entries.get(connection)
        # A call outlives its connection for as long as that takes to be loaded again.
        entry = self._host.config.connection(connection) if loaded is None else loaded.entry
        if entry is None:
            return False
        if networks.allowed(entry.allow_from, host) if loaded is None else loaded.is_at(host):
            return True
        server = getattr(getattr(entry.settings, "target", None), "host", "")
        return literal(host).compressed in self._host.targets.led_to(server)
