"""Who may send on a stream: the four directions of RFC 3264 section 5.1 and the sums done with them."""

from __future__ import annotations

from typing import Final

from siperb_core.sdp.description import Media, SessionDescription
from siperb_core.sdp.plan import Direction

_FLAGS: Final[dict[Direction, tuple[bool, bool]]] = {
    "sendrecv": (True, True),
    "sendonly": (True, False),
    "recvonly": (False, True),
    "inactive": (False, False),
}
_SPELLED: Final[dict[str, Direction]] = {name: name for name in _FLAGS}
_NAMES: Final = {flags: name for name, flags in _FLAGS.items()}


def reverse(direction: Direction) -> Direction:
    """The same stream, seen from the other end."""
    send, receive = _FLAGS[direction]
    return _NAMES[receive, send]


def narrow(first: Direction, second: Direction) -> Direction:
    """What both allow. An answer may not allow more than the offer, reversed (RFC 3264 section 6.1)."""
    return _NAMES[_FLAGS[first][0] and _FLAGS[second][0], _FLAGS[first][1] and _FLAGS[second][1]]


def direction_of(description: SessionDescription, media: Media) -> Direction:
    """What the sender of a description says of a stream: on the stream, else on the session, else sendrecv."""
    for attributes in (media.attributes, description.attributes):
        for name, _ in attributes:
            direction = _SPELLED.get(name.lower())
            if direction is not None:
                return direction
    return "sendrecv"
