"""Connection type inbound_registration: the PBX registers to the gateway with generated credentials."""

from __future__ import annotations

from collections.abc import Sequence

from siperb_connection_inbound_reg.connection import InboundRegistration, InboundSettings
from siperb_core import ConnectionType, hookimpl

__all__ = ["InboundRegistration", "InboundSettings", "siperb_connection_types"]


@hookimpl
def siperb_connection_types() -> Sequence[ConnectionType]:
    """inbound_registration."""
    return [InboundRegistration()]
