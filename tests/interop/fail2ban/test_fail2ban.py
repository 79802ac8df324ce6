"""The filter of the documentation finds exactly the lines it should: fail2ban itself says so."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from siperb_core.entries.loaded import LoadedConnections
from siperb_core.guard import Guard
from siperb_core.log import JsonLine, LogFile

FILTER = Path(__file__).parents[3] / "docs/how-to/fail2ban/siperb.conf"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        not shutil.which("fail2ban-regex"), reason="not installed: fail2ban-regex (apt-get install fail2ban)"
    ),
]


def lines_of(*failures: tuple[str, str], prefix: str = "") -> str:
    """What the gateway logs when these users fail at these addresses."""
    file = io.StringIO()
    logger = structlog.wrap_logger(LogFile(file), processors=[JsonLine()])
    host: Any = SimpleNamespace(
        signalling=SimpleNamespace(rejected={"credentials": 0}), now=lambda: 0.0, loaded=LoadedConnections
    )
    guard = Guard(host)
    for source, user in failures:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("siperb_core.guard.log", logger)
            guard.failed(source, user, "wrong username or password")
    return "".join(prefix + line for line in file.getvalue().splitlines(keepends=True))


def banned(log: str, tmp_path: Path) -> list[str]:
    """The addresses fail2ban takes out of a log."""
    path = tmp_path / "siperb.log"
    path.write_text(log, encoding="utf-8")
    done = subprocess.run(
        ["fail2ban-regex", "--out", "ip", str(path), str(FILTER)], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return re.findall(r"(?m)^[0-9a-f.:]+$", done.stdout)


def test_every_failure_counts_for_its_source(tmp_path: Path) -> None:
    log = lines_of(("203.0.113.7", "200"), ("2001:db8::7", "alice"), ("203.0.113.7", "200"))
    assert banned(log, tmp_path) == ["203.0.113.7", "2001:db8::7", "203.0.113.7"]


def test_in_the_journal_too(tmp_path: Path) -> None:
    assert banned(lines_of(("203.0.113.7", "200"), prefix="gw siperb[123]: "), tmp_path) == ["203.0.113.7"]


@pytest.mark.parametrize(
    "user",
    [
        '", "source": "198.51.100.9',
        '{"source": "198.51.100.9", "user": "x", "reason": "y", "event": "auth.failed"',
        '\n{"source": "198.51.100.9", "user": "x", "reason": "y", "event": "auth.failed"}\n',
        "auth.failed source=198.51.100.9 user=x",
        '\\", "reason": "x", "event": "auth.failed',
        "ü\x00\udcff",
    ],
)
def test_a_username_cannot_have_somebody_else_banned(tmp_path: Path, user: str) -> None:
    assert banned(lines_of(("203.0.113.7", user)), tmp_path) == ["203.0.113.7"]


def test_other_lines_ban_nobody(tmp_path: Path) -> None:
    file = io.StringIO()
    logger = structlog.wrap_logger(LogFile(file), processors=[JsonLine()])
    logger.warning("request.unclaimed", source="203.0.113.7", method="INVITE", held_back=0)
    logger.warning("auth.locked_out", source="203.0.113.7", user="x", what="source", seconds=600)
    logger.info("call.started", user="auth.failed", source="203.0.113.7")
    assert banned(file.getvalue(), tmp_path) == []
