"""outbound_registration keeps to the contract of connection types."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from siperb_connection_outbound_reg import OutboundRegistration
from siperb_core.testing import check_connection_type


@pytest.mark.parametrize("transport", ["udp", "tls"])
async def test_it_is_a_connection_type(autojump_clock: trio.testing.MockClock, transport: str) -> None:
    settings: dict[str, Any] = {
        "server": "pbx.example.com",
        "transport": transport,
        "username": "200",
        "password": "not-to-be-seen",
    }
    await check_connection_type(
        OutboundRegistration(), settings, bad_settings=[{"server": "pbx.example.com"}, {**settings, "expires": 1}]
    )
