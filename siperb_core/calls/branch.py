"""One destination of a request that is forked, and where destinations come from (RFC 3261 section 16.5, 16.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from siperb_core.calls.sender import CallSender
from siperb_core.sip import Flow, Message, response_to
from siperb_core.sip.dialog import Leg

if TYPE_CHECKING:
    from siperb_core.calls.setup import CallSetup


class Destinations(Protocol):
    """Where a request may go (`siperb_core.calls.destinations`)."""

    def start(self) -> None:
        """Start the first branches of the call, or `finish` it."""

    def next_after(self, response: Message, *, reached: bool) -> bool:
        """Whether the answer of all branches so far is no last word, and another branch has been started.

        `reached` is False where nobody gave the response: it stands for a time-out or a dead transport.
        """


class Branch(CallSender):
    """One destination of the request."""

    def __init__(self, call: CallSetup, name: str, leg: Leg, flow: Flow) -> None:
        super().__init__(call, call.request, leg, flow, call.credentials_for("callee"))
        self.setup = call
        self.name = name
        self.given_up = False
        """Silent for too long: another destination has been tried, and nothing but a 2xx is looked at any more."""

    def responded(self, response: Message) -> None:
        """Pass it to the call."""
        if response.status == 100 or (self.given_up and response.status // 100 != 2):
            return
        if response.status < 200:
            self.setup.on_provisional(self, response)
        elif response.status < 300:
            self.setup.on_success(self, response)
        else:
            self.setup.on_final(self, response)

    def failed(self, status: int) -> None:
        """Count it as the answer RFC 3261 section 16.8 and 16.9 say."""
        if not self.given_up:
            self.setup.on_final(self, response_to(self.setup.request, status), reached=False)

    def silent(self) -> None:
        """Count it as timed out, so that the next destination is tried; what it may still set up is not wanted."""
        self.cancel()
        self.failed(408)
        self.given_up = True
