"""The core's own behaviour, as plugins.

Here is what depends on nothing: transports, codecs, routing by weight, the media's policy and engine, the place of the
bindings, commands. What belongs to one running gateway is in objects that the gateway gives to its plugins:
`ConfiguredDevices`, `ReturningSoftphones`, `KeptRecords`, and the operations of the control socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from siperb_core.additions import Command
from siperb_core.defaults.devices import ConfiguredDevices
from siperb_core.defaults.transports import CoreTransport
from siperb_core.entries.source import TRANSPORTS
from siperb_core.hookspecs import hookimpl
from siperb_core.routing import Explanation, Route, explain
from siperb_core.sdp.codecs import CODECS

if TYPE_CHECKING:
    from siperb_core.calls.policy import MediaPolicy
    from siperb_core.entries.model import Entry
    from siperb_core.media.engine import MediaEngine, MediaSettings
    from siperb_core.sdp.plan import Codec
    from siperb_core.store.contract import LocationStore

__all__ = ["ConfiguredDevices", "CoreTransport", "siperb_route", "siperb_transports"]


@hookimpl
def siperb_transports() -> Sequence[CoreTransport]:
    """udp, tcp, tls, ws, wss."""
    return [CoreTransport(name) for name in TRANSPORTS]


@hookimpl
def siperb_codecs() -> Sequence[Codec]:
    """Those every gateway knows."""
    return CODECS


@hookimpl(trylast=True)
def siperb_route(routes: Sequence[Route], number: str, user: str, method: str) -> Explanation | None:
    """By weight and dial pattern."""
    return explain(routes, number, user, method)


@hookimpl(trylast=True)
def siperb_media_policy(entry: Entry, transport: str, peer_offer: bytes) -> MediaPolicy | None:
    """By the connection's keys, the transport, and what the PBX offers."""
    from siperb_core.calls.policy import media_policy

    return media_policy(entry, transport, peer_offer)


@hookimpl(trylast=True)
def siperb_media_engine(settings: MediaSettings) -> MediaEngine | None:
    """Workers on this machine."""
    from siperb_core.media.pool import MediaPool

    return MediaPool(
        ports="{}-{}".format(*settings.ports),
        workers=settings.workers,
        rtp_timeout=settings.rtp_timeout,
        transcoder_plugins=settings.transcoder_plugins,
        effort=settings.effort,
    )


@hookimpl(trylast=True)
def siperb_location_store(own: LocationStore) -> LocationStore | None:
    """The gateway's database."""
    return own


@hookimpl
def siperb_commands() -> Sequence[Command]:
    """What is seldom asked for, and for people who build or move in."""
    return [
        Command("new", "siperb_core.cli.new:new"),
        Command("import", "siperb_core.cli.importing:import_"),
    ]
