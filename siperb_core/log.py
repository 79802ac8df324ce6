"""The log on stderr: for people on a terminal, a JSON object per line elsewhere.

A line for every step of every call adds up, so a JSON line is made by one processor and an encoder made once, and lines
up to `info` are written several at a time while `write_in_batches` runs. A warning is written at once, and everything
before it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import deque
from typing import TextIO

import structlog
import trio

BATCH_SECONDS = 0.2
"""How long an `info` line may wait: what kill -9 can cost."""
_MOST_LINES = 1_000


class LogFile:
    """The lines on their way to a file. It is structlog's innermost logger: a method for each level."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: deque[str] = deque()
        self.batching = False

    def info(self, line: str) -> None:
        """A line that can wait."""
        self._lines.append(line)
        if not self.batching or len(self._lines) >= _MOST_LINES:
            self.flush()

    debug = msg = info

    def warning(self, line: str) -> None:
        """A line somebody may be waiting for."""
        self._lines.append(line)
        self.flush()

    error = critical = fatal = exception = warn = err = failure = warning

    def flush(self) -> None:
        """Write what waits, all in one."""
        lines = []
        while self._lines:  # one by one: other threads log too
            lines.append(self._lines.popleft())
        if lines:
            lines.append("")
            self._file.write("\n".join(lines))
            self._file.flush()


class JsonLine:
    """structlog's only processor where lines are JSON: level, time stamp and traceback are added, values that are not
    JSON become their `repr`.
    """

    def __init__(self) -> None:
        self._encode = json.JSONEncoder(default=repr).encode
        self._second = 0
        self._date = ""

    def __call__(self, logger: object, method: str, event: structlog.typing.EventDict) -> str:
        """The line."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._date = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        event["level"] = method
        event["timestamp"] = f"{self._date}.{int((now - second) * 1e6):06d}Z"
        if "exc_info" in event:
            structlog.processors.format_exc_info(None, method, event)
        return self._encode(event)


_file = LogFile(sys.stderr)


def configure_log(level: int = logging.INFO) -> None:
    """Send the log to stderr."""
    global _file  # noqa: PLW0603 - the process has one log, as it has one stderr
    _file = LogFile(sys.stderr)
    processors: list[structlog.typing.Processor] = [JsonLine()]
    if sys.stderr.isatty():
        processors = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=False),
            structlog.processors.StackInfoRenderer(),
            structlog.dev.ConsoleRenderer(),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *args: _file,
        cache_logger_on_first_use=True,
    )


async def write_in_batches() -> None:
    """Let lines wait for each other, until cancelled. Not on a terminal, where somebody watches."""
    if sys.stderr.isatty():
        return
    file = _file
    file.batching = True
    try:
        while True:
            await trio.sleep(BATCH_SECONDS)
            file.flush()
    finally:
        file.batching = False
        file.flush()
