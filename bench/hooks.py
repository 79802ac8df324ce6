"""What a hook call costs, when nobody implements the hook and when one plugin does: one JSON line each."""

from __future__ import annotations

import json
import timeit

from siperb_core import CallEvent, hookimpl
from siperb_core.plugins import Plugins

EVENT = CallEvent("started", 0.0, "id", "outbound", "office", "alice", "laptop", "a", "b")
CALLS = 100_000


class Listens:
    """The least a plugin can do."""

    @hookimpl
    def siperb_call_event(self, event: CallEvent) -> None:
        """Nothing."""


def microseconds(plugins: Plugins) -> float:
    """Of one call, the best of five rounds."""
    return min(timeit.repeat(lambda: plugins.call_event(EVENT), number=CALLS, repeat=5)) / CALLS * 1e6


def main() -> None:
    """Measure and print."""
    alone, one = Plugins(), Plugins()
    one.register("listens", Listens())
    for name, plugins in (("hooks.call_nobody_us", alone), ("hooks.call_one_us", one)):
        line = {"bench": name, "value": round(microseconds(plugins), 3), "unit": "us"}
        print(json.dumps({**line, "peer": None, "peer_value": None, "ratio": None, "peer_version": None}))


if __name__ == "__main__":
    main()
