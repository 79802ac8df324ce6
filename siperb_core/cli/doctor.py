"""`siperb doctor`: everything between this machine and the PBXs looked at, each line with its mend."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from siperb_core.cli.output import FINE, NOT_FINE, USAGE, CommandError, print_json
from siperb_core.cli.setup import DEFAULT_CONFIG, ConfigOption, JsonOption, control_path, load_all, usable
from siperb_core.doctor import Examination, Finding, Running

_MARKS = {"ok": "ok", "wrong": "WRONG", "skipped": "-"}


def doctor(
    connection: Annotated[str | None, Parameter(help="Only this one; all when left out.")] = None,
    *,
    call: Annotated[
        str | None, Parameter(name="--call", help="Call this number over each, and measure the audio both ways.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> int:
    """Look for what is wrong, and say how to mend it. Needs no running gateway, but asks one where it is there."""
    import trio

    with quiet():
        result, plugins = load_all(config)
    found = usable(result)
    if connection is not None and found.connection(connection) is None:
        raise CommandError(f"there is no connection {connection} in {config}: see siperb check", USAGE)

    async def examine() -> list[Finding]:
        running = await ask_gateway(config)
        return await Examination(result, found, config, plugins, running).examine(connection, call)

    try:
        with quiet():
            findings = trio.run(examine)
    except OSError as error:
        raise CommandError(f"no socket can be had ({error}): check bind of [[listen]]", NOT_FINE) from error
    fine = all(finding.verdict != "wrong" for finding in findings)
    if json:
        print_json({"ok": fine, "findings": [finding.as_json() for finding in findings]})
    else:
        print(as_text(findings))
    return FINE if fine else NOT_FINE


@contextmanager
def quiet() -> Iterator[None]:
    """Without a log: what there is to say stands in the report."""
    import structlog

    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


async def ask_gateway(config: Path) -> Running | None:
    """What the running gateway says of itself; None where none runs."""
    from siperb_core.control import ControlError, NotRunning, connect

    try:
        async with connect(control_path(config)) as client:
            connections = tuple(await client.call("show.connections"))
            memories = {
                row["name"]: (await client.call("diagnostics", {"name": row["name"]}))["memory"]
                for row in connections
                if row["type"] == "inbound_registration" and row["state"] == "loaded"
            }
            return Running(
                await client.call("gateway.status"), connections, tuple(await client.call("show.issues")), memories
            )
    except NotRunning:
        return None
    except ControlError as error:
        raise CommandError(f"the running gateway cannot be asked: {error}", NOT_FINE) from error


def as_text(findings: list[Finding]) -> str:
    """For people: a block for this machine and one for each connection, each mend below its line."""
    width = max((len(finding.check) for finding in findings), default=0)
    lines: list[str] = []
    block: str | None = None
    for finding in findings:
        if finding.connection != block:
            block = finding.connection
            lines += ["", block or "this machine"] if lines else [block or "this machine"]
        lines.append(f"  {_MARKS[finding.verdict]:<5}  {finding.check:<{width}}  {finding.text}")
        if finding.mend:
            lines.append(f"  {'':<5}  {'':<{width}}  mend: {finding.mend}")
    wrong = sum(finding.verdict == "wrong" for finding in findings)
    skipped = sum(finding.verdict == "skipped" for finding in findings)
    lines += ["", f"{wrong} wrong, {skipped} not looked at, {len(findings) - wrong - skipped} ok"]
    return "\n".join(lines)
