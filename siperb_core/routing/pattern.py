r"""Dial patterns: regular expressions written by users, and so hostile. RE2 runs them in linear time, or refuses them.

A pattern is *searched* in the dialled number: `.` matches every number, `^2\d{2}$` three digits that begin with 2.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Protocol, cast

import re2

MAX_PATTERN = 500  # characters
_MAX_MEMORY = 1 << 20  # octets a compiled pattern may take: RE2 refuses a{1000}{1000} by this


class PatternError(ValueError):
    """The text is not a pattern RE2 accepts; the message is in plain words."""


class Pattern(Protocol):
    """A compiled dial pattern."""

    def search(self, text: str) -> object | None:
        """Something true where the pattern occurs anywhere in the text."""


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Pattern:
    """Compile a dial pattern. Raises PatternError with the reason."""
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
