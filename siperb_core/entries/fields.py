"""Validators for the fields of config classes: the core's own and those of connection types.

Each is an attrs validator and raises ValueError("what is wrong: how to mend it"), which `siperb check` prints behind
the path.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sized
from typing import Any

Validator = Callable[[Any, Any, Any], None]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]{1,32}")
_USER = re.compile(r"(?:[A-Za-z0-9_.!~*'()&=+$,;?/-]|%[0-9A-Fa-f]{2}){1,128}")


def is_name(value: str) -> bool:
    """Whether a text may be the name of a device, user or connection."""
    return _NAME.fullmatch(value) is not None


def name(instance: Any, attribute: Any, value: str) -> None:
    """A name of a device, user or connection: letters, digits and `_ . + -`, at most 64."""
    if not is_name(value):
        raise ValueError(
            f'"{value[:70]}" cannot be a name: '
            'use letters, digits, "_", ".", "+" and "-", at most 64, a letter or digit first'
        )


def name_or_all(instance: Any, attribute: Any, value: tuple[str, ...]) -> None:
    """A list of names, or `["*"]`."""
    for item in value:
        if item != "*":
            name(instance, attribute, item)


def methods(instance: Any, attribute: Any, value: tuple[str, ...]) -> None:
    """A list of SIP methods, not empty."""
    if not value:
        raise ValueError("is empty, so nothing could pass: leave it out for all methods, or set enabled = false")
    for item in value:
        if not _TOKEN.fullmatch(item) or item != item.upper():
            raise ValueError(f'"{item[:40]}" is not a SIP method: write it in capitals, such as "INVITE"')


def port(instance: Any, attribute: Any, value: int | None) -> None:
    """A port to send to: 1 to 65535."""
    if value is not None and not 1 <= value <= 65535:
        raise ValueError(f"{value} is not a port: use 1 to 65535")


def between(low: float, high: float, unit: str = "") -> Validator:
    """A number from `low` to `high`, both included."""

    def check(instance: Any, attribute: Any, value: float) -> None:
        if not low <= value <= high:
            raise ValueError(f"{value} is out of range: use {low:g} to {high:g}{' ' + unit if unit else ''}")

    return check


def not_empty(instance: Any, attribute: Any, value: Sized) -> None:
    """A list with something in it."""
    if not value:
        raise ValueError("is empty: name at least one, or leave it out")


def at_most(characters: int) -> Validator:
    """A text of no more characters than that."""

    def check(instance: Any, attribute: Any, value: str) -> None:
        if len(value) > characters:
            raise ValueError(f"is {len(value)} characters long: use at most {characters}")

    return check


def is_host(value: str) -> bool:
    """Whether a text is an address (v6 with or without brackets) or a DNS name."""
    if value.startswith("[") and value.endswith("]"):
        value = value[1:-1]
    try:
        ipaddress.ip_address(value)
    except ValueError:
        labels = value.removesuffix(".").split(".")
        return len(value) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()
    return "%" not in value


def host(instance: Any, attribute: Any, value: str) -> None:
    """A DNS name or an address."""
    if not is_host(value):
        mend = (
            "write the port under port"
            if re.fullmatch(r"[^:]+:\d+", value)
            else "write a name such as pbx.example.com, or an address"
        )
        raise ValueError(f'"{value[:70]}" is not a host: {mend}')


def host_or_empty(instance: Any, attribute: Any, value: str) -> None:
    """As `host`, or the empty text."""
    if value:
        host(instance, attribute, value)


def user(instance: Any, attribute: Any, value: str) -> None:
    """The user part of a SIP URI, escaped where it has to be (RFC 3261 section 25.1)."""
    if not _USER.fullmatch(value):
        raise ValueError(
            f'"{value[:70]}" cannot stand in a SIP address: write it without spaces and "@", others escaped as %20'
        )


def user_or_empty(instance: Any, attribute: Any, value: str) -> None:
    """As `user`, or the empty text."""
    if value:
        user(instance, attribute, value)


def host_port(text: str) -> tuple[str, int | None] | None:
    """`host`, `host:port`, `[v6]`, `[v6]:port` taken apart, brackets removed; None where it is none of these."""
    match = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]*)(?::(\d{1,5}))?", text)
    if match is None:
        return None
    host_text, port_text = match.groups()
    number = int(port_text) if port_text else None
    if number is not None and number > 65535:
        return None
    return host_text.strip("[]"), number
