"""How often a plugin, or a live connection of one, may do wrong before it is taken out of use."""

from __future__ import annotations

from collections import deque

MOST_FAULTS = 10
"""So many faults within `FAULT_SECONDS` are too many."""
FAULT_SECONDS = 300.0


class Faults:
    """The faults of one of them. Times are seconds of any clock that does not go back."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=MOST_FAULTS)

    def add(self, now: float) -> float | None:
        """Count one; within how many seconds the last `MOST_FAULTS` came, None where that is no reason to worry."""
        self._times.append(now)
        seconds = now - self._times[0]
        if len(self._times) < MOST_FAULTS or seconds > FAULT_SECONDS:
            return None
        self._times.clear()
        return seconds
