"""The table `[plugins.events_webhook]` of the configuration file."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from siperb_core import Secret, fields
from siperb_events_webhook.events import NAMES

TABLE: Final = "plugins.events_webhook"
SHORTEST_SECRET: Final = 16
"""Characters: whoever sees one POST can try shorter ones against its signature."""


def _web_address(instance: Any, attribute: Any, value: Secret) -> None:
    """What is wrong with an address is said without it: it may hold a token."""
    text = value.reveal()
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("https", "http") or any(char.isspace() for char in text):
        raise ValueError('is no web address: write it as "https://hooks.example.net/siperb"')


def _long_enough(instance: Any, attribute: Any, value: Secret) -> None:
    if len(value.reveal()) < SHORTEST_SECRET:
        raise ValueError(f"is shorter than {SHORTEST_SECRET} characters: take the output of `openssl rand -hex 32`")


def _known_events(instance: Any, attribute: Any, value: Sequence[str]) -> None:
    fields.not_empty(instance, attribute, value)
    for item in value:
        if not any(fnmatchcase(name, item) for name in NAMES):
            raise ValueError(f'there is no event "{item[:60]}": take of {", ".join(NAMES)}')


def _certificates(instance: Any, attribute: Any, value: Path | None) -> None:
    try:
        if value is not None:
            ssl.create_default_context(cafile=value)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        wrong = f"{value} cannot be read, or holds no certificate"
        raise ValueError(f"{wrong}: mend the path, or leave it out for the system's") from error


@attrs.frozen
class WebhookConfig:
    """Where events go, and which.

    `url` and `secret` are kept as secrets: a receiver's address often has a password or a token in it.
    """

    url: Secret = attrs.field(validator=_web_address)  # https://...: a secret, it may hold a token
    secret: Secret = attrs.field(validator=_long_enough)  # what POSTs are signed with: 16 characters or more
    events: tuple[str, ...] = attrs.field(  # which; * stands for any text
        default=("call.*", "registration.added", "registration.removed", "connection.*"), validator=_known_events
    )
    timeout: float = attrs.field(default=10.0, validator=fields.between(1, 120, "seconds"))  # for an answer, seconds
    max_queue: int = attrs.field(default=1000, validator=fields.between(10, 1_000_000))  # events that wait
    ca: Path | None = attrs.field(default=None, validator=_certificates)  # trusted certificates; default the system's
    allow_plain_http: bool = False  # http:// to other machines: anybody on the way can read the events

    def __attrs_post_init__(self) -> None:
        parts = urlsplit(self.url.reveal())
        if parts.scheme == "http" and not self.allow_plain_http and not _is_loopback(parts.hostname or ""):
            raise ValueError("url is http:// to another machine: use https://, or set allow_plain_http = true")

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


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
