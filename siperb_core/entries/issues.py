"""Issues: what the administrator has to mend, in plain words, until it is mended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs
import structlog

log = structlog.get_logger("siperb.issues")

MAX_ISSUES = 1000
"""Of one entry; a connection type that raises more has its oldest dropped."""


@attrs.frozen
class Issue:
    """One thing to mend. `connection` is empty where it is about the gateway itself; `since` seconds since the
    epoch.
    """

    connection: str
    id: str
    text: str
    mend: str
    since: float

    def as_json(self) -> dict[str, object]:
        """As `siperb show issues --json` prints it."""
        return attrs.asdict(self)


class Issues:
    """All open issues; raising one again keeps its `since`. The log has each once, and once more when it is mended.

    `told` hears of both.
    """

    def __init__(
        self, told: Callable[[Literal["issue_raised", "issue_mended"], Issue], None] = lambda what, issue: None
    ) -> None:
        self._told = told
        self._open: dict[str, dict[str, Issue]] = {}

    def raise_issue(self, connection: str, issue_id: str, text: str, mend: str, now: float) -> None:
        """Open an issue, or bring its words up to date."""
        issues = self._open.setdefault(connection, {})
        old = issues.get(issue_id)
        if old is None and len(issues) >= MAX_ISSUES:
            del issues[next(iter(issues))]
        issue = issues[issue_id] = Issue(connection, issue_id, text, mend, old.since if old else now)
        if old is None:
            log.warning("issue.raised", connection=connection or None, issue=issue_id, text=text, mend=mend)
            self._told("issue_raised", issue)

    def clear(self, connection: str, issue_id: str) -> None:
        """Close an issue; nothing happens where there is none."""
        issues = self._open.get(connection, {})
        issue = issues.pop(issue_id, None)
        if not issues:
            self._open.pop(connection, None)
        if issue is not None:
            log.info("issue.mended", connection=connection or None, issue=issue_id)
            self._told("issue_mended", issue)

    def has(self, connection: str, issue_id: str) -> bool:
        """Whether it is open."""
        return issue_id in self._open.get(connection, {})

    def clear_all(self, connection: str) -> None:
        """Close every issue of one connection."""
        for issue in self._open.pop(connection, {}).values():
            self._told("issue_mended", issue)

    def all(self) -> list[Issue]:
        """Oldest first."""
        return sorted((issue for issues in self._open.values() for issue in issues.values()), key=lambda i: i.since)
