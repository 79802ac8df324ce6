"""Connection type outbound_trunk: a static address with a mandatory allow list."""

from __future__ import annotations

from collections.abc import Sequence

from siperb_connection_trunk.trunk import OutboundTrunk, TrunkSettings
from siperb_core import ConnectionType, hookimpl

__all__ = ["OutboundTrunk", "TrunkSettings", "siperb_connection_types"]


@hookimpl
def siperb_connection_types() -> Sequence[ConnectionType]:
    """outbound_trunk."""
    return [OutboundTrunk()]
