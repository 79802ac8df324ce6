"""The number as it is dialled through a connection: digits taken off, digits put in front, and a regular expression for
the rest. Pure.
"""

from __future__ import annotations

import re
from typing import Any

import attrs

from siperb_core.routing.pattern import MAX_PATTERN, PatternError, compile_pattern

MAX_NUMBER = 256
"""Characters a rewritten number may have: a replacement could make many out of few."""
_ESCAPED = re.compile(r"\\(\d|\\)")


@attrs.frozen
class Rewriting:
    r"""What a connection makes of a dialled number: `strip` characters less at its beginning, then `prefix` in front,
    then every match of `pattern` replaced by `replacement`, in which `\1` is the first group and `\\` a backslash.
    """

    strip: int = 0
    prefix: str = ""
    pattern: str = ""  # empty: nothing is replaced
    replacement: str = ""

    def apply(self, number: str) -> str:
        """The number to dial; '' where nothing is left, or the pattern cannot be used on it. Never raises."""
        number = self.prefix + number[self.strip :]
        if self.pattern:
            try:
                number = compile_pattern(self.pattern).sub(self._expanded, number)
            except (PatternError, ValueError, IndexError):  # ValueError: octets that are no text
                return ""
        return number if len(number) <= MAX_NUMBER else ""

    def _expanded(self, match: Any) -> str:
        # Not RE2's own: that takes \10 for a tenth group, and each octet of what is not ASCII for a character.
        def one(escaped: re.Match[str]) -> str:
            return escaped[1] if escaped[1] == "\\" else match[int(escaped[1])] or ""

        return _ESCAPED.sub(one, self.replacement)


def check_replacement(pattern: str, replacement: str) -> None:
    """Whether a replacement can be used with a pattern. Raises PatternError with the reason."""
    compiled = compile_pattern(pattern)
    if len(replacement) > MAX_PATTERN:
        raise PatternError(f"has a replacement longer than {MAX_PATTERN} characters")
    position = 0
    while (position := replacement.find("\\", position)) >= 0:
        group = replacement[position + 1 : position + 2]
        if group != "\\" and not group.isdecimal():
            raise PatternError(f"has a replacement with \\{group}, where a digit has to follow the backslash")
        if group != "\\" and int(group) > compiled.groups:
            raise PatternError(f"has {compiled.groups} groups, and its replacement asks for \\{group}")
        position += 2


UNCHANGED = Rewriting()
