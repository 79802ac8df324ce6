"""SIPERB's connections as JSON: `Name, Type, DialPattern, Weight, AllowSrc, Method, Registration, Enabled`.

Keys are taken in any case, with or without underscores. JSON has no line numbers once it is read: a remark's line is
the connection's number in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from siperb_core.entries.foreign.reading import ForeignError, Found, Reader, Reading

_TYPES: Final = {
    "outboundregistration": "outbound_registration",
    "outboundreg": "outbound_registration",
    "registration": "outbound_registration",
    "outboundtrunk": "outbound_trunk",
    "trunk": "outbound_trunk",
    "inboundregistration": "inbound_registration",
    "inboundreg": "inbound_registration",
}
_SETTINGS: Final = {
    "server": "server",
    "host": "server",
    "address": "server",
    "proxy": "server",
    "registrar": "server",
    "serveraddress": "server",
    "sipserver": "server",
    "port": "port",
    "serverport": "port",
    "sipport": "port",
    "transport": "transport",
    "protocol": "transport",
    "username": "username",
    "user": "username",
    "sipusername": "username",
    "authusername": "auth_username",
    "authuser": "auth_username",
    "password": "password",
    "secret": "password",
    "sippassword": "password",
    "expires": "expires",
    "expiry": "expires",
    "outboundproxy": "outbound_proxy",
    "fromuser": "from_user",
    "fromdomain": "from_domain",
    "domain": "from_domain",
}
_STATES: Final = ("registered", "unregistered", "rejected", "unreachable", "true", "false", "none", "")
_TRUE: Final = {"true": True, "1": True, "yes": True, "on": True, "enabled": True}
_FALSE: Final = {"false": False, "0": False, "no": False, "off": False, "disabled": False}
_METHOD: Final = re.compile(r"[A-Z]{1,32}")


def read_siperb(document: object) -> Reading:
    """The connections of a JSON document: one, a list, or a list under `connections`. Raises ForeignError."""
    items: object = document
    if isinstance(document, Mapping):
        items = next((value for key, value in document.items() if _plain(key) == "connections"), [document])
    if not isinstance(items, list) or not any(_is_connection(item) for item in items[:10_000]):
        raise ForeignError("it is JSON, but no connections: each is an object with Name and Type")
    reader = Reader("SIPERB connections")
    for number, item in enumerate(items[:10_000], 1):
        if isinstance(item, Mapping):
            _connection(reader, {_plain(key): (str(key), value) for key, value in item.items()}, number)
        else:
            reader.remark(number, "is not an object: left out")
    return reader.reading()


def _is_connection(item: object) -> bool:
    return isinstance(item, Mapping) and any(_plain(key) in ("name", "type") for key in item)


def _plain(key: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(key)[:100].lower())


def _connection(reader: Reader, item: dict[str, tuple[str, Any]], line: int) -> None:
    name = item.pop("name", ("", ""))[1]
    kind = _TYPES.get(_plain(item.pop("type", ("", ""))[1]))
    if kind is None:
        reader.remark(line, "Type is none of Outbound Registration, Outbound Trunk, Inbound Registration: left out")
        return
    found = reader.add(str(name) if isinstance(name, str | int) and str(name) else "connection", kind, line)
    if found is None:
        return
    for plain, (key, value) in item.items():
        if value is None or value == "" or value == []:
            continue
        if plain == "dialpattern" and isinstance(value, str):
            found.keys["dial_pattern"] = reader.pattern(value, line)
        elif plain == "weight":
            weight = reader.number(value, line, "Weight", -1_000_000, 1_000_000)
            if weight is not None:
                found.keys["weight"] = weight
        elif plain in ("allowsrc", "allowsource", "allowfrom", "allowsourceip"):
            found.keys["allow_from"] = reader.networks(_texts(value), line)
        elif plain in ("method", "methods"):
            _methods(reader, found, value, line)
        elif plain == "enabled":
            _enabled(reader, found, value, line)
        elif plain in ("registration", "settings", "sip", "details") and isinstance(value, Mapping):
            for inner, item_value in value.items():
                _setting(reader, found, str(inner), item_value, line)
        elif plain == "registration" and _plain(value) in _STATES:
            continue  # a state, not a setting
        else:
            _setting(reader, found, key, value, line)
    _complete(reader, found, line)


def _texts(value: object) -> list[str]:
    items = value if isinstance(value, list) else re.split(r"[,;\s]+", str(value)[:100_000])
    return [str(item)[:200] for item in items[:1000]]


def _methods(reader: Reader, found: Found, value: object, line: int) -> None:
    texts = [text.strip().upper() for text in _texts(value)]
    if texts and all(text.lower() in ("udp", "tcp", "tls") for text in texts):
        found.settings["transport"] = texts[0].lower()
        return
    if any(text in ("*", "ALL", "ANY") for text in texts):
        return
    methods = [text for text in texts if _METHOD.fullmatch(text)]
    for text in texts:
        if text and text not in methods:
            reader.remark(line, f'Method "{text[:40]}" is not a SIP method')
    if methods:
        found.keys["methods"] = methods


def _enabled(reader: Reader, found: Found, value: object, line: int) -> None:
    on = {**_TRUE, **_FALSE}.get(str(value).strip().lower()[:10])
    if on is None:
        reader.remark(line, "Enabled is neither true nor false: taken for true")
    elif not on:
        found.keys["enabled"] = False


def _setting(reader: Reader, found: Found, key: str, value: object, line: int) -> None:
    name = _SETTINGS.get(_plain(key))
    if name is None or isinstance(value, list | Mapping | bool):
        reader.remark(line, f'"{key[:60]}" is not carried over: a connection has no such key')
        return
    text = str(value)[:1000].strip()
    if found.type == "inbound_registration" and name not in ("username", "password"):
        reader.remark(line, f'"{key[:60]}" is not carried over: the PBX registers here, wherever it is')
        return
    if name == "server":
        uri = reader.uri(text, line, key)
        if uri is not None:
            reader.server(found.settings, uri, line, str(found.settings.get("transport", "")))
    elif name == "port":
        port = reader.number(text, line, key, 1, 65535)
        if port is not None:
            found.settings["port"] = port
    elif name == "expires":
        expires = reader.number(text, line, key, 30, 86400)
        if expires is not None and found.type == "outbound_registration":
            found.settings["expires"] = expires
    elif name == "transport":
        transport = reader.transport(text, line)
        if transport:
            found.settings["transport"] = transport
    elif text:
        found.settings[name] = text


def _complete(reader: Reader, found: Found, line: int) -> None:
    settings = found.settings
    if found.type == "inbound_registration":
        if "password" not in settings:
            reader.remark(line, f"{found.name}: has no password: set one, and give it to the PBX")
        return
    if "server" not in settings:
        reader.remark(line, f"{found.name}: the server is not in the file: set server by hand")
    if found.type == "outbound_registration" and "password" not in settings:
        reader.remark(line, f"{found.name}: the password is not in the file: set it by hand")
    if found.type == "outbound_trunk" and not found.keys.get("allow_from") and settings.get("server"):
        found.keys["allow_from"] = [settings["server"]]
        reader.remark(line, f"{found.name}: AllowSrc is empty: the server itself was taken for it")
