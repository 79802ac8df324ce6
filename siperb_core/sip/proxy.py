"""What a forking proxy decides: which answer goes back (RFC 3261 section 16.7), how widely a request may fork
(RFC 5393), where a redirection leads (section 16.7 step 4). It sends nothing.
"""

from __future__ import annotations

import attrs

from siperb_core.sip.errors import ParseError
from siperb_core.sip.headers import parse_name_addr
from siperb_core.sip.message import Message
from siperb_core.sip.uri import Uri, parse_uri

_PREFERRED_4XX = (401, 407, 415, 420, 484)
"""Answers the caller can do something about come before others of their class (section 16.7 step 6)."""

DEFAULT_BREADTH = 60
"""The Max-Breadth of a request that comes without (RFC 5393 section 5.3.3)."""

MOST_REDIRECTIONS = 5
"""How many Contacts of redirections are tried for one request."""

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


def breadth_of(request: Message) -> int:
    """How many branches a request may have at once, everywhere together (RFC 5393 section 5.3). Raises ParseError."""
    text = request.get("Max-Breadth")
    if text is None:
        return DEFAULT_BREADTH
    if not (text.isascii() and text.isdigit()):
        raise ParseError("Bad Max-Breadth")
    return min(int(text[:6]), 255) if len(text) <= 6 else 255


def shares_of(breadth: int, branches: int) -> list[int] | None:
    """The Max-Breadth of each branch; None where it does not go round: the request is owed a 440 then."""
    if breadth < branches:
        return None
    share, rest = divmod(breadth, max(branches, 1))
    return [share + (number < rest) for number in range(branches)]


def redirections(response: Message) -> list[Uri]:
    """The SIP URIs a 3xx names, the most wanted first (q, section 20.10); what cannot be read is left out."""
    found: list[tuple[float, Uri]] = []
    try:
        values = response.values("Contact")
    except ParseError:
        return []
    for value in values:
        try:
            contact = parse_name_addr(value)
            uri = parse_uri(contact.uri)
            q = float(contact.param("q") or 1)
        except (ParseError, ValueError):
            continue
        if uri.scheme in ("sip", "sips"):
            found.append((q, uri))
    return [uri for _, uri in sorted(found, key=lambda pair: -pair[0])]
