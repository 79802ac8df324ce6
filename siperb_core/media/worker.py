"""A media worker: a process of its own that carries calls' packets. Started by the pool, as `python -m
siperb_core.media.worker FD`.

It gets sockets and plans over a socket pair and ends when that closes: when the main process is gone there is nobody to
work for. The packets are served by one task (`siperb_core.media.sockets`); nothing is awaited while they are.
"""

from __future__ import annotations

import array
import gc
import os
import signal
import socket
import sys
import time
from collections import deque
from typing import Any, Final

import attrs
import trio
import trio_asyncio

from siperb_core.media.dtls import load_certificate
from siperb_core.media.encoding import EffortChoice
from siperb_core.media.messages import MAX_MESSAGE, MAX_SOCKETS, MediaEvent, Settings, converter, decode, encode
from siperb_core.media.session import SessionSettings, WorkerSession
from siperb_core.media.sockets import MediaSockets
from siperb_core.media.transcoders import load_transcoders
from siperb_core.rtp.events import Digit
from siperb_core.sdp.plan import SessionPlan

SESSIONS_PER_MESSAGE: Final = 100
BUSY_TICK: Final = 0.02
IDLE_TICK: Final = 0.2
BACKLOG: Final = 256  # messages waiting: figures, which come again, are left out beyond it


class Worker:
    """The worker's sessions and its line to the main process."""

    def __init__(self, control: socket.socket, settings: Settings, nursery: trio.Nursery) -> None:
        self._control = control
        self._settings = settings
        self._nursery = nursery
        pairs, set_aside = load_transcoders(settings.transcoder_plugins)
        self._shared = SessionSettings(
            nursery,
            load_certificate(settings.certificate),
            pairs,
            settings.rtp_timeout,
            settings.one_way_after,
            self.complain,
        )
        self._choice = EffortChoice(settings.effort)
        self._sessions: dict[int, WorkerSession] = {}
        self.sockets = MediaSockets(control, settings.tick_ms / 1000, self.complain)
        self._backlog: deque[bytes] = deque()
        self._wake = trio.Event()
        self._flush = trio.Event()
        self._complained: set[str] = set()
        self._counted = True  # there is something new to tell of the counters
        self._tell({"event": "ready", "set_aside": set_aside})

    # --- the line to the main process

    def _tell(self, message: dict[str, Any]) -> None:
        self._backlog.append(encode(message))
        self._flush.set()

    def _emit(self, session_id: int, event: MediaEvent) -> None:
        self._tell({"event": "media", "session": session_id, "what": attrs.asdict(event)})

    def complain(self, what: str, error: object) -> None:
        """Report a mistake of ours, each once: it must be seen, and it must not flood the log."""
        text = f"{what}: {error!r}"
        if text not in self._complained and len(self._complained) < 100:
            self._complained.add(text)
            self._tell({"event": "error", "detail": text})

    async def send_messages(self) -> None:
        """Send what is to be told, whenever there is room."""
        while True:
            while self._backlog:
                try:
                    self._control.send(self._backlog[0])
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._control)
                except OSError:
                    return
                else:
                    self._backlog.popleft()
            self._flush = trio.Event()
            await self._flush.wait()

    async def receive_messages(self) -> None:
        """Carry out what the main process says, until it hangs up."""
        while True:
            await trio.lowlevel.wait_readable(self._control)
            for _ in range(64):
                try:
                    data, fds = receive(self._control)
                except BlockingIOError:
                    break
                except OSError:
                    return
                if not data:
                    return
                sockets = [socket.socket(fileno=fd) for fd in fds]
                for sock in sockets:
                    sock.setblocking(False)
                try:
                    self._carry_out(decode(data), sockets)
                except Exception as error:
                    self.complain("a message from the gateway", error)

    def _carry_out(self, message: dict[str, Any], sockets: list[socket.socket]) -> None:
        kind, session_id = message["do"], message["session"]
        session = self._sessions.get(session_id)
        if kind == "open":
            rtp, rtcp = sockets
            self._shared.counters.sessions += 1
            self._sessions[session_id] = WorkerSession(
                session_id,
                rtp,
                rtcp,
                settings=self._shared,
                emit=self._emit,
                serve=self.sockets.serve,
                forget=self.sockets.forget,
            )
        elif session is None:
            for sock in sockets:
                sock.close()
        elif kind == "branch":
            session.add_branch(message["branch"], sockets[0])
        elif kind == "drop":
            session.drop_branch(message["branch"])
        elif kind == "apply":
            session.apply(converter.structure(message["plan"], SessionPlan))
            session.spend(self._choice.effort)
            self._weigh(time.monotonic())
            self._wake.set()
        elif kind == "digit":
            session.send_digit(message["leg"], Digit(message["key"], message["ms"]))
        elif kind == "close":
            self._nursery.start_soon(self._close, self._sessions.pop(session_id))

    async def _close(self, session: WorkerSession) -> None:
        try:
            with trio.CancelScope(shield=True), trio.move_on_after(5):
                await session.close()
        except Exception as error:
            self.complain("closing a session", error)
        finally:
            stats = session.stats()
            self._shared.counters.add_session(stats)
            self._tell({"event": "closed", "session": session.id, "stats": stats})
            self._counted = True

    def _weigh(self, now: float) -> None:
        """Decide anew how well all calls are encoded."""
        before = self._choice.effort
        effort = self._choice.weigh(sum(session.effort != "" for session in self._sessions.values()), now)
        if effort != before:
            for session in self._sessions.values():
                session.spend(effort)

    # --- time

    async def keep_time(self) -> None:
        """Let time pass for the sessions, often while ICE is at work; send the figures."""
        figures_at = time.monotonic() + self._settings.stats_interval
        while True:
            busy = False
            now = time.monotonic()
            for session in list(self._sessions.values()):
                try:
                    session.advance(now)
                    busy = busy or session.busy
                except Exception as error:
                    self.complain("keeping time", error)
            if now >= figures_at:
                figures_at = now + self._settings.stats_interval
                self._choice.measured(time.process_time(), now)
                self._weigh(now)
                self._tell_figures()
            self._wake = trio.Event()
            with trio.move_on_after(BUSY_TICK if busy else IDLE_TICK):
                await self._wake.wait()

    def _tell_figures(self) -> None:
        if len(self._backlog) > BACKLOG:
            return
        flowing = [(s.id, s.stats()) for s in self._sessions.values() if s.flowing]
        if flowing or self._counted:
            self._counted = bool(flowing)
            counters = attrs.evolve(self._shared.counters, cpu_seconds=time.process_time())
            for _, stats in flowing:
                counters.add_session(stats)
            self._tell({"event": "counters", "counters": attrs.asdict(counters)})
        for start in range(0, len(flowing), SESSIONS_PER_MESSAGE):
            part = flowing[start : start + SESSIONS_PER_MESSAGE]
            self._tell({"event": "stats", "sessions": part})


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """Read one message and the descriptors beside it."""
    fds = array.array("i")
    data, ancillary, _, _ = control.recvmsg(
        MAX_MESSAGE, socket.CMSG_SPACE(MAX_SOCKETS * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(value[: len(value) - len(value) % fds.itemsize])
    return data, list(fds)


async def run(control: socket.socket) -> None:
    """Be a worker until the main process hangs up. The first message is the settings."""
    await trio.lowlevel.wait_readable(control)
    data, _ = receive(control)
    if not data:
        return
    settings = converter.structure(decode(data), Settings)
    async with trio_asyncio.open_loop() as loop, trio.open_nursery() as nursery:
        worker = Worker(control, settings, nursery)
        # trio-asyncio would end the whole loop, and every call with it, for one stray exception in aiortc.
        loop.set_exception_handler(lambda _, context: worker.complain("in aiortc", context.get("exception") or context))
        nursery.start_soon(worker.send_messages)
        nursery.start_soon(worker.sockets.run)
        nursery.start_soon(worker.keep_time)
        await worker.receive_messages()
        nursery.cancel_scope.cancel()


def main() -> None:
    """Run as a process of its own. Signals of the terminal are for the main process, which ends us by hanging up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setblocking(False)
    gc.freeze()  # what was imported is never garbage: to go through it takes 100 ms, in which no packet passes
    trio.run(run, control, restrict_keyboard_interrupt_to_checkpoints=True)
    # The sessions ended with the nursery; what libraries still hold is of no use, and must not keep an orphan alive.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
