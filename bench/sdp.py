"""What a description made to hurt costs the gateway, over what a normal offer costs it in the same run. JSON lines.

python bench/sdp.py [--rounds N]. `sdp.abuse` is CPU microseconds until it is refused or accepted, the best of the
rounds; `peer_value` is that of a browser's offer that is taken in and passed on to the PBX.
"""

from __future__ import annotations

import argparse
import json
import time

from siperb_core.sdp import Bridge, BridgeSettings, LegIdentity, SdpError

SETTINGS = BridgeSettings(
    address="203.0.113.5",
    peer_address="192.0.2.5",
    peer_port=10000,
    peer_ssrc=1,
    fingerprint=("sha-256", ":".join(["AB"] * 32)),
    session_id=7,
    transcodable=frozenset(pair for codec in ("G722", "PCMA", "PCMU") for pair in (("opus", codec), (codec, "opus"))),
)
IDENTITY = LegIdentity("uFrA", "p" * 22, 10010, 153)
PRINT = f"a=fingerprint:sha-256 {':'.join(['4A'] * 32)}\r\n"
NUMBERS = {111: "opus/48000/2", 63: "red/48000/2", 9: "G722/8000", 0: "PCMU/8000", 8: "PCMA/8000", 13: "CN/8000"}
NUMBERS |= {110: "telephone-event/48000", 126: "telephone-event/8000"}
OFFER = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    f"m=audio 9 UDP/TLS/RTP/SAVPF {' '.join(map(str, NUMBERS))}\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=rtcp-mux\r\n"
    + "".join(f"a=rtpmap:{number} {codec}\r\n" for number, codec in NUMBERS.items())
    + f"a=setup:actpass\r\na=ice-ufrag:abcd\r\na=ice-pwd:{'w' * 24}\r\n{PRINT}"
    + "".join(f"a=candidate:{n} 1 udp {n + 1} 192.0.2.{n + 1} 1024 typ host\r\n" for n in range(4))
)


def candidates(count: int) -> str:
    """So many lines."""
    return "".join(f"a=candidate:{n} 1 udp {n + 1} 192.0.2.{n % 250} {1024 + n} typ host\r\n" for n in range(count))


ABUSE = {
    "256 KiB": OFFER + "a=x:" + "y" * 256 * 1024 + "\r\n",
    "64 KiB, the most that is read": OFFER + "a=x:" + "y" * (65_000 - len(OFFER)) + "\r\n",
    "64 KiB of empty lines": OFFER + "\r\n" * ((65_000 - len(OFFER)) // 2) + "a=x\r\n",
    "1,000 m-lines": OFFER + "m=audio 9 RTP/AVP 0\r\n" * 1000,
    "64 m-lines, the most that are read": OFFER + "m=audio 9 RTP/AVP 0\r\n" * 63,
    "64 m-lines that all claim one bundle": OFFER + "m=audio 9 RTP/AVP 0\r\na=mid:0\r\n" * 63,
    "1,000 candidates": OFFER + candidates(1000),
    "480 candidates, nearly the most that are read": OFFER + candidates(480),
    "480 fingerprints": OFFER + PRINT * 480,
    "no fingerprint": OFFER.replace(PRINT, ""),
    "RTP/AVP": OFFER.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
    "port 0": OFFER.replace("m=audio 9", "m=audio 0"),
}


def cost(text: str, rounds: int) -> tuple[float, int]:
    """CPU microseconds of one, and the status; 200 where it is accepted."""
    data, best, status = text.encode(), float("inf"), 200
    for _ in range(rounds):
        before = time.process_time_ns()
        for _ in range(20):
            try:
                Bridge(SETTINGS).offer_from_client(data, "a", IDENTITY)
            except SdpError as error:
                status = error.status
        best = min(best, (time.process_time_ns() - before) / 20_000)
    return best, status


def main(rounds: int) -> None:
    """Measure all of them."""
    normal, status = cost(OFFER, rounds)
    assert status == 200
    for name, text in ABUSE.items():
        value, status = cost(text, rounds)
        line = {"bench": "sdp.abuse", "value": round(value, 1), "unit": "us CPU", "peer": "normal offer"}
        line |= {"peer_value": round(normal, 1), "ratio": round(value / normal, 2), "what": name, "status": status}
        print(json.dumps(line | {"octets": len(text.encode()), "peer_octets": len(OFFER)}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What hostile descriptions cost.")
    parser.add_argument("--rounds", type=int, default=7)
    main(parser.parse_args().rounds)
