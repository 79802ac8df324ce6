"""Every hook call on stderr, for people who write plugins."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

TRACE = "SIPERB_TRACE_HOOKS"
"""Environment variable: `1` prints every hook call to stderr."""
SECRET = ("siperb_device_secret",)
"""Hooks whose results are never printed."""


def is_traced() -> bool:
    """Whether calls are to be printed."""
    return os.environ.get(TRACE) == "1"


def print_call(hook: str, names: Sequence[str], arguments: Mapping[str, object], plugin: str, result: str) -> None:
    """One line for one plugin's answer."""
    given = ", ".join(f"{name}={_clip(repr(arguments[name]))}" for name in names)
    print(f"hook {hook}({given}) {plugin}: {_clip(result)}", file=sys.stderr)


def _clip(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."
