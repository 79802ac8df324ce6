"""inbound_registration keeps to the contract of connection types."""

from __future__ import annotations

import trio

from siperb_connection_inbound_reg import InboundRegistration
from siperb_core.testing import check_connection_type


async def test_it_is_a_connection_type(autojump_clock: trio.testing.MockClock) -> None:
    await check_connection_type(
        InboundRegistration(),
        {"username": "branch", "password": "not-to-be-seen"},
        bad_settings=[{"username": "branch"}, {"username": "branch", "password": "short"}],
    )
