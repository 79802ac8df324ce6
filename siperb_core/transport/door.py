"""The door of a listening socket: how many strangers are let in, from where, for how long and how fast.

Whoever connects is a stranger until the other end has proved who it is (`vouch`) or is known by its address
(`Doorkeeper.knows`). Strangers share a room of their own: they cannot take the place of peers and of connections that
we open, and where it is full the one that has waited longest goes, so that somebody who comes to sign in always finds a
place. A flow is vouched for within milliseconds as a rule; who holds on to a connection without that is sent away.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import structlog

from siperb_core.lockout import source_of
from siperb_core.sip import Flow
from siperb_core.transport.address import literal
from siperb_core.transport.contract import Doorkeeper, Receiver
from siperb_core.transport.forwarded import is_proxy

if TYPE_CHECKING:
    from siperb_core.entries.model import Network

SIGN_IN_SECONDS = 32.0
"""From the end of the handshake: as long as any SIP transaction may take (timer B, RFC 3261 section 17.1.1.2)."""
MOST_PER_SOURCE = 512
"""Strangers from one address (of IPv6 one /64). A large office behind one NAT whose phones all come back at once has
that many on their way for a moment; a second later they have signed in and count no more.
"""
MESSAGES_PER_SECOND = 100.0
MESSAGES_BURST = 200.0

TRY_AGAIN_LATER, NOT_SIGNED_IN = "too many strangers are connected", "nobody has signed in"

log = structlog.get_logger(__name__)


class Guest(Flow, Protocol):
    """An accepted connection, as the door sees it."""

    ended: str | None

    def dismiss(self, reason: str) -> None:
        """Close it, with a word of goodbye where the protocol has one."""


def room_for(most: int) -> int:
    """How many strangers a listener may hold: `most`, or what is a quarter of the file descriptors we may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else max(16, min(most, soft // 4))


class Door:
    """Who has been let in by one listening socket.

    `most_known` bounds the peers, `most_strangers` and `per_source` those who have not signed in. Loopback has no bound
    per source: what connects from there is this machine, a reverse proxy in front of us most likely. Nor have trusted
    `proxies`: until the handshake has told who is behind them all clients have their address.
    """

    def __init__(
        self,
        receiver: Receiver,
        *,
        most_known: int,
        most_strangers: int,
        per_source: int = MOST_PER_SOURCE,
        proxies: Sequence[Network] = (),
    ) -> None:
        self._keeper = receiver if isinstance(receiver, Doorkeeper) else None
        self._most_known = most_known
        self._most_strangers = room_for(most_strangers)
        self._per_source = per_source
        self._proxies = proxies
        # Both in the order in which they came: the first one is the oldest.
        self._strangers: dict[Guest, str] = {}
        self._of_source: dict[str, dict[Guest, None]] = {}
        self._known: set[Guest] = set()

    @property
    def strangers(self) -> int:
        """How many are connected that nobody has vouched for."""
        return len(self._strangers)

    def enter(self, guest: Guest) -> None:
        """A connection was accepted. Where there is no room left an older one is dismissed."""
        if self._keeper is not None and self._keeper.knows(guest) and len(self._known) < self._most_known:
            self._known.add(guest)
            return
        host = guest.remote[0]
        source = source_of(host)
        if len(self._strangers) >= self._most_strangers:
            self._crowded(next(iter(self._strangers)))
        mates = self._of_source.setdefault(source, {})
        many = is_proxy(host, self._proxies) or literal(host).is_loopback
        if len(mates) >= self._per_source and not many:
            self._crowded(next(iter(mates)))
            mates = self._of_source.setdefault(source, {})
        self._strangers[guest] = source
        mates[guest] = None

    def _crowded(self, oldest: Guest) -> None:
        self.note("crowd", "connection.crowded_out", oldest.remote[0], transport=oldest.transport)
        self.leave(oldest)
        oldest.dismiss(TRY_AGAIN_LATER)

    def moved(self, guest: Guest) -> None:
        """The flow's remote address has turned out to be another one, a trusted proxy having told."""
        if guest in self._strangers:
            self.leave(guest)
            self.enter(guest)

    def vouch(self, guest: Guest) -> None:
        """The other end has proved who it is. Where peers have no room left it stays among strangers."""
        if guest in self._strangers and len(self._known) < self._most_known:
            self.leave(guest)
            self._known.add(guest)

    def is_stranger(self, guest: Guest) -> bool:
        """Whether nobody has vouched for it so far."""
        return guest in self._strangers

    def leave(self, guest: Guest) -> None:
        """A connection has ended."""
        self._known.discard(guest)
        source = self._strangers.pop(guest, None)
        if source is not None:
            mates = self._of_source[source]
            del mates[guest]
            if not mates:
                del self._of_source[source]

    def overdue(self, guest: Guest, since: float, now: float) -> bool:
        """Whether a stranger has had its time; it is known from now on where its address is by now a peer's.

        Never where the receiver cannot tell who is known: somebody has to be able to vouch.
        """
        if self._keeper is None or now - since < SIGN_IN_SECONDS or guest not in self._strangers:
            return False
        if self._keeper.knows(guest):
            self.vouch(guest)
            return False
        self.note("not_signed_in", "connection.not_signed_in", guest.remote[0], transport=guest.transport)
        return True

    def note(self, what: str, event: str, source: str, **details: object) -> None:
        """What a stranger can make us log as often as he likes: by the receiver, which holds lines back and counts."""
        if self._keeper is not None:
            self._keeper.nuisance(what, event, source, **details)
        else:
            log.info(event, source=source, **details)


class Rate:
    """A token bucket: so many messages at once, so many a second after that."""

    __slots__ = ("_budget", "_refilled")

    def __init__(self, now: float) -> None:
        self._budget = MESSAGES_BURST
        self._refilled = now

    def allows(self, now: float) -> bool:
        """Take one; False when there is none left."""
        self._budget = min(MESSAGES_BURST, self._budget + (now - self._refilled) * MESSAGES_PER_SECOND) - 1.0
        self._refilled = now
        return self._budget >= 0.0
