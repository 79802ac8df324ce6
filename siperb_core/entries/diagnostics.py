"""An entry as it can be shown to anybody: keys, types and values with every secret taken out, and SIP text likewise.

Taken out is what a name calls a secret and what is one: the values of `Secret`, wherever else they stand in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from siperb_core.entries.model import Entry, Secret

KEPT_EXCHANGES = 4
"""Requests of a connection type, with their answers, that are remembered."""
MAX_SIP = 8192
"""Octets of a message that are remembered."""
HIDDEN: Final = "***"
_MAX_ITEMS = 1000
_MAX_DEPTH = 12
_SHORTEST = 4
"""Characters of a secret that is looked for in other text: a shorter one would blot out half of it."""

_SECRET_KEY: Final = re.compile(r"(?i)pass|secret|token|\bkey\b|_key$|credential|authorization|cookie|\bpin\b|_pin$")
_SECRET_HEADER: Final = re.compile(
    r"(?im)^(authorization|proxy-authorization|authentication-info|proxy-authentication-info|cookie|set-cookie"
    r"|x-[a-z0-9-]*(?:token|secret|key|auth|password)[a-z0-9-]*)[ \t]*:[ \t]*((?:.|\r?\n[ \t])*)"
)
_DIGEST_SHOWN: Final = re.compile(r'(?i)\b(username|realm|uri|algorithm|qop|nc)\s*=\s*("(?:[^"\\\r\n]|\\.)*"|[^\s,"]+)')
_URI_PASSWORD: Final = re.compile(r"(?i)\b(sips?:[^\s:@<>;?\"]{1,200}):[^\s@<>]{1,200}@")
_SDP_SECRET: Final = re.compile(r"(?im)^(a=(?:crypto:\d{1,9} \S{1,80}|ice-pwd|key-mgmt)|k=[a-z0-9]+)([ :])[^\r\n]*")
_PARAMETER: Final = re.compile(
    r"(?i)([;?&,\s][\w.-]{0,40}(?:password|passwd|secret|token)[\w.-]{0,40}\s*=\s*)(\"[^\"\r\n]*\"|[^\s;,&>\"]+)"
)


@attrs.frozen
class Exchange:
    """A request a connection type has sent, and what came back: octets, as they were. `when` is seconds since the
    epoch.
    """

    when: float
    request: bytes = attrs.field(repr=False)
    response: bytes = attrs.field(repr=False)
    error: str = ""

    def as_json(self, secrets: Iterable[str]) -> dict[str, Any]:
        """With every secret taken out."""
        known = tuple(secrets)
        return {
            "when": self.when,
            "request": redacted_sip(self.request, known),
            "response": redacted_sip(self.response, known),
            "error": without(self.error, known),
        }


def describe(entry: Entry, secrets: Iterable[str] = ()) -> dict[str, Any]:
    """An entry's configuration: every key with its type, and its value without its own secrets and these."""
    known = (*secrets_of(entry), *secrets)
    shown = attrs.asdict(entry, recurse=False)
    return {key: _described(key, value, known, 0) for key, value in shown.items()}


def secrets_of(value: object) -> tuple[str, ...]:
    """The text of every secret in a configuration, longest first; those too short to be told from other text are
    left out.
    """
    found: set[str] = set()
    _collect("", value, found, 0)
    return tuple(sorted((text for text in found if len(text) >= _SHORTEST), key=len, reverse=True))


def redacted(value: object, secrets: Iterable[str] = ()) -> Any:
    """JSON values with secrets replaced: those under a name that says so, and the given texts anywhere."""
    return _redacted("", value, tuple(secrets), 0)


def redacted_sip(data: bytes, secrets: Iterable[str] = ()) -> str:
    """A message as text, at most `MAX_SIP` octets: credentials, SDES and ICE secrets, passwords in URIs replaced.

    Of a digest answer user, realm, URI and algorithm stay; the response, which can be tried against a list of
    passwords, does not, nor does any other scheme's token.
    """
    text = data[:MAX_SIP].decode("utf-8", "replace")
    text = _SECRET_HEADER.sub(_header, text)
    text = _URI_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _SDP_SECRET.sub(rf"\1\2{HIDDEN}", text)
    text = _PARAMETER.sub(rf"\1{HIDDEN}", text)
    return without(text, secrets)


def without(text: str, secrets: Iterable[str]) -> str:
    """A text with these secrets replaced wherever they stand."""
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, HIDDEN)
    return text


def _header(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    scheme = value.split(None, 1)[0] if value.split() else ""
    if scheme.lower() != "digest" or name.lower() not in ("authorization", "proxy-authorization"):
        return f"{name}: {HIDDEN}"
    shown = ", ".join(f"{key}={text}" for key, text in _DIGEST_SHOWN.findall(value))
    return f"{name}: Digest {shown}, response={HIDDEN}"


def _described(key: str, value: object, secrets: tuple[str, ...], depth: int) -> Any:
    if attrs.has(type(value)) and depth < _MAX_DEPTH:
        inner = attrs.asdict(value, recurse=False)  # type: ignore[arg-type]
        return {name: _described(name, item, secrets, depth + 1) for name, item in inner.items()}
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        return {str(name): _described(str(name), item, secrets, depth + 1) for name, item in _first(value.items())}
    return {"type": _kind(value), "value": _redacted(key, value, secrets, depth)}


def _redacted(key: str, value: object, secrets: tuple[str, ...], depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Secret) or _SECRET_KEY.search(key):
        return HIDDEN if value not in ("", (), []) and not (isinstance(value, Secret) and not value) else ""
    if depth > _MAX_DEPTH:
        return HIDDEN
    if isinstance(value, int | float):
        return value
    if attrs.has(type(value)):
        value = attrs.asdict(value, recurse=False)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return {
            without(str(name), secrets): _redacted(str(name), item, secrets, depth + 1)
            for name, item in _first(value.items())
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", item, secrets, depth + 1) for item in _first(value)]
    return without(_URI_PASSWORD.sub(rf"\1:{HIDDEN}@", str(value)), secrets)


def _collect(key: str, value: object, found: set[str], depth: int) -> None:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, Secret):
        found.add(value.reveal())
    elif isinstance(value, str):
        if _SECRET_KEY.search(key):
            found.add(value)
    elif isinstance(value, Mapping):
        for name, item in _first(value.items()):
            _collect(str(name), item, found, depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in _first(value):
            _collect(key, item, found, depth + 1)
    elif attrs.has(type(value)):
        for name, item in attrs.asdict(value, recurse=False).items():  # type: ignore[arg-type]
            _collect(name, item, found, depth + 1)


def _first(items: Iterable[Any]) -> list[Any]:
    return [item for item, _ in zip(items, range(_MAX_ITEMS), strict=False)]


def _kind(value: object) -> str:
    if isinstance(value, Path):
        return "path"
    return {"str": "text", "bool": "bool", "int": "number", "float": "number", "tuple": "list", "Secret": "secret"}.get(
        type(value).__name__, "none" if value is None else type(value).__name__.lower()
    )
