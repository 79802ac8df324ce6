"""One key press that comes in several ways: a peer may say a digit in telephone-events (RFC 4733), in a SIP INFO and as
a tone, all at once, and the other side is to have it once.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

Way = Literal["event", "info", "tone"]
"""How a digit came."""

SLACK: Final = 2.0  # seconds; how much later the same press may come by another way
_FORGET: Final = 20.0
_MOST: Final = 64


@attrs.define
class _Press:
    key: str
    began: float
    ended: float
    ways: set[Way]


class Twins:
    """Tells what one peer pressed twice from what it said in two ways. Times are in seconds, of any one clock.

    Twice by the same way is twice pressed; by another way, within two seconds of it, is the same press once more.
    """

    def __init__(self) -> None:
        self._presses: list[_Press] = []

    def fresh(self, way: Way, key: str, began: float, ended: float) -> bool:
        """Take note of a digit; whether it is one that no other way has brought."""
        self._presses = [press for press in self._presses[-_MOST:] if ended - press.ended < _FORGET]
        for press in self._presses:
            near = press.began - SLACK <= ended and began <= press.ended + SLACK
            if near and press.key == key and way not in press.ways:
                press.ways.add(way)
                return False
        self._presses.append(_Press(key, began, ended, {way}))
        return True

    def lasts(self, way: Way, now: float) -> None:
        """The digit that came last by this way goes on."""
        for press in reversed(self._presses):
            if way in press.ways:
                press.ended = max(press.ended, now)
                return
