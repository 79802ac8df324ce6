"""What plugins are told of calls, registrations and connections: plain data, the names of the JSON output."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen
class CallEvent:
    """One step in a call's life. `when` is seconds since the epoch, as are `started` and `answered`.

    `user` and `device` are the softphone's: who calls, or who answered. `caller` and `callee` are URIs, `number` is
    what was dialled. `status` is the final SIP status a call that nobody answered has ended with. `cause` and
    `diagnosis` say in words why it ended and what was wrong with it; both are empty until then, and the diagnosis where
    nothing was.
    """

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
    number: str = ""
    status: int | None = None
    started: float = 0.0
    answered: float | None = None
    diagnosis: str = ""


@attrs.frozen
class RegistrationEvent:
    """A softphone's binding changed. `when` and `expires_at` are seconds since the epoch.

    `transport` and `remote` (`host:port`) are of the flow it is reached on, empty where there is none any more.
    """

    what: Literal["added", "refreshed", "removed"]
    when: float
    device: str
    user: str
    contact: str
    expires_at: float = 0.0
    user_agent: str = ""
    transport: str = ""
    remote: str = ""


ConnectionEventKind = Literal[
    "state_changed", "registered", "registration_lost", "reachable", "unreachable", "issue_raised", "issue_mended"
]


@attrs.frozen
class ConnectionEvent:
    """Something has happened to a connection, or to the gateway itself, whose issues have no `connection`. Times are
    seconds since the epoch. `state` is the connection's after the event, whatever that was.

    - `state_changed`: it was in state `was`; `reason` says why, `next_attempt` when it is tried again.
    - `registered`, `registration_lost`: its registration with the PBX, in either direction; `status` and `reason` are
      the last answer's, `expires_at` is when the registration runs out. Refreshes are not told.
    - `reachable`, `unreachable`: its PBX answers, or does not answer any more.
    - `issue_raised`, `issue_mended`: `text` is what was wrong and `mend` how to mend it; `issue` is the same for both.
      The issues of a connection that is edited, restarted or removed count as mended.
    """

    what: ConnectionEventKind
    when: float
    connection: str
    state: str = ""
    was: str = ""
    reason: str = ""
    next_attempt: float | None = None
    status: int | None = None
    expires_at: float | None = None
    issue: str = ""
    text: str = ""
    mend: str = ""
