"""Every hook of the gateway: the whole contract with plugins.

A hook is synchronous, cheap, and returns things; what takes time is done by the things it returns. A module becomes a
plugin by an entry point in the group `siperb.plugins`; its functions marked `@hookimpl` and named as below are called.
An entry point that names a class makes one object of it for every gateway, and its methods are called: the way to share
state between hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from siperb_core.additions import Command, ControlMethod, HttpRoute
    from siperb_core.calls.policy import MediaPolicy
    from siperb_core.entries.contract import ConnectionType, Refusal
    from siperb_core.entries.decisions import CallAttempt, CallGate
    from siperb_core.entries.model import Device, Entry
    from siperb_core.events import CallEvent, ConnectionEvent, RegistrationEvent
    from siperb_core.media.contract import TranscoderType
    from siperb_core.media.engine import MediaEngine, MediaSettings
    from siperb_core.metrics import Metric
    from siperb_core.routing import Explanation, Route
    from siperb_core.sdp.plan import Codec
    from siperb_core.services import GatewayView, Service
    from siperb_core.store.contract import LocationStore
    from siperb_core.transport.contract import TransportType

hookspec = pluggy.HookspecMarker("siperb")
hookimpl = pluggy.HookimplMarker("siperb")


# ---- what there is: asked once, when a plugin is loaded


@hookspec
def siperb_connection_types() -> Sequence[ConnectionType]:
    """Give the connection types this plugin implements.

    Called once, when the plugin is loaded. Several plugins: all types are known; a `kind` that is taken already sets
    the later plugin aside.
    """
    raise NotImplementedError


@hookspec
def siperb_transports() -> Sequence[TransportType]:
    """Give the transports softphones and PBXs can be listened to on.

    Called once, when the plugin is loaded. Several plugins: all are known; a name that is taken already sets the
    later plugin aside. The core's own: udp, tcp, tls, ws, wss.
    """
    raise NotImplementedError


@hookspec
def siperb_codecs() -> Sequence[Codec]:
    """Give codecs by the names, clocks and parameters SDP has for them; a transcoder then bridges them.

    Called once, when the plugin is loaded. Softphones are offered such a codec after the core's own, where the PBX has
    it too or a transcoder leads to one it has; PBXs where the connection's key `codecs` names it. Several plugins: all
    are known; one that describes a name otherwise than it is known already is set aside. The core's own: opus, G722,
    PCMA, PCMU, and the names of GSM, G729 and iLBC.
    """
    raise NotImplementedError


@hookspec
def siperb_transcoders() -> Sequence[TranscoderType]:
    """Give the transcoders this plugin implements.

    Called once in the gateway, to know which pairs of codecs can be bridged, and once in every media worker, which
    uses them. Several plugins: the first loaded that knows a pair of codecs is used for it.
    """
    raise NotImplementedError


@hookspec
def siperb_settings() -> type[Any]:
    """Give the attrs class of this plugin's own table `[plugins.NAME]`, as a connection type has one for its settings.

    Called once, when the plugin is loaded. The table is checked by it, also by `siperb check`; fields of type
    `siperb_core.Secret` are taken from where the table says, and shown nowhere. The plugin's service gets an instance
    as `GatewayView.settings`; with a mistake in the table it does not run, and an issue says why. Several plugins: each
    has its own table, by its own name.
    """
    raise NotImplementedError


# ---- what runs beside calls: asked once, when the gateway starts


@hookspec
def siperb_services() -> Sequence[Service]:
    """Give services that run beside the gateway, such as the console.

    Called once, when the gateway starts. Several plugins: all run, each in a task of its own; one that fails ends
    alone.
    """
    raise NotImplementedError


@hookspec
def siperb_control_methods(gateway: GatewayView) -> Mapping[str, ControlMethod]:
    """Give methods of the control socket, which commands and the console's API ask.

    Called once, when the gateway starts. Several plugins: each has its own names, `PLUGIN.METHOD`; only the core's own
    (`show.calls`, `reload`, ...) go without the plugin's name.
    """
    raise NotImplementedError


@hookspec
def siperb_http_routes(gateway: GatewayView) -> Sequence[HttpRoute]:
    """Give paths of the gateway's HTTP server, the plugin `console`; without it nobody asks.

    Called once, when the console starts. Several plugins: all are served; a path that is taken already is left out and
    counts as the later plugin's fault.
    """
    raise NotImplementedError


@hookspec
def siperb_commands() -> Sequence[Command]:
    """Give commands of the command line.

    Called by `siperb --help` and by a command line whose first words the core does not know; no gateway need run. A
    plugin that the configuration file disables is not asked. Several plugins: all are there; a name that is taken
    already is left out, the core's before all others.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def siperb_media_engine(settings: MediaSettings) -> MediaEngine | None:
    """Give what carries the packets of all calls; None to leave it to the next plugin.

    Called once, when the gateway starts. Several plugins: the first answer that is not None is taken. The core's own,
    media workers on this machine, comes last.
    """


@hookspec(firstresult=True)
def siperb_location_store(own: LocationStore) -> LocationStore | None:
    """Give the place where softphones' bindings are kept over a restart; None to leave it to the next plugin.

    Called once, when the gateway starts. `own` is the gateway's database. Several plugins: the first answer that is not
    None is taken. The core's own, that database, comes last.
    """


# ---- registration


@hookspec(firstresult=True)
def siperb_device_secret(username: str) -> str | None:
    """Give the password of a softphone that REGISTERs; None when this plugin does not know the name.

    Called for every digest answer of a softphone. Several plugins: the first answer that is not None is taken; the
    configuration file's devices come last.
    """


@hookspec
def siperb_registration_event(event: RegistrationEvent) -> None:
    """Hear of a softphone's binding that was added, refreshed or removed.

    Called after the fact, in the task that handles SIP. Several plugins: all are told; nothing is waited for.
    """


# ---- calls: who takes them, who rings, whether they may be made


@hookspec
def siperb_routes(routes: Sequence[Route], number: str, user: str, method: str) -> Sequence[Route] | None:
    """Say of connections what only their type knows: that one does not take this number (`Route.unusable`), or what it
    does with it (`Route.note`); None leaves them as they are.

    Pure, out of `Route.settings`: called for calls and, offline, by `siperb route`, before `siperb_route`. Several
    plugins: each is given the routes as those before it have left them, and changes its own.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def siperb_route(routes: Sequence[Route], number: str, user: str, method: str) -> Explanation | None:
    """Choose the connection that takes a softphone's request; None to leave it to the next plugin.

    Pure: called for calls and, offline, by `siperb route`. Several plugins: the first answer that is not None is
    taken. The core's own, by weight and dial pattern, comes last.
    """


@hookspec
def siperb_ring(call: CallAttempt, devices: Sequence[Device]) -> Sequence[Device] | Refusal | None:
    """Say which softphones ring, given those that would; None leaves them as they are, a refusal ends the call.

    Called for every call to softphones, a PBX's and another softphone's, before the gates are asked. Pure. Several
    plugins: each is given what those before it have left. The core's own comes first: the devices of the users the call
    is for.
    """


@hookspec
def siperb_call_gates() -> Sequence[CallGate]:
    """Give gates: objects that are asked whether a call may be made, where that takes time.

    Called once, when the gateway starts; the gates are awaited for every call they say they are concerned with, each
    with its deadline. Several plugins: all are asked, one after the other, until one refuses.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def siperb_media_policy(
    entry: Entry, transport: str, peer_offer: bytes, call: CallAttempt
) -> MediaPolicy | Refusal | None:
    """Say what is done with the media of a call through a connection: passed by, relayed, transcoded, with which
    codecs; a refusal ends the call, None leaves it to the next plugin.

    Pure: called for every call, once it is known which `transport` leads to the PBX; `peer_offer` is the PBX's SDP
    where it calls, a softphone's is in `call.request`. Several plugins: the first answer that is not None is taken. The
    core's own, by the connection's keys `media`, `codec_policy` and `srtp`, comes last.
    """


# ---- what has happened, and what is known


@hookspec
def siperb_call_event(event: CallEvent) -> None:
    """Hear that a call started, rang, was answered or ended.

    Called after the fact, in the task that handles SIP. Several plugins: all are told; nothing is waited for.
    """


@hookspec
def siperb_call_record(record: Mapping[str, Any]) -> None:
    """Hear of a call that is over, with the last figures of its media: the row `siperb show calls` prints for it.

    Called once for every call, shortly after its event `ended`. Several plugins: all are told; the core's own writes it
    to the database.
    """


@hookspec
def siperb_connection_event(event: ConnectionEvent) -> None:
    """Hear of a connection: its state has changed, its registration was made or lost, its PBX fell silent or is back,
    an issue was raised or mended; and of the gateway's own issues.

    Called after the fact, in the task that handles SIP. Several plugins: all are told; nothing is waited for.
    """


@hookspec
def siperb_diagnostics(connection: str) -> Mapping[str, Any] | None:
    """Add what this plugin knows to the diagnostics of a connection: JSON values, without secrets.

    Called by `siperb diagnostics NAME`; secrets of the configuration are taken out of what is returned. Several
    plugins: each has a part of its own, under its name.
    """


@hookspec
def siperb_metrics() -> Sequence[Metric]:
    """Give numbers for `/metrics` of the console and `siperb show metrics`: what was counted already, as it is now.

    Called whenever somebody asks, every few seconds perhaps. Several plugins: all are shown, each with its own name
    before those of its metrics, `siperb_PLUGIN_NAME`; what is no metric, or has a name that is taken, is left out and
    counts as a fault of the plugin's. Only the core's own go without the plugin's name.
    """
    raise NotImplementedError
