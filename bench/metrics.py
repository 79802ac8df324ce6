"""What metrics cost: the clock around each transcoded packet, and a scrape with a thousand connections. JSON lines."""

from __future__ import annotations

import json
import math
import time
import timeit
from types import SimpleNamespace
from typing import Any

from siperb_console.metrics import exposition
from siperb_core import Codec, Metric
from siperb_core.entries.states import TRANSITIONS
from siperb_core.media.counters import Counters
from siperb_core.media.direction import Direction
from siperb_core.media.session import WorkerSession
from siperb_core.plugin_answers import ShownMetrics
from siperb_core.rtp.packet import HEADER
from siperb_core.sdp.plan import Stream
from siperb_transcoder_opus_g722 import OpusG722

OPUS, G722 = Codec("opus", 48000, 2), Codec("G722", 8000)
PACKETS = 2000
CALLS = 200_000
CONNECTIONS = 1000


class Nothing:
    """A direction that does no work: what is left is the clock's."""

    transcoder = object()

    def forward(self, data: bytes, now: float) -> list[bytes]:
        """Nothing."""
        return []


def direction(source: Stream, target: Stream) -> Direction:
    """One that transcodes."""
    made = Direction(ssrc=1, sequence=1, timestamp=1)
    made.configure(source, target, OpusG722().create(source.codec, target.codec))
    return made


def packet_ns() -> float:
    """Of one transcoded packet, the mean of both directions, without SRTP and sockets: best of five rounds."""
    opus, g722 = Stream(OPUS, 111, 111), Stream(G722, 9, 9)
    payload = bytes(n * 37 % 256 for n in range(160))
    to_opus = OpusG722().create(G722, OPUS)
    streams = {
        (g722, opus): [payload] * PACKETS,
        (opus, g722): [to_opus.transcode(payload) for _ in range(PACKETS)],
    }
    total = 0.0
    for (source, target), payloads in streams.items():
        step = source.codec.clock // 50 if source.codec is OPUS else 160
        packets = [
            HEADER.pack(0x80, source.receive, n & 0xFFFF, n * step, 7) + data for n, data in enumerate(payloads, 1)
        ]
        best = math.inf
        for _ in range(5):
            carries = direction(source, target)
            began = time.perf_counter()
            for n, packet in enumerate(packets):
                carries.forward(packet, n / 50)
            best = min(best, time.perf_counter() - began)
        total += best / PACKETS
    return total / 2 * 1e9


def clock_ns() -> float:
    """Of the clock alone: `WorkerSession._forward` without its work."""
    session: Any = SimpleNamespace(_counters=Counters())
    nothing: Any = Nothing()
    timed = min(timeit.repeat(lambda: WorkerSession._forward(session, nothing, b"", 0.0), number=CALLS, repeat=7))
    alone = min(timeit.repeat(lambda: nothing.forward(b"", 0.0), number=CALLS, repeat=7))
    return (timed - alone) / CALLS * 1e9


def scrape_ms() -> tuple[float, float]:
    """Of a thousand connections' states: collected in the event loop, written in a thread."""
    states = sorted({state for before, _, after in TRANSITIONS for state in (before, after)})
    values = {(f"connection-{n}", state): 0 for n in range(CONNECTIONS) for state in states}
    metric = Metric("connection_state", "gauge", "The state.", values, ("connection", "state"))

    def collect() -> list[dict[str, Any]]:
        shown = ShownMetrics("siperb_")
        shown.add(metric, of="")
        return shown.rows

    collected = min(timeit.repeat(collect, number=1, repeat=5))
    rows = collect()
    return collected * 1e3, min(timeit.repeat(lambda: exposition(rows), number=1, repeat=5)) * 1e3


def say(name: str, value: float, unit: str, **more: Any) -> None:
    """One line."""
    line = {"bench": name, "value": round(value, 3), "unit": unit, "peer": None, "peer_value": None, "ratio": None}
    print(json.dumps({**line, "peer_version": None, **more}))


def main() -> None:
    """Measure and print."""
    clock, packet = clock_ns(), packet_ns()
    say("metrics.transcode_clock_ns", clock, "ns", packet_ns=round(packet), share=round(clock / packet, 5))
    collected, written = scrape_ms()
    say("metrics.scrape_collect_ms", collected, "ms", connections=CONNECTIONS)
    say("metrics.scrape_write_ms", written, "ms", connections=CONNECTIONS)


if __name__ == "__main__":
    main()
