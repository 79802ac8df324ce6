"""For the tests of plugins, shipped with the core: fixtures, fakes, peers, strategies and conformance suites.

The pytest plugin `siperb` (fixtures `gateway`, `softphone`, `pbx`, `entry`) is loaded by pytest by itself. The names
in `__all__` are public; each is imported when it is asked for. Needs the extra `siperb-core[test]`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siperb_core.entries.foreign import read_foreign
    from siperb_core.testing import strategies, tones
    from siperb_core.testing.conformance import check_connection_type
    from siperb_core.testing.conformance_purity import NotConformant
    from siperb_core.testing.conformance_transcoder import check_transcoder, opus_duration
    from siperb_core.testing.conformance_transport import (
        TransportPeer,
        check_transport,
        datagram_peer,
        stream_peer,
        tls_peer,
        websocket_peer,
    )
    from siperb_core.testing.fakes import LOST, Answer, FakeEntry, FakePbx, NoFlow, settings_of
    from siperb_core.testing.gateway import open_gateway, websocket_url
    from siperb_core.testing.pbx import Pbx, PbxCall, PbxSettings, open_pbx
    from siperb_core.testing.softphone import PhoneCall, Softphone, open_softphone

_HOMES = {
    "conformance": ("check_connection_type",),
    "conformance_purity": ("NotConformant",),
    "conformance_transcoder": ("check_transcoder", "opus_duration"),
    "conformance_transport": (
        *("TransportPeer", "check_transport", "datagram_peer", "stream_peer", "tls_peer", "websocket_peer"),
    ),
    "fakes": ("LOST", "Answer", "FakeEntry", "FakePbx", "NoFlow", "settings_of"),
    "gateway": ("open_gateway", "websocket_url"),
    "pbx": ("Pbx", "PbxCall", "PbxSettings", "open_pbx"),
    "siperb_core.entries.foreign": ("read_foreign",),
    "softphone": ("PhoneCall", "Softphone", "open_softphone"),
}
_MODULES = ("strategies", "tones")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = import_module(f"{__name__}.{name}")
    elif name in _HOME_OF:
        home = _HOME_OF[name]
        value = getattr(import_module(home if "." in home else f"{__name__}.{home}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


__all__ = [
    "LOST",
    "Answer",
    "FakeEntry",
    "FakePbx",
    "NoFlow",
    "NotConformant",
    "Pbx",
    "PbxCall",
    "PbxSettings",
    "PhoneCall",
    "Softphone",
    "TransportPeer",
    "check_connection_type",
    "check_transcoder",
    "check_transport",
    "datagram_peer",
    "open_gateway",
    "open_pbx",
    "open_softphone",
    "opus_duration",
    "read_foreign",
    "settings_of",
    "strategies",
    "stream_peer",
    "tls_peer",
    "tones",
    "websocket_peer",
    "websocket_url",
]
