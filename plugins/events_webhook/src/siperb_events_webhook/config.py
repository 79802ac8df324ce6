"""The table `[plugins.events_webhook]` of the configuration file."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from siperb_core import Secret
from siperb_events_webhook.events import NAMES

TABLE: Final = "plugins.events_webhook"
SHORTEST_SECRET: Final = 16
"""Characters: whoever sees one POST can try shorter ones against its signature."""
_LARGEST_SECRET: Final = 4096  # octets of a secret's file
_MOST_TIMEOUT: Final = 120.0
_QUEUE: Final = (10, 1_000_000)
_NONE: Final = Secret("")


class WebhookConfigError(ValueError):
    """The table is wrong. One line per mistake: `path: what is wrong: how to mend it`; no line holds a secret."""


@attrs.frozen
class WebhookConfig:
    """Where events go, and which.

    `url` and `secret` are kept as secrets: a receiver's address often has a password or a token in it.
    """

    url: Secret = _NONE  # https://..., or { env = ... }, { file = ... }: it may hold a token
    secret: Secret = _NONE  # what POSTs are signed with: 16 characters or more
    events: tuple[str, ...] = (  # which; * stands for any text
        *("call.*", "registration.added", "registration.removed", "connection.*"),
    )
    timeout: float = 10.0  # seconds the receiver has for its answer, from connecting to the last octet
    max_queue: int = 1000  # events that wait for the receiver; the oldest are dropped beyond
    ca: str = ""  # file of trusted certificates; default the system's
    allow_plain_http: bool = False  # http:// to other machines: anybody on the way can read the events

    @property
    def names(self) -> frozenset[str]:
        """The events that are sent."""
        return frozenset(name for name in NAMES if any(fnmatchcase(name, wanted) for wanted in self.events))

    @property
    def receiver(self) -> str:
        """Scheme, host and port: what of the URL may be shown."""
        parts = urlsplit(self.url.reveal())
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"

    @classmethod
    def from_table(cls, table: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> WebhookConfig:
        """Check the table and give the configuration; `WebhookConfigError` names all mistakes at once."""
        reader = _Reader(table, environment)
        config = cls(
            url=reader.secret("url", "https://hooks.example.net/siperb"),
            secret=reader.secret("secret", "what the receiver checks signatures with"),
            events=reader.events(cls().events),
            timeout=reader.number("timeout", 10.0, 1.0, _MOST_TIMEOUT),
            max_queue=int(reader.number("max_queue", 1000, *_QUEUE, whole=True)),
            ca=reader.file("ca"),
            allow_plain_http=reader.flag("allow_plain_http"),
        )
        reader.unknown({field.name for field in attrs.fields(cls)})
        if config.url:
            reader.url(config.url.reveal(), plain=config.allow_plain_http)
        if config.secret and len(config.secret.reveal()) < SHORTEST_SECRET:
            reader.wrong(
                "secret", f"is shorter than {SHORTEST_SECRET} characters", "take the output of `openssl rand -hex 32`"
            )
        if reader.mistakes:
            raise WebhookConfigError("\n".join(reader.mistakes))
        return config


class _Reader:
    """Takes values out of the table and collects what is wrong with them."""

    def __init__(self, table: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._table = table
        self._environment = environment
        self.mistakes: list[str] = []

    def wrong(self, key: str, what: str, mend: str) -> None:
        self.mistakes.append(f"{TABLE}.{key}: {what}: {mend}")

    def unknown(self, known: set[str]) -> None:
        for key in self._table:
            if key not in known:
                self.wrong(key[:60], "unknown key", f"remove it; the keys are {', '.join(sorted(known))}")

    def secret(self, key: str, what: str) -> Secret:
        """`{ env = "NAME" }`, `{ file = "/path" }`, or the text itself."""
        value = self._table.get(key)
        if value is None:
            self.wrong(key, "is missing", f"write {what}")
        elif isinstance(value, str) and value:
            return self._text(key, value, literal=True)
        elif isinstance(value, Mapping) and len(value) == 1:
            ((source, name),) = value.items()
            if source == "env" and isinstance(name, str):
                found = self._environment.get(name)
                if found:
                    return self._text(key, found)
                self.wrong(key, f"environment variable {name[:60]} is not set", "set it where the gateway is started")
                return _NONE
            if source == "file" and isinstance(name, str):
                return self._of_file(key, Path(name))
            self.wrong(key, "is neither text nor a source of it", 'write { env = "NAME" } or { file = "/path" }')
        else:
            self.wrong(key, "is no text", 'write { env = "NAME" }, { file = "/path" } or the text in quotes')
        return _NONE

    def _of_file(self, key: str, path: Path) -> Secret:
        if not path.is_absolute():
            self.wrong(key, f"file {path} is not an absolute path", "write it from the root, /run/secrets/webhook say")
            return _NONE
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST_SECRET + 1)
            if len(data) > _LARGEST_SECRET:
                raise ValueError(f"is larger than {_LARGEST_SECRET} octets")
            return self._text(key, data.decode("utf-8").rstrip("\r\n"))
        except UnicodeDecodeError:
            self.wrong(key, f"file {path} is not UTF-8 text", "write it as text")
        except OSError as error:
            self.wrong(key, f"file {path} cannot be read ({error.strerror})", "mend the path or its permissions")
        except ValueError as error:
            self.wrong(key, f"file {path} {error}", "put the text alone into it")
        return _NONE

    def _text(self, key: str, text: str, *, literal: bool = False) -> Secret:
        if not text or any(ord(char) < 32 or ord(char) == 127 for char in text):
            self.wrong(key, "is empty or has control characters in it", "write one line of text")
            return _NONE
        return Secret(text, literal=literal)

    def url(self, text: str, *, plain: bool) -> None:
        """An address for a webhook; what is wrong with it is said without it."""
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("https", "http") or any(char.isspace() for char in text):
            self.wrong("url", "is no web address", 'write it as "https://hooks.example.net/siperb"')
        elif parts.scheme == "http" and not plain and not _is_loopback(host):
            self.wrong("url", "is http:// to another machine", "use https://, or set allow_plain_http = true")

    def events(self, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self._table.get("events", list(default))
        if (
            not isinstance(value, Sequence)
            or isinstance(value, str)
            or not all(isinstance(item, str) for item in value)
        ):
            self.wrong("events", "is no list of text", 'write it as ["call.*"]')
            return default
        for item in value:
            if not any(fnmatchcase(name, item) for name in NAMES):
                self.wrong("events", f'there is no event "{item[:60]}"', f"take of {', '.join(NAMES)}")
        if not value:
            self.wrong("events", "is empty", "name at least one, or leave it out")
        return tuple(value)

    def number(self, key: str, default: float, low: float, high: float, *, whole: bool = False) -> float:
        value = self._table.get(key, default)
        fits = isinstance(value, int) or (isinstance(value, float) and not whole)
        if isinstance(value, bool) or not fits or not low <= value <= high:
            self.wrong(key, "is out of range or no number", f"use {low:g} to {high:g}")
            return default
        return float(value)

    def flag(self, key: str) -> bool:
        value = self._table.get(key, False)
        if not isinstance(value, bool):
            self.wrong(key, "is neither true nor false", "write true or false, without quotes")
            return False
        return value

    def file(self, key: str) -> str:
        value = self._table.get(key, "")
        if not isinstance(value, str):
            self.wrong(key, "is no path", 'write it in quotes, "/etc/ssl/own-ca.pem"')
            return ""
        try:
            if value:
                ssl.create_default_context(cafile=value)
        except (OSError, ValueError):  # an SSLError is an OSError
            mend = "mend the path, or leave it out for the system's"
            self.wrong(key, f"{value[:200]} cannot be read as certificates in PEM", mend)
        return value


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
