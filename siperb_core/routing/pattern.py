r"""Dial patterns: regular expressions written by users, and so hostile. RE2 runs them in linear time, or refuses them.

A pattern is *searched* in the dialled number: `.` matches every number, `^2\d{2}$` three digits that begin with 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, cast

import re2

MAX_PATTERN = 500  # characters
_MAX_MEMORY = 1 << 20  # octets a compiled pattern may take: RE2 refuses a{1000}{1000} by this


class PatternError(ValueError):
    """The text is not a pattern RE2 accepts; the message is in plain words."""


class Pattern(Protocol):
    """A compiled dial pattern."""

    groups: int

    def search(self, text: str) -> object | None:
        """Something true where the pattern occurs anywhere in the text."""

    def sub(self, replacement: Callable[[Any], str], text: str) -> str:
        """The text with every occurrence replaced; `match[1]` is its first group, None where that took no part."""


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Pattern:
    r"""Compile a dial pattern. Raises PatternError with the reason.

    >>> [bool(compile_pattern(r"^2\d{2}$").search(number)) for number in ("234", "2345")]
    [True, False]
    """
    if not text:
        raise PatternError("is empty")
    if len(text) > MAX_PATTERN:
        raise PatternError(f"is longer than {MAX_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    try:
        return cast(Pattern, re2.compile(text, options))
    except UnicodeEncodeError:
        raise PatternError("holds octets that are not text") from None
    except re2.error as error:
        detail = error.args[0] if error.args else "it cannot be read"
        if isinstance(detail, bytes):
            detail = detail.decode("utf-8", "replace")
        raise PatternError(f"is not a pattern RE2 accepts ({detail})") from None


# A lone letter d in front of a quantifier or at an end stands where `\d` stood before a web page ate the backslash.
_LOST = re.compile(r"(?<![\\a-zA-Z])[dD](?=[{+*?$(]|$)")


def lost_backslash(text: str) -> str | None:
    r"""The pattern as it was probably meant, where copying has eaten backslashes (`^2d{2}$`); None where nothing
    looks amiss.
    """
    meant = _LOST.sub(lambda match: "\\" + match.group(), text)
    return meant if meant != text else None


_UNIT = re.compile(
    r"(?:\\x\{[^}]*\}|\\[pP]\{[^}]*\}|\\x..|\\.|\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\]|\(|\)|[^\\])"
    r"(?:[*+?]\??|\{\d+(?:,\d*)?\}\??)?",
    re.DOTALL,
)


def _units(text: str) -> list[str] | None:
    """The pattern cut where it may be cut: into characters, classes and groups, each with its quantifier; None where it
    is an alternative of several, and so has no order.
    """
    units: list[str] = []
    depth, position = 0, 0
    while position < len(text):
        found = _UNIT.match(text, position)
        if found is None or found.group().startswith("\\Q"):
            return None
        unit = found.group()
        if unit[0] == "|" and not depth:
            return None
        if depth or units == ["^"]:  # an anchor alone says nothing
            units[-1] += unit
        else:
            units.append(unit)
        depth += (unit[0] == "(") - (unit[0] == ")")
        position = found.end()
    return units


def where_it_fails(text: str, number: str) -> str:
    """The end of a sentence that says which part of a pattern fails; '' where that cannot be told apart."""
    failing = failing_part(text, number)
    if failing is None or failing == ("", text):
        return ""
    begin, part = failing
    return f": {begin} matches, {part} behind it fails" if begin else f": {part} already fails"


def failing_part(text: str, number: str) -> tuple[str, str] | None:
    """Where a pattern that does not match a number ceases to: what still matches, and the part behind it that does not.

    None where that cannot be said.
    """
    units = _units(text) or []
    begin = ""
    for unit in units:
        try:
            if not compile_pattern(begin + unit).search(number):
                return begin, unit
        except (PatternError, UnicodeEncodeError):
            return None
        begin += unit
    return None
