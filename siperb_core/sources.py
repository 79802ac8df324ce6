"""Whose a flow is: what tells a call's far end from anybody else who has learnt its tags."""

from __future__ import annotations

from typing import Protocol

from siperb_core.entries import networks
from siperb_core.entries.model import GatewayConfig
from siperb_core.sip import Flow
from siperb_core.sip.dialog import Leg
from siperb_core.sip.gruu import same_instance
from siperb_core.softphones import WEBSOCKET, Softphones
from siperb_core.targets import Targets


class SourcesHost(Protocol):
    """What is needed of the gateway around it."""

    config: GatewayConfig
    softphones: Softphones
    targets: Targets


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
        leg leads, from an address that requests of ours are sent to, or from one the connection's `allow_from` has: its
        nodes take turns.
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
        if host == known or self._host.targets.is_peer(flow):
            return True
        entry = self._host.config.connection(connection)
        return entry is not None and bool(entry.allow_from) and networks.allowed(entry.allow_from, host)
