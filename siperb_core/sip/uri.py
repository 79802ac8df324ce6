"""SIP, SIPS and tel URIs (RFC 3261 section 19.1, RFC 3966)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import attrs

from siperb_core.sip.errors import ParseError
from siperb_core.sip.grammar import ABSOLUTE_URI, ONE_URI_PARAM, SIP_URI, TEL_URI

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_LONGEST_REMEMBERED = 200
_THREE_COLONS = re.compile(":::++")


@attrs.frozen
class Uri:
    """One URI. Everything is text as it was written, escapes and all, but for the host of an IPv6 reference, which
    stands here without its brackets.

    `sip` and `sips`: all fields. `tel`: `user` is the number, `host` is empty. Any other scheme: what follows the
    colon is in `host`, unread. `params` are (name, value) pairs, value None for a flag; `headers` are (name, value).
    """

    scheme: str
    user: str | None = None
    host: str = ""
    port: int | None = None
    params: tuple[tuple[str, str | None], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    password: str | None = None

    def param(self, name: str) -> str | None:
        """The value of a parameter, its name in any case: '' for a flag, None when absent."""
        name = name.lower()
        for key, value in self.params:
            if key.lower() == name:
                return value if value is not None else ""
        return None

    def with_(self, **changes: Any) -> Uri:
        """A copy with these fields changed."""
        return attrs.evolve(self, **changes)

    @property
    def user_unescaped(self) -> str:
        """The user part with its %-escapes resolved, for comparing and for reading, never for writing into a URI."""
        if self.user is None:
            return ""
        if "%" not in self.user:
            return self.user
        octets = _ESCAPE.sub(lambda m: bytes([int(m[1], 16)]), self.user.encode("utf-8", "surrogateescape"))
        return octets.decode("utf-8", "surrogateescape")

    @property
    def host_port(self) -> str:
        """`host` or `host:port`, an IPv6 address in brackets."""
        return host_port(self.host, self.port)

    def __str__(self) -> str:
        params = "".join(f";{k}" if v is None else f";{k}={v}" for k, v in self.params)
        if self.scheme == "tel":
            return f"tel:{self.user}{params}"
        if self.scheme not in ("sip", "sips"):
            return f"{self.scheme}:{self.host}"
        user = ""
        if self.user is not None:
            user = f"{self.user}@" if self.password is None else f"{self.user}:{self.password}@"
        headers = "?" + "&".join(f"{k}={v}" for k, v in self.headers) if self.headers else ""
        return f"{self.scheme}:{user}{host_port(self.host, self.port)}{params}{headers}"


def host_port(host: str, port: int | None) -> str:
    """`host` or `host:port` as it is written in a URI or a Via, an IPv6 address in brackets."""
    if ":" in host:
        host = f"[{host}]"
    return host if port is None else f"{host}:{port}"


def plain_host(text: str) -> str:
    """A host as the grammar matched it, without the brackets of an IPv6 reference and its three colons made two."""
    if text[0] != "[":
        return text
    text = text[1:-1]
    return _THREE_COLONS.sub("::", text) if ":::" in text else text


def plain_port(text: str | None) -> int | None:
    """A port as the grammar matched it. Raises ParseError above 65535."""
    if text is None:
        return None
    port = int(text)
    if port > 65535:
        raise ParseError("Port out of range")
    return port


def parse_uri(text: str) -> Uri:
    """Read one URI. Raises ParseError when it breaks the grammar of its scheme (RFC 3261 section 25.1)."""
    return _remembered(text) if len(text) <= _LONGEST_REMEMBERED else _read(text)


@lru_cache(maxsize=2048)
def _remembered(text: str) -> Uri:
    """Most URIs come again: those of devices and PBXs in every call, a call's own in all its requests."""
    return _read(text)


def _read(text: str) -> Uri:
    scheme = text.partition(":")[0].lower()
    if scheme in ("sip", "sips"):
        match = SIP_URI.fullmatch(text)
        if match is None:
            raise ParseError("Bad SIP URI")
        _, user, password, host, port, params, headers = match.groups()
        return Uri(
            scheme,
            user,
            plain_host(host),
            plain_port(port),
            _params(params),
            _headers(headers) if headers else (),
            password,
        )
    if scheme == "tel":
        match = TEL_URI.fullmatch(text)
        if match is None:
            raise ParseError("Bad tel URI")
        return Uri("tel", match[2], "", None, _params(match[3]))
    match = ABSOLUTE_URI.fullmatch(text)
    if match is None:
        raise ParseError("Bad URI")
    return Uri(match[1], None, match[2])


def _params(text: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((m[1], m[2]) for m in ONE_URI_PARAM.finditer(text)) if text else ()


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (pair.partition("=") for pair in text[1:].split("&"))
    return tuple((name, value) for name, _, value in pairs)
