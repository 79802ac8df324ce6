"""REGISTERs leave spread out in time: a gateway that starts with a thousand connections does not flood its PBXs."""

from __future__ import annotations

from siperb_core.sip import Message

REGISTERS_PER_SECOND = 20.0


class Pace:
    """At most `per_second` REGISTERs, of all connections together.

    Half of them is for those that answer a challenge: they must not queue behind the first tries of all other
    connections until their nonce is stale. What takes a registration back is never held up.
    """

    def __init__(self, per_second: float = REGISTERS_PER_SECOND) -> None:
        self._interval = 2 / per_second
        self._free_at = {False: float("-inf"), True: float("-inf")}

    def wait_for(self, message: Message, now: float) -> float:
        """Seconds a request has to wait for its turn, which is taken for it."""
        if message.method != "REGISTER" or message.expires == 0:
            return 0.0
        challenged = message.get("Authorization") is not None or message.get("Proxy-Authorization") is not None
        turn = max(now, self._free_at[challenged])
        self._free_at[challenged] = turn + self._interval
        return turn - now
