"""siperb.toml, read: every mistake found at once, and a mistake in one connection or device left to that one."""

from __future__ import annotations

import ipaddress
import os
import stat
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from siperb_core.entries import fields, turn
from siperb_core.entries.contract import ConnectionType
from siperb_core.entries.entry_checks import (
    check_allow_from,
    check_emergency,
    check_pattern,
    check_rewriting,
    check_shadowing,
    check_srtp,
    did_table,
    networks_and_names,
    proxies,
)
from siperb_core.entries.model import (
    Device,
    Entry,
    GatewayConfig,
    GatewaySettings,
    Listen,
    MediaConfig,
    Network,
    Secret,
)
from siperb_core.entries.plugin_tables import read_plugins, with_settings
from siperb_core.entries.structure import Problem, Structurer
from siperb_core.sdp.codecs import learnt

MAX_FILE = 1 << 20  # octets
MAX_LISTENERS = 64
MAX_DEVICES = 100_000
MAX_CONNECTIONS = 1000

CODECS = ("G722", "PCMA", "PCMU", "opus")
TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")
SECURE = ("tls", "wss")


@attrs.frozen
class LoadResult:
    """What a file says. `config` is None where a mistake outside the connections and devices leaves nothing to run."""

    config: GatewayConfig | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


@attrs.frozen
class _Gateway:
    domain: str = attrs.field(validator=fields.host)
    data_dir: Path
    drain_seconds: float = attrs.field(default=30, validator=fields.between(0, 86400, "seconds"))
    external_address: str = "auto"
    emergency: tuple[str, ...] = ()
    strangers: Literal["refuse", "drop"] = "refuse"
    trusted_proxies: tuple[str, ...] = ()


@attrs.frozen
class _Listen:
    transport: str
    bind: str
    path: str = "/ws"
    certificate: Path | None = None
    key: Path | None = None
    origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] | None = None


@attrs.frozen
class _Media:
    ports: str = "10000-10199"
    workers: Literal["auto"] | int = "auto"
    rtp_timeout: float = attrs.field(default=60, validator=fields.between(1, 86400, "seconds"))
    turn: tuple[str, ...] = attrs.field(default=(), validator=turn.uris)
    turn_secret: Secret = attrs.field(factory=lambda: Secret(""))
    turn_ttl: int = attrs.field(default=86400, validator=fields.between(600, 604800, "seconds"))
    opus_effort: Literal["auto", "low", "high"] = "auto"


@attrs.frozen
class _Device:
    name: str = attrs.field(validator=fields.name)
    password: Secret
    user: str | None = None
    mode: Literal["proxy", "websocket"] = "proxy"


@attrs.frozen
class EntryKeys:
    """The keys of `[[connection]]` beside `settings`, as they are written."""

    name: str = attrs.field(validator=fields.name)
    type: str = attrs.field(validator=fields.name)
    enabled: bool = True
    users: tuple[str, ...] = attrs.field(default=("*",), validator=fields.name_or_all)
    dial_pattern: str = "."
    weight: int = attrs.field(default=0, validator=fields.between(-1_000_000, 1_000_000))
    methods: tuple[str, ...] = attrs.field(default=("*",), validator=fields.methods)
    allow_from: tuple[str, ...] = ()
    trusted: bool = False
    display_name: str = attrs.field(default="", validator=fields.at_most(128))
    algorithms: tuple[Literal["MD5", "SHA-256", "SHA-512-256"], ...] = attrs.field(
        default=("MD5",), validator=fields.not_empty
    )
    strip: int = attrs.field(default=0, validator=fields.between(0, 64, "digits"))
    prefix: str = ""
    replace: tuple[str, ...] = ()
    failover: bool = False
    redirects: Literal["pass", "follow"] = "pass"
    media: Literal["auto", "passthrough", "relay", "transcode"] = "auto"
    srtp: Literal["off", "sdes"] = "off"
    dtmf: Literal["auto", "rfc4733", "info", "inband"] = "auto"
    phone_dtmf: Literal["auto", "rfc4733", "info"] = "auto"
    codecs: tuple[str, ...] = ("G722", "PCMA", "PCMU")
    codec_policy: Literal["opus-first", "relay-first"] = "opus-first"
    version: int = attrs.field(default=1, validator=fields.between(1, 1000))


def load(
    path: Path | str,
    types: Mapping[str, ConnectionType] | None = None,
    transports: Collection[str] | None = None,
    tables: Mapping[str, type[Any]] | None = None,
) -> LoadResult:
    """Read a file. `types` are the installed connection types; without them `[connection.settings]` stays as it is
    written. `transports` are the names of the installed transports: the core's where only `types` are given,
    unchecked where neither is. `tables` are the classes of plugins' own tables, by plugin; the others stay as they are.

    Never raises for what is in the file, or for a file that is missing: that is a problem too.
    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE + 1)
            mode = os.fstat(opened.fileno()).st_mode
    except OSError as error:
        mend = "make it, or name another with --config"
        return LoadResult(None, (Problem(str(file), f"cannot be read ({error.strerror})", mend),))
    return load_text(data, file, types, transports, tables, private=not mode & (stat.S_IRWXG | stat.S_IRWXO))


def load_text(
    data: bytes,
    path: Path,
    types: Mapping[str, ConnectionType] | None = None,
    transports: Collection[str] | None = None,
    tables: Mapping[str, type[Any]] | None = None,
    *,
    private: bool = False,
) -> LoadResult:
    """As `load`, from the file's octets. `private`: nobody but the owner can read the file, so it may hold secrets."""
    if len(data) > MAX_FILE:
        return LoadResult(None, (Problem(path.name, "is larger than 1 MiB", "take out what is not configuration"),))
    try:
        document = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        return LoadResult(None, (Problem(path.name, f"is not UTF-8 text at octet {error.start}", "save it as UTF-8"),))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return LoadResult(None, (Problem(path.name, f"is not TOML: {error}", "mend the syntax at that place"),))
    if transports is None and types is not None:
        transports = TRANSPORTS
    reader = Structurer(path.absolute().parent)
    config = _config(document, reader, path, types, transports, tables)
    if not private:
        for where in reader.literals:
            reader.warn(
                where,
                "is a secret in a file others can read",
                "chmod 600 the file, or use { env = ... } or { file = ... }",
            )
    return LoadResult(config, tuple(reader.problems), tuple(reader.warnings))


def _config(
    document: dict[str, Any],
    reader: Structurer,
    path: Path,
    types: Mapping[str, ConnectionType] | None,
    transports: Collection[str] | None,
    tables: Mapping[str, type[Any]] | None,
) -> GatewayConfig | None:
    for key in document:
        if key not in ("gateway", "listen", "media", "plugins", "device", "connection"):
            reader.wrong(key[:60], "unknown key", "known here are gateway, listen, media, plugins, device, connection")
    gateway = _gateway(document.get("gateway", {}), reader)
    trusted = () if gateway is None else gateway.trusted_proxies
    listen = _listeners(document.get("listen", []), reader, transports, trusted)
    media = _media(document.get("media", {}), reader)
    plugins = read_plugins(document.get("plugins", {}), reader)
    usable = not reader.problems
    plugins = with_settings(plugins, tables or {}, reader)
    devices = _devices(document.get("device", []), reader)
    connections = _connections(document.get("connection", []), reader, types)
    _unknown_users(connections, devices, reader)
    check_shadowing(connections, reader)
    if not usable or gateway is None or media is None:
        return None
    return GatewayConfig(gateway, listen, media, plugins, devices, connections, path)


def _gateway(data: object, reader: Structurer) -> GatewaySettings | None:
    if isinstance(data, Mapping) and "data_dir" not in data:
        data = {**data, "data_dir": "var"}
    raw = reader.instance(_Gateway, data, "gateway")
    if raw is None:
        return None
    if raw.external_address != "auto":
        try:
            ipaddress.ip_address(raw.external_address)
        except ValueError:
            reader.wrong(
                "gateway.external_address", f'"{raw.external_address[:60]}" is not an address', 'write one, or "auto"'
            )
            return None
    check_emergency(raw.emergency, reader)
    trusted = proxies(raw.trusted_proxies, "gateway.trusted_proxies", reader)
    return GatewaySettings(
        raw.domain, raw.data_dir, raw.drain_seconds, raw.external_address, raw.emergency, raw.strangers, trusted
    )


def _tables(data: object, path: str, most: int, reader: Structurer) -> list[Any]:
    if not isinstance(data, list):
        reader.wrong(path, "is not a list of tables", f"begin each one with [[{path}]]")
        return []
    if len(data) > most:
        reader.wrong(path, f"there are {len(data)}", f"use at most {most}")
        return []
    return data


def _listeners(
    data: object, reader: Structurer, transports: Collection[str] | None, trusted: tuple[Network, ...]
) -> tuple[Listen, ...]:
    listeners: list[Listen] = []
    taken: dict[tuple[bool, str, int], str] = {}
    for index, item in enumerate(_tables(data, "listen", MAX_LISTENERS, reader)):
        path = f"listen[{index}]"
        raw = reader.instance(_Listen, item, path)
        if raw is not None and transports is not None and raw.transport not in transports:
            reader.wrong(f"{path}.transport", f'"{raw.transport[:40]}" is not known', "use " + ", ".join(transports))
        listener = _listener(raw, path, reader, trusted) if raw is not None else None
        if listener is None:
            continue
        host, port = listener.bind
        key = (listener.transport == "udp", host, port)
        if port and key in taken:
            reader.wrong(f"{path}.bind", f"{host}:{port} is taken by {taken[key]}", "use another port")
        taken[key] = path
        listeners.append(listener)
    return tuple(listeners)


def _listener(raw: _Listen, path: str, reader: Structurer, trusted: tuple[Network, ...]) -> Listen | None:
    before = len(reader.problems)
    bind = fields.host_port(raw.bind)
    if bind is None or bind[1] is None:
        reader.wrong(
            f"{path}.bind", f'"{raw.bind[:60]}" is not address:port', 'write one such as "0.0.0.0:5060" or "[::]:5060"'
        )
    elif bind[0] != "localhost":
        try:
            ipaddress.ip_address(bind[0])
        except ValueError:
            reader.wrong(
                f"{path}.bind",
                f'"{bind[0][:60]}" is not an address of this machine',
                "write it as numbers, 0.0.0.0 for all",
            )
    if raw.transport in SECURE:
        for key, value in (("certificate", raw.certificate), ("key", raw.key)):
            if value is None:
                reader.wrong(f"{path}.{key}", f"is missing, {raw.transport} needs it", f'add {key} = "{key[:4]}.pem"')
            elif not value.is_file():
                reader.wrong(f"{path}.{key}", f"there is no file {value}", "put the PEM file there")
    if not raw.path.startswith("/"):
        reader.wrong(f"{path}.path", f'"{raw.path[:60]}" does not begin with /', f'write "/{raw.path[:60]}"')
    for index, origin in enumerate(raw.origins):
        if origin != "*" and not origin.startswith(("http://", "https://")):
            reader.wrong(
                f"{path}.origins[{index}]",
                f'"{origin[:60]}" is not an origin',
                'write one such as "https://phone.example.net"',
            )
    if raw.trusted_proxies is not None:
        trusted = proxies(raw.trusted_proxies, f"{path}.trusted_proxies", reader)
    if len(reader.problems) > before or bind is None or bind[1] is None:
        return None
    return Listen(raw.transport, (bind[0], bind[1]), raw.path, raw.certificate, raw.key, raw.origins, trusted)


def _media(data: object, reader: Structurer) -> MediaConfig | None:
    raw = reader.instance(_Media, data, "media")
    if raw is None:
        return None
    low, dash, high = raw.ports.partition("-")
    if not (dash and low.strip().isdecimal() and high.strip().isdecimal()):
        reader.wrong("media.ports", f'"{raw.ports[:60]}" is not a range of ports', 'write one such as "10000-10199"')
        return None
    first, last = int(low), int(high)
    if not 1024 <= first < last <= 65535:
        reader.wrong(
            "media.ports", f'"{raw.ports[:60]}" is not a range within 1024 to 65535', "write the lower port first"
        )
        return None
    if raw.workers != "auto" and not 1 <= raw.workers <= 256:
        reader.wrong("media.workers", f"{raw.workers} is out of range", 'use 1 to 256, or "auto"')
        return None
    if not raw.turn_secret and any(uri.startswith("turn") for uri in raw.turn):
        reader.wrong("media.turn_secret", "is missing", "write the static-auth-secret of the TURN server")
        return None
    workers = None if raw.workers == "auto" else raw.workers
    return MediaConfig(
        (first, last), workers, raw.rtp_timeout, raw.turn, raw.turn_secret, raw.turn_ttl, raw.opus_effort
    )


def _named(items: list[Any], path: str, reader: Structurer) -> list[tuple[str, Any]]:
    """The tables with the path to call each by: its name where it has a proper one. A second one of a name is
    refused.
    """
    named: list[tuple[str, Any]] = []
    seen: set[str] = set()
    for index, item in enumerate(items):
        name = item.get("name") if isinstance(item, Mapping) else None
        if not isinstance(name, str) or not name:
            named.append((f"{path}[{index}]", item))
        elif name in seen:
            reader.connection = name if path == "connection" else None
            reader.wrong(
                f"{path}[{index}].name", f'"{name[:60]}" is the name of another {path}', "give it another name"
            )
        else:
            seen.add(name)
            named.append((f"{path}.{name[:60]}", item))
    reader.connection = None
    return named


def _devices(data: object, reader: Structurer) -> tuple[Device, ...]:
    devices = []
    for path, item in _named(_tables(data, "device", MAX_DEVICES, reader), "device", reader):
        raw = reader.instance(_Device, item, path)
        if raw is None:
            continue
        if not raw.password:
            reader.wrong(f"{path}.password", "is empty", "give the device a password")
            continue
        user = raw.user or raw.name
        try:
            fields.name(None, None, user)
        except ValueError as error:
            wrong, _, mend = str(error).partition(": ")
            reader.wrong(f"{path}.user", wrong, mend)
            continue
        devices.append(Device(raw.name, user, raw.password, raw.mode))
    return tuple(devices)


def _connections(data: object, reader: Structurer, types: Mapping[str, ConnectionType] | None) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    unique: dict[str, str] = {}
    for path, item in _named(_tables(data, "connection", MAX_CONNECTIONS, reader), "connection", reader):
        before = len(reader.problems)
        reader.connection = (
            item.get("name") if isinstance(item, Mapping) and isinstance(item.get("name"), str) else None
        )
        entry = _entry(path, item, reader, types)
        if entry is not None and types is not None and entry.enabled and len(reader.problems) == before:
            _check_unique(entry, path, types, unique, reader)
        problems = reader.problems[before:]
        reader.connection = None
        if entry is None:
            continue
        entries.append(attrs.evolve(entry, problem="; ".join(map(str, problems))))
        if (
            types is not None and entry.type and entry.type not in types
        ):  # a state of its own, not a mistake in the entry
            wrong, mend = f'no installed plugin gives "{entry.type}"', "install it with pip, or use " + ", ".join(types)
            reader.problems.append(Problem(f"{path}.type", wrong, mend, entry.name))
    return tuple(entries)


def _entry(path: str, item: object, reader: Structurer, types: Mapping[str, ConnectionType] | None) -> Entry | None:
    """The entry of one table: as far as it can be read where there is a mistake in it, None where not even its name
    can.
    """
    if not isinstance(item, Mapping):
        reader.wrong(path, "is not a table", "begin it with [[connection]]")
        return None
    settings = item.get("settings", {})
    keys = {key: value for key, value in item.items() if key not in ("settings", "did")}
    values = reader.values(EntryKeys, keys, path)
    texts = values.pop("allow_from", ())
    networks, names = networks_and_names(texts, f"{path}.allow_from", reader)
    check_pattern(values.get("dial_pattern", "."), f"{path}.dial_pattern", reader)
    check_rewriting(values.get("prefix", ""), values.get("replace", ()), path, reader)
    did = did_table(item.get("did", {}), f"{path}.did", reader)
    _check_codecs(values.get("codecs", CODECS), f"{path}.codecs", reader)
    found = types.get(values.get("type", "")) if types is not None else None
    if found is not None:
        settings = _settings(found, settings, values.get("version", 1), path, reader)
        if found.allow_from_required:
            check_allow_from(texts, networks, path, found, reader)
        check_srtp(values.get("srtp", "off"), settings, path, reader)
    elif not isinstance(settings, Mapping):
        reader.wrong(f"{path}.settings", "is not a table", "begin it with [connection.settings]")
    if "name" not in values:
        return None
    return Entry(**{"type": "", **values}, allow_from=networks, allow_names=names, did=did, settings=settings)


def _check_codecs(codecs: tuple[str, ...], path: str, reader: Structurer) -> None:
    known = (*CODECS, *learnt())
    if not codecs:
        reader.wrong(path, "is empty", "name at least one of " + ", ".join(known))
    for index, codec in enumerate(codecs):
        if codec not in known:
            reader.wrong(f"{path}[{index}]", f'"{codec[:40]}" is not known', "use " + ", ".join(known))


def _settings(found: ConnectionType, data: Any, version: int, path: str, reader: Structurer) -> Any:
    if version > found.version:
        reader.wrong(
            f"{path}.version", f"is {version}, the installed plugin knows {found.version}", "install a newer plugin"
        )
        return None
    if isinstance(data, Mapping) and version < found.version:
        try:
            data = found.migrate(data, version)
        except Exception as error:  # a plugin's own code: its fault costs this entry only
            reader.wrong(
                f"{path}.settings", f"cannot be brought to version {found.version} ({error})", "write them anew"
            )
            return None
    settings = reader.instance(found.config_class, data, f"{path}.settings")
    if getattr(settings, "verify", True) is False:
        reader.warn(
            f"{path}.settings.verify", "is false, so anyone in between can listen", "name the authority under ca"
        )
    return settings


def _check_unique(
    entry: Entry, path: str, types: Mapping[str, ConnectionType], unique: dict[str, str], reader: Structurer
) -> None:
    found = types.get(entry.type)
    if found is None:
        return
    try:
        key = found.unique_id(entry.settings)
    except Exception as error:  # a plugin's own code
        reader.wrong(path, f"the type cannot tell what it is ({error})", "report it to the plugin's author")
        return
    if key is None:
        return
    key = f"{entry.type} {key}"
    if key in unique:
        reader.wrong(f"{path}.settings", f"is the same as connection {unique[key]} ({key})", "remove one of the two")
    else:
        unique[key] = entry.name


def _unknown_users(connections: tuple[Entry, ...], devices: tuple[Device, ...], reader: Structurer) -> None:
    known = {device.user for device in devices}
    for entry in connections:
        for user in dict.fromkeys((*entry.users, *(user for _, rung in entry.did for user in rung))):
            if user != "*" and user not in known:
                key = "users" if user in entry.users else "did"
                reader.warn(
                    f"connection.{entry.name}.{key}", f"user {user} has no device", "add one with siperb device add"
                )
