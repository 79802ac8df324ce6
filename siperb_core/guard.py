"""Who is not listened to: counts what fails and what nobody claims, and writes the log lines fail2ban reads."""

from __future__ import annotations

import re
from typing import Protocol

import structlog

from siperb_core.lockout import Lockout, OncePerMinute
from siperb_core.signalling import Signalling
from siperb_core.sip import Flow, Message, ParseError

log = structlog.get_logger()

_USERNAME = re.compile(r'\busername="([^"\\]{1,256})"')
_LONGEST_USER = 64  # characters of a stranger's making in a log line


class GuardHost(Protocol):
    """What the guard needs of the gateway around it."""

    signalling: Signalling

    def now(self) -> float:
        """Seconds since the epoch."""

    def is_known(self, flow: Flow, request: Message) -> bool:
        """Whether a request is a proven softphone's, or belongs to a dialog that is alive."""


class Guard:
    """Counts failures and strangers, and drops what locked sources send."""

    def __init__(self, host: GuardHost, lockout: Lockout | None = None) -> None:
        self._host = host
        self._lockout = lockout or Lockout()
        self._quiet = OncePerMinute()

    def failed(self, flow: Flow, user: str, reason: str) -> None:
        """Credentials were wrong. The line in the log is stable: a fail2ban filter is made for it."""
        source = flow.remote[0]
        user = user[:_LONGEST_USER]
        self._host.signalling.rejected["credentials"] += 1
        log.warning("auth.failed", source=source, user=user, reason=reason)
        locked = self._lockout.failed(source, user, self._host.now())
        if locked:
            log.warning("auth.locked_out", source=source, user=user, what=locked, seconds=self._lockout.bounds.locked)

    def proved(self, flow: Flow, user: str) -> None:
        """Credentials were right."""
        self._lockout.proved(flow.remote[0], user, self._host.now())

    def stranger(self, source: str, method: str) -> None:
        """A request no connection claims: counted, and logged once per source and minute."""
        self._host.signalling.rejected["unclaimed"] += 1
        held_back = self._quiet.due(source, self._host.now())
        if held_back is not None:
            log.warning("request.unclaimed", source=source, method=method, held_back=held_back)

    def ignores(self, request: Message, flow: Flow) -> bool:
        """Whether a request just received is to be dropped without an answer."""
        now = self._host.now()
        source = flow.remote[0]
        if not (self._lockout.is_locked(source, now) or self._names_locked(request, source, now)):
            return False
        if request.method == "ACK" or self._host.is_known(flow, request):
            return False
        self._host.signalling.rejected["locked_out"] += 1
        return True

    def _names_locked(self, request: Message, source: str, now: float) -> bool:
        return self._lockout.any_users and any(
            self._lockout.is_locked_user(source, name[:_LONGEST_USER], now) for name in _names(request)
        )


def _names(request: Message) -> set[str]:
    """Every user a request speaks for."""
    names = set()
    for header in ("Authorization", "Proxy-Authorization"):
        for value in request.get_all(header):
            names.update(_USERNAME.findall(value))
    try:
        names.add(request.from_.parsed_uri.user_unescaped)
        if request.method == "REGISTER":
            names.add(request.to.parsed_uri.user_unescaped)
    except ParseError:
        pass
    return names
