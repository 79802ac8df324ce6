"""Who is not listened to: counts what fails and what nobody claims, and writes the log lines fail2ban reads.

A datagram's source is whatever its sender writes there. So that nobody has another locked out, a failure counts only
where the sender is known to receive at that address: over a connection, or with a nonce that was given to it (RFC 7616
section 5.4). Where a connection's PBX is known to be, by `allow_from` or by its registration, is never locked out.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from siperb_core.entries.live import ConnectionFault
from siperb_core.entries.loaded import LoadedConnections, credentials_of
from siperb_core.lockout import Lockout, OncePerMinute
from siperb_core.signalling import Signalling
from siperb_core.sip import Flow, Message, ParseError
from siperb_core.sip.digest import DigestResult, usernames
from siperb_core.transport.contract import vouch

log = structlog.get_logger()

_LONGEST_USER = 64  # characters of a stranger's making in a log line


class GuardHost(Protocol):
    """What the guard needs of the gateway around it."""

    signalling: Signalling

    def now(self) -> float:
        """Seconds since the epoch."""

    def is_known(self, flow: Flow, request: Message) -> bool:
        """Whether a request is a proven softphone's, or belongs to a dialog that is alive."""

    def loaded(self) -> LoadedConnections:
        """Connections that are loaded now."""


class Guard:
    """Counts failures and strangers, and drops what locked sources send."""

    def __init__(self, host: GuardHost, lockout: Lockout | None = None) -> None:
        self._host = host
        self._lockout = lockout or Lockout()
        self._quiet = OncePerMinute()
        self._unproven = OncePerMinute()

    def refused(self, flow: Flow, result: DigestResult) -> None:
        """An answer to a challenge did not let in: counted where it is wrong, and its sender is who he says."""
        if not result.failed:
            log.debug("auth.asked_again", source=flow.remote[0], reason=result.reason)
            return
        if flow.reliable or result.received:
            self.failed(flow.remote[0], result.username, result.reason)
            return
        self._host.signalling.rejected["unproven"] += 1
        held_back = self._unproven.due(flow.remote[0], self._host.now())
        if held_back is not None:
            log.info("auth.unproven", source=flow.remote[0], reason=result.reason, held_back=held_back)

    def failed(self, source: str, user: str, reason: str) -> None:
        """What was shown at `source` was wrong. The line in the log is stable: a fail2ban filter is made for it."""
        user = user[:_LONGEST_USER]
        self._host.signalling.rejected["credentials"] += 1
        log.warning("auth.failed", source=source, user=user, reason=reason)
        locked = self._lockout.failed(source, user, self._host.now(), own=self._names_at(source))
        if locked:
            log.warning("auth.locked_out", source=source, user=user, what=locked, seconds=self._lockout.bounds.locked)

    def proved(self, flow: Flow, user: str) -> None:
        """Credentials were right."""
        vouch(flow)
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
        if not self._is_locked(request, source, now):
            return False
        if request.method == "ACK" or self._host.is_known(flow, request):
            return False
        self._host.signalling.rejected["locked_out"] += 1
        return True

    def shuts_out(self, source: str) -> bool:
        """Whether a source is locked out as a whole."""
        return self._lockout.is_locked(source, self._host.now()) and self._names_at(source) is None

    def _is_locked(self, request: Message, source: str, now: float) -> bool:
        locked = self._lockout.is_locked(source, now)
        if not locked and not self._lockout.any_users:
            return False
        names = {name for name in _names(request) if self._lockout.is_locked_user(source, name[:_LONGEST_USER], now)}
        if not locked and not names:
            return False
        own = self._names_at(source)
        return True if own is None else bool(names & credentials_of(request) - own)

    def _names_at(self, host: str) -> frozenset[str] | None:
        """The names by which connections log in whose PBX is known to be at this address; None where it is none's."""
        names: frozenset[str] | None = None
        for loaded in self._host.loaded().at(host):
            try:
                credentials = loaded.credentials
            except ConnectionFault:
                credentials = None
            names = (names or frozenset()) | ({credentials.username} if credentials else frozenset())
        return names


def name_shown(request: Message) -> str:
    """Whom a request is to be authenticated as: who its credentials are of, else whom it registers, or is from."""
    shown = usernames(request.get("Authorization") or "")
    if shown:
        return shown[0]
    address = request.to if request.method == "REGISTER" else request.from_
    return address.parsed_uri.user_unescaped


def _names(request: Message) -> set[str]:
    """Every user a request speaks for."""
    names = credentials_of(request)
    try:
        names.add(request.from_.parsed_uri.user_unescaped)
        if request.method == "REGISTER":
            names.add(request.to.parsed_uri.user_unescaped)
    except ParseError:
        pass
    return names
