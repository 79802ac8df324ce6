"""Every hook of the gateway: the whole contract with plugins.

A hook is synchronous, cheap, and returns things; what takes time is done by the things it returns. A module becomes a
plugin by an entry point in the group `siperb.plugins`; its functions marked `@hookimpl` and named as below are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siperb_core.entries.contract import ConnectionType
    from siperb_core.events import CallEvent, RegistrationEvent
    from siperb_core.media.contract import TranscoderType
    from siperb_core.routing import Explanation, Route
    from siperb_core.services import Service
    from siperb_core.transport.contract import TransportType

hookspec = pluggy.HookspecMarker("siperb")
hookimpl = pluggy.HookimplMarker("siperb")


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
def siperb_transcoders() -> Sequence[TranscoderType]:
    """Give the transcoders this plugin implements.

    Called once in the gateway, to know which pairs of codecs can be bridged, and once in every media worker, which
    uses them. Several plugins: the first loaded that knows a pair of codecs is used for it.
    """
    raise NotImplementedError


@hookspec
def siperb_services() -> Sequence[Service]:
    """Give services that run beside the gateway, such as the console.

    Called once, when the gateway starts. Several plugins: all run, each in a task of its own; one that fails ends
    alone.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def siperb_route(routes: Sequence[Route], number: str, user: str, method: str) -> Explanation | None:
    """Choose the connection that takes a softphone's request; None to leave it to the next plugin.

    Pure: called for calls and, offline, by `siperb route`. Several plugins: the first answer that is not None is
    taken. The core's own, by weight and dial pattern, comes last.
    """


@hookspec(firstresult=True)
def siperb_device_secret(username: str) -> str | None:
    """Give the password of a softphone that REGISTERs; None when this plugin does not know the name.

    Called for every digest answer of a softphone. Several plugins: the first answer that is not None is taken; the
    configuration file's devices come last.
    """


@hookspec
def siperb_registration_event(event: RegistrationEvent) -> None:
    """A softphone's binding was added, refreshed or removed. Several plugins: all are told; nothing is waited for."""


@hookspec
def siperb_call_event(event: CallEvent) -> None:
    """A call started, rang, was answered or ended. Several plugins: all are told; nothing is waited for."""
