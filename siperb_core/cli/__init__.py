"""The command `siperb`, and what plugins' commands are made with (hook `siperb_commands`).

Importing this is cheap: commands are imported when they are called, and so is what the names in `__all__` stand for.
`ask` puts a question to the running gateway; `ConfigOption` and `JsonOption` are the options that commands share.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from siperb_core.cli.output import FINE, NOT_FINE, USAGE, CommandError, clock, note, print_json, table

if TYPE_CHECKING:
    from siperb_core.cli.setup import DEFAULT_CONFIG, ConfigOption, JsonOption, ask

_SETUP = ("DEFAULT_CONFIG", "ConfigOption", "JsonOption", "ask")


def __getattr__(name: str) -> Any:
    if name in _SETUP:
        return getattr(import_module("siperb_core.cli.setup"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code: 0 fine, 1 the thing asked about is not fine, 2 bad usage or configuration.

    Errors are one sentence on stderr; with `--debug` also where they came from.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        from siperb_core.cli.app import run

        return run(words)
    except CommandError as error:
        if debug:
            raise
        for line in error.lines:
            print(line, file=sys.stderr)
        if str(error):
            print(f"siperb: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone (`siperb show calls | head`): nothing to say to nobody
        return FINE
    except Exception as error:
        if debug:
            raise
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):  # of a trio nursery
            cause = cause.exceptions[0]
        text = " ".join(str(cause).split())
        print(f"siperb: {type(cause).__name__}: {text}: --debug shows where it came from", file=sys.stderr)
        return NOT_FINE


__all__ = [
    "DEFAULT_CONFIG",
    "FINE",
    "NOT_FINE",
    "USAGE",
    "CommandError",
    "ConfigOption",
    "JsonOption",
    "ask",
    "clock",
    "main",
    "note",
    "print_json",
    "table",
]
