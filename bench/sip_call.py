"""`sip.call_us`: CPU of one INVITE 180 200 ACK BYE 200 in the whole gateway, without sockets, in microseconds.

python bench/sip_call.py [--rounds N] [--count N] [--profile]. One JSON line: the best of some rounds, since what else
runs on the machine only ever adds. The gateway runs in this process as `siperb run` has it, store and log included; the
softphone and the PBX are flows that answer by themselves. `loop` is the part of the thread that handles SIP, the rest
of the value is the store's. `floors` is the value in units of splitting and joining one INVITE (bench/sip_invite.py)
in the same round, which says more on a busy machine. `--profile` prints where the time goes, by cProfile, instead.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import trio
from sip_gateway import PassthroughGateway
from sip_invite import INVITE, floor
from sip_invite import measure as measure_floor
from sip_peers import DOMAIN, NUMBER, TRUNK, gateway_config

from siperb_core.gateway import Gateway
from siperb_core.log import configure_log, write_in_batches

_CONTACT = re.compile(rb"\r\nContact: <([^>]*)>")
_TO = re.compile(rb"\r\nTo: ([^\r]*)")
_ANSWERED = re.compile(rb"\r\n(Via|Record-Route|From|Call-ID|CSeq): [^\r]*")
_SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0\r\n"
    b"a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
)
_BODY = b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s" % (len(_SDP), _SDP)


class _Flow:
    """A flow whose far end is here. Unreliable, as UDP is."""

    reliable = False
    local = ("127.0.0.1", 5060)
    sent_by = "127.0.0.1:5060"

    def __init__(self, transport: str, port: int) -> None:
        self.transport = transport
        self.remote = ("127.0.0.1", port)
        self.sent: list[bytes] = []
        self.answered = trio.Event()

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        if data.startswith(b"SIP/2.0 200"):
            self.answered.set()


class _Listener:
    """Stands for the UDP socket that leads to the PBX."""

    transport = "udp"
    local = ("127.0.0.1", 5060)

    def __init__(self, flow: _Flow) -> None:
        self._flow = flow

    def flow_to(self, host: str, port: int, tls: object = None) -> _Flow:
        return self._flow


class Caller:
    """A softphone that calls, and a PBX that answers."""

    def __init__(self, gateway: Gateway) -> None:
        self._receive = gateway.signalling.received
        self._phone, self._pbx = _Flow("ws", 50000), _Flow("udp", 5062)
        gateway.listeners["udp"] = [_Listener(self._pbx)]  # type: ignore[list-item]
        device = gateway.config.device("phone")
        assert device is not None
        gateway.softphones._devices[self._phone] = device  # as its REGISTER would have done
        self._made = 0

    def _request(self, method: bytes, uri: bytes, to: bytes, number: int, more: bytes) -> None:
        self._receive(
            b"%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:50000;branch=z9hG4bKp%d-%d%s\r\n"
            b"From: sipp <sip:phone@gw.example>;tag=%d\r\nTo: %s\r\nCall-ID: %d-4711@127.0.0.1\r\nCSeq: %d %s\r\n"
            b"Contact: <sip:phone@127.0.0.1:50000>\r\nMax-Forwards: 70\r\n%s"
            % (method, uri, self._made, number, method, self._made, to, self._made, number, method, more),
            self._phone,
        )

    def _answer(self, request: bytes, start: bytes, more: bytes) -> None:
        copied = b"".join(match.group() for match in _ANSWERED.finditer(request))
        to = _TO.search(request)
        assert to is not None
        tag = b"" if b";tag=" in to[1] else b";tag=pbx%d" % self._made
        self._receive(
            b"SIP/2.0 %s%s%s%s\r\nContact: <sip:127.0.0.1:5062;transport=UDP>\r\n%s"
            % (start, copied, to.group(), tag, more),
            self._pbx,
        )

    async def call(self) -> None:
        """One call, to its end."""
        self._made += 1
        phone, pbx = self._phone.sent, self._pbx.sent
        uri = f"sip:{NUMBER}@{DOMAIN}".encode()
        self._request(b"INVITE", uri, b"<%s>" % uri, 1, _BODY)
        invite = pbx.pop()
        self._answer(invite, b"180 Ringing", b"Content-Length: 0\r\n\r\n")
        self._answer(invite, b"200 OK", _BODY)
        await self._phone.answered.wait()  # the dialog is on disk
        target, to = _CONTACT.search(phone[-1]), _TO.search(phone[-1])
        assert target is not None
        assert to is not None
        self._request(b"ACK", target[1], to[1], 1, b"Content-Length: 0\r\n\r\n")
        self._request(b"BYE", target[1], to[1], 2, b"Content-Length: 0\r\n\r\n")
        self._answer(pbx.pop(), b"200 OK", b"Content-Length: 0\r\n\r\n")
        assert phone[-1].startswith(b"SIP/2.0 200")
        phone.clear()
        pbx.clear()
        self._phone.answered = trio.Event()


async def measure(rounds: int, count: int, profiler: cProfile.Profile | None) -> tuple[float, float, float]:
    """Microseconds of a call: of the whole process, and of trio's thread; and the former in floors."""
    wholes, loops, floors = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        gateway = PassthroughGateway(
            gateway_config(Path(directory), devices=["phone"], connections=[TRUNK.format(pbx=5062)])
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_in_batches)
            await nursery.start(gateway.run)
            await gateway.wait_settled()
            caller = Caller(gateway)
            for _ in range(100):
                await caller.call()
            for _ in range(rounds):
                whole, loop = time.process_time(), time.thread_time()
                if profiler is not None:
                    profiler.enable()
                for _ in range(count):
                    await caller.call()
                if profiler is not None:
                    profiler.disable()
                wholes.append((time.process_time() - whole) / count * 1e6)
                loops.append((time.thread_time() - loop) / count * 1e6)
                floors.append(wholes[-1] / measure_floor(floor, INVITE, rounds=3, count=500))
            gateway.stop(drain_seconds=0)
            await gateway.stopped.wait()
            nursery.cancel_scope.cancel()
    return min(wholes), min(loops), statistics.median(floors)


def main() -> None:
    """Print the JSON line, or the profile."""
    parser = argparse.ArgumentParser(description="CPU of one call in the gateway, without sockets.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--sort", default="tottime", help="of the profile: tottime, cumtime, ncalls")
    parser.add_argument("--lines", type=int, default=70, help="of the profile")
    asked = parser.parse_args()
    configure_log()
    profiler = cProfile.Profile(time.thread_time) if asked.profile else None
    whole, loop, floors = trio.run(measure, asked.rounds, asked.count, profiler)
    if profiler is not None:
        pstats.Stats(profiler, stream=sys.stdout).sort_stats(asked.sort).print_stats(asked.lines)
        return
    figures = {"value": round(whole, 1), "unit": "us", "loop": round(loop, 1), "floors": round(floors)}
    print(json.dumps({"bench": "sip.call_us"} | figures))


if __name__ == "__main__":
    main()
