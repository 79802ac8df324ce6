"""Plugins: found by entry point, loaded one at a time, the broken ones set aside with the reason.

`Plugins` is the typed facade in front of the hooks: what comes back is what the contract says, or is passed over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal

import attrs

from siperb_core.additions import Command, HttpRoute
from siperb_core.entries.contract import Refusal
from siperb_core.entries.model import Device
from siperb_core.plugin_answers import ShownMetrics, are_routes, can_be_followed, check_pairs, decides_media, no_clash
from siperb_core.plugin_calls import HookCalls, log
from siperb_core.plugin_finding import Unusable, check_core, distribution_of, import_plugin, mentions
from siperb_core.routing import Explanation, Route, explain_emergency
from siperb_core.routing import explain as explain_by_weight
from siperb_core.sdp.codecs import CODECS, learn_codecs

if TYPE_CHECKING:
    from siperb_core.additions import ControlMethod
    from siperb_core.calls.policy import MediaDecision
    from siperb_core.entries.contract import ConnectionType
    from siperb_core.entries.decisions import CallAttempt, CallGate
    from siperb_core.entries.model import Entry
    from siperb_core.events import CallEvent, ConnectionEvent, RegistrationEvent
    from siperb_core.media.contract import TranscoderType
    from siperb_core.media.engine import MediaEngine, MediaSettings
    from siperb_core.services import GatewayView, Service
    from siperb_core.store.contract import LocationStore
    from siperb_core.transport.contract import TransportType

GROUP = "siperb.plugins"
CORE = "defaults"
"""The entry point of the core's own behaviour; it cannot be disabled."""

GATHERED = ("siperb_connection_types", "siperb_transports", "siperb_codecs", "siperb_transcoders", "siperb_settings")
"""Hooks that are called once, when a plugin is loaded."""


@attrs.frozen
class PluginInfo:
    """What is known of one installed plugin. `reason` says why it is set aside."""

    name: str
    distribution: str
    version: str
    state: Literal["loaded", "disabled", "set_aside"]
    reason: str = ""
    provides: tuple[str, ...] = ()

    @property
    def gives_transcoders(self) -> bool:
        """Whether media workers have to load it, too."""
        return any(what.startswith("transcoder ") for what in self.provides)


class Plugins(HookCalls):
    """The loaded plugins, as the core sees them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._own.add(CORE)
        self._giver: dict[tuple[str, str], str] = {}  # of each connection type and transcoder: its plugin
        self.packages: dict[str, str] = {}
        """Which plugin a top-level package belongs to."""
        self.changed: Callable[[], None] = lambda: None
        """Called when a plugin has been switched off."""
        self.infos: list[PluginInfo] = []
        self.connection_types: dict[str, ConnectionType] = {}
        self.transports: dict[str, TransportType] = {}
        self.transcoders: list[TranscoderType] = []
        self.codecs: list[str] = []
        """Codecs beside those the core knows by itself."""
        self.settings: dict[str, type[Any]] = {}
        """The classes of plugins' own tables, by plugin."""

    def register(self, name: str, plugin: object) -> None:
        """Add one plugin: a module or an object.

        Raises ValueError with the reason where it cannot be used; nothing of it stays then.
        """
        try:
            self._add(name, plugin)
        except Unusable as error:
            raise ValueError(str(error)) from error.__cause__

    def add_own(self, name: str, plugin: object) -> None:
        """Add an object of the gateway's own that is a plugin, too; it is never switched off."""
        self._own.add(name)
        self.register(name, plugin)

    def _add(self, name: str, plugin: object) -> tuple[str, ...]:
        """Register, and take over what the plugin gives once; raises Unusable after taking everything back."""
        self._enlist(name, plugin)
        try:
            kinds = self._gather(name, "siperb_connection_types")
            transports = self._gather(name, "siperb_transports")
            transcoders = self._gather(name, "siperb_transcoders")
            codecs = self._gather(name, "siperb_codecs")
            settings = self._gather(name, "siperb_settings")
            no_clash("connection type", [kind.kind for kind in kinds], self.connection_types)
            no_clash("transport", [transport.name for transport in transports], self.transports)
            no_clash("transcoder", [item.name for item in transcoders], {item.name: item for item in self.transcoders})
            for item in transcoders:
                check_pairs(item)
            for kind in kinds:
                if not attrs.has(kind.config_class):
                    raise Unusable(f"config_class of connection type {kind.kind} is not an attrs class")
            if not all(isinstance(found, type) and attrs.has(found) for found in settings):
                raise Unusable("siperb_settings gives no attrs class")
        except Unusable:
            self._strike_off(plugin)
            raise
        except AttributeError as error:
            self._strike_off(plugin)
            raise Unusable(f"gives an object that lacks what the contract asks for: {error}") from error
        try:
            learn_codecs(codecs)
        except (TypeError, ValueError) as error:
            self._strike_off(plugin)
            raise Unusable(str(error)) from error
        self.connection_types.update((kind.kind, kind) for kind in kinds)
        self._giver.update((("connection type", kind.kind), name) for kind in kinds)
        self._giver.update((("transcoder", item.name), name) for item in transcoders)
        self.transports.update((transport.name, transport) for transport in transports)
        self.transcoders.extend(transcoders)
        self.codecs.extend(codec.name for codec in codecs if codec not in CODECS)
        self.settings.update((name, found) for found in settings)
        provides = [f"connection type {kind.kind}" for kind in kinds]
        provides += [f"transport {transport.name}" for transport in transports]
        provides += [f"transcoder {item.name}" for item in transcoders]
        provides += [f"codec {codec.name}" for codec in codecs]
        provides += sorted(f"hook {hook}" for hook in self._hooks_of(plugin) if hook not in GATHERED)
        return tuple(provides)

    def blame(self, what: Literal["connection type", "transcoder"], name: str) -> None:
        """What a plugin gave has done wrong: counted. It costs the entry or the call, and not the plugin."""
        self.errors[self._giver.get((what, name), name)] += 1

    def _switched_off(self, plugin: str, reason: str) -> None:
        self.infos = [
            attrs.evolve(info, state="set_aside", reason=reason) if info.name == plugin else info for info in self.infos
        ]
        self.changed()

    def services(self) -> list[tuple[str, Service]]:
        """The services of all plugins, each with its plugin's name."""
        return self._given("siperb_services")

    def gates(self) -> list[tuple[str, CallGate]]:
        """The call gates of all plugins, each with its plugin's name."""
        found: list[tuple[str, CallGate]] = []
        for plugin, gate in self._given("siperb_call_gates"):
            if all(hasattr(gate, name) for name in ("name", "seconds", "admits_when_failing", "concerns", "admit")):
                found.append((plugin, gate))
            else:
                self._misfit(plugin, "siperb_call_gates", gate)
        return found

    def commands(self) -> list[Command]:
        """The commands of all plugins, each name once."""
        found: dict[str, Command] = {}
        for plugin, command in self._given("siperb_commands"):
            if isinstance(command, Command) and command.name not in found:
                found[command.name] = command
            else:
                self._misfit(plugin, "siperb_commands", command)
        return list(found.values())

    def http_routes(self, view: Callable[[str], GatewayView]) -> list[HttpRoute]:
        """The HTTP routes of all plugins, each path once. `view` is the gateway as a plugin of that name sees it."""
        found: dict[str, HttpRoute] = {}
        for plugin, route in self._given("siperb_http_routes", gateway=view):
            if isinstance(route, HttpRoute) and route.path.startswith("/") and route.path not in found:
                found[route.path] = route
            else:
                self._misfit(plugin, "siperb_http_routes", route)
        return list(found.values())

    def control_methods(self, view: Callable[[str], GatewayView]) -> dict[str, ControlMethod]:
        """The methods of the control socket by name: the gateway's own as they are, a plugin's behind its name."""
        found: dict[str, ControlMethod] = {}
        for plugin, result in self._each("siperb_control_methods", gateway=view):
            if not isinstance(result, Mapping) or not all(callable(method) for method in result.values()):
                self._misfit(plugin, "siperb_control_methods", result)
                continue
            prefix = "" if plugin in self._own else f"{plugin}."
            found |= {f"{prefix}{name}": method for name, method in result.items()}
        return found

    def media_engine(self, settings: MediaSettings) -> MediaEngine:
        """What carries the packets of all calls. Raises LookupError where no plugin gives anything."""
        for plugin, result in self._each("siperb_media_engine", settings=settings):
            if all(hasattr(result, name) for name in ("open", "fingerprint", "__aenter__", "__aexit__")):
                from siperb_core.guarded import guarded_engine

                return result if plugin in self._own else guarded_engine(result, partial(self.fault, plugin))
            if result is not None:
                self._misfit(plugin, "siperb_media_engine", result)
        raise LookupError("no plugin gives a media engine")

    def location_store(self, own: LocationStore) -> LocationStore:
        """Where bindings are kept."""
        for plugin, result in self._each("siperb_location_store", own=own):
            if all(hasattr(result, name) for name in ("put_binding", "delete_binding", "load_bindings")):
                from siperb_core.guarded import GuardedLocations

                return result if plugin in self._own else GuardedLocations(result, partial(self.fault, plugin))
            if result is not None:
                self._misfit(plugin, "siperb_location_store", result)
        return own

    def ring(self, call: CallAttempt) -> Sequence[Device] | Refusal:
        """The softphones that are to ring for a call: what each plugin has left of them."""
        devices: Sequence[Device] = ()
        for plugin, function, names in self._calls_of("siperb_ring"):
            for _, result in self._asked("siperb_ring", plugin, function, names, {"call": call, "devices": devices}):
                if isinstance(result, Refusal):
                    return result
                if isinstance(result, list | tuple) and all(isinstance(device, Device) for device in result):
                    devices = result
                elif result is not None:
                    self._misfit(plugin, "siperb_ring", result)
        return devices

    def media_policy(self, entry: Entry, transport: str, peer_offer: bytes, call: CallAttempt) -> MediaDecision | None:
        """What is done with the media of a call. Raises what the plugin that answers raises on purpose: `SdpError`."""
        arguments = {"entry": entry, "transport": transport, "peer_offer": peer_offer, "call": call}
        for plugin, result in self._each("siperb_media_policy", **arguments):
            if decides_media(result):
                return result
            if result is not None:
                self._misfit(plugin, "siperb_media_policy", result)
        return None

    def route(
        self, routes: Sequence[Route], number: str, user: str, method: str, *, emergency: Container[str] = ()
    ) -> Explanation:
        """Choose the connection for a request: the first plugin's answer that is not None, in the end that by
        weight. Calls to `emergency` numbers are no plugin's business.
        """
        if number in emergency and method == "INVITE":
            return explain_emergency(routes, number, user, method)
        routes = self._routes(routes, number, user, method)
        for name, result in self._each("siperb_route", routes=routes, number=number, user=user, method=method):
            if isinstance(result, Explanation) and can_be_followed(result):
                return result
            if result is not None:
                self._misfit(name, "siperb_route", result)
        return explain_by_weight(routes, number, user, method)

    def _routes(self, routes: Sequence[Route], number: str, user: str, method: str) -> Sequence[Route]:
        """The connections with what plugins say of this number."""
        given: dict[str, Any] = {"number": number, "user": user, "method": method}
        for plugin, function, names in self._calls_of("siperb_routes"):
            for _, result in self._asked("siperb_routes", plugin, function, names, {"routes": routes, **given}):
                if are_routes(result, routes):
                    routes = result
                elif result is not None:
                    self._misfit(plugin, "siperb_routes", result)
        return routes

    def device_secret(self, username: str) -> str | None:
        """The password of a softphone; None where nobody knows the name."""
        for name, result in self._each("siperb_device_secret", username=username):
            if isinstance(result, str):
                return result
            if result is not None:
                self._misfit(name, "siperb_device_secret", result)
        return None

    def call_event(self, event: CallEvent) -> None:
        """Tell every plugin of a step in a call's life."""
        for _ in self._each("siperb_call_event", event=event):
            pass

    def call_record(self, record: Mapping[str, Any]) -> None:
        """Tell every plugin of a call that is over."""
        for _ in self._each("siperb_call_record", record=record):
            pass

    def diagnostics(self, connection: str) -> dict[str, Any]:
        """What plugins know of a connection, by plugin."""
        found: dict[str, Any] = {}
        for plugin, result in self._each("siperb_diagnostics", connection=connection):
            if isinstance(result, Mapping):
                found[plugin] = dict(result)
            elif result is not None:
                self._misfit(plugin, "siperb_diagnostics", result)
        return found

    def metrics(self, prefix: str) -> list[dict[str, Any]]:
        """The metrics of all plugins as JSON values, the gateway's own before all others; each begins with `prefix`,
        a plugin's with its name, too.
        """
        found = ShownMetrics(prefix)
        for plugin, metric in sorted(self._given("siperb_metrics"), key=lambda given: given[0] not in self._own):
            try:
                found.add(metric, of="" if plugin in self._own else plugin)
            except Unusable as error:
                self._misfit(plugin, "siperb_metrics", metric, str(error))
        return found.rows

    def registration_event(self, event: RegistrationEvent) -> None:
        """Tell every plugin of a change of a softphone's binding."""
        for _ in self._each("siperb_registration_event", event=event):
            pass

    def connection_event(self, event: ConnectionEvent) -> None:
        """Tell every plugin of what has happened to a connection, or to the gateway."""
        for _ in self._each("siperb_connection_event", event=event):
            pass


def load_plugins(
    disable: Iterable[str] = (),
    *,
    own: Mapping[str, object] | None = None,
    only: Iterable[str] | None = None,
    found: Callable[[], Iterable[EntryPoint]] = lambda: entry_points(group=GROUP),
) -> Plugins:
    """Load every installed plugin but those in `disable`, which are not even imported; never raises for a plugin.

    `own` are objects of the gateway itself that are plugins too, the configured devices say. `only` are hooks: a
    plugin that has none of them is left out, for a command that has to be quick. `found` gives the entry points. The
    core's own is loaded first, the rest by name, so the order is the same everywhere.
    """
    plugins = Plugins()
    off = set(disable)
    for name, plugin in (own or {}).items():
        plugins.add_own(name, plugin)
    seen: set[str] = set()
    for point in sorted(found(), key=lambda point: (point.name != CORE, point.name, distribution_of(point)[0])):
        distribution, version = distribution_of(point)
        if point.name != CORE and not off.isdisjoint({point.name, distribution}):
            plugins.infos.append(PluginInfo(point.name, distribution, version, "disabled", "named in plugins.disable"))
            continue
        if only is not None and not mentions(point, only):
            continue
        try:
            if point.name in seen:
                raise Unusable(f"another plugin is called {point.name}")
            check_core(point)
            provides = plugins._add(point.name, import_plugin(point))
        except Unusable as error:
            if only is None:
                log().warning("plugin.set_aside", plugin=point.name, reason=str(error))
            plugins.infos.append(PluginInfo(point.name, distribution, version, "set_aside", str(error)))
            continue
        seen.add(point.name)
        if point.name != CORE:
            plugins.packages.setdefault(point.module.partition(".")[0], point.name)
        plugins.infos.append(PluginInfo(point.name, distribution, version, "loaded", provides=provides))
    return plugins
