"""When the next matching connection is tried: for failures of the network or the server, never for the answer of a
person.
"""

from __future__ import annotations

_NEVER = frozenset({501, 505, 513})
"""5xx that blame the request itself: another server would say the same (not implemented, version, message too
large).
"""


def fails_over(status: int) -> bool:
    """Whether a final response lets the next connection try.

    A transport failure counts as 503 and a time-out as 408 (RFC 3261 section 8.1.3.1), so the status alone decides.
    """
    return status == 408 or (500 <= status <= 599 and status not in _NEVER)
