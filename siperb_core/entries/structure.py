"""A TOML table into an attrs class, every mistake found at once and named by its path.

The class is the schema: field names are the keys, annotations the types, defaults and validators the rest. A
validator raises ValueError("what is wrong: how to mend it"). Types known: str, bool, int, float, Secret, Path,
Literal, tuple[X, ...], X | None, attrs classes; any other goes to cattrs.
"""

from __future__ import annotations

import math
import os
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs

from siperb_core.entries.model import Secret

MAX_ITEMS = 10_000  # of a list
MAX_TEXT = 8192  # characters of a string
MAX_SECRET = 4096  # octets of a secret's file

T = TypeVar("T")
_FAILED: Any = object()
_NAMES = {dict: "a table", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


def printable(text: str) -> str:
    """A text on one line of a terminal: control characters and what is no character become visible."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@attrs.frozen
class Problem:
    """One mistake: where, what, and how to mend it. `connection` is the entry it is about, where it is about one.

    `environment`: the file may be right, it is a variable of this process's environment that is missing.
    """

    path: str = attrs.field(converter=printable)
    wrong: str = attrs.field(converter=printable)
    mend: str = attrs.field(converter=printable)
    connection: str | None = None
    environment: bool = False

    def __str__(self) -> str:
        return f"{self.path}: {self.wrong}: {self.mend}"


@lru_cache(maxsize=256)
def _schema(cls: type[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Types and fields of an attrs class, by name. To evaluate annotations takes longer than all else here."""
    return typing.get_type_hints(cls), {field.name: field for field in attrs.fields(cls) if field.init}


@attrs.define
class Structurer:
    """Collects the problems of one file. Relative paths are relative to `base`."""

    base: Path
    problems: list[Problem] = attrs.field(factory=list)
    warnings: list[Problem] = attrs.field(factory=list)
    literals: list[str] = attrs.field(factory=list)  # paths of secrets written into the file itself
    connection: str | None = None  # the entry being read

    def wrong(self, path: str, wrong: str, mend: str) -> Any:
        """Note a mistake; returns the mark of a value that is none."""
        self.problems.append(Problem(path, wrong, mend, self.connection))
        return _FAILED

    def warn(self, path: str, wrong: str, mend: str) -> None:
        """Note something that works but is probably not meant."""
        self.warnings.append(Problem(path, wrong, mend, self.connection))

    def instance(self, cls: type[T], data: object, path: str) -> T | None:
        """An instance of an attrs class, or None when there was a mistake anywhere in it."""
        before = len(self.problems)
        values = self.values(cls, data, path)
        if len(self.problems) > before:
            return None
        try:
            return cls(**values)
        except (ValueError, TypeError) as error:  # a check across fields, in __attrs_post_init__
            self.wrong(path, *_split(error))
            return None

    def values(self, cls: type[Any], data: object, path: str) -> dict[str, Any]:
        """The fields of an attrs class that are in the table and right; every mistake is noted."""
        if not isinstance(data, Mapping):
            self.wrong(path, f"is {_kind(data)}", "make it a table")
            return {}
        values: dict[str, Any] = {}
        hints, fields = _schema(cls)  # type: ignore[arg-type]  # mypy: no class is hashable
        for key in data:
            if key not in fields:
                known = ", ".join(sorted(fields)) or "none"
                self.wrong(_join(path, key), "unknown key", f"known here are {known}")
        for name, field in fields.items():
            where = _join(path, name)
            if name not in data:
                if field.default is attrs.NOTHING:
                    self.wrong(where, "is missing", f"add {name} = {_example(hints[name])}")
                continue
            value = self.value(hints[name], data[name], where)
            if value is not _FAILED and self._valid(field, value, where):
                values[name] = value
        return values

    def _valid(self, field: Any, value: object, path: str) -> bool:
        if field.converter is None and field.validator is not None:
            try:
                field.validator(None, field, value)
            except (ValueError, TypeError) as error:
                self.wrong(path, *_split(error))
                return False
            except AttributeError:
                pass  # a validator that looks at the whole instance: it runs when the instance is made
        return True

    def value(self, kind: Any, data: object, path: str) -> Any:
        """A value of the annotated type, or a noted mistake."""
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            return self._union(get_args(kind), data, path)
        if origin is Literal:
            choices = get_args(kind)
            if data in choices and isinstance(data, type(choices[0])):
                return data
            return self.wrong(path, f"{_show(data)} is not known", "use " + _either(choices))
        if origin is tuple:
            return self._list(get_args(kind)[0], data, path)
        if kind is Any:
            return data
        if kind is Secret:
            return self.secret(data, path)
        if kind is Path:
            text = self.value(str, data, path)
            return text if text is _FAILED else self.base / text
        if kind is bool or kind is str or kind is int or kind is float:
            return self._scalar(kind, data, path)
        if attrs.has(kind):
            made = self.instance(kind, data, path)
            return _FAILED if made is None else made
        return self._other(kind, data, path)

    def _scalar(self, kind: type, data: object, path: str) -> Any:
        if kind is float and type(data) is int:
            return data
        if type(data) is not kind:
            return self.wrong(
                path, f"is {_kind(data)}, {_show(data)}", f"write {_NAMES[kind]}, such as {_example(kind)}"
            )
        if kind is str:
            text = typing.cast(str, data)
            if len(text) > MAX_TEXT:
                return self.wrong(path, f"is {len(text)} characters long", f"use at most {MAX_TEXT}")
            if any(ord(char) < 32 or ord(char) == 127 for char in text):
                return self.wrong(path, "holds a control character", "take it out")
        if kind is float and not math.isfinite(typing.cast(float, data)):
            return self.wrong(path, "is not a finite number", "write one that is")
        return data

    def _list(self, kind: Any, data: object, path: str) -> Any:
        if not isinstance(data, list):
            return self.wrong(path, f"is {_kind(data)}, {_show(data)}", f"write a list, such as [{_example(kind)}]")
        if len(data) > MAX_ITEMS:
            return self.wrong(path, f"has {len(data)} items", f"use at most {MAX_ITEMS}")
        items = [self.value(kind, item, f"{path}[{index}]") for index, item in enumerate(data)]
        return _FAILED if any(item is _FAILED for item in items) else tuple(items)

    def _union(self, kinds: tuple[Any, ...], data: object, path: str) -> Any:
        others = [kind for kind in kinds if kind is not type(None)]
        if len(others) < len(kinds) and data == "":
            return None
        if len(others) == 1:
            return self.value(others[0], data, path)
        for kind in others:
            attempt = Structurer(self.base)
            value = attempt.value(kind, data, path)
            if not attempt.problems:
                return value
        return self.value(others[-1], data, path)

    def _other(self, kind: Any, data: object, path: str) -> Any:
        import cattrs  # only where a type of a plugin's own needs it: it is slow to import

        try:
            return cattrs.structure(data, kind)
        except Exception as error:
            # cattrs raises groups and whatever the type's own constructor does: the first leaf says it best
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]  # type: ignore[assignment]
            return self.wrong(path, f"{_show(data)} does not fit ({error})", "see the connection type's page")

    def secret(self, data: object, path: str) -> Any:
        """A secret: `{ env = "NAME" }`, `{ file = "path" }`, or the text itself."""
        if isinstance(data, str):
            text = self._scalar(str, data, path)
            if text is _FAILED:
                return text
            if text:
                self.literals.append(path)
            return Secret(text, literal=True)
        if isinstance(data, Mapping) and len(data) == 1:
            (source, name), *_ = data.items()
            if source == "env" and isinstance(name, str) and name:
                return self._secret_of_env(name, path)
            if source == "file" and isinstance(name, str) and name:
                return self._secret_of_file(self.base / name, name, path)
        return self.wrong(path, "is not a secret", 'write { env = "NAME" }, { file = "path" } or the text in quotes')

    def _secret_of_env(self, name: str, path: str) -> Any:
        text = os.environ.get(name)
        if text is None:
            wrong, mend = f"environment variable {name} is not set", "set it, or use { file = ... }"
            self.problems.append(Problem(path, wrong, mend, self.connection, environment=True))
            return _FAILED
        return self._checked(text, path, f"environment variable {name}")

    def _secret_of_file(self, file: Path, name: str, path: str) -> Any:
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_SECRET + 1)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            return self.wrong(path, f"file {name} cannot be read ({why})", "make it, readable for this user")
        if len(data) > MAX_SECRET:
            return self.wrong(path, f"file {name} is larger than {MAX_SECRET} octets", "put the secret alone into it")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return self.wrong(path, f"file {name} is not UTF-8 text", "write the secret as text")
        return self._checked(text.rstrip("\r\n"), path, f"file {name}")

    def _checked(self, text: str, path: str, source: str) -> Any:
        if not text:
            return self.wrong(path, f"{source} is empty", "write the secret into it")
        if any(ord(char) < 32 or ord(char) == 127 for char in text) or len(text) > MAX_SECRET:
            return self.wrong(path, f"{source} holds a control character or too much", "use one line of text")
        return Secret(text)


def failed(value: object) -> bool:
    """Whether a value is the mark of a mistake that was noted."""
    return value is _FAILED


def _join(path: str, key: object) -> str:
    text = _clip(str(key))
    return f"{path}.{text}" if path else text


def _split(error: Exception) -> tuple[str, str]:
    wrong, colon, mend = str(error).partition(": ")
    return (wrong, mend) if colon else (wrong or "is not valid", "see the reference of this key")


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _show(data: object) -> str:
    if isinstance(data, bool):
        return str(data).lower()
    if isinstance(data, str):
        return f'"{_clip(data)}"'
    return _clip(str(data)) if isinstance(data, int | float) else "something else"


def _kind(data: object) -> str:
    return next((name for kind, name in _NAMES.items() if type(data) is kind), "a date or time")


def _either(choices: tuple[Any, ...]) -> str:
    texts = [str(choice) for choice in choices]
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " or " + texts[-1]


def _example(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f'"{get_args(kind)[0]}"'
    if get_origin(kind) is tuple:
        return f"[{_example(get_args(kind)[0])}]"
    return {bool: "true", int: "10", float: "1.5", Secret: '{ env = "NAME" }'}.get(kind, '"..."')
