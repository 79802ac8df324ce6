"""Commands that start a gateway or steer the one that runs: run, demo, reload."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

from cyclopts import Parameter

from siperb_core.cli.output import FINE, NOT_FINE, USAGE, CommandError, note, print_json
from siperb_core.cli.setup import DEFAULT_CONFIG, ConfigOption, JsonOption, ask, usable
from siperb_core.entries.source import LoadResult, load


def run(*, config: ConfigOption = DEFAULT_CONFIG) -> int:
    """Run the gateway in the foreground. SIGTERM drains, SIGHUP reloads the configuration."""
    usable(load(config))
    import trio

    from siperb_core.log import configure_log
    from siperb_core.process import run_gateway

    configure_log()
    with _sentences():
        trio.run(run_gateway, config)
    return FINE


def demo(
    *,
    port_base: Annotated[int, Parameter(help="Every port of the demo is this one plus a number.")] = 8000,
    json: JsonOption = False,
) -> int:
    """Start gateway, demo PBX and web phone on loopback; no internet is needed."""
    if not 1024 <= port_base <= 65535 - 499:
        raise CommandError(f"--port-base {port_base} is out of range: use 1024 to 65036", USAGE)
    import trio

    from siperb_core.cli import demo as command

    with _sentences():
        return trio.run(partial(command.demo, port_base, as_json=json))


def reload(*, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """Let the running gateway take over the configuration file as it is now; only what changed restarts."""
    result: dict[str, Any] = ask(config, "reload")
    problems = result["problems"]
    if json:
        print_json(result)
    else:
        for problem in problems:
            print("{path}: {wrong}: {mend}".format(**problem))
        if not result["applied"]:
            note("nothing was applied: mend the above")
        else:
            note("applied, but for the above" if problems else "applied")
    return USAGE if problems else FINE


@contextmanager
def _sentences() -> Iterator[None]:
    """An address that cannot be had, and a configuration that cannot be used, as one sentence."""
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if isinstance(cause, OSError):
            raise CommandError(f"{' '.join(str(cause).split())}: is another program using it?", NOT_FINE) from error
        result = getattr(cause, "result", None)
        if isinstance(result, LoadResult):
            raise CommandError(
                "the configuration has mistakes: siperb check lists them", USAGE, result.problems
            ) from error
        raise
