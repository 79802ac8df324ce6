"""Puts packets that overtook one another back in order, within a small window, without delaying what is in order."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

WINDOW: Final = 3  # packets over a gap before it is given up: two packets' time, 40 ms as a rule
PATIENCE: Final = 0.06  # seconds after which it is given up, should nothing more come

T = TypeVar("T")


class Reordering(Generic[T]):
    """Holds what came over a gap in the sequence numbers, until the gap is filled or given up.

    Only gaps cost time: a packet that follows the one before it need not go through here while `holding` is False.
    `last` is the sequence number that was let out last.
    """

    def __init__(self) -> None:
        self.last = 0
        self._held: list[tuple[int, T, float]] = []  # (sequence, item, when it came), in order

    @property
    def holding(self) -> bool:
        """Whether a gap is open."""
        return bool(self._held)

    def put(self, sequence: int, item: T, now: float) -> bool:
        """Take a packet; False when it is one that was let out, given up, or is here already."""
        ahead = (sequence - self.last) & 0xFFFF
        if not 0 < ahead < 0x8000 or any(held[0] == sequence for held in self._held):
            return False
        self._held.append((sequence, item, now))
        self._held.sort(key=lambda held: (held[0] - self.last) & 0xFFFF)
        return True

    def take(self, now: float, *, give_up: bool = False) -> list[tuple[int, T]]:
        """What may go on, in order, each with the number of packets missing just before it."""
        out: list[tuple[int, T]] = []
        held = self._held
        while held:
            sequence, item, came = held[0]
            missing = (sequence - self.last - 1) & 0xFFFF
            if missing and not give_up and len(held) < WINDOW and now - came < PATIENCE:
                break
            del held[0]
            self.last = sequence
            out.append((missing, item))
        return out

    def restart(self, sequence: int) -> None:
        """Begin anew after this number; what was held is dropped: `take` it before."""
        self.last = sequence
        self._held.clear()
