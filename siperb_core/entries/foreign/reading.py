"""What reading a foreign file gives: connections by our own keys, and remarks on the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import attrs

from siperb_core.entries import fields
from siperb_core.entries.networks import parse_network
from siperb_core.entries.structure import printable
from siperb_core.routing import lost_backslash
from siperb_core.sdp.codecs import learnt
from siperb_core.sip import ParseError, Uri, parse_name_addr

MAX_CONNECTIONS = 1000
MAX_REMARKS = 5000
_CODECS = {"g722": "G722", "alaw": "PCMA", "pcma": "PCMA", "ulaw": "PCMU", "pcmu": "PCMU", "opus": "opus"}
_WIDE = {"slin16": "L16"}
"""Asterisk's names of codecs that only a plugin can give."""
_DTMF = {"rfc4733": "rfc4733", "rfc2833": "rfc4733", "info": "info", "inband": "inband", "auto": "", "auto_info": ""}
_TRANSPORTS = ("udp", "tcp", "tls")


class ForeignError(ValueError):
    """The file is none of those that can be read; one sentence with the mend."""


@attrs.frozen
class Remark:
    """Something that was not carried over, or not as it stood. `line` counts from 1; 0 is the file as a whole."""

    line: int
    text: str = attrs.field(converter=printable)


@attrs.define
class Found:
    """One connection by the keys of `[[connection]]` and of its settings. `line` is where it stood."""

    name: str
    type: str
    line: int
    keys: dict[str, Any] = attrs.field(factory=dict)
    settings: dict[str, Any] = attrs.field(factory=dict, repr=False)


@attrs.frozen
class Reading:
    """The connections of a file in its order, and the remarks by line."""

    kind: str
    connections: tuple[Found, ...]
    remarks: tuple[Remark, ...]


class Reader:
    """Collects connections and remarks; the names of connections are made proper and unique."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.connections: list[Found] = []
        self._remarks: list[Remark] = []
        self._names: set[str] = set()

    def remark(self, line: int, text: str) -> None:
        """Note what is not carried over."""
        if len(self._remarks) < MAX_REMARKS:
            self._remarks.append(Remark(line, text[:500]))

    def reading(self) -> Reading:
        """All there is."""
        return Reading(self.kind, tuple(self.connections), tuple(sorted(set(self._remarks), key=lambda r: r.line)))

    def add(self, name: str, kind: str, line: int) -> Found | None:
        """A new connection; None where there are too many."""
        if len(self.connections) >= MAX_CONNECTIONS:
            self.remark(line, f"{_quoted(name)} is left out: a gateway has at most {MAX_CONNECTIONS} connections")
            return None
        proper = self._name(name, line)
        found = Found(proper, kind, line)
        self.connections.append(found)
        return found

    def _name(self, name: str, line: int) -> str:
        proper = re.sub(r"[^A-Za-z0-9_.+-]+", "-", name).lstrip("_.+-")[:56] or "connection"
        unique, number = proper, 2
        while unique in self._names:
            unique = f"{proper}-{number}"
            number += 1
        self._names.add(unique)
        if unique != name:
            self.remark(line, f"the name {_quoted(name)} became {unique}: names are letters and digits, each used once")
        return unique

    # ---- values, each with what to say where it cannot be used

    def host(self, text: str, line: int, what: str) -> str:
        """A host as our settings take it; '' with a remark where it is none."""
        host = text.strip().strip("[]")
        if host and fields.is_host(host):
            return host
        self.remark(line, f"{what} {_quoted(text)} is not a host: set server by hand")
        return ""

    def uri(self, text: str, line: int, what: str) -> Uri | None:
        """A SIP URI, in angle brackets or bare, a bare host too."""
        text = text.strip()
        if not re.match(r"(?i)\s*(<|\"|sips?:)", text):
            text = f"sip:{text}"
        try:
            uri = parse_name_addr(text if "<" in text else f"<{text}>").parsed_uri
        except ParseError:
            uri = None
        if uri is not None and uri.scheme in ("sip", "sips") and fields.is_host(uri.host):
            return uri
        self.remark(line, f"{what} {_quoted(text)} is not a SIP address")
        return None

    def transport(self, text: str, line: int) -> str:
        """udp, tcp or tls; '' with a remark for another."""
        text = text.strip().lower()
        if text in _TRANSPORTS or not text:
            return text
        self.remark(line, f"transport {_quoted(text)} is not one towards a PBX: udp, tcp and tls are")
        return ""

    def server(self, settings: dict[str, Any], uri: Uri, line: int, transport: str = "") -> None:
        """Server, port and transport out of a URI; `transport` is that of its surroundings."""
        settings["server"] = uri.host.strip("[]")
        if uri.port:
            settings["port"] = uri.port
        chosen = "tls" if uri.scheme == "sips" else self.transport(uri.param("transport") or "", line) or transport
        if chosen and chosen != "udp":
            settings["transport"] = chosen

    def networks(self, texts: Iterable[str], line: int) -> list[str]:
        """`allow_from` out of addresses, networks and names; what is none of them is remarked on."""
        kept: list[str] = []
        for text in texts:
            address, slash, mask = text.strip().partition("/")
            plain = address.strip("[]") + slash + mask
            if plain and not _may_be_allowed(plain):
                self.remark(line, f"{_quoted(text)} is not an address, network or name: set allow_from by hand")
            elif plain and plain not in kept:
                kept.append(plain)
        return kept

    def codecs(self, names: Iterable[str], line: int) -> list[str]:
        """The codecs the gateway offers to PBXs, in this order."""
        kept: list[str] = []
        known = {**_CODECS, **{name.lower(): name for name in learnt()}}  # beside the core's those of plugins
        for name in names:
            plain = name.strip().lower().partition("@")[0].partition("/")[0]
            codec = known.get(plain) or known.get(_WIDE.get(plain, "").lower())
            if codec is None:
                has = ", ".join(sorted(set(known.values()), key=str.lower))
                self.remark(line, f"codec {_quoted(name)} is not carried over: the gateway has {has}")
            elif codec not in kept:
                kept.append(codec)
        return kept

    def dtmf(self, text: str, line: int) -> str:
        """How digits go to the PBX; '' where nothing has to be said."""
        way = _DTMF.get(text.strip().lower())
        if way is None:
            self.remark(line, f"digits by {_quoted(text)} are not carried over: the gateway has rfc4733, info, inband")
        return way or ""

    def pattern(self, text: str, line: int) -> str:
        """A dial pattern as it is; one that has probably lost its backslashes is remarked on."""
        meant = lost_backslash(text)
        if meant is not None:
            self.remark(line, f"dial pattern {text} may have lost a backslash: write '{meant}' if digits are meant")
        return text

    def number(self, text: object, line: int, what: str, low: int, high: int) -> int | None:
        """A whole number within bounds; None with a remark where it is none."""
        try:
            value = int(str(text).strip()[:12])
        except ValueError:
            self.remark(line, f"{what} {_quoted(text)} is not a number")
            return None
        if not low <= value <= high:
            kept = min(max(value, low), high)
            self.remark(line, f"{what} {value} became {kept}: it has to be {low} to {high}")
            return kept
        return value


def _may_be_allowed(text: str) -> bool:
    try:
        parse_network(text)
    except ValueError:
        return fields.is_host(text)
    return True


def user_of(uri: Uri) -> str:
    """The user part of a URI as settings take it."""
    return uri.user or ""


def _quoted(text: object) -> str:
    clipped = str(text)
    return f'"{clipped[:57]}..."' if len(clipped) > 60 else f'"{clipped}"'


__all__ = ["ForeignError", "Found", "Reader", "Reading", "Remark", "user_of"]
