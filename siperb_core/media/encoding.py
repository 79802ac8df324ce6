"""How a codec that leaves a choice is to encode: by what the phone loses, and by what the worker has to carry.

Pure decisions: time and CPU come in as numbers.
"""

from __future__ import annotations

from typing import Final, Literal

MIN_LOSS: Final = 2
"""Per cent of packets the phone must lose before Opus is made robust, which costs three to five times the CPU."""

MOST_CALLS: Final = 12
"""Transcoded calls of a worker that are encoded with high effort: a third of a core, where thirty would take one."""
FEWER_CALLS: Final = 8
BUSY_SHARE: Final = 0.5
"""Of a core, used by the worker: more ends high effort, however few the calls are (a slow machine)."""
IDLE_SHARE: Final = 0.15
"""High effort takes no more than three times the CPU: what begins it below this share does not end it."""
QUIET_SECONDS: Final = 10.0
MEASURED_SECONDS: Final = 1.0

Effort = Literal["low", "high"]
EffortSetting = Literal["auto", "low", "high"]


def next_loss(expected: int, fraction: float) -> int:
    """The loss in per cent a transcoder is to expect, by what it expects now and the fraction reported (0 to 1)."""
    percent = min(round(100 * fraction), 50)
    if percent < MIN_LOSS and expected >= MIN_LOSS:
        # One report without loss is no proof: halve it, and go back to the cheap mode only in the end.
        percent = expected // 2
    return percent if percent >= MIN_LOSS else 0


class EffortChoice:
    """A worker's: the effort all its calls are encoded with. `setting` is the administrator's word.

    "auto" is high while there is room, low as soon as there is none, and high again only when there has been much room
    for ten seconds.
    """

    def __init__(self, setting: EffortSetting = "auto") -> None:
        self.effort: Effort = "low" if setting == "low" else "high"
        self._auto = setting == "auto"
        self._share = 0.0
        self._measured: tuple[float, float] | None = None  # CPU seconds, and when
        self._quiet_since: float | None = None

    def measured(self, cpu_seconds: float, now: float) -> None:
        """Take what the process has used since it started: a share of a core, over a second or more."""
        if self._measured is None:
            self._measured = (cpu_seconds, now)
            return
        before, at = self._measured
        if now - at >= MEASURED_SECONDS:
            self._share = (cpu_seconds - before) / (now - at)
            self._measured = (cpu_seconds, now)

    def weigh(self, calls: int, now: float) -> Effort:
        """The effort from now on, with so many transcoded calls."""
        if not self._auto:
            return self.effort
        if calls > MOST_CALLS or self._share > BUSY_SHARE:
            self.effort = "low"
        if self.effort == "high" or calls > FEWER_CALLS or self._share >= IDLE_SHARE:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since >= QUIET_SECONDS:
            self.effort, self._quiet_since = "high", None
        return self.effort
