"""Worker processes: none is left behind, whatever becomes of the gateway."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import trio

from siperb_core.media.messages import MediaEvent
from siperb_core.media.pool import MediaPool, MediaSession, MediaUnavailableError
from siperb_core.sdp.plan import SessionPlan

GATEWAY = """
import trio
from siperb_core.media.pool import MediaPool
async def main():
    async with MediaPool(ports="31200-31299", workers=2, bind_address="127.0.0.1", transcoder_plugins=()) as pool:
        await pool.wait_ready()
        pool.open("call").add_branch("a")
        print(*pool.worker_pids, flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_workers_end_with_a_killed_gateway() -> None:
    with trio.fail_after(30):
        gateway = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", GATEWAY], stdout=subprocess.PIPE, text=True
        )
        assert gateway.stdout is not None
        with gateway.stdout as stdout:
            pids = [int(word) for word in (await trio.to_thread.run_sync(stdout.readline)).split()]
            assert len(pids) == 2
            gateway.kill()
            await trio.to_thread.run_sync(gateway.wait)
        while not all(gone(pid) for pid in pids):  # noqa: ASYNC110
            await trio.sleep(0.02)


async def test_an_interrupt_of_the_terminal_leaves_the_workers_alone() -> None:
    with trio.fail_after(30):
        async with MediaPool(ports="31300-31399", workers=1, bind_address="127.0.0.1", transcoder_plugins=()) as pool:
            await pool.wait_ready()
            [pid] = pool.worker_pids
            os.kill(pid, signal.SIGINT)
            session = pool.open("call")
            session.close()
            await session.closed.wait()
            assert pool.worker_pids == [pid]
        assert gone(pid)


async def test_many_sessions_at_once_come_and_go() -> None:
    with trio.fail_after(60):
        async with MediaPool(ports="31400-31999", workers=2, bind_address="127.0.0.1", transcoder_plugins=()) as pool:
            sessions = [pool.open(str(n)) for n in range(150)]
            ports = {s.peer_port for s in sessions} | {s.add_branch("a") for s in sessions}
            assert len(ports) == 300
            assert len({s._worker for s in sessions}) == 2
            for session in sessions:
                session.close()
                session.close()
            for session in sessions:
                await session.closed.wait()
            assert pool.ports.taken == 0
            assert not pool.sessions


async def test_a_worker_that_does_not_listen_gets_no_new_calls_and_no_port_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("siperb_core.media.pool.MAX_BACKLOG", 20)
    monkeypatch.setattr("siperb_core.media.pool.LINE_BUFFER", 4096)
    with trio.fail_after(60):
        async with MediaPool(ports="32000-32999", workers=1, bind_address="127.0.0.1", transcoder_plugins=()) as pool:
            await pool.wait_ready()
            [pid] = pool.worker_pids
            os.kill(pid, signal.SIGSTOP)
            sessions: list[MediaSession] = []
            with pytest.raises(MediaUnavailableError):
                while True:
                    sessions.append(pool.open("call"))
            assert pool.sessions == sessions
            assert pool.ports.taken == 2 * len(sessions)
            with pytest.raises(MediaUnavailableError):
                sessions[0].add_branch("a")
            assert pool.ports.taken == 2 * len(sessions)
            for session in sessions[:10]:
                session.apply(SessionPlan(None))
                session.close()
            os.kill(pid, signal.SIGCONT)
            for session in sessions[:10]:
                await session.closed.wait()
            assert pool.ports.taken == 2 * len(sessions[10:])
            assert pool.worker_pids == [pid]


async def test_a_worker_that_never_listens_again_is_replaced_and_its_calls_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("siperb_core.media.pool.MAX_BACKLOG", 20)
    monkeypatch.setattr("siperb_core.media.pool.LINE_BUFFER", 4096)
    with trio.fail_after(60):
        async with MediaPool(ports="32000-32999", workers=1, bind_address="127.0.0.1", transcoder_plugins=()) as pool:
            await pool.wait_ready()
            [pid] = pool.worker_pids
            told: list[MediaEvent] = []
            session = pool.open("call", told.append)
            os.kill(pid, signal.SIGSTOP)
            for _ in range(1000):
                session.apply(SessionPlan(None))
            await session.closed.wait()
            assert pool.ports.taken == 0
            assert [event.kind for event in told] == ["worker_died"]
            while not pool.worker_pids or pool.worker_pids == [pid]:  # noqa: ASYNC110
                await trio.sleep(0.02)
            await pool.wait_ready()
            assert gone(pid)


async def test_workers_that_have_not_started_yet_are_ended_at_once() -> None:
    with trio.fail_after(60):
        async with MediaPool(ports="32000-32999", workers=2, bind_address="127.0.0.1", transcoder_plugins=()) as pool:
            processes = [worker.process for worker in pool._workers]
        assert {process.returncode for process in processes} == {-signal.SIGTERM}, "not by waiting, nor by force"
