"""Who calls softphones that are on their way back after a restart waits a moment for them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from siperb_core import CallAttempt, RegistrationEvent
from siperb_core.defaults.returning import WAIT_SECONDS, ReturningSoftphones
from siperb_core.gates import Gates
from siperb_core.sip import Message

REQUEST = Message.request("INVITE", "sip:600@gw.example", [])


class Away:
    """The gateway's knowledge of who was registered before the restart, and is not yet back."""

    def __init__(self, *devices: str) -> None:
        self.devices = set(devices)
        self.gate = ReturningSoftphones()
        self.gate.expected = self.expected

    def expected(self, devices: Sequence[str]) -> bool:
        return set(devices) <= self.devices

    def back(self, device: str) -> None:
        self.devices.discard(device)
        self.gate.siperb_registration_event(RegistrationEvent("added", 0.0, device, "alice", "sip:x@y"))

    async def called(self, *devices: str) -> float:
        """Seconds a call for these waits."""
        passed = trio.Event()
        call = CallAttempt("id", "inbound", "INVITE", "600", "sip:bob@pbx", REQUEST, devices=devices)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            gates = Gates([("returning", self.gate)], lambda plugin, what: pytest.fail(what), nursery.start_soon)
            gates.admit(call, lambda refusal: passed.set() if refusal is None else pytest.fail(str(refusal)))
        assert passed.is_set()
        return trio.current_time() - began


async def test_a_call_goes_on_as_soon_as_one_is_back(autojump_clock: trio.testing.MockClock) -> None:
    away = Away("web", "desk")

    async def later() -> None:
        await trio.sleep(1.5)
        away.back("desk")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        assert await away.called("web", "desk") == pytest.approx(1.5)


async def test_it_does_not_wait_for_ever_nor_for_others(autojump_clock: trio.testing.MockClock) -> None:
    away = Away("web")
    assert await away.called("web") == pytest.approx(WAIT_SECONDS)
    assert await away.called("web", "desk") == 0, "desk can be reached"
    assert await away.called() == 0
