"""What commands print: aligned tables for people, JSON for scripts, errors as one sentence with the mend."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from siperb_core.entries.structure import printable

FINE = 0
NOT_FINE = 1
USAGE = 2


class CommandError(Exception):
    """Ends the command: `lines` and then the sentence go to stderr."""

    def __init__(self, message: str, code: int = NOT_FINE, lines: Iterable[object] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.lines = tuple(lines)


def print_json(value: object) -> None:
    """One line of JSON."""
    print(json.dumps(value, ensure_ascii=False, default=str))


def note(text: str) -> None:
    """Something for the person at the keyboard, not for a script: to stderr."""
    print(text, file=sys.stderr)


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Rows as aligned text; `columns` are keys and their headings."""
    cells = [list(columns.values())]
    cells += [[cell(row.get(key)) for key in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def cell(value: object) -> str:
    """A value as it stands in a table. Control characters, a caller's name may hold some, become visible."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ",".join(cell(item) for item in value)
    return printable(str(value))


def clock(when: object) -> str:
    """Seconds since the epoch as local date and time."""
    if not isinstance(when, int | float):
        return "-"
    return datetime.fromtimestamp(when).astimezone().strftime("%Y-%m-%d %H:%M:%S")
