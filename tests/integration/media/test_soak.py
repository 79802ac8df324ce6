"""Sessions that come and go: nothing is left of them, in the gateway and in its workers. `make soak` has 10,000."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import trio

from siperb_core.media import worker as media_worker
from siperb_core.media.certificate import make_certificate
from siperb_core.media.messages import MAX_MESSAGE, Settings, converter, decode, encode
from siperb_core.media.pool import MediaPool
from siperb_core.media.ports import PortRange
from siperb_core.sdp.plan import ClientLeg, Codec, PeerLeg, SessionPlan, Stream

SESSIONS = 10_000 if os.environ.get("SIPERB_SOAK") else 300
AT_ONCE = 50
OPUS, G722 = Codec("opus", 48000, 2), Codec("G722", 8000)


def plan() -> SessionPlan:
    """A call that is set up, ICE going on, transcoders and a tone detector made."""
    client = ClientLeg(
        "ourufrag", "p" * 24, "theirs", "q" * 24, ("1 1 udp 99 127.0.0.1 9 typ host",), (("sha-256", "AB"),), "client",
        False, 4711, Stream(OPUS, 111, 111),
    )  # fmt: skip
    peer = PeerLeg(("127.0.0.1", 9), None, True, 4712, Stream(G722, 9, 9), dtmf="inband")
    return SessionPlan(peer, {"a": client}, "a")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def gone_through(open_and_close: Callable[[int], object], closed: Callable[[], bool]) -> None:
    for _ in range(0, SESSIONS, AT_ONCE):
        open_and_close(AT_ONCE)
        while not closed():  # noqa: ASYNC110
            await trio.sleep(0.002)


async def test_no_port_descriptor_or_task_is_left_in_the_gateway_and_no_descriptor_in_the_worker() -> None:
    with trio.fail_after(1800):
        async with MediaPool(
            ports="32000-32999", workers=1, bind_address="127.0.0.1", transcoder_plugins=("transcoder_opus_g722",)
        ) as pool:
            await pool.wait_ready()
            [pid] = pool.worker_pids
            before: list[int] = []

            def some(count: int) -> None:
                for n in range(count):
                    session = pool.open(str(n))
                    session.add_branch("a")
                    session.add_branch("b")
                    session.apply(plan())
                    session.drop_branch("b")
                    session.close()

            def figures() -> list[int]:
                tasks = trio.lowlevel.current_statistics().tasks_living
                return [tasks, descriptors(os.getpid()), descriptors(pid)]

            some(1)
            while pool.sessions:  # noqa: ASYNC110
                await trio.sleep(0.002)
            before = figures()
            await gone_through(some, lambda: not pool.sessions)
            assert pool.ports.taken == 0
            assert figures() == before
            assert pool.worker_pids == [pid]


async def test_no_task_is_left_in_a_worker() -> None:
    """The worker in this process, where its tasks can be counted."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ports = PortRange(range(33000, 33400), "127.0.0.1")
    closed = 0
    with ours, theirs, trio.fail_after(1800):
        for end in (ours, theirs):
            end.setblocking(False)

        async def say(message: dict[str, object], *sockets: socket.socket) -> None:
            await trio.lowlevel.wait_writable(ours)
            socket.send_fds(ours, [encode(message)], [s.fileno() for s in sockets])
            for sock in sockets:
                sock.close()

        async def hear() -> None:
            nonlocal closed
            while True:
                await trio.lowlevel.wait_readable(ours)
                closed += decode(ours.recv(MAX_MESSAGE))["event"] == "closed"

        async def some(first: int) -> None:
            bound: list[int] = []
            for n in range(first, first + AT_ONCE):
                rtp, rtcp, port = ports.bind_pair()
                sock, other = ports.bind()
                bound += [port, port + 1, other]
                await say({"do": "open", "session": n}, rtp, rtcp)
                await say({"do": "branch", "session": n, "branch": "a"}, sock)
                await say({"do": "apply", "session": n, "plan": converter.unstructure(plan())})
                await say({"do": "digit", "session": n, "leg": "client", "key": "5", "ms": 100})
                await say({"do": "close", "session": n})
            while closed < first + AT_ONCE:  # noqa: ASYNC110
                await trio.sleep(0.002)
            for port in bound:
                ports.release(port)

        def figures() -> tuple[int, int]:
            return trio.lowlevel.current_statistics().tasks_living, descriptors(os.getpid())

        async with trio.open_nursery() as nursery:
            settings = Settings(make_certificate().pem, transcoder_plugins=("transcoder_opus_g722",))
            await say(converter.unstructure(settings))
            nursery.start_soon(media_worker.run, theirs)
            nursery.start_soon(hear)
            await some(0)
            before = figures()
            for first in range(AT_ONCE, SESSIONS, AT_ONCE):
                await some(first)
            assert figures() == before
            ours.shutdown(socket.SHUT_WR)
            nursery.cancel_scope.cancel()
