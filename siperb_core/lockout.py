"""Brute force and scanners: who failed too often is not listened to for a while, and the log is not flooded.

Failures are counted by source and user and by source; what a locked source sends is dropped before anything looks at
it, users who are known at the same address (behind the same NAT) excepted. A connection's own address is never locked:
other users are, there. Everything here is bounded in number: what
was heard of longest ago is forgotten first. Pure: times are seconds, of any clock that does not go back.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Collection
from functools import lru_cache

import attrs

MOST_SOURCES = 10_000
MOST_USERS = 200
"""Users remembered of one source."""


@attrs.frozen
class Bounds:
    """How many failures are too many. Spans are in seconds."""

    failures: int = 10
    within: float = 300.0
    shared: int = 100
    """For a source at which somebody has proved a password: many phones may be behind it."""
    locked: float = 600.0
    proven: float = 3600.0
    """How long a source is known for a proof."""


@lru_cache(maxsize=4096)
def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 an IPv6 address is in, since a host has all of that."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return host


class _Source:
    """What is known of one source."""

    __slots__ = ("failures", "locked_until", "proven_until", "users")

    def __init__(self, most: int) -> None:
        self.failures: deque[float] = deque(maxlen=most)
        self.users: OrderedDict[str, deque[float]] = OrderedDict()
        self.locked_until = 0.0
        self.proven_until = 0.0


class Lockout:
    """Counts failures, and says who is not to be listened to."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._users: OrderedDict[tuple[str, str], float] = OrderedDict()

    def failed(self, host: str, user: str, now: float, *, own: Collection[str] | None = None) -> str:
        """Count a failure; what it locks out: `source`, `user` at that source, or '' for nothing yet.

        At an address that is a connection's own, `own` has the names by which that logs in: neither they nor the source
        are locked out. None for all other addresses.
        """
        bounds = self.bounds
        key = source_of(host)
        source = self._of(key)
        source.failures.append(now)
        of_user = source.users.setdefault(user, deque(maxlen=bounds.failures))
        source.users.move_to_end(user)
        if len(source.users) > MOST_USERS:
            source.users.popitem(last=False)
        of_user.append(now)
        shared = own is not None or source.proven_until > now
        if own is None and self._too_many(source.failures, bounds.shared if shared else bounds.failures, now):
            source.locked_until = now + bounds.locked
            return "source"
        if shared and user not in (own or ()) and self._too_many(of_user, bounds.failures, now):
            self._users[key, user] = now + bounds.locked
            self._users.move_to_end((key, user))
            if len(self._users) > MOST_SOURCES:
                self._users.popitem(last=False)
            return "user"
        return ""

    def _too_many(self, failures: deque[float], most: int, now: float) -> bool:
        return len(failures) >= most and now - failures[-most] <= self.bounds.within

    def proved(self, host: str, user: str, now: float) -> None:
        """Somebody there has shown the right password: the source is not a stranger's alone."""
        source = self._of(source_of(host))
        source.proven_until = now + self.bounds.proven
        source.users.pop(user, None)

    def _of(self, key: str) -> _Source:
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = _Source(self.bounds.shared)
            if len(self._sources) > MOST_SOURCES:
                self._sources.popitem(last=False)
        else:
            self._sources.move_to_end(key)
        return source

    def is_locked(self, host: str, now: float) -> bool:
        """Whether a source is not listened to."""
        if not self._sources:
            return False
        source = self._sources.get(source_of(host))
        return source is not None and source.locked_until > now

    @property
    def any_users(self) -> bool:
        """Whether there are users to ask `is_locked_user` about."""
        return bool(self._users)

    def is_locked_user(self, host: str, user: str, now: float) -> bool:
        """Whether a user is not listened to at a source that others share."""
        return self._users.get((source_of(host), user), 0.0) > now


class OncePerMinute:
    """Lets one line through for each source and minute, with the number of those it held back."""

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._heard: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def due(self, host: str, now: float) -> int | None:
        """How many lines were held back since the last that was let through; None where this one is, too."""
        key = source_of(host)
        since, held = self._heard.get(key, (float("-inf"), 0))
        if now - since < self._seconds:
            self._heard[key] = (since, held + 1)
            return None
        self._heard[key] = (now, 0)
        self._heard.move_to_end(key)
        if len(self._heard) > MOST_SOURCES:
            self._heard.popitem(last=False)
        return held


__all__ = ["Bounds", "Lockout", "OncePerMinute", "source_of"]
