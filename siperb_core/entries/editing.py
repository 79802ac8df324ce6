"""siperb.toml, edited: comments and order are kept, the result is validated first and put in place in one step."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, KeyType, SingleKey, Table

from siperb_core.entries.contract import ConnectionType
from siperb_core.entries.source import MAX_FILE, LoadResult, load_text
from siperb_core.entries.structure import Problem

Kind = Literal["connection", "device"]


@attrs.frozen
class DidEdit:
    """What becomes of a `did` table: patterns, each with the users who ring.

    `only` is what it is to be; None leaves the rows there are, `add` puts some in or changes their users, `remove`
    takes some out.
    """

    only: Mapping[str, tuple[str, ...]] | None = None
    add: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    remove: tuple[str, ...] = ()


class EditError(Exception):
    """The edit cannot be made: one sentence with the mend. `problems` are the mistakes the file would have had after
    it.
    """

    def __init__(self, message: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class ConfigFile:
    """One file being edited; nothing is written before `save`."""

    def __init__(self, path: Path, types: Mapping[str, ConnectionType]) -> None:
        """Read the file. Raises EditError where it cannot be read."""
        self.path = path
        self._types = types
        try:
            with path.open("rb") as opened:
                self._before = opened.read(MAX_FILE + 1)
                self._mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            if len(self._before) > MAX_FILE:
                raise EditError(f"{path} is larger than 1 MiB: take out what is not configuration")
            self._document = tomlkit.parse(self._before.decode())
        except OSError as error:
            raise EditError(
                f"{path} cannot be read ({error.strerror}): make it, or name another with --config"
            ) from None
        except (TOMLKitError, UnicodeDecodeError, RecursionError) as error:
            raise EditError(f"{path} is not TOML ({error}): mend it by hand first") from None

    def add(
        self,
        kind: Kind,
        values: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        did: DidEdit | None = None,
    ) -> None:
        """Append a table. Raises EditError where there is one of its name."""
        name = values["name"]
        if any(table.get("name") == name for table in self._tables(kind)):
            raise EditError(f"there is a {kind} {name} already: edit it, or choose another name")
        table = tomlkit.table()
        _put(table, values)
        if settings is not None:
            inner = tomlkit.table()
            _put(inner, settings)
            table.add("settings", inner)
        if did is not None:
            _edit_did(table, did)
        if kind not in self._document:
            if not self._before.endswith(b"\n\n"):
                self._document.add(tomlkit.nl())
            self._document.append(kind, tomlkit.aot())
        self._tables(kind).append(table)

    def change(
        self,
        kind: Kind,
        name: str,
        values: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        did: DidEdit | None = None,
    ) -> None:
        """Set keys of a table and of its settings; the rest stays. Raises EditError where there is none of that
        name.
        """
        table = self._find(kind, name)
        _put(table, values)
        if settings:
            if "settings" not in table:
                table.add("settings", tomlkit.table())
            inner = table["settings"]
            assert isinstance(inner, Mapping)
            _put(inner, settings)
        if did is not None:
            _edit_did(table, did)

    def remove(self, kind: Kind, name: str) -> None:
        """Take a table out. Raises EditError where there is none of that name."""
        tables = self._tables(kind)
        tables.remove(self._find(kind, name))
        if not tables:
            self._document.remove(kind)

    def value(self, kind: Kind, name: str, key: str) -> str | None:
        """A text of the table of that name; None where there is no such table, or no such text in it."""
        for table in self._tables(kind):
            if table.get("name") == name and isinstance(table.get(key), str):
                return str(table[key])
        return None

    def names(self, kind: Kind) -> list[str]:
        """The names of all tables of that kind."""
        return [str(table["name"]) for table in self._tables(kind) if "name" in table]

    def flag(self, kind: Kind, name: str, key: str, *, default: bool) -> bool:
        """A switch of the table of that name. Raises EditError where there is no such table."""
        return bool(self._find(kind, name).get(key, default))

    def _tables(self, kind: Kind) -> Any:
        found = self._document.get(kind, [])
        if found and not isinstance(found, AoT):
            raise EditError(f"{kind} in {self.path} is not written as [[{kind}]]: mend it by hand first")
        return found

    def _find(self, kind: Kind, name: str) -> Table:
        for table in self._tables(kind):
            if table.get("name") == name:
                assert isinstance(table, Table)
                return table
        known = ", ".join(self.names(kind)[:20])
        there = f"there are {known}" if known else f"siperb {kind} add makes one"
        raise EditError(f"there is no {kind} {name} in {self.path}: {there}")

    def save(self, *, private: bool = False) -> LoadResult:
        """Validate, then replace the file in one step; what it says now.

        `private`: a secret was written into it, so nobody but its owner may read it from now on. Raises EditError
        where the edit brings a mistake that was not there before, or where the file cannot be written; the file is as
        it was then.
        """
        data = tomlkit.dumps(self._document).encode()
        before = load_text(self._before, self.path, self._types, private=True)
        result = load_text(data, self.path, self._types, private=True)
        known = {(problem.path, problem.wrong) for problem in before.problems}
        # The gateway's environment is not that of whoever edits: what is not set here may well be set there.
        fresh = tuple(p for p in result.problems if (p.path, p.wrong) not in known and not p.environment)
        if fresh:
            raise EditError("nothing was changed", fresh)
        mode = self._mode & 0o700 if private else self._mode
        try:
            _replace(self.path.resolve(), data, mode)
        except OSError as error:
            raise EditError(f"{self.path} cannot be written ({error.strerror}): check its folder's rights") from None
        self._before = data
        return result


def _put(table: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            inline = tomlkit.inline_table()
            inline.update(value)
            value = inline
        elif isinstance(value, str) and "\\" in value and "'" not in value:
            value = tomlkit.string(value, literal=True)  # a pattern reads as it was typed
        table[key] = value


def _edit_did(table: Any, edit: DidEdit) -> None:
    """Raises EditError where a row that is to go is not there, or the table is written as something else."""
    rows = table.get("did", {})
    if not isinstance(rows, Mapping):
        raise EditError("did is not written as a table [connection.did]: mend it by hand first")
    wanted = {**rows} if edit.only is None else {}
    for pattern in edit.remove:
        if pattern not in wanted:
            known = ", ".join(wanted) or "none"
            raise EditError(f"there is no row {pattern} in its did table: there are {known}")
        del wanted[pattern]
    users = {**(edit.only or {}), **edit.add}
    wanted.update((pattern, rung[0] if len(rung) == 1 else list(rung)) for pattern, rung in users.items())
    if not wanted:
        if "did" in table:
            table.remove("did")
        return
    if "did" not in table:
        table.add("did", tomlkit.table())
    inner = table["did"]
    for pattern in [pattern for pattern in inner if pattern not in wanted]:
        inner.remove(pattern)
    for pattern, rung in wanted.items():
        if pattern in inner:
            if inner[pattern] != rung:
                inner[pattern] = rung
        else:
            inner.add(SingleKey(pattern, t=KeyType.Basic if "'" in pattern else KeyType.Literal), rung)


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Write a file anew so that a crash leaves the old one or the new one, never half of it."""
    owner = path.stat()
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
            os.fchmod(opened.fileno(), mode)
            if os.geteuid() == 0:
                os.fchown(opened.fileno(), owner.st_uid, owner.st_gid)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
