"""Media sessions as the gateway sees them: ports and plans here, packets in the workers.

Everything on the way of a call is synchronous: a session is opened, a branch added, a plan applied without waiting. The
main process binds the sockets, so that SDP can name them at once, and hands them to a worker. A worker that dies ends
only its own sessions' media (event `worker_died`) and is replaced.
"""

from __future__ import annotations

import array
import math
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Literal, Self

import attrs
import structlog
import trio

from siperb_core.media.certificate import make_certificate
from siperb_core.media.counters import Counters
from siperb_core.media.encoding import EffortSetting
from siperb_core.media.messages import MAX_MESSAGE, MediaEvent, Settings, check_plan, converter, decode, encode
from siperb_core.media.ports import PortRange, parse_range
from siperb_core.rtp.events import Digit
from siperb_core.sdp.plan import SessionPlan

MAX_BACKLOG: Final = 10_000
RESTART_DELAY: Final = 1.0  # seconds; for a worker that dies as soon as it starts
LINE_BUFFER: Final = 1024 * 1024

_log = structlog.get_logger("siperb.media")


class MediaUnavailableError(RuntimeError):
    """No media worker is running now: the call cannot have media (503)."""


def _empty_stats() -> dict[str, Any]:
    leg = {"packets_in": 0, "packets_out": 0, "lost": 0, "jitter_ms": 0.0, "mos": None, "round_trip_ms": None}
    return {"mode": "", "client_codec": "", "peer_codec": "", "effort": "", "client": dict(leg), "peer": dict(leg)}


class MediaSession:
    """One call's media.

    `peer_port` is the RTP port of the PBX's leg (RTCP is the next one). `on_event` is called for every MediaEvent; set
    it when opening. `stats` is the latest of the figures, under the names of the JSON output (`media{...}`); they come
    about once a second.
    """

    def __init__(
        self, pool: MediaPool, worker: _Worker, session_id: int, call_id: str, peer_port: int, client_v6: bool
    ) -> None:
        self.call_id, self.peer_port = call_id, peer_port
        self.on_event: Callable[[MediaEvent], None] | None = None
        self.stats: dict[str, Any] = _empty_stats()
        self.ended = False
        self.closed = trio.Event()
        self._pool, self._worker, self._id = pool, worker, session_id
        self._client_v6 = client_v6
        self._ports: list[int] = [peer_port, peer_port + 1]
        self._branch_ports: dict[str, int] = {}
        self._then: Callable[[], None] | None = None

    def add_branch(self, branch: str) -> int:
        """Bind a socket for a branch and return its port.

        Raises PortsExhaustedError, MediaUnavailableError, ValueError for a branch that exists.
        """
        if branch in self._branch_ports:
            raise ValueError(f"branch {branch!r} exists already")
        if self.ended:
            raise MediaUnavailableError("the session has ended")
        sock, port = self._pool.ports.bind(v6=self._client_v6)
        try:
            self._worker.say({"do": "branch", "session": self._id, "branch": branch}, (sock,))
        except MediaUnavailableError:
            self._pool.ports.release(port)
            raise
        self._branch_ports[branch] = port
        self._ports.append(port)
        return port

    def drop_branch(self, branch: str) -> None:
        """End one branch's media; its port is free again when the session is closed. Unknown branches are ignored."""
        if self._branch_ports.pop(branch, None) is not None and not self.ended:
            self._worker.insist({"do": "drop", "session": self._id, "branch": branch})

    def apply(self, plan: SessionPlan) -> None:
        """Have the worker do what the plan says.

        Raises ValueError when the plan names the PBX by anything but an IP address.
        """
        check_plan(plan)
        if not self.ended:
            self._worker.insist({"do": "apply", "session": self._id, "plan": converter.unstructure(plan)})

    def send_digit(self, leg: Literal["client", "peer"], digit: Digit) -> None:
        """Have the worker send a digit to a leg, in the way the plan says; nothing where the call has no audio yet."""
        if not self.ended:
            self._worker.insist(
                {"do": "digit", "session": self._id, "leg": leg, "key": digit.key, "ms": digit.milliseconds}
            )

    def close(self, then: Callable[[], None] | None = None) -> None:
        """End the session's media. The ports are free again once `closed` is set; then the figures are the last ones
        and `then` is called. May be called again.
        """
        if then is not None and self.closed.is_set():
            then()
        elif then is not None:
            self._then = then
        if not self.ended:
            self.ended = True
            self._worker.insist({"do": "close", "session": self._id})

    def _closed(self) -> None:
        """The worker is done with it, or dead."""
        self.ended = True
        for port in self._ports:
            self._pool.ports.release(port)
        self._ports.clear()
        self.closed.set()
        then, self._then = self._then, None
        if then is not None:
            then()

    def _happened(self, event: MediaEvent) -> None:
        if self.on_event is not None:
            try:
                self.on_event(event)
            except Exception:
                _log.exception("media.event_handler_failed", call_id=self.call_id, event_kind=event.kind)


class _Worker:
    """One worker process and the line to it."""

    def __init__(self, settings: Settings) -> None:
        self.sessions: dict[int, MediaSession] = {}
        self.ready = trio.Event()
        self.counters = Counters()
        self.alive = True
        self.started_at = trio.current_time()
        self._backlog: deque[tuple[bytes, tuple[socket.socket, ...]]] = deque()
        self._flush = trio.Event()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for sock in (ours, theirs):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LINE_BUFFER)
            ours.setblocking(False)
            self.line = ours
            # Not trio's own process support: nothing is awaited here, and the end shows on the line.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "siperb_core.media.worker", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self.say(converter.unstructure(settings))

    def say(self, message: dict[str, Any], sockets: tuple[socket.socket, ...] = ()) -> None:
        """Send a message, and sockets, which are closed here, whatever happens.

        Raises MediaUnavailableError when the worker has not listened for long.
        """
        if not self.alive or len(self._backlog) >= MAX_BACKLOG:
            for sock in sockets:
                sock.close()
            if self.alive:
                raise MediaUnavailableError("the media worker does not listen")
            return
        self._put(encode(message), sockets)

    def insist(self, message: dict[str, Any]) -> None:
        """Send a message about a session that the worker has; never raises for the worker's sake.

        A worker that leaves far more of them lying than it has calls for is stuck: it is killed, which ends its calls
        and has another one take its place.
        """
        data = encode(message)
        if not self.alive:
            return
        if len(self._backlog) >= 2 * MAX_BACKLOG:
            self.process.kill()  # the end of the line tells the rest
            self.discard()
            return
        self._put(data, ())

    def _put(self, data: bytes, sockets: tuple[socket.socket, ...]) -> None:
        self._backlog.append((data, sockets))
        if len(self._backlog) == 1:
            self._send_backlog()

    def _send_backlog(self) -> None:
        while self._backlog:
            data, sockets = self._backlog[0]
            fds = array.array("i", [s.fileno() for s in sockets])
            try:
                self.line.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if sockets else [])
            except BlockingIOError:
                self._flush.set()
                return
            except OSError:  # it has died; the task that reads the line finds out
                self.discard()
                return
            self._backlog.popleft()
            for sock in sockets:
                sock.close()

    async def send_later(self) -> None:
        """Send what did not go at once, when there is room."""
        while self.alive:
            await self._flush.wait()
            self._flush = trio.Event()
            while self._backlog and self.alive:
                try:
                    await trio.lowlevel.wait_writable(self.line)
                except trio.ClosedResourceError:
                    return
                self._send_backlog()

    def discard(self) -> None:
        """Drop what was not sent."""
        while self._backlog:
            for sock in self._backlog.popleft()[1]:
                sock.close()

    def end(self) -> None:
        """Hang up: the worker ends by itself, one that does not listen yet is ended."""
        self.alive = False
        self._flush.set()
        self.discard()
        trio.lowlevel.notify_closing(self.line)
        self.line.close()
        if not self.ready.is_set():
            self.process.terminate()  # it has no session, and imports for seconds before it would look

    async def reap(self) -> None:
        """Wait until the process is gone, and see to it."""
        with trio.move_on_after(3):
            while self.process.poll() is None:  # noqa: ASYNC110
                await trio.sleep(0.02)
        if self.process.poll() is None:
            self.process.kill()
        await trio.to_thread.run_sync(self.process.wait)


class MediaPool:
    """The media workers and their sessions. Use as an async context; workers run inside it.

    `ports` is a range such as "10000-10199"; `workers` a number or "auto", one per core; `rtp_timeout` in seconds.
    `transcoder_plugins` names the plugins workers load, None for all; `effort` is how well Opus is encoded.
    `bind_address` is where media sockets are bound. `fingerprint` is for SDP. Raises ValueError on a bad range.
    """

    def __init__(
        self,
        *,
        ports: str = "10000-10199",
        workers: int | str = "auto",
        rtp_timeout: float = 60.0,
        transcoder_plugins: Sequence[str] | None = None,
        effort: EffortSetting = "auto",
        bind_address: str = "0.0.0.0",
        tick_ms: float = 2.0,
        one_way_after: float = 5.0,
        stats_interval: float = 1.0,
    ) -> None:
        self.ports = PortRange(parse_range(ports), bind_address)
        self.bind_address = bind_address
        self.restarts = 0
        self._past = Counters()  # of workers that have died
        self._count = _worker_count(workers)
        certificate = make_certificate()
        self.fingerprint: tuple[str, str] = certificate.fingerprint
        plugins = None if transcoder_plugins is None else tuple(transcoder_plugins)
        self._settings = Settings(certificate.pem, rtp_timeout, tick_ms, one_way_after, stats_interval, plugins, effort)
        self._workers: list[_Worker] = []
        self._next_id = 1
        self._exit = AsyncExitStack()
        self._nursery: trio.Nursery | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        self._nursery = await self._exit.enter_async_context(trio.open_nursery())
        for _ in range(self._count):
            self._start_worker(self._nursery)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._closing = True
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.end()
        try:
            with trio.CancelScope(shield=True):
                for worker in workers:
                    await worker.reap()
        finally:
            for worker in workers:
                for session in list(worker.sessions.values()):
                    session._closed()
                worker.sessions.clear()
            if self._nursery is not None:
                self._nursery.cancel_scope.cancel()
        return await self._exit.__aexit__(kind, error, traceback)

    async def wait_ready(self) -> None:
        """Wait until every worker listens. Sessions may be opened before: what is said to a worker waits for it."""
        for worker in list(self._workers):
            await worker.ready.wait()

    def counters(self) -> Counters:
        """What all workers have done, those that have died, too; about a second old."""
        total = attrs.evolve(self._past)
        for worker in self._workers:
            total.add(worker.counters)
        return total

    @property
    def sessions(self) -> list[MediaSession]:
        """The sessions the workers have."""
        return [s for w in self._workers for s in w.sessions.values()]

    @property
    def worker_pids(self) -> list[int]:
        """The workers' process ids, for diagnostics."""
        return [w.process.pid for w in self._workers if w.alive]

    def open(
        self,
        call_id: str,
        on_event: Callable[[MediaEvent], None] | None = None,
        *,
        client_v6: bool = False,
        peer_v6: bool = False,
    ) -> MediaSession:
        """Begin a session on the worker with the fewest, each leg over IPv4 or IPv6.

        Raises MediaUnavailableError, PortsExhaustedError.
        """
        alive = [w for w in self._workers if w.alive]
        if not alive:
            raise MediaUnavailableError("no media worker is running")
        worker = min(alive, key=lambda w: len(w.sessions))
        rtp, rtcp, port = self.ports.bind_pair(v6=peer_v6)
        session_id, self._next_id = self._next_id, self._next_id + 1
        session = MediaSession(self, worker, session_id, call_id, port, client_v6)
        session.on_event = on_event
        try:
            worker.say({"do": "open", "session": session_id}, (rtp, rtcp))
        except MediaUnavailableError:
            session._closed()
            raise
        worker.sessions[session_id] = session
        return session

    def _start_worker(self, nursery: trio.Nursery) -> None:
        worker = _Worker(self._settings)
        self._workers.append(worker)
        nursery.start_soon(self._listen, worker)
        nursery.start_soon(worker.send_later)

    async def _listen(self, worker: _Worker) -> None:
        """Hear what a worker says until it hangs up, which means that it died."""
        while await self._hear(worker):
            pass
        if self._closing or self._nursery is None:
            return
        lived = trio.current_time() - worker.started_at
        worker.end()
        self._workers.remove(worker)
        self._past.add(worker.counters)
        self.restarts += 1
        sessions = list(worker.sessions.values())
        worker.sessions.clear()
        for session in sessions:
            ended = session.ended
            session._closed()
            if not ended:
                session._happened(MediaEvent("worker_died", detail="the media worker of this call died"))
        await worker.reap()
        _log.error("media.worker_died", pid=worker.process.pid, exit=worker.process.returncode, calls=len(sessions))
        if lived < RESTART_DELAY:
            await trio.sleep(RESTART_DELAY - max(lived, 0.0))
        self._start_worker(self._nursery)

    async def _hear(self, worker: _Worker) -> bool:
        if not worker.alive:  # ended before this was scheduled
            return False
        try:
            await trio.lowlevel.wait_readable(worker.line)
            for _ in range(64):
                data = worker.line.recv(MAX_MESSAGE)
                if not data:
                    return False
                self._heard(worker, decode(data))
        except BlockingIOError:
            pass
        except (OSError, trio.ClosedResourceError):
            return False
        return True

    def _heard(self, worker: _Worker, message: dict[str, Any]) -> None:
        kind = message["event"]
        if kind == "stats":
            for session_id, stats in message["sessions"]:
                if (session := worker.sessions.get(session_id)) is not None:
                    session.stats = stats
        elif kind == "media":
            if (session := worker.sessions.get(message["session"])) is not None and not session.ended:
                session._happened(MediaEvent(**message["what"]))
        elif kind == "closed":
            if (session := worker.sessions.pop(message["session"], None)) is not None:
                session.stats = message["stats"]
                session._closed()
        elif kind == "counters":
            worker.counters.advance(Counters(**message["counters"]))
        elif kind == "ready":
            for reason in message["set_aside"]:
                _log.warning("media.plugin_set_aside", reason=reason)
            worker.ready.set()
        elif kind == "error":
            _log.error("media.worker_error", pid=worker.process.pid, detail=message["detail"])


def _worker_count(workers: int | str) -> int:
    if workers == "auto":
        return max(len(os.sched_getaffinity(0)), 1)
    count = math.floor(float(workers))
    if count < 1:
        raise ValueError("there must be at least one media worker")
    return count
