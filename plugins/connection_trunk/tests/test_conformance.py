"""outbound_trunk keeps to the contract of connection types."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import trio

from siperb_connection_trunk import OutboundTrunk
from siperb_core import Entry
from siperb_core.testing import check_connection_type


async def test_it_is_a_connection_type(autojump_clock: trio.testing.MockClock) -> None:
    settings: dict[str, Any] = {"server": "pbx.example.com", "username": "200", "password": "not-to-be-seen"}
    await check_connection_type(
        OutboundTrunk(),
        settings,
        entry=Entry("office", "outbound_trunk", allow_from=(ip_network("192.0.2.0/24"),)),
        bad_settings=[{}, {**settings, "port": 0}, {"server": "pbx.example.com", "password": "x"}],
    )
