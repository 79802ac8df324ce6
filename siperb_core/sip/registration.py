"""The other side of a registrar: keeping one contact of ours registered with a PBX (RFC 3261 section 10.2).

A machine without clock or socket. Whoever drives it sends what it asks for, feeds back what comes of that, and wakes it
when it wants to be woken:

    effects = client.start(now)
    SendRegister(message)  send it; then `response(message, now)`, or `timeout(now)` when no response came
    WakeAt(time)           call `tick(now)` then, unless something else happens first
    Registered, RefreshFailed   to be shown
    Rejected, Unregistered      the end, until `start` is called again

One REGISTER is under way at a time. Times are seconds on one scale, which also `Registered.expires_at` is on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, TypeAlias

import attrs

from siperb_core.sip.digest import answer_challenge, of_realms, strongest
from siperb_core.sip.errors import ParseError
from siperb_core.sip.headers import NameAddr
from siperb_core.sip.message import Message
from siperb_core.sip.uri import parse_uri

_FIRST_RETRY = 5.0  # seconds until a failed refresh is tried again; doubles
_LAST_RETRY = 80.0
_LONGEST_RETRY_AFTER = 86_400
_LONGEST_EXPIRY = 7 * 86_400
_MOST_ANSWERS = 3  # to challenges of one realm in one attempt: the first, and two that were stale
_MOST_TRIES = 8  # messages in one attempt, whatever the server comes up with
_CONFIG = frozenset({404, 405, 410, 416, 420, 421, 484, 485, 501, 505, 604})

ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, MESSAGE, REFER, SUBSCRIBE, NOTIFY"


@attrs.frozen
class RegistrationSettings:
    """Who registers what, where. URIs are complete and without angle brackets."""

    registrar: str
    """The Request-URI: `sip:pbx.example.com`, no user part (section 10.2)."""
    aor: str
    """What is registered: To and From."""
    contact: str
    """Where calls to it are to be sent. Its user part is taken to be this registration's alone."""
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    expires: int = 300
    """Seconds to ask for; the registrar may grant fewer."""
    display: str = ""
    route: tuple[str, ...] = ()
    """Values for Route: `<sip:proxy.example.com;lr>` for an outbound proxy."""
    user_agent: str = ""
    realm: str = ""
    """The only realm whose challenges are answered; empty for any."""


@attrs.frozen(eq=False)
class SendRegister:
    """Send this REGISTER; Via and Max-Forwards are still missing. It is the caller's to change and keep."""

    message: Message


@attrs.frozen
class WakeAt:
    """Call `tick` at this time. Takes the place of an earlier one."""

    time: float


@attrs.frozen
class Registered:
    """The contact is registered until then. `service_route` and `path` are header values (RFC 3608, RFC 3327)."""

    expires_at: float
    service_route: tuple[str, ...] = ()
    path: tuple[str, ...] = ()


@attrs.frozen
class RefreshFailed:
    """A refresh failed; the contact is still registered and the next attempt is due then. Only to be shown."""

    status: int | None
    reason: str
    next_attempt: float


@attrs.frozen
class Rejected:
    """Not registered (any more), and nothing more will be sent by itself.

    `auth`: the credentials were refused. `config`: it cannot work as configured. Neither is to be tried again before
    somebody has changed something. `temporary`: later, after `retry_after` seconds where the registrar said so.
    `status` is None when no response came.
    """

    kind: Literal["auth", "config", "temporary"]
    status: int | None
    reason: str
    retry_after: float | None = None


@attrs.frozen
class Unregistered:
    """Stopped: the contact was taken back, as far as the registrar could be told."""


RegistrationEffect: TypeAlias = SendRegister | WakeAt | Registered | RefreshFailed | Rejected | Unregistered

State: TypeAlias = Literal["idle", "registering", "registered", "refreshing", "unregistering"]


@attrs.define
class _Attempt:
    """What has happened since `start`, `tick` or `stop` sent a first REGISTER."""

    tries: int = 0
    lengthened: bool = False
    answers: dict[tuple[int, str], int] = attrs.field(factory=dict)  # by status and realm
    answered_nonces: set[str] = attrs.field(factory=set)
    credentials: dict[tuple[int, str], tuple[str, str]] = attrs.field(factory=dict)  # header and value


class RegistrationClient:
    """One registration. `new_token` gives fresh random text, for Call-ID, tag and cnonces."""

    TRANSITIONS: ClassVar = (
        ("idle", "start", "registering"),
        ("idle", "stop", "idle"),
        ("registering", "2xx", "registered"),
        ("registering", "challenge", "registering"),
        ("registering", "423", "registering"),
        ("registering", "challenged again", "idle"),
        ("registering", "423 again", "idle"),
        ("registering", "3xx, 403, 404", "idle"),
        ("registering", "503 or silence", "idle"),
        ("registering", "start", "registering"),
        ("registering", "stop", "unregistering"),
        ("registered", "refresh is due", "refreshing"),
        ("registered", "connection lost", "refreshing"),
        ("registered", "start", "registering"),
        ("registered", "stop", "unregistering"),
        ("refreshing", "2xx", "registered"),
        ("refreshing", "503 or silence", "registered"),
        ("refreshing", "503 or silence, and the binding runs out", "idle"),
        ("refreshing", "challenge", "refreshing"),
        ("refreshing", "423", "refreshing"),
        ("refreshing", "challenged again", "idle"),
        ("refreshing", "423 again", "idle"),
        ("refreshing", "3xx, 403, 404", "idle"),
        ("refreshing", "start", "registering"),
        ("refreshing", "stop", "unregistering"),
        ("unregistering", "challenge", "unregistering"),
        ("unregistering", "2xx", "idle"),
        ("unregistering", "challenged again", "idle"),
        ("unregistering", "423", "idle"),
        ("unregistering", "3xx, 403, 404", "idle"),
        ("unregistering", "503 or silence", "idle"),
        ("unregistering", "start", "registering"),
        ("unregistering", "stop", "unregistering"),
    )
    """(state, event, next state) for all that happens; an event not listed is ignored in that state. A 2xx that grants
    no time at all counts as a 503."""

    def __init__(self, settings: RegistrationSettings, new_token: Callable[[], str]) -> None:
        self._settings = settings
        self._new_token = new_token
        self._call_id = new_token()
        self._tag = new_token()
        self._cseq = 0
        self._wanted = settings.expires
        self._nonce_counts: dict[str, int] = {}
        self._retry = _FIRST_RETRY
        self._this = _Attempt()
        self._wake_at = 0.0
        self._left = ""
        self.realms: tuple[str, ...] = ()
        """Realms for which the registrar accepted our answer, in the last REGISTER that was challenged."""
        self.state: State = "idle"
        self.expires_at: float | None = None
        """Until when the registrar keeps our contact; None where it does not."""

    # Inputs

    def start(self, now: float) -> list[RegistrationEffect]:
        """Register, or register again after `Rejected` or `Unregistered`."""
        self.expires_at = None
        self._retry = _FIRST_RETRY
        return self._attempt("registering")

    def tick(self, now: float) -> list[RegistrationEffect]:
        """The time of the last `WakeAt` has come. Too early a call is answered by the same `WakeAt` again."""
        if self.state != "registered":
            return []
        if now < self._wake_at:
            return [WakeAt(self._wake_at)]
        return self._attempt("refreshing")

    def refresh(self, now: float) -> list[RegistrationEffect]:
        """Register again before it is due: the connection was lost, or the contact has moved."""
        return self._attempt("refreshing") if self.state == "registered" else []

    def move(self, contact: str) -> bool:
        """Use another contact from the next REGISTER on, which takes the old one back; whether it is another."""
        if contact == self._settings.contact:
            return False
        self._left = self._settings.contact
        self._settings = attrs.evolve(self._settings, contact=contact)
        return True

    def stop(self, now: float) -> list[RegistrationEffect]:
        """Take the contact back (section 10.2.2). A response to an earlier REGISTER need not be fed any more."""
        if self.state == "idle":
            return [Unregistered()]
        return self._attempt("unregistering")

    def timeout(self, now: float, reason: str = "no answer") -> list[RegistrationEffect]:
        """The REGISTER got no final response: nobody answered, the transport failed, the name did not resolve."""
        return self._later(None, reason, None, now)

    def response(self, message: Message, now: float) -> list[RegistrationEffect]:
        """The final response to the last REGISTER; provisional ones, and those to an earlier one, change nothing."""
        status = message.status
        if self.state in ("idle", "registered") or status < 200 or not self._is_current(message):
            return []
        if status < 300:
            return self._granted(message, now)
        if status in (401, 407):
            return self._challenged(message)
        if status == 423:
            return self._too_brief(message)
        reason = message.reason
        if status < 400:
            target = message.get("Contact") or "nowhere"
            return self._give_up(Rejected("config", status, f"{reason}: moved to {target}"))
        if status == 403:
            return self._give_up(Rejected("auth", status, reason))
        if status in _CONFIG:
            return self._give_up(Rejected("config", status, reason))
        return self._later(status, reason, retry_after(message), now)

    def _is_current(self, message: Message) -> bool:
        try:
            return message.cseq.number == self._cseq
        except ParseError:
            return False

    # What responses mean

    def _granted(self, message: Message, now: float) -> list[RegistrationEffect]:
        """Section 10.2.4: the registrar decides how long the contact is kept."""
        if self.state == "unregistering":
            return self._unregistered()
        granted = _granted_expiry(message, self._settings.contact, self._wanted)
        if granted <= 0:
            return self._later(message.status, "the registrar accepted the contact for no time at all", None, now)
        self.state = "registered"
        self._left = ""
        if self._this.answers:
            self.realms = tuple(dict.fromkeys(realm for _, realm in self._this.answers))
        self.expires_at = now + granted
        self._retry = _FIRST_RETRY
        self._wake_at = now + _refresh_after(min(granted, self._wanted))
        registered = Registered(
            self.expires_at,
            _values(message, "Service-Route"),
            _values(message, "Path"),
        )
        return [registered, WakeAt(self._wake_at)]

    def _challenged(self, message: Message) -> list[RegistrationEffect]:
        """Section 22.2, 22.3: answer a nonce once. Asked again for the same realm, only a stale nonce is excused."""
        status, settings = message.status, self._settings
        challenge_name, answer_name = (
            ("WWW-Authenticate", "Authorization") if status == 401 else ("Proxy-Authenticate", "Proxy-Authorization")
        )
        challenges = message.get_all(challenge_name)
        if settings.realm and not (challenges := of_realms(challenges, (settings.realm,))):
            return self._give_up(Rejected("config", status, f"{message.reason}: the challenge is of another realm"))
        challenge = strongest(challenges)
        if challenge is None:
            return self._give_up(Rejected("config", status, f"{message.reason}: no challenge that we can answer"))
        if not settings.username:
            return self._give_up(Rejected("auth", status, f"{message.reason}: no credentials are set"))
        answers = self._this.answers.get((status, challenge.realm), 0)
        again = challenge.stale and challenge.nonce not in self._this.answered_nonces and answers < _MOST_ANSWERS
        if (answers and not again) or self._this.tries >= _MOST_TRIES:
            return self._give_up(Rejected("auth", status, f"{message.reason}: wrong username or password"))
        self._this.answers[status, challenge.realm] = answers + 1
        self._this.answered_nonces.add(challenge.nonce)
        count = self._nonce_counts.pop(challenge.nonce, 0) + 1
        self._nonce_counts[challenge.nonce] = count
        while len(self._nonce_counts) > 4:
            del self._nonce_counts[next(iter(self._nonce_counts))]
        value = answer_challenge(
            challenges,
            method="REGISTER",
            uri=settings.registrar,
            username=settings.username,
            password=settings.password,
            cnonce=self._new_token(),
            nonce_count=count,
        )
        assert value is not None  # `strongest` has found one that can be answered
        self._this.credentials[status, challenge.realm] = (answer_name, value)
        return self._send()

    def _too_brief(self, message: Message) -> list[RegistrationEffect]:
        """Section 10.2.8: ask once more, for as long as the registrar wants."""
        text = message.get("Min-Expires") or ""
        least = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        if self.state == "unregistering":
            return self._unregistered()
        if self._this.lengthened or not self._wanted < least <= _LONGEST_EXPIRY:
            return self._give_up(Rejected("config", 423, f"{message.reason}: Min-Expires {text or 'missing'}"))
        self._this.lengthened = True
        self._wanted = least
        return self._send()

    def _later(
        self, status: int | None, reason: str, retry_after: float | None, now: float
    ) -> list[RegistrationEffect]:
        if self.state in ("idle", "registered"):
            return []
        if self.state == "unregistering":
            return self._unregistered()
        wait = self._retry if retry_after is None else retry_after
        if self.expires_at is None or now + wait >= self.expires_at:
            return self._give_up(Rejected("temporary", status, reason, retry_after))
        self._retry = min(self._retry * 2, _LAST_RETRY)
        self.state = "registered"
        self._wake_at = now + wait
        return [RefreshFailed(status, reason, self._wake_at), WakeAt(self._wake_at)]

    def _give_up(self, rejected: Rejected) -> list[RegistrationEffect]:
        if self.state == "unregistering":
            return self._unregistered()
        self.state = "idle"
        self.expires_at = None
        return [rejected]

    def _unregistered(self) -> list[RegistrationEffect]:
        self.state = "idle"
        self.expires_at = None
        return [Unregistered()]

    # REGISTERs

    def _attempt(self, state: State) -> list[RegistrationEffect]:
        self._this = _Attempt()
        self.state = state
        return self._send()

    def _send(self) -> list[RegistrationEffect]:
        """Section 10.2: one Call-ID for all REGISTERs to a registrar, CSeq one higher with each."""
        settings = self._settings
        self._this.tries += 1
        self._cseq += 1
        address = NameAddr(settings.display, settings.aor)
        expires = 0 if self.state == "unregistering" else self._wanted
        headers = [("Route", route) for route in settings.route]
        headers += [
            ("From", f"{address};tag={self._tag}"),
            ("To", str(address)),
            ("Call-ID", self._call_id),
            ("CSeq", f"{self._cseq} REGISTER"),
            ("Contact", f"<{settings.contact}>;expires={expires}"),
            ("Expires", str(expires)),
            ("Supported", "path"),
            ("Allow", ALLOW),
        ]
        if self._left:
            headers.insert(len(settings.route) + 5, ("Contact", f"<{self._left}>;expires=0"))
        if settings.user_agent:
            headers.append(("User-Agent", settings.user_agent))
        headers += self._this.credentials.values()
        return [SendRegister(Message.request("REGISTER", settings.registrar, headers))]


def _refresh_after(expires: float) -> float:
    """How long to wait with the refresh.

    A tenth before the end, and not less than 45 s, so that after a REGISTER nobody answered (32 s) there is time for
    another; half-way through where that is too long for so short an expiry.
    """
    return expires - min(expires / 2, max(expires / 10, 45))


def _granted_expiry(message: Message, contact: str, wanted: int) -> int:
    """The expiry of our contact among those the registrar lists; else the response's; else what we asked for.

    Our contact is known by its user part: registrars behind NAT put another host into it, some drop its parameters.
    """
    try:
        contacts = message.contacts
        header = message.expires
    except ParseError:
        return wanted
    ours = parse_uri(contact)
    listed: list[tuple[bool, int]] = []
    for candidate in contacts:
        text = candidate.param("expires") or ""
        if not (text.isascii() and text.isdigit()):
            continue
        try:
            uri = candidate.parsed_uri
        except ParseError:
            continue
        if uri.user_unescaped == ours.user_unescaped:
            exact = uri.host.lower() == ours.host.lower() and uri.port == ours.port
            listed.append((exact, min(int(text[:10]), _LONGEST_EXPIRY)))
    if listed:
        return max(listed)[1]
    return wanted if header is None else min(header, _LONGEST_EXPIRY)


def retry_after(message: Message) -> float | None:
    """The seconds of Retry-After (section 20.33), at most a day; its comment and parameters do not matter."""
    value = message.get("Retry-After") or ""
    digits = value[: len(value) - len(value.lstrip("0123456789"))]
    return float(min(int(digits[:10]), _LONGEST_RETRY_AFTER)) if digits else None


def _values(message: Message, name: str) -> tuple[str, ...]:
    try:
        return tuple(message.values(name))
    except ParseError:
        return ()
