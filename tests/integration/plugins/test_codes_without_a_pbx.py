"""Feature codes beside softphones that call each other, both plugins in one gateway and no PBX anywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from siperb_core.testing import PhoneCall, Softphone

CONNECTIONS = """
[[connection]]
name = "codes"
type = "feature_code"
weight = -10
dial_pattern = '^\\*'

[[connection]]
name = "house"
type = "direct"
[connection.settings.numbers]
1000 = ["alice", "bob"]
1001 = "alice"
"""


async def over(call: PhoneCall) -> tuple[bool, int]:
    """Whether a call was answered, and its status, once it has ended."""
    await call.ended.wait()
    return call.was_answered, call.status


async def test_do_not_disturb_and_redial_between_softphones(
    gateway: Callable[..., Awaitable[Any]], softphone: Callable[..., Awaitable[Softphone]]
) -> None:
    with trio.fail_after(90):
        plugins = ["connection_direct", "connection_feature_code", "transcoder_opus_g722"]
        running = await gateway(CONNECTIONS, plugins=plugins)
        alice, bob = await softphone(running, "alice"), await softphone(running, "bob")
        assert await over(await alice.call("*78")) == (True, 200)
        for number in ("1001", "alice", "*66", "1000"):
            assert await over(await bob.call(number)) == (False, 486), number
        assert [call.direction for call in alice.calls] == ["outgoing"]
        assert await over(await bob.call("1001")) == (False, 486)

        assert await over(await alice.call("*79")) == (True, 200)
        call = await bob.call("*66")
        back = await alice.next_call()
        await back.accept()
        await call.answered()
        call.play(700)
        await back.hears(700)
        await call.hangup()
        await back.ended.wait()
        await running.calls.wait_idle()
