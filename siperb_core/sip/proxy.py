"""What a forking proxy decides: the response context of RFC 3261 section 16.7, and nothing else.

It knows how many branches there are and what each has answered; it says which answer goes back. It sends nothing.
"""

from __future__ import annotations

import attrs

from siperb_core.sip.message import Message

_PREFERRED_4XX = (401, 407, 415, 420, 484)
"""Answers the caller can do something about come before others of their class (section 16.7 step 6)."""

COMPLETED_ELSEWHERE = 'SIP ;cause=200 ;text="Call completed elsewhere"'
"""Reason for the CANCEL of branches that lost (RFC 3326 section 2)."""


@attrs.define
class ResponseContext:
    """The branches of one forwarded request. Branches are named by whoever forks."""

    open: set[str] = attrs.field(factory=set)
    finals: list[Message] = attrs.field(factory=list)

    def add(self, branch: str) -> None:
        """A branch was started."""
        self.open.add(branch)

    def final(self, branch: str, response: Message) -> None:
        """A branch has its final response; a time-out counts as 408, a dead transport as 503 (section 16.8, 16.9)."""
        self.open.discard(branch)
        if response.status >= 300:
            self.finals.append(response)

    def best(self) -> Message | None:
        """The response to send back once all branches are done without a 2xx; None when there is none at all.

        A 6xx wins; otherwise the lowest class, and in it what the caller can act upon. Within a class a branch that did
        not answer at all (408, 503) says less than one that did.
        """
        if not self.finals:
            return None
        return min(self.finals, key=_rank)


def _rank(response: Message) -> tuple[int, int, int]:
    status = response.status
    if status >= 600:
        return (0, 0, status)
    preferred = 0 if status in _PREFERRED_4XX else 1
    return (status // 100, 2 if status in (408, 503) else preferred, status)
