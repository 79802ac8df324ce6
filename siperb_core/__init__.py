"""The core of the siperb gateway: what plugins import.

A plugin marks its hooks with `hookimpl` (they are specified in `hookspecs`) and implements the contracts below.
"""

from siperb_core import hookspecs
from siperb_core.entries.contract import (
    Claim,
    Connection,
    ConnectionAuthFailed,
    ConnectionConfigError,
    ConnectionNotReady,
    ConnectionType,
    Credentials,
    EntryContext,
    GeneratesSettings,
    OutboundCall,
    OutboundLeg,
    Refusal,
    Registration,
    Source,
    Target,
)
from siperb_core.hookspecs import hookimpl

__all__ = [
    "Claim",
    "Connection",
    "ConnectionAuthFailed",
    "ConnectionConfigError",
    "ConnectionNotReady",
    "ConnectionType",
    "Credentials",
    "EntryContext",
    "GeneratesSettings",
    "OutboundCall",
    "OutboundLeg",
    "Refusal",
    "Registration",
    "Source",
    "Target",
    "hookimpl",
    "hookspecs",
]
