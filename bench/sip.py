"""What signalling costs: CPU of the gateway per call and per REGISTER, memory per idle softphone, time per INVITE.

python bench/sip.py [NAME ...] [--rounds N] [--count N]. One JSON line for each figure (docs: benchmarks): the median of
some rounds, in each of which Kamailio (tm, rr, one child) is measured first, with the same load. CPU is that of the
process under test; the load runs in others. Figures of two machines do not compare, ratios do.

`sip.call_udp_udp`  INVITE 100 180 200 ACK BYE 200, SIPp to SIPp. Routing, dialogs on disk, the log: as in production.
                    SDP passes as it is, and softphones are let in by UDP (see bench/sip_gateway.py). Measured at two
                    rates, and beside a floor too: a trio program that passes datagrams on (bench/sip_floor.py).
`sip.call_ws_udp`   the same from softphones on WebSockets; with `media` it has media sessions and bridged SDP too.
`sip.register_digest`   REGISTER 401 REGISTER 200 over a WebSocket, the binding on disk before the 200.
`sip.memory_per_phone_kib`  of 10,000 registered softphones on idle WebSockets.
`sip.connections_1000`  seconds until 1,000 outbound registrations are loaded, which is the pace (20 REGISTERs a second,
                    two for each); with CPU and memory of each, and how late the event loop is meanwhile and at rest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal

import sip_invite
import sip_peers as peers

RATE = 50
"""Calls or registrations a second: little enough that nothing is ever late."""
HIGH_RATE = 200
"""Calls a second at which a process seldom goes to sleep in between."""
UDP_PEERS: tuple[Literal["kamailio", "floor"], ...] = ("kamailio", "floor")
MEDIA_RATE = 20
PHONES = 100
IDLE_PHONES = 10_000
CONNECTIONS = 1_000
FEW_CONNECTIONS = 10
REST_SECONDS = 30.0


def udp_calls(work: Path, count: int, rate: int, *, through: Literal["gateway", "kamailio", "floor"]) -> float:
    """CPU milliseconds of a call, UDP to UDP, at so many a second."""
    kamailio = through == "kamailio"
    with ExitStack() as stack:
        pbx = stack.enter_context(peers.answering_pbx(work))
        source = peers.free_port()
        if through == "floor":
            proxy = stack.enter_context(peers.floor(work, pbx=pbx))
        elif kamailio:
            proxy = stack.enter_context(peers.kamailio(work, pbx=pbx))
        else:
            proxy = stack.enter_context(peers.gateway(work, devices=0, pbx=pbx))
            peers.register_caller(proxy["phones"], source)
        peers.call_by_sipp(work, proxy["phones"], source, 100, rate)
        before = peers.cpu_seconds(proxy["pid"], children=kamailio)
        done = peers.call_by_sipp(work, proxy["phones"], source, count, rate)
        return (peers.cpu_seconds(proxy["pid"], children=kamailio) - before) / done * 1000


def websocket_load(work: Path, count: int, *, what: str, kamailio: bool = False, media: bool = False) -> float:
    """CPU milliseconds of a call from a WebSocket to UDP, or of a REGISTER with its challenge."""
    with ExitStack() as stack:
        pbx = stack.enter_context(peers.answering_pbx(work))
        if kamailio:
            proxy = stack.enter_context(peers.kamailio(work, pbx=pbx, websocket=True))
        else:
            proxy = stack.enter_context(peers.gateway(work, devices=PHONES, pbx=pbx, media=media))
        rate = MEDIA_RATE if media else RATE
        job = {"port": proxy["ws"], "phones": PHONES, "count": count, "rate": rate, "media": media}
        load = stack.enter_context(peers.load(work, what=what, **job))
        load.hear()
        before = peers.cpu_seconds(proxy["pid"], children=kamailio)
        load.go()
        result = load.hear()
        if result["ok"] < 0.99 * count:
            raise SystemExit(f"{what}: {result}")
        return (peers.cpu_seconds(proxy["pid"], children=kamailio) - before) / result["ok"] * 1000


def idle_phones(work: Path, transport: str, count: int) -> float:
    """KiB of resident memory a softphone costs that does nothing but stay registered."""
    first = 100
    with (
        peers.gateway(work, devices=count) as proxy,
        peers.load(work, what="idle", port=proxy[transport], tls=transport == "wss", phones=count, warm=first) as load,
    ):
        load.hear()
        before = peers.memory_kib(proxy["pid"])
        load.go()
        load.hear()
        time.sleep(2)  # what the last ones left behind is let go
        return (peers.memory_kib(proxy["pid"]) - before) / (count - first)


def connections(work: Path, count: int) -> tuple[float, dict[str, object]]:
    """Seconds until so many outbound registrations are loaded, and what they cost over a few."""
    with peers.registrar(work) as registrar:
        port = registrar.hear()["port"]
        with peers.registering_gateway(work / "few", connections=FEW_CONNECTIONS, port=port, rest=1) as few:
            few.hear()
            few_settled = few.hear()
            few_memory = peers.memory_kib(few.hear()["pid"])
        with peers.registering_gateway(work / "many", connections=count, port=port, rest=REST_SECONDS) as many:
            listening, settled, rested = many.hear(), many.hear(), many.hear()
            memory = peers.memory_kib(rested["pid"])
            registrar.go()
            seen = registrar.hear()
    if not settled["loaded"] == rested["loaded"] == seen["bound"] == count:
        raise SystemExit(f"not all were registered: {settled}, {rested}, {seen}")
    more = count - FEW_CONNECTIONS
    lags = {
        f"{name}_{when}": figures[name]
        for when, figures in (("registering", settled), ("resting", rested))
        for name in ("lag_p99_ms", "lag_max_ms", "own_p99_ms", "own_max_ms")
    }
    return settled["seconds"], {
        "connections": count,
        "listens_after_s": round(listening["seconds"], 2),
        "cpu_ms_per_connection": round((settled["cpu"] - few_settled["cpu"]) / more * 1000, 2),
        "memory_kib_per_connection": round((memory - few_memory) / more, 1),
        "rest_cpu_percent": round((rested["cpu"] - settled["cpu"]) / REST_SECONDS * 100, 2),
        "registers_a_second": seen["most_a_second"],
        **lags,
    }


def tell(
    bench: str,
    values: list[float],
    unit: str,
    peer_values: list[float] | None,
    *,
    peer: str = "kamailio",
    **more: object,
) -> None:
    """Print one figure beside one peer."""
    version = peers.kamailio_version() if peer == "kamailio" else "trio, datagrams passed on unread"
    value = statistics.median(values)
    theirs = statistics.median(peer_values) if peer_values else None
    line: dict[str, object] = {
        "bench": bench, "value": round(value, 4), "unit": unit, "peer": peer,
        "peer_value": None if theirs is None else round(theirs, 4),
        "ratio": None if not theirs else round(value / theirs, 2), "peer_version": version,
    }  # fmt: skip
    if theirs is None and "reason" not in more:
        line["reason"] = "not installed" if version is None else "not measured"
    line["rounds"] = [round(value, 3) for value in values]
    print(json.dumps(line | more), flush=True)


def compare(
    bench: str, rounds: int, measure: Callable[[], float], measure_peers: dict[str, Callable[[], float]], **more: object
) -> None:
    """Measure in turns."""
    values: list[float] = []
    peer_values: dict[str, list[float]] = {name: [] for name in measure_peers}
    for _ in range(rounds):
        for name, measure_peer in measure_peers.items():
            if name != "kamailio" or peers.kamailio_version() is not None:
                peer_values[name].append(measure_peer())
        values.append(measure())
    for name in measure_peers:
        tell(bench, values, "ms CPU", peer_values[name], peer=name, **more)
    if not measure_peers:
        tell(bench, values, "ms CPU", None, **more)


def main() -> None:
    """Measure what was asked for."""
    names = (
        "sip.call_udp_udp",
        "sip.call_ws_udp",
        "sip.register_digest",
        "sip.memory_per_phone_kib",
        "sip.connections_1000",
        "sip.invite_us",
    )
    parser = argparse.ArgumentParser(description="Signalling benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=600, help="calls or registrations in a round")
    parser.add_argument("--phones", type=int, default=IDLE_PHONES, help="idle softphones")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="outbound registrations")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(names)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    wanted = asked.names or names
    rounds, count = asked.rounds, asked.count
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        if "sip.call_udp_udp" in wanted:
            for rate in (RATE, HIGH_RATE):
                compare(
                    "sip.call_udp_udp",
                    rounds,
                    partial(udp_calls, work, count * rate // RATE, rate, through="gateway"),
                    {name: partial(udp_calls, work, count * rate // RATE, rate, through=name) for name in UDP_PEERS},
                    rate=rate,
                )
        for bench, what in (("sip.call_ws_udp", "calls"), ("sip.register_digest", "registers")):
            if bench in wanted:
                compare(
                    bench,
                    rounds,
                    partial(websocket_load, work, count, what=what),
                    {"kamailio": partial(websocket_load, work, count, what=what, kamailio=True)},
                )
        if "sip.call_ws_udp" in wanted:
            compare(
                "sip.call_ws_udp",
                rounds,
                partial(websocket_load, work, count // 3, what="calls", media=True),
                {},
                media=True,
                reason="Kamailio by itself bridges no media",
            )
        if "sip.memory_per_phone_kib" in wanted:
            for transport in ("ws", "wss"):
                value = idle_phones(work, transport, asked.phones)
                tell(
                    "sip.memory_per_phone_kib", [value], "KiB", None,
                    transport=transport, phones=asked.phones, reason="not measured: other memory model",
                )  # fmt: skip
        if "sip.connections_1000" in wanted:
            value, figures = connections(work, asked.connections)
            tell("sip.connections_1000", [value], "s", None, **figures, reason="Kamailio registers nowhere by itself")
    if "sip.invite_us" in wanted:
        sys.argv[1:] = []
        sip_invite.main()


if __name__ == "__main__":
    main()
