"""A gateway with many outbound registrations as a process of its own, which measures itself, for bench/sip.py.

python bench/sip_connections.py CONFIG REST. It is the gateway of `siperb run`, with one more task: that sleeps for
10 ms again and again and notes by how much it woke up too late, which is how long any message would have waited. Two
figures of each: `lag` by the wall clock, with what other processes took, and `own`, what of it this thread computed.
Prints a line when it listens, one when every connection has been set up, and one REST seconds later; ends at the end of
stdin.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import trio

from siperb_core.gateway import Gateway
from siperb_core.log import configure_log, write_in_batches
from siperb_core.process import raise_descriptor_limit, settle_collector

INTERVAL = 0.01


class Lag:
    """By how much the loop is late."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []

    async def measure(self) -> None:
        """Until cancelled."""
        while True:
            wall, own = time.perf_counter(), time.thread_time()
            await trio.sleep(INTERVAL)
            late = max(0.0, time.perf_counter() - wall - INTERVAL)
            self._samples.append((late, min(late, time.thread_time() - own)))

    def take(self) -> dict[str, float]:
        """The figures since the last time, in milliseconds."""
        samples, self._samples = self._samples, []
        found = {}
        for name, values in zip(("lag", "own"), zip(*samples, strict=True), strict=True):
            ordered = sorted(values)
            found[f"{name}_p99_ms"] = round(ordered[int(len(ordered) * 0.99)] * 1000, 2)
            found[f"{name}_max_ms"] = round(ordered[-1] * 1000, 2)
        return found


async def all_loaded(gateway: Gateway) -> None:
    """Wait for the last connection, in a way that costs nothing."""
    missing = set(gateway.entries.names())
    done = trio.Event()
    tell = gateway.entries.changed

    def changed(name: str) -> None:
        tell(name)
        if gateway.state_of(name) == "loaded":
            missing.discard(name)
            if not missing:
                done.set()

    gateway.entries.changed = changed
    for name in gateway.entries.names():
        changed(name)
    await done.wait()


async def main(config: Path, rest: float) -> None:
    """Run until stdin ends."""
    began = time.perf_counter()
    gateway = Gateway(config)
    lag = Lag()

    def say(**more: Any) -> None:
        names = gateway.entries.names()
        loaded = sum(gateway.state_of(name) == "loaded" for name in names)
        figures = {"seconds": time.perf_counter() - began, "cpu": time.process_time(), "loaded": loaded}
        print(json.dumps({"pid": os.getpid(), **figures, **more}), flush=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_in_batches)
        await nursery.start(gateway.run)
        settle_collector()
        say()
        nursery.start_soon(lag.measure)
        await all_loaded(gateway)
        say(**lag.take())
        await trio.sleep(rest)
        say(**lag.take())
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        gateway.stop(drain_seconds=0)
        await gateway.stopped.wait()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    raise_descriptor_limit()
    configure_log()
    trio.run(main, Path(sys.argv[1]), float(sys.argv[2]))
