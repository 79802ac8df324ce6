"""What plugins are told of calls and registrations: plain data, the names of the JSON output."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen
class CallEvent:
    """One step in a call's life. `when` is seconds since the epoch."""

    what: Literal["started", "ringing", "answered", "ended"]
    when: float
    call_id: str
    direction: Literal["outbound", "inbound"]
    connection: str
    user: str
    device: str
    caller: str
    callee: str
    cause: str = ""


@attrs.frozen
class RegistrationEvent:
    """A softphone's binding changed."""

    what: Literal["added", "refreshed", "removed"]
    when: float
    device: str
    user: str
    contact: str
