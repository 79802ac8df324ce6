"""feature_code keeps to the contract of connection types."""

from __future__ import annotations

import trio

from siperb_connection_feature_code import FeatureCode
from siperb_core import Entry
from siperb_core.testing import check_connection_type


async def test_it_is_a_connection_type(autojump_clock: trio.testing.MockClock) -> None:
    await check_connection_type(
        FeatureCode(),
        {"codes": {"600": "echo", "601": "dnd_on", "*66": "redial", "*1": "dnd_toggle"}, "echo_seconds": 60},
        entry=Entry("codes", "feature_code"),
        bad_settings=[
            {"codes": "*43"},
            {"codes": {}},
            {"codes": {"*43": "dance"}},
            {"codes": {"*43": ["echo"]}},
            {"codes": {"": "echo"}},
            {"codes": {"* 43": "echo"}},
            {"codes": {"*43\n": "echo"}},
            {"codes": {"4" * 33: "echo"}},
            {"codes": {str(number): "echo" for number in range(101)}},
            {"echo_seconds": 4},
            {"echo_seconds": 3601},
            {"server": "pbx.example.com"},
        ],
    )
