"""Two workers, a call in each: one is killed. Whole gateway, both ends of both calls looked at."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import trio

from siperb_core.media.pool import RESTART_DELAY, MediaPool
from siperb_core.testing import gateway as testing_gateway
from siperb_core.testing.gateway import open_gateway, trunk_to, websocket_url
from siperb_core.testing.pbx import open_pbx
from siperb_core.testing.softphone import open_softphone

TWO = testing_gateway._HEAD.replace("workers = 1", "workers = 2")


async def test_a_killed_worker_ends_its_own_call_and_no_other_and_is_replaced(tmp_path: Path) -> None:
    async with open_pbx() as pbx:
        async with (
            open_gateway(tmp_path, trunk_to(pbx.local[1]), head=TWO) as gateway,
            open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone,
        ):
            with trio.fail_after(90):
                media: Any = gateway.media
                assert isinstance(media, MediaPool)
                await media.wait_ready()
                calls = []
                for _ in range(2):
                    calls.append(await phone.call("601"))
                    await calls[-1].answered()
                    await calls[-1].hears(1000)
                unlucky, lucky = calls
                mine, other = media.sessions
                if mine.call_id != unlucky.call_id:
                    mine, other = other, mine
                victim, survivor = mine._worker.process.pid, other._worker.process.pid
                assert victim != survivor, "calls are spread"
                ports = media.ports.taken
                os.kill(victim, signal.SIGKILL)

                there = {call.call_id: call for call in pbx.calls}
                for end in (unlucky, there[unlucky.call_id]):
                    await end.ended.wait()
                    assert end.bye is not None
                    assert end.bye.get("Reason") == 'SIP ;cause=503 ;text="the media worker died"'
                assert mine.closed.is_set()
                assert media.ports.taken == ports - 3, "RTP, RTCP and the softphone's"

                assert not lucky.ended.is_set()
                assert (await lucky.listen()).is_tone(1000, within=2)
                assert (await there[lucky.call_id].listen()).is_tone(440, within=2)

                while len(media.worker_pids) < 2:  # noqa: ASYNC110
                    await trio.sleep(0.02)
                assert RESTART_DELAY <= 1, "seconds, at most, that a new one is waited with"
                assert survivor in media.worker_pids
                assert victim not in media.worker_pids
                again = await phone.call("601")
                await again.answered()
                await again.hears(1000)
                [fresh] = [session for session in media.sessions if session.call_id == again.call_id]
                assert fresh._worker.process.pid not in (victim, survivor), "the new one has the fewest calls"
                for call in (lucky, again):
                    await call.hangup()
                for session in media.sessions:
                    await session.closed.wait()
                assert media.ports.taken == 0
                rows = await gateway.operations.call("show.calls")
                assert sorted(row["diagnosis"][:21] for row in rows) == ["", "", "the media worker died"]
