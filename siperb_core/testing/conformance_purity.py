"""What the conformance suites have in common: a failure in plain words, and a watch over what must be pure."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_watching: list[list[str]] = []
_OUTSIDE = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "sqlite3.")
_installed: list[bool] = []


class NotConformant(AssertionError):
    """A plugin does not do what its contract says; the text says what."""


def require(condition: object, text: str) -> None:
    """Raise NotConformant with this text unless the condition is true."""
    if not condition:
        raise NotConformant(text)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = any(letter in (mode or "") for letter in "wax+") or (not mode and flags & (os.O_WRONLY | os.O_RDWR))
        if writes and not str(path).endswith(".pyc"):
            _watching[-1].append(f"open {path} for writing")
    elif event.startswith(_OUTSIDE):
        _watching[-1].append(event)


@contextmanager
def no_io(what: str) -> Iterator[None]:
    """Raise NotConformant where the block opens sockets, starts programs or writes files (PEP 578)."""
    if not _installed:
        sys.addaudithook(_audit)  # it stays for the life of the process; a look at a list is all it costs
        _installed.append(True)
    seen: list[str] = []
    _watching.append(seen)
    try:
        yield
    finally:
        _watching.remove(seen)
    require(not seen, f"{what} is to be pure, but does I/O: {', '.join(sorted(set(seen))[:5])}")


def open_sockets() -> frozenset[str] | None:
    """The sockets this process has open; None where the system does not tell."""
    folder = "/proc/self/fd"
    found = set()
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    for name in names:
        try:
            link = os.readlink(f"{folder}/{name}")
        except OSError:
            continue  # it was the directory itself
        if link.startswith("socket:"):
            found.add(link)
    return frozenset(found)
