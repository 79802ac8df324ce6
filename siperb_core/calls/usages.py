"""What keeps a dialog alive beside the call in it, and until when (RFC 5057): subscriptions, the session's timer.

Times are seconds since the epoch. Nothing here reads a clock: who asks says what time it is.
"""

from __future__ import annotations

from typing import Any

import attrs

from siperb_core.sip import Message, ParseError
from siperb_core.sip.headers import parse_name_addr

GRACE = 32.0
"""Seconds (64*T1) a refresh that is under way when something runs out may still take."""

ACK_WITHIN = 40.0
"""Seconds for the ACK of a 2xx: 64*T1 in which it is repeated, and some for the BYE that follows (section 13.3.1.4)."""

_SUBSCRIPTION = 3600  # where neither side says how long (RFC 6665 section 4.1.2.1 leaves it to the package)
_REFER = 180  # where the notifier does not say how long it will report (RFC 3515 section 2.4.7)
_MOST = 16  # subscriptions in one dialog: more than any phone has, and a bound to what a peer can make us keep


@attrs.define
class Subscription:
    """One subscription in a dialog. `number` and `original` are the CSeq numbers of the REFER that made it, as the
    notifier knows it and as the subscriber does: `Event: refer;id=` names it by these (RFC 3515 section 2.4.6).
    """

    tag: str  # of the callee: the dialog
    event: str  # package, with `;id=` where there is one
    expires_at: float
    number: int = 0
    original: int = 0


@attrs.define
class Usages:
    """The usages of one call's dialogs."""

    ack_by: float | None = None
    session_ends: float | None = None
    subscriptions: list[Subscription] = attrs.field(factory=list)

    def refreshed(self, response: Message, now: float) -> None:
        """A 2xx to an INVITE or UPDATE says whether the session runs out, and when (RFC 4028 section 7.2)."""
        seconds = session_seconds(response)
        self.session_ends = None if seconds is None else now + seconds + GRACE

    def subscribed(self, tag: str, request: Message, response: Message, now: float) -> None:
        """A SUBSCRIBE got a 2xx: a new subscription, or one that lasts longer or ends."""
        seconds = _number(response.get("Expires"), _number(request.get("Expires"), _SUBSCRIPTION))
        self._keep(tag, event_of(request), now + seconds + GRACE)

    def referred(self, tag: str, number: int, original: int, now: float) -> None:
        """A REFER got a 2xx: the notifier will report on it."""
        found = self._keep(tag, f"refer;id={number}", now + _REFER + GRACE)
        if found is not None:
            found.number, found.original = number, original

    def notified(self, tag: str, request: Message, now: float, *, opens: bool) -> None:
        """A NOTIFY was answered: it says how long the subscription lasts, or that it is over (RFC 6665 section 4.1.3).

        `opens`: one that comes before the 2xx of its SUBSCRIBE, or from another end of a fork, makes a subscription.
        """
        state, _, parameters = (request.get("Subscription-State") or "").partition(";")
        event = event_of(request)
        found = self._find(tag, event)
        if state.strip().lower() == "terminated":
            if found is not None:
                self.subscriptions.remove(found)
            return
        seconds = _parameter(parameters, "expires")
        if found is not None and seconds is not None:
            found.expires_at = now + seconds + GRACE
        elif found is None and opens:
            self._keep(tag, event, now + (_SUBSCRIPTION if seconds is None else seconds) + GRACE)

    def ended(self, tag: str, request: Message) -> None:
        """The far end does not know the subscription of this SUBSCRIBE or NOTIFY (any more)."""
        found = self._find(tag, event_of(request))
        if found is not None:
            self.subscriptions.remove(found)

    def renamed(self, tag: str, message: Message) -> str | None:
        """The Event of a NOTIFY or SUBSCRIBE about a REFER, as the other leg numbers it; None where it stays."""
        event = event_of(message)
        if not event.startswith("refer;id="):
            return None
        number = _number(event.removeprefix("refer;id="), 0)
        notify = message.method == "NOTIFY"
        for item in self.subscriptions:
            if item.tag == tag and number == (item.number if notify else item.original) and item.number:
                return f"refer;id={item.original if notify else item.number}"
        return None

    def has(self, tag: str) -> bool:
        """Whether a subscription is alive in this dialog."""
        return any(item.tag == tag for item in self.subscriptions)

    def expire(self, now: float) -> None:
        """Forget the subscriptions that have run out."""
        self.subscriptions = [item for item in self.subscriptions if item.expires_at > now]

    @property
    def next_deadline(self) -> float | None:
        """When something runs out."""
        times = [item.expires_at for item in self.subscriptions]
        times += [time for time in (self.ack_by, self.session_ends) if time is not None]
        return min(times, default=None)

    def as_json(self) -> dict[str, Any]:
        """The usages as the store keeps them."""
        return {
            "ack_by": self.ack_by,
            "session_ends": self.session_ends,
            "subscriptions": [attrs.asdict(item) for item in self.subscriptions],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Usages:
        """The usages out of `as_json`. Whether the ACK came is not written down for every call: after a restart nobody
        is waited for.
        """
        return cls(None, data["session_ends"], [Subscription(**item) for item in data["subscriptions"]])

    def _keep(self, tag: str, event: str, expires_at: float) -> Subscription | None:
        found = self._find(tag, event)
        if found is None:
            if len(self.subscriptions) >= _MOST:
                return None
            found = Subscription(tag, event, expires_at)
            self.subscriptions.append(found)
        found.expires_at = expires_at
        return found

    def _find(self, tag: str, event: str) -> Subscription | None:
        same = [item for item in self.subscriptions if item.tag == tag]
        for item in same:
            if item.event == event or (item.original and event == f"refer;id={item.original}"):
                return item
        if event == "refer":  # the first REFER in a dialog may go without id
            return next((item for item in same if item.event.startswith("refer")), None)
        return None


def session_seconds(response: Message) -> int | None:
    """Session-Expires (RFC 4028 section 4), in seconds; None where there is none or it cannot be read."""
    value = response.get("Session-Expires")
    if value is None:
        return None
    seconds = _number(value.partition(";")[0], 0)
    return seconds or None


def event_of(request: Message) -> str:
    """The event package in small letters, with `;id=` where Event has one; '' without Event. A REFER's is `refer`."""
    value = request.get("Event") or ("refer" if request.method == "REFER" else "")
    package, _, parameters = value.partition(";")
    package = package.strip().lower()
    for parameter in parameters.split(";"):
        name, _, text = parameter.partition("=")
        if name.strip().lower() == "id":
            return f"{package};id={text.strip()}"
    return package


def wants_no_subscription(response: Message) -> bool:
    """Whether the 2xx to a REFER says that no NOTIFY will come (RFC 4488 section 4)."""
    return (response.get("Refer-Sub") or "").strip().lower().startswith("false")


def _parameter(text: str, name: str) -> int | None:
    try:
        value = parse_name_addr(f"<sip:x@y>;{text}").param(name) if text.strip() else None
    except ParseError:
        return None
    return None if value is None else _number(value, _SUBSCRIPTION)


def _number(text: str | None, default: int) -> int:
    text = (text or "").strip()
    return min(int(text), 0xFFFFFFFF) if text.isascii() and text.isdigit() and len(text) <= 10 else default
