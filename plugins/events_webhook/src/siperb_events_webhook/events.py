"""Events as the receiver gets them: JSON documents, and the headers that prove whose they are. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import attrs

from siperb_core import CallEvent, ConnectionEvent, RegistrationEvent

NAMES: Final = (
    *("call.started", "call.ringing", "call.answered", "call.ended", "call.record"),
    *("registration.added", "registration.refreshed", "registration.removed"),
    *("connection.state_changed", "connection.registered", "connection.registration_lost"),
    *("connection.reachable", "connection.unreachable", "connection.issue_raised", "connection.issue_mended"),
)
"""Every event there is."""
What = CallEvent | RegistrationEvent | ConnectionEvent | Mapping[str, Any]
"""What there is to tell of one."""
_RENAMED: Final = {"caller": "from", "callee": "to"}  # as in all other JSON of the gateway: `from` is no name in Python


class Item(NamedTuple):
    """An event on its way. `sequence` counts the events since the gateway started, those that were dropped too.

    A tuple, as one is made for every event, in the task that handles SIP.
    """

    sequence: int
    name: str
    what: What


def document(item: Item, *, run: str, gateway: str) -> bytes:
    """The body of the POST, UTF-8 JSON. `run` tells the runs of a gateway apart, `gateway` is its domain.

    Raises TypeError or ValueError where a record is no JSON.
    """
    if isinstance(item.what, Mapping):
        data = dict(item.what)
        when = data.get("ended")
    else:
        fields = attrs.asdict(item.what)
        when = fields.pop("when")
        del fields["what"]
        data = {_RENAMED.get(key, key): value for key, value in fields.items()}
    whole = {
        "id": event_id(item, run),
        "sequence": item.sequence,
        "event": item.name,
        "time": when,
        "gateway": gateway,
        "data": data,
    }
    return json.dumps(whole, separators=(",", ":")).encode()


def event_id(item: Item, run: str) -> str:
    """The same for every attempt at an event, and for no other event."""
    return f"{run}-{item.sequence}"


def signature(secret: str, body: bytes, when: int) -> str:
    """The value of `X-Siperb-Signature`: `t=WHEN,v1=HEX`, HMAC-SHA256 (RFC 2104) of `WHEN.BODY`, WHEN in seconds since
    the epoch.
    """
    digest = hmac.new(secret.encode(), b"%d." % when + body, hashlib.sha256).hexdigest()
    return f"t={when},v1={digest}"
