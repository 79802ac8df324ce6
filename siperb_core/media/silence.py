"""When a leg was last heard from: what tells that it has gone, or that it never sent anything. Pure."""

from __future__ import annotations

import attrs


@attrs.define
class LegWatch:
    """One leg, in monotonic seconds. Set `last` and `heard` with each RTP packet, `reported` with each of RTCP.

    Who reports is there: a phone that is muted without a word, a PBX that suppresses silence, a leg that only listens.
    Asterisk's rtptimeout counts both, too, and nothing on hold.
    """

    heard: bool = False
    last: float = 0.0
    reported: float = 0.0
    _expected_since: float | None = None
    _told_gone: bool = False
    _told_silent: bool = False

    def expect(self, expected: bool, now: float) -> None:
        """Say whether the leg owes us packets from now on; one on hold, or still being set up, does not."""
        if not expected:
            self._expected_since, self.heard, self._told_gone, self._told_silent = None, False, False, False
        elif self._expected_since is None:
            self._expected_since = now

    def gone(self, now: float, timeout: float) -> float:
        """Seconds without RTP of a leg that has sent no packet at all for `timeout`; 0 where it has, or it was told."""
        since = self._expected_since
        if since is None:
            return 0.0
        if self.heard and now - self.last < 1:
            self._told_gone = self._told_silent = False
        if self._told_gone or now - max(since, self.last, self.reported) <= timeout:
            return 0.0
        self._told_gone = True
        return now - max(since, self.last)

    def silent(self, now: float, after: float) -> float:
        """Seconds without RTP of a leg that has never sent any, once they are more than `after`"""
        since = self._expected_since
        if since is None or self.heard or self._told_silent or now - since <= after:
            return 0.0
        self._told_silent = True
        return now - since
