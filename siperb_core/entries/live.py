"""A loaded connection, asked with care: what a plugin raises or returns by mistake costs the request it was asked
about, and is counted against its entry.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import attrs
import structlog

from siperb_core.entries import networks
from siperb_core.entries.contract import (
    Claim,
    Connection,
    ConnectionType,
    Credentials,
    OutboundCall,
    OutboundLeg,
    Refusal,
    Source,
    Target,
    WayOut,
)
from siperb_core.entries.decisions import AnswerWith, DialNumber, RingUsers
from siperb_core.entries.model import Entry
from siperb_core.sip import Message, ParseError, parse_uri

_METHODS = ("outbound_leg", "credentials", "claims", "answer")

log = structlog.get_logger("siperb.entries")


class ConnectionFault(Exception):
    """A live connection has raised, or returned what the contract does not know; it is logged and counted already."""


def _ignore(what: str) -> None:
    """Where nobody counts."""


@attrs.frozen
class LoadedConnection:
    """A connection that takes calls. `fault` is told what its live object has done wrong."""

    entry: Entry
    type: ConnectionType
    connection: Connection
    fault: Callable[[str], None] = attrs.field(default=_ignore, eq=False, repr=False)

    def outbound_leg(self, call: OutboundCall) -> WayOut:
        """As `Connection.outbound_leg`. Raises ConnectionFault, and ParseError for a request that cannot be read."""
        found: object = self._asked("outbound_leg", lambda: self.connection.outbound_leg(call))
        wrong = wrong_with(found)
        if wrong:
            raise self._faulty(f"outbound_leg returned {wrong}")
        assert isinstance(found, WayOut)
        return found

    def claims(self, request: Message, source: Source) -> Claim | None:
        """As `Connection.claims`. Raises ConnectionFault, and ParseError for a request that cannot be read."""
        found: object = self._asked("claims", lambda: self.connection.claims(request, source))
        if found is None:
            return None
        if not isinstance(found, Claim) or not isinstance(found.number, str):
            raise self._faulty(f"claims returned {_kind(found)}")
        if found.authenticate is not None and not _are_credentials(found.authenticate):
            raise self._faulty(f"claims wants {_kind(found.authenticate)} for credentials")
        return found

    def answer(self, request: Message, source: Source) -> Message | None:
        """As `Connection.answer`. Raises ConnectionFault, and ParseError for a request that cannot be read."""
        found: object = self._asked("answer", lambda: self.connection.answer(request, source))
        if found is not None and (not isinstance(found, Message) or found.status < 100):
            raise self._faulty(f"answer returned {_kind(found)}")
        return found

    @property
    def credentials(self) -> Credentials | None:
        """As `Connection.credentials`. Raises ConnectionFault."""
        found: object = self._asked("credentials", lambda: self.connection.credentials)
        if found is not None and not _are_credentials(found):
            raise self._faulty(f"credentials is {_kind(found)}")
        return found  # type: ignore[return-value]

    @property
    def addresses(self) -> frozenset[str]:
        """As `KnowsItsPeer.addresses`; none where the connection does not say, or says nonsense."""
        return self._set_of_texts("addresses") or frozenset()

    @property
    def names(self) -> frozenset[str] | None:
        """As `ClaimsByName.names`; None where the connection does not say, or says nonsense."""
        return self._set_of_texts("names")

    def is_at(self, host: str) -> bool:
        """Whether the PBX is known to be at this address: by `allow_from`, or by `addresses`."""
        address = networks.address(host)
        return networks.allowed(self.entry.allow_from, host) or (
            address is not None and address in map(networks.address, self.addresses)
        )

    def _set_of_texts(self, what: str) -> frozenset[str] | None:
        try:
            found: object = self._asked(what, lambda: getattr(self.connection, what, None))
        except (ConnectionFault, ParseError):
            return None
        if found is None or (isinstance(found, frozenset) and all(isinstance(item, str) for item in found)):
            return found
        self._faulty(f"{what} is {_kind(found)}")
        return None

    def _asked(self, what: str, ask: Callable[[], object]) -> object:
        try:
            return ask()
        except ParseError:
            raise  # the sender's mistake: a stranger is not to fill the log, nor to bring a connection down
        except Exception as error:
            text = f"{type(error).__name__} in {what}"
            log.exception("plugin.failed", connection=self.entry.name, asked=what)
            self.fault(text)
            raise ConnectionFault(text) from error

    def _faulty(self, what: str) -> ConnectionFault:
        log.error("plugin.misfit", connection=self.entry.name, wrong=what)
        self.fault(what)
        return ConnectionFault(what)


def lacks(connection: object) -> str:
    """What an object handed out by `serve` lacks of a live connection; '' where nothing is missing. Nothing of it is
    called.
    """
    missing = object()
    for name in _METHODS:
        found = inspect.getattr_static(connection, name, missing)
        if found is missing and name not in getattr(connection, "__dict__", {}):
            return name
    return ""


def wrong_with(leg: object) -> str:
    """What keeps an answer of `outbound_leg` from being used; '' where nothing does."""
    if isinstance(leg, Refusal):
        fine = isinstance(leg.status, int) and 300 <= leg.status <= 699 and _is_line(leg.reason)
        return "" if fine else "a refusal without a status of 300 to 699 and a reason"
    if isinstance(leg, RingUsers):
        texts = (*leg.users, leg.caller, leg.display) if isinstance(leg.users, tuple) else (None,)
        return "" if all(map(_is_line, texts)) else "users to ring that are no tuple of text"
    if isinstance(leg, DialNumber):
        return "" if leg.number and _is_line(leg.number) else "a number to dial that is no text"
    if isinstance(leg, AnswerWith):
        return "" if callable(getattr(leg.endpoint, "run", None)) else "an endpoint that has no run"
    if not isinstance(leg, OutboundLeg):
        return _kind(leg)
    target: Any = leg.target
    if not isinstance(target, Target) or not isinstance(target.host, str):
        return "a leg without a target"
    for name in ("request_uri", "from_uri", "to_uri"):
        uri: object = getattr(leg, name)
        try:
            parse_uri(uri)  # type: ignore[arg-type]
        except (ParseError, TypeError, AttributeError):
            return f"a leg whose {name} is no URI"
    if not _is_line(leg.from_display):
        return "a leg whose from_display is no line of text"
    route: Any = leg.route
    if not isinstance(route, tuple) or not all(_is_line(value) for value in route):
        return "a leg whose route is no tuple of text"
    headers: Any = leg.headers
    if not isinstance(headers, tuple) or not all(
        isinstance(pair, tuple) and len(pair) == 2 and _is_line(pair[0]) and pair[0] and _is_line(pair[1])
        for pair in headers
    ):
        return "a leg whose headers are no tuple of pairs of text"
    return ""


def _are_credentials(value: object) -> bool:
    return isinstance(value, Credentials) and isinstance(value.username, str) and isinstance(value.password, str)


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and "\r" not in value and "\n" not in value


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
