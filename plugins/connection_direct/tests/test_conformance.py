"""direct keeps to the contract of connection types."""

from __future__ import annotations

import trio

from siperb_connection_direct import Direct
from siperb_core import Entry
from siperb_core.testing import check_connection_type


async def test_it_is_a_connection_type(autojump_clock: trio.testing.MockClock) -> None:
    await check_connection_type(
        Direct(),
        {"numbers": {"1001": "alice", "1002": ["bob", "carol"]}},
        entry=Entry("house", "direct"),
        bad_settings=[
            {"numbers": "1001"},
            {"numbers": {"1001": 7}},
            {"numbers": {"1001": []}},
            {"numbers": {"1001": "a b"}},
            {"numbers": {"": "alice"}},
            {"names": "yes"},
            {"server": "pbx.example.com"},
        ],
    )
