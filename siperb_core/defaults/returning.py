"""Softphones that are on their way back after a restart: who calls them meanwhile waits a moment for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from siperb_core.entries.contract import Refusal
from siperb_core.entries.decisions import CallAttempt
from siperb_core.events import RegistrationEvent
from siperb_core.hookspecs import hookimpl

WAIT_SECONDS = 4.0
"""Phones in a browser are back within one to three seconds."""


class ReturningSoftphones:
    """A call gate (`siperb_core.entries.decisions.CallGate`) and the plugin that gives it.

    A restart leaves bindings whose connections are gone. A call for none but such softphones is held until one of them
    has registered again, or is let go on to be answered 480.
    """

    name = "returning"
    seconds = 2 * WAIT_SECONDS
    admits_when_failing = True

    def __init__(self) -> None:
        self.expected: Callable[[Sequence[str]], bool] = lambda devices: False
        """Whether of these devices none can be reached, but one was registered before the restart."""
        self._returned = trio.Event()

    @hookimpl
    def siperb_call_gates(self) -> list[ReturningSoftphones]:
        """This one."""
        return [self]

    @hookimpl
    def siperb_registration_event(self, event: RegistrationEvent) -> None:
        """Somebody is back."""
        if event.what != "removed":
            self._returned.set()
            self._returned = trio.Event()

    def concerns(self, call: CallAttempt) -> bool:
        """Calls whose softphones are all away, and one of them not for long."""
        return bool(call.devices) and self.expected(call.devices)

    async def admit(self, call: CallAttempt) -> Refusal | None:
        """Wait; the call goes on in any case."""
        with trio.move_on_after(WAIT_SECONDS):
            while self.expected(call.devices):
                await self._returned.wait()
        return None
