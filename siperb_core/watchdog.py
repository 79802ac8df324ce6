"""Finds out who blocks the event loop: a thread that looks where the loop is while it does not answer.

A plugin that computes, sleeps or reads a file in a hook or in its own task holds up every call. It cannot be stopped,
but it is named: by the innermost frame on the loop's stack that is a plugin's code. That costs the calls nothing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType

import structlog
import trio

BLOCKED_SECONDS = 0.2
INTERVAL = 0.1

log = structlog.get_logger("siperb.plugins")


class Watchdog:
    """`packages` says which plugin a top-level package belongs to; `blocked` is told, in the loop, of a plugin that
    has blocked it, and where.
    """

    def __init__(self, packages: Mapping[str, str], blocked: Callable[[str, str], None]) -> None:
        self._packages = packages
        self._blocked = blocked
        self._stopped = threading.Event()
        self.watching = threading.Event()
        """Set while the loop is being waited for."""

    async def run(self) -> None:
        """Watch the loop this is called in, until cancelled."""
        token = trio.lowlevel.current_trio_token()
        loop = threading.get_ident()
        thread = threading.Thread(target=self._watch, args=(token, loop), name="watchdog", daemon=True)
        thread.start()
        try:
            await trio.sleep_forever()
        finally:
            self._stopped.set()

    def _watch(self, token: trio.lowlevel.TrioToken, loop: int) -> None:
        while not self._stopped.wait(INTERVAL):
            answered = threading.Event()
            try:
                token.run_sync_soon(answered.set)
                self.watching.set()
                # Twice the same: on a machine that is busy, chance may show anybody once.
                if answered.wait(BLOCKED_SECONDS / 2):
                    continue
                first = self._culprit(loop)
                if answered.wait(BLOCKED_SECONDS / 2):
                    continue
                found = self._culprit(loop)
                if found is not None and first is not None and found[0] == first[0]:
                    token.run_sync_soon(self._tell, *found)
                while not (answered.wait(INTERVAL) or self._stopped.is_set()):
                    pass  # one stall is told once
            except trio.RunFinishedError:
                return

    def _tell(self, plugin: str, where: str) -> None:
        log.error("plugin.blocked_loop", plugin=plugin, where=where, longer_than=BLOCKED_SECONDS)
        self._blocked(plugin, where)

    def _culprit(self, loop: int) -> tuple[str, str] | None:
        """The plugin whose code runs in the loop's thread now, and where; None where it is nobody's."""
        frame: FrameType | None = sys._current_frames().get(loop)
        while frame is not None:
            name = str(frame.f_globals.get("__name__", ""))
            plugin = self._packages.get(name.partition(".")[0])
            if plugin is not None:
                return plugin, f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
            frame = frame.f_back
        return None


__all__ = ["BLOCKED_SECONDS", "Watchdog"]
