"""Connection type outbound_registration: the gateway registers to the PBX like a desk phone."""

from __future__ import annotations

from collections.abc import Sequence

from siperb_connection_outbound_reg.connection import OutboundRegistration, RegistrationSettings
from siperb_core import ConnectionType, hookimpl

__all__ = ["OutboundRegistration", "RegistrationSettings", "siperb_connection_types"]


@hookimpl
def siperb_connection_types() -> Sequence[ConnectionType]:
    """outbound_registration."""
    return [OutboundRegistration()]
