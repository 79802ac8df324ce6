"""`--server pbx.example.com --users alice,bob`: options of a command as values of the configuration, by the types of
its keys.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from siperb_core.cli.output import USAGE, CommandError
from siperb_core.entries.contract import ConnectionType
from siperb_core.entries.editing import DidEdit
from siperb_core.entries.model import Secret
from siperb_core.entries.source import EntryKeys

_TRUE = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def keys_of(cls: type[Any]) -> dict[str, Any]:
    """The keys of a config class, with their types."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in attrs.fields(cls) if field.init}


_DID = ("did", "did_add", "did_remove")


def take_did(options: Mapping[str, str]) -> tuple[dict[str, str], DidEdit | None]:
    """The options that are not about the `did` table, and what those that are say of it; None where none is.

    `--did PATTERN=USER,USER;PATTERN=USER` is the whole table, `--did-add` puts such rows in, `--did-remove
    PATTERN;PATTERN` takes some out. Raises CommandError for a row that is none.
    """
    rest: dict[str, str] = {}
    found: dict[str, str] = {}
    for option, text in options.items():
        key = option.replace("-", "_")
        (found if key in _DID else rest)[key if key in _DID else option] = text
    if not found:
        return rest, None
    only = _rows(found["did"], "did") if "did" in found else None
    remove = tuple(text.strip() for text in found.get("did_remove", "").split(";") if text.strip())
    return rest, DidEdit(only, _rows(found.get("did_add", ""), "did-add"), remove)


def _rows(text: str, option: str) -> dict[str, tuple[str, ...]]:
    rows = {}
    for row in filter(None, (row.strip() for row in text.split(";"))):
        pattern, equals, users = row.rpartition("=")
        rung = tuple(user.strip() for user in users.split(",") if user.strip())
        if not (pattern.strip() and equals and rung):
            raise CommandError(f'--{option} "{row}" is not a row: write PATTERN=USER, several with ; between', USAGE)
        rows[pattern.strip()] = rung
    return rows


def split_options(options: Mapping[str, str], found: ConnectionType) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Options as (keys of the entry, keys of its settings, whether a secret is among them as text).

    A secret `password` is also given as `--password-env NAME` or `--password-file PATH`; `--password -` reads it from
    standard input. Raises CommandError for an option that is no key, or a value that is not of the key's type.
    """
    entry_keys, setting_keys = keys_of(EntryKeys), keys_of(found.config_class)
    entry: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    literal = False
    for option, text in options.items():
        key = option.replace("-", "_")
        if key in setting_keys:
            settings[key] = value(setting_keys[key], text, option)
            literal = literal or setting_keys[key] is Secret
        elif key in entry_keys and key not in ("name", "type"):
            entry[key] = _replacing(text) if key == "replace" else value(entry_keys[key], text, option)
        elif (source := secret_source(key, text)) is not None and setting_keys.get(source[0]) is Secret:
            settings[source[0]] = source[1]
        else:
            names = sorted({*entry_keys, *setting_keys, *_DID} - {"name", "type", "version"})
            known = ", ".join("--" + name.replace("_", "-") for name in names)
            near = get_close_matches(key, names, 1)
            meant = f"did you mean --{near[0].replace('_', '-')}? " if near else ""
            raise CommandError(f"--{option} is not an option of {found.kind}: {meant}it has {known}", USAGE)
    return entry, settings, literal


def _replacing(text: str) -> list[str]:
    """`PATTERN,REPLACEMENT`: the last comma parts them, since what is dialled has none; nothing for no replacing."""
    return text.rsplit(",", 1) if text else []


def secret_source(key: str, text: str) -> tuple[str, dict[str, str]] | None:
    """`password_env` and `password_file` as the key and the table that goes into the file."""
    for suffix in ("env", "file"):
        if key.endswith(f"_{suffix}"):
            return key.removesuffix(f"_{suffix}"), {suffix: text}
    return None


def value(kind: Any, text: str, option: str) -> Any:
    """One value by its type."""
    if get_origin(kind) in (Union, types.UnionType):
        choices = [choice for choice in get_args(kind) if choice is not type(None)]
        return value(choices[0], text, option) if len(choices) == 1 else text
    if get_origin(kind) is tuple:
        return [value(get_args(kind)[0], item.strip(), option) for item in text.split(",") if item.strip()]
    if get_origin(kind) is Literal or kind in (str, Path):
        return text
    if kind is Secret:
        return sys.stdin.readline().rstrip("\r\n") if text == "-" else text
    if kind is bool:
        if text.lower() in _TRUE:
            return _TRUE[text.lower()]
        raise CommandError(f'--{option} "{text}" is neither true nor false: write one of them', USAGE)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise CommandError(f'--{option} "{text}" is not a number: write one', USAGE) from None
    return text
