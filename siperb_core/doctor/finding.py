"""One line of the doctor's report."""

from __future__ import annotations

from typing import Literal

import attrs

from siperb_core.entries.structure import printable

Verdict = Literal["ok", "wrong", "skipped"]


@attrs.frozen
class Finding:
    """What one check found. `connection` is empty where it is about this machine; `mend` says what to do about it."""

    connection: str
    check: str
    verdict: Verdict
    text: str = attrs.field(converter=printable)
    mend: str = attrs.field(default="", converter=printable)

    def as_json(self) -> dict[str, str]:
        """As `siperb doctor --json` prints it."""
        return attrs.asdict(self)


class Notes:
    """Collects the findings about one connection, or about this machine where the name is empty."""

    def __init__(self, connection: str = "") -> None:
        self.connection = connection
        self.findings: list[Finding] = []

    def ok(self, check: str, text: str) -> None:
        """It is as it should be."""
        self.findings.append(Finding(self.connection, check, "ok", text))

    def wrong(self, check: str, text: str, mend: str) -> None:
        """It is not."""
        self.findings.append(Finding(self.connection, check, "wrong", text, mend))

    def skipped(self, check: str, text: str, mend: str = "") -> None:
        """It could not be looked at, and what it takes to."""
        self.findings.append(Finding(self.connection, check, "skipped", text, mend))

    def judge(self, check: str, wrong: str, mend: str, ok: str) -> None:
        """`wrong` where there is something to say, else `ok`."""
        if wrong:
            self.wrong(check, wrong, mend)
        else:
            self.ok(check, ok)
