"""What media costs: CPU of one worker per call-second, its memory, set-up, and the delay it adds, beside rtpengine and
a floor. One JSON line for each figure and peer (docs: benchmarks).

python bench/media.py [SECONDS] [CALLS ...] [--rounds N]. Every call is real: ICE, DTLS-SRTP and 50 packets a second
each way. The load comes from a process of its own (bench/media_load.py), so that only the CPU of what is measured
counts; a run that loses packets says so instead of looking cheap. A round measures the floor, rtpengine and our worker
one after another; figures are medians over the rounds. The floor (bench/media_floor.c) is the bare work in a C thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio
from media_bridges import Bridge, Worker, floor, rtpengine, rtpengine_version, worker

TICKS = os.sysconf("SC_CLK_TCK")
Figures = dict[str, Any]


def cpu(pid: int) -> float:
    """CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int) -> float:
    """Resident memory in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(text.split()[1]) for text in status.splitlines() if text.startswith("VmRSS")) / 1024


async def measure(bridge: Bridge, count: int, seconds: int, codec: str) -> Figures:
    """Run so many calls through it and take its figures."""
    load = subprocess.Popen(  # noqa: ASYNC220 - nothing is measured while it starts
        [sys.executable, Path(__file__).with_name("media_load.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert load.stdin is not None
    assert load.stdout is not None
    stdin, stdout = load.stdin, load.stdout

    def tell(**message: Any) -> None:
        stdin.write(json.dumps(message) + "\n")
        stdin.flush()

    async def hear() -> Figures:
        line = await trio.to_thread.run_sync(stdout.readline)
        if not line:
            raise SystemExit("the load has stopped")
        return json.loads(line)

    try:
        tell(calls=count, codec=codec, seconds=seconds, keys=bridge.keys)
        theirs = await hear()
        memory_before, before = (memory(bridge.pid), cpu(bridge.pid)) if bridge.pid else (0.0, 0.0)
        tell(calls=bridge.connect(codec, theirs))
        await hear()
        setup = (cpu(bridge.pid) - before) / count * 1000
        await hear()
        start, before = time.monotonic(), cpu(bridge.pid)
        await hear()
        used, passed = cpu(bridge.pid) - before, time.monotonic() - start
        result = await hear()
        effort = bridge.effort if isinstance(bridge, Worker) else ""
        grown = memory(bridge.pid) - memory_before
        tell()
        await bridge.release()
        return result | {"ms": used / passed / count * 1000, "setup": setup, "memory": grown / count, "effort": effort}
    finally:
        stdin.close()
        stdout.close()
        load.wait()


def report(
    bench: str, unit: str, key: str, rounds: dict[str, list[Figures]], reasons: dict[str, str], **more: Any
) -> None:
    """Print one figure, once for each peer; a peer that lost packets is not one to compare with."""
    values = [figures[key] for figures in rounds["ours"]]
    value = statistics.median(values)
    for peer in ("rtpengine", "floor"):
        line: Figures = {"bench": bench, "value": round(value, 3), "unit": unit, "peer": peer, "peer_value": None}
        line |= {"ratio": None, "peer_version": rtpengine_version() if peer == "rtpengine" else "one C thread"}
        if peer in rounds:
            theirs = statistics.median(figures[key] for figures in rounds[peer])
            line |= {"peer_value": round(theirs, 3), "ratio": round(value / theirs, 2) if theirs else None}
            line["peer_arrived"] = min(min(figures["arrived"]) for figures in rounds[peer])
        else:
            line["reason"] = reasons[peer]
        line["rounds"] = [round(number, 3) for number in values]
        line["effort"] = rounds["ours"][-1]["effort"]
        line["arrived"] = min(min(figures["arrived"]) for figures in rounds["ours"])
        print(json.dumps(line | more), flush=True)


async def main(seconds: int, counts: list[int], rounds: int) -> None:
    """Measure all of it."""
    print(f"python {platform.python_version()}, {os.cpu_count()} cores, {seconds} s a run", file=sys.stderr)
    async with AsyncExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bridges: dict[str, Bridge] = {}
        reasons = {"rtpengine": "not installed"}
        bare = floor(work)
        if isinstance(bare, str):
            reasons["floor"] = bare
        else:
            bridges["floor"] = bare
        if rtpengine_version() is not None:
            bridges["rtpengine"] = stack.enter_context(rtpengine(work))
        bridges["ours"] = await stack.enter_async_context(worker())
        for bridge in bridges.values():
            await measure(bridge, 1, 1, "opus")  # the first call pays for what all share
        for bench, codec in (("media.transcode_opus_g722", "opus"), ("media.relay", "G722")):
            for count in counts:
                taken: dict[str, list[Figures]] = {name: [] for name in bridges}
                for _ in range(rounds):
                    for name, bridge in bridges.items():
                        taken[name].append(await measure(bridge, count, seconds, codec))
                report(bench, "ms CPU per call-second", "ms", taken, reasons, calls=count)
                for figures in (figures for of in taken.values() for figures in of):
                    for key in ("p50", "p99"):
                        figures[f"{key}_ms"] = figures[key] * 1000
                for part in ("p50", "p99"):
                    name = f"media.added_latency_{part}_ms"
                    report(name, "ms", f"{part}_ms", taken, reasons, calls=count, codec=codec)
                bare_rounds = {name: of for name, of in taken.items() if name != "floor"}
                less = reasons | {"floor": "has no ICE and no DTLS"}
                report("media.setup_ms", "ms CPU per call", "setup", bare_rounds, less, calls=count, codec=codec)
                if codec == "opus" and count == max(counts):
                    report("media.memory_per_call_mib", "MiB", "memory", bare_rounds, less, calls=count)
                    for figures in (figures for of in taken.values() for figures in of):
                        figures["a_core"] = 1000 / figures["ms"]
                    report("media.calls_per_core", "calls", "a_core", taken, reasons, calls=count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Media benchmarks.")
    parser.add_argument("seconds", nargs="?", type=int, default=10, help="of a run")
    parser.add_argument("calls", nargs="*", type=int, default=[1, 10, 30])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    trio.run(main, asked.seconds, asked.calls or [1, 10, 30], asked.rounds)
