"""The configuration as objects: the keys, types and defaults of siperb.toml."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal

import attrs

from siperb_core.routing import Did, Rewriting, Route, rung_users

Network = IPv4Network | IPv6Network


class Secret:
    """A password or key. Its text comes out by `reveal()` only: never by printing, formatting or logging it.

    `literal` is true where it stood in the configuration file itself.
    """

    __slots__ = ("_text", "literal")

    def __init__(self, text: str, *, literal: bool = False) -> None:
        self._text = text
        self.literal = literal

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('***')" if self._text else "Secret('')"


@attrs.frozen
class GatewaySettings:
    """`[gateway]`."""

    domain: str
    data_dir: Path
    drain_seconds: float = 30
    external_address: str = "auto"  # an address, or "auto" for that of the outgoing interface
    emergency: tuple[str, ...] = ()  # numbers that are tried through every connection
    strangers: Literal["refuse", "drop"] = "refuse"  # whether who is on no list gets an answer
    trusted_proxies: tuple[Network, ...] = ()  # who is believed whom it forwards for


@attrs.frozen
class Listen:
    """`[[listen]]`: one socket."""

    transport: str
    bind: tuple[str, int]  # port 0: any free one
    path: str = "/ws"
    certificate: Path | None = None
    key: Path | None = None
    origins: tuple[str, ...] = ()  # empty: same host only
    trusted_proxies: tuple[Network, ...] = ()  # of ws, wss; the gateway's unless written here


@attrs.frozen
class MediaConfig:
    """`[media]`."""

    ports: tuple[int, int] = (10000, 10199)  # first and last, both included
    workers: int | None = None  # None: one per core
    rtp_timeout: float = 60  # seconds
    turn: tuple[str, ...] = ()  # URIs of TURN and STUN servers for softphones
    turn_secret: Secret = attrs.field(factory=lambda: Secret(""))  # that coturn has, too (static-auth-secret)
    turn_ttl: int = 86400  # seconds that credentials made of it hold
    opus_effort: Literal["auto", "low", "high"] = "auto"


@attrs.frozen
class PluginsConfig:
    """`[plugins]`: what stays off, and the plugins' own tables `[plugins.NAME]`.

    `tables` are as they are written; `settings` are instances of the classes that plugins give for theirs (hook
    `siperb_settings`), and `broken` says what is wrong with a table that makes none.
    """

    disable: tuple[str, ...] = ()
    tables: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict, repr=False)  # raw, may hold a secret as text
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    broken: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Device:
    """`[[device]]`: one softphone, `sip:NAME@domain`."""

    name: str
    user: str
    password: Secret
    mode: Literal["proxy", "websocket"] = "proxy"


@attrs.frozen
class Entry:
    """`[[connection]]`: a config entry.

    `settings` is an instance of the type's config class once it has been validated, the raw table before that and
    where the type is not installed. `problem` says why the entry cannot be used as it is written; empty where nothing
    is wrong.
    """

    name: str
    type: str
    enabled: bool = True
    users: tuple[str, ...] = ("*",)
    dial_pattern: str = "."
    weight: int = 0
    methods: tuple[str, ...] = ("*",)
    allow_from: tuple[Network, ...] = ()
    allow_names: tuple[str, ...] = ()  # of `allow_from`: DNS names, whose addresses a running gateway adds to it
    trusted: bool = False  # is told who calls, and believed (RFC 3325)
    algorithms: tuple[str, ...] = ("MD5",)  # of the digest challenges its PBX gets, in any order
    display_name: str = ""  # the caller's name as this PBX is told; empty: as the softphone has it
    strip: int = 0
    prefix: str = ""
    replace: tuple[str, ...] = ()  # a pattern, and what comes in the place of what it matches
    did: Did = ()
    failover: bool = False
    redirects: Literal["pass", "follow"] = "pass"
    media: Literal["auto", "passthrough", "relay", "transcode"] = "auto"
    srtp: Literal["off", "sdes"] = "off"
    dtmf: Literal["auto", "rfc4733", "info", "inband"] = "auto"
    phone_dtmf: Literal["auto", "rfc4733", "info"] = "auto"  # how softphones get its digits
    codecs: tuple[str, ...] = ("G722", "PCMA", "PCMU")
    codec_policy: Literal["opus-first", "relay-first"] = "opus-first"
    version: int = 1  # of the settings, as written; the type migrates older ones
    settings: Any = attrs.field(factory=dict, repr=False)  # raw, it may hold a secret as text
    problem: str = ""

    @property
    def route(self) -> Route:
        """The entry as routing sees it; one with a mistake in it takes no calls."""
        return Route(
            self.name,
            self.weight,
            self.dial_pattern,
            self.enabled,
            self.users,
            self.methods,
            self.failover,
            f"its configuration has a mistake: {self.problem}" if self.problem else "",
            Rewriting(self.strip, self.prefix, *self.replace),
            settings=self.settings,
        )

    def rings(self, user: str) -> bool:
        """Whether a user dials out through this connection and rings for it."""
        return "*" in self.users or user in self.users


@attrs.frozen
class GatewayConfig:
    """The whole file."""

    gateway: GatewaySettings
    listen: tuple[Listen, ...] = ()
    media: MediaConfig = attrs.field(factory=MediaConfig)
    plugins: PluginsConfig = attrs.field(factory=PluginsConfig)
    devices: tuple[Device, ...] = ()
    connections: tuple[Entry, ...] = ()
    path: Path = Path("siperb.toml")

    def device(self, name: str) -> Device | None:
        """The device of that name."""
        return self._devices_by_name.get(name)

    @cached_property
    def _devices_by_name(self) -> dict[str, Device]:
        return {device.name: device for device in self.devices}

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """The connections as routing sees them."""
        return tuple(entry.route for entry in self.connections)

    def connection(self, name: str) -> Entry | None:
        """The config entry of that name."""
        return next((entry for entry in self.connections if entry.name == name), None)

    def devices_of(self, entry: Entry, number: str = "") -> tuple[Device, ...]:
        """The devices that ring for a connection when this number is called."""
        users = rung_users(entry.did, number, entry.users)
        return tuple(device for device in self.devices if "*" in users or device.user in users)


def routes_of(config: GatewayConfig) -> tuple[Route, ...]:
    """The connections as routing sees them."""
    return config.routes


def down_because(state: str, reason: str, reachable: bool | None) -> str:
    """Why a connection in this state cannot be used just now, in words; '' where it can."""
    if state != "loaded":
        return f"down now, {state}" + (f" ({reason})" if reason else "")
    return "down now: the PBX does not answer" if reachable is False else ""
