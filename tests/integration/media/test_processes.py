"""Worker processes: none is left behind, whatever becomes of the gateway."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import trio

from siperb_core.media.pool import MediaPool

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
