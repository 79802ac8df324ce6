"""The core of the siperb gateway: what plugins import.

A plugin marks its hooks with `hookimpl` (they are specified in `hookspecs`) and implements the contracts named here.
The names in `__all__` are the public API, with those of `siperb_core.testing`; a module among them is public with what
it exports itself. Everything else may change without notice. A name is imported when it is asked for: a command that
has to be quick pays for what it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siperb_core import cli, hookspecs, routing, sip
    from siperb_core.additions import Command, ControlMethod, HttpRequest, HttpResponse, HttpRoute
    from siperb_core.calls.policy import MediaPolicy
    from siperb_core.control import ControlError
    from siperb_core.entries import fields, qualify
    from siperb_core.entries.contract import (
        Authenticates,
        Claim,
        ClaimsByName,
        Connection,
        ConnectionAuthFailed,
        ConnectionConfigError,
        ConnectionNotReady,
        ConnectionType,
        Credentials,
        EntryContext,
        GeneratesSettings,
        KnowsItsPeer,
        NoticesReturn,
        OutboundCall,
        OutboundLeg,
        Refusal,
        Registration,
        Source,
        Target,
        WayOut,
    )
    from siperb_core.entries.decisions import (
        AnswerWith,
        Audio,
        CallAttempt,
        CallGate,
        DialNumber,
        MediaEndpoint,
        RingUsers,
    )
    from siperb_core.entries.model import Device, Entry, GatewayConfig, GatewaySettings, Listen, Secret
    from siperb_core.entries.networks import allowed
    from siperb_core.entries.peer import PeerSettings, escape_user, with_port
    from siperb_core.events import CallEvent, ConnectionEvent, RegistrationEvent
    from siperb_core.hookspecs import hookimpl
    from siperb_core.media.contract import (
        AdjustsEffort,
        ExpectsLoss,
        MakesNoise,
        Recovers,
        Transcoder,
        TranscoderType,
    )
    from siperb_core.media.engine import EngineSession, MediaElsewhere, MediaEngine, MediaSettings
    from siperb_core.metrics import Histogram, Metric
    from siperb_core.routing import Explanation, Route
    from siperb_core.rtp import g711
    from siperb_core.rtp.events import Digit
    from siperb_core.sdp.plan import Codec
    from siperb_core.services import GatewayView, Service
    from siperb_core.store.contract import LocationStore, StoredBinding
    from siperb_core.transport.contract import Listener, Receiver, TlsOptions, TransportType

_HOMES = {
    "siperb_core.additions": ("Command", "ControlMethod", "HttpRequest", "HttpResponse", "HttpRoute"),
    "siperb_core.calls.policy": ("MediaPolicy",),
    "siperb_core.control": ("ControlError",),
    "siperb_core.entries.contract": (
        *("Authenticates", "Claim", "Connection", "ConnectionAuthFailed", "ConnectionConfigError"),
        *("ClaimsByName", "ConnectionNotReady", "ConnectionType", "Credentials", "EntryContext"),
        *("GeneratesSettings", "KnowsItsPeer", "NoticesReturn", "OutboundCall", "OutboundLeg"),
        *("Refusal", "Registration"),
        *("Source", "Target", "WayOut"),
    ),
    "siperb_core.entries.decisions": (
        *("AnswerWith", "Audio", "CallAttempt", "CallGate", "DialNumber", "MediaEndpoint", "RingUsers"),
    ),
    "siperb_core.entries.model": ("Device", "Entry", "GatewayConfig", "GatewaySettings", "Listen", "Secret"),
    "siperb_core.entries.networks": ("allowed",),
    "siperb_core.entries.peer": ("PeerSettings", "escape_user", "with_port"),
    "siperb_core.events": ("CallEvent", "ConnectionEvent", "RegistrationEvent"),
    "siperb_core.hookspecs": ("hookimpl",),
    "siperb_core.media.contract": (
        "AdjustsEffort",
        "ExpectsLoss",
        "MakesNoise",
        "Recovers",
        "Transcoder",
        "TranscoderType",
    ),
    "siperb_core.media.engine": ("EngineSession", "MediaElsewhere", "MediaEngine", "MediaSettings"),
    "siperb_core.metrics": ("Histogram", "Metric"),
    "siperb_core.routing": ("Explanation", "Route"),
    "siperb_core.rtp.events": ("Digit",),
    "siperb_core.sdp.plan": ("Codec",),
    "siperb_core.services": ("GatewayView", "Service"),
    "siperb_core.store.contract": ("LocationStore", "StoredBinding"),
    "siperb_core.transport.contract": ("Listener", "Receiver", "TlsOptions", "TransportType"),
}
_MODULES = {
    "cli": "siperb_core.cli",
    "fields": "siperb_core.entries.fields",
    "g711": "siperb_core.rtp.g711",
    "hookspecs": "siperb_core.hookspecs",
    "qualify": "siperb_core.entries.qualify",
    "routing": "siperb_core.routing",
    "sip": "siperb_core.sip",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_OLD: dict[str, tuple[str, str, str]] = {}
"""Old name: the name to use instead, the minor version it is deprecated since, the one it is gone in."""


def __getattr__(name: str) -> Any:
    if name in _OLD:
        from siperb_core.deprecation import Deprecation

        instead, since, gone = _OLD[name]
        Deprecation(f"siperb_core.{name}", f"siperb_core.{instead}", since, gone).warn()
        return getattr(import_module(__name__), instead)  # not kept: whoever asks again is warned again
    if name in _MODULES:
        value: Any = import_module(_MODULES[name])
    elif name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


__all__ = [
    "AdjustsEffort",
    "AnswerWith",
    "Audio",
    "Authenticates",
    "CallAttempt",
    "CallEvent",
    "CallGate",
    "Claim",
    "ClaimsByName",
    "Codec",
    "Command",
    "Connection",
    "ConnectionAuthFailed",
    "ConnectionConfigError",
    "ConnectionEvent",
    "ConnectionNotReady",
    "ConnectionType",
    "ControlError",
    "ControlMethod",
    "Credentials",
    "Device",
    "DialNumber",
    "Digit",
    "EngineSession",
    "Entry",
    "EntryContext",
    "ExpectsLoss",
    "Explanation",
    "GatewayConfig",
    "GatewaySettings",
    "GatewayView",
    "GeneratesSettings",
    "Histogram",
    "HttpRequest",
    "HttpResponse",
    "HttpRoute",
    "KnowsItsPeer",
    "Listen",
    "Listener",
    "LocationStore",
    "MakesNoise",
    "MediaElsewhere",
    "MediaEndpoint",
    "MediaEngine",
    "MediaPolicy",
    "MediaSettings",
    "Metric",
    "NoticesReturn",
    "OutboundCall",
    "OutboundLeg",
    "PeerSettings",
    "Receiver",
    "Recovers",
    "Refusal",
    "Registration",
    "RegistrationEvent",
    "RingUsers",
    "Route",
    "Secret",
    "Service",
    "Source",
    "StoredBinding",
    "Target",
    "TlsOptions",
    "Transcoder",
    "TranscoderType",
    "TransportType",
    "WayOut",
    "allowed",
    "cli",
    "escape_user",
    "fields",
    "g711",
    "hookimpl",
    "hookspecs",
    "qualify",
    "routing",
    "sip",
    "with_port",
]
