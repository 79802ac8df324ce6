"""What is known of a call, by the names of the contract: shown while it lasts, kept when it is over."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from siperb_core.sip import Message, parse_uri


@attrs.define
class CallRecord:
    """One call for `siperb show calls`, the API and the store. Times are seconds since the epoch."""

    call_id: str
    direction: Literal["outbound", "inbound"]
    device: str
    user: str
    caller: str
    callee: str
    number: str
    started: float
    connection: str = ""
    state: Literal["calling", "ringing", "answered", "ended"] = "calling"
    answered: float | None = None
    ended: float | None = None
    cause: str = ""
    diagnosis: str = ""
    acknowledged: bool = False
    media: dict[str, Any] | None = None
    status: int | None = None  # the final one of a call that was not answered

    @classmethod
    def of(
        cls, request: Message, direction: Literal["outbound", "inbound"], user: str, device: str, now: float
    ) -> CallRecord:
        """A new call, from its first request."""
        return cls(
            call_id=request.call_id,
            direction=direction,
            device=device,
            user=user,
            caller=request.from_.uri,
            callee=request.to.uri,
            number=dialled_number(request),
            started=now,
        )

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CallRecord:
        """The record out of `stored`."""
        return cls(**data)

    def stored(self) -> dict[str, Any]:
        """Every field, for the store."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "__weakref__"}

    def answer(self, now: float) -> None:
        """The 2xx has come."""
        self.state = "answered"
        self.answered = now

    def end(self, now: float, cause: str) -> None:
        """The call is over; a diagnosis that is known already stays."""
        if self.state == "answered" and not self.acknowledged and not self.diagnosis:
            self.diagnosis = "200 OK was never ACKed"
        self.state = "ended"
        self.ended = now
        self.cause = cause

    def as_json(self, media: dict[str, Any] | None) -> dict[str, Any]:
        """The JSON fields of the contract."""
        return {
            "call_id": self.call_id,
            "direction": self.direction,
            "device": self.device,
            "user": self.user,
            "connection": self.connection,
            "from": self.caller,
            "to": self.callee,
            "state": self.state,
            "started": self.started,
            "answered": self.answered,
            "ended": self.ended,
            "cause": self.cause,
            "diagnosis": self.diagnosis,
            "media": self.media if media is None else media,
        }


def dialled_number(request: Message) -> str:
    """What was dialled: the user part of the Request-URI, unescaped; the whole of a tel: URI's number."""
    return parse_uri(request.uri).user_unescaped or ""
