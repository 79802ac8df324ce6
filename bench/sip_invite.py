"""`sip.invite_us`: CPU time to parse, validate, edit as a proxy and write out one browser INVITE, in microseconds.

The peer is the floor: the same octets split into lines and joined again, which no parser in Python can beat.
Prints the contract's JSON line. `strangers` is the same figure where no two messages have a phone, a number or an
identifier in common, so that nothing the parser remembers of header lines helps; `value` is a phone that calls again.
`--verbose` adds REGISTER and 200 OK, the share of each step, and heads of 64 KiB made to be slow, in milliseconds.
"""

from __future__ import annotations

import itertools
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable

from siperb_core.sip import ParseError, parse, validate


def _crlf(text: str) -> bytes:
    return text.strip("\n").replace("\n", "\r\n").encode()


_OFFER = (
    _crlf("""
v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=extmap-allow-mixed
a=msid-semantic: WMS 3b1b6f2e-6d0c-4b3a-9c0a-2d2e2f0f7a11
m=audio 54609 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 203.0.113.77
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:3859917557 1 udp 2122260223 192.168.1.35 54609 typ host generation 0 network-id 1 network-cost 10
a=candidate:2764676115 1 udp 2122194687 10.8.0.2 51230 typ host generation 0 network-id 2 network-cost 50
a=candidate:842163049 1 udp 1686052607 203.0.113.77 54609 typ srflx raddr 192.168.1.35 rport 54609 generation 0
a=candidate:2157334355 1 tcp 1518280447 192.168.1.35 9 typ host tcptype active generation 0 network-id 1
a=candidate:3388485749 1 tcp 1518214911 10.8.0.2 9 typ host tcptype active generation 0 network-id 2 network-cost 50
a=candidate:1117314843 1 udp 41885439 198.51.100.10 49837 typ relay raddr 203.0.113.77 rport 54609 generation 0
a=ice-ufrag:Hx3k
a=ice-pwd:asd88fgpdd777uzjYhagZg0K
a=ice-options:trickle
a=fingerprint:sha-256 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:3A:50:22:10:7A:6D:1C:9E:33:F0:12:AA
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendrecv
a=msid:3b1b6f2e-6d0c-4b3a-9c0a-2d2e2f0f7a11 6f6ef1b1-2b8a-4d2a-b4ec-6e3a2f6f9a9d
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:13 CN/8000
a=rtpmap:110 telephone-event/48000
a=rtpmap:126 telephone-event/8000
a=ssrc:2231627014 cname:4TOk42mSjXCkVIa6
a=ssrc:2231627014 msid:3b1b6f2e-6d0c-4b3a-9c0a-2d2e2f0f7a11 6f6ef1b1-2b8a-4d2a-b4ec-6e3a2f6f9a9d
""")
    + b"\r\n"
)

INVITE = _crlf(f"""
INVITE sip:+4420*7946*0018@connections.example.com;transport=ws SIP/2.0
Via: SIP/2.0/WSS 7ks0ij8qfvkl.invalid;branch=z9hG4bK5393049;rport
Max-Forwards: 70
To: <sip:+442079460018@connections.example.com>
From: "Alice Example" <sip:alice-8f2c@connections.example.com>;tag=b7sc1pkl2e
Call-ID: jbg29hifcd1m0a3kq8ar
CSeq: 8461 INVITE
Authorization: Digest algorithm=MD5, username="alice-8f2c", realm="connections.example.com", \
nonce="ZyDLV2cgyiuBFAfwtkLk+4nRrk2OxJ2c", uri="sip:+442079460018@connections.example.com;transport=ws", \
response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41", qop=auth, \
cnonce="0a4f113b", nc=00000001
Route: <sip:connections.example.com;transport=ws;lr>
Contact: <sip:8m2r1kq9@7ks0ij8qfvkl.invalid;transport=ws;ob>;+sip.ice;reg-id=1;\
+sip.instance="<urn:uuid:6f0d9f9e-0d5d-4a5c-a6f4-0fe1a4e0b1f1>"
Content-Type: application/sdp
Session-Expires: 90
Allow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,INFO,NOTIFY
Supported: timer,gruu,ice,replaces,outbound
User-Agent: SIPERB Browser Phone 2.0 (SIPJS - 0.21.2) Mozilla/5.0
Content-Length: {len(_OFFER)}
""") + b"\r\n\r\n" + _OFFER  # fmt: skip

REGISTER = _crlf("""
REGISTER sip:connections.example.com SIP/2.0
Via: SIP/2.0/WSS 7ks0ij8qfvkl.invalid;branch=z9hG4bK2209817;rport
Max-Forwards: 70
To: <sip:alice-8f2c@connections.example.com>
From: "Alice Example" <sip:alice-8f2c@connections.example.com>;tag=qk2m9ffa1b
Call-ID: 4f0sd98f0sdkfjq1mvno
CSeq: 82 REGISTER
Contact: <sip:8m2r1kq9@7ks0ij8qfvkl.invalid;transport=ws>;+sip.ice;reg-id=1;\
+sip.instance="<urn:uuid:6f0d9f9e-0d5d-4a5c-a6f4-0fe1a4e0b1f1>";expires=600
Expires: 600
Allow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,INFO,NOTIFY
Supported: path,gruu,outbound
User-Agent: JsSIP 3.10.1
Content-Length: 0
""") + b"\r\n\r\n"  # fmt: skip

OK = _crlf("""
SIP/2.0 200 OK
Via: SIP/2.0/UDP 198.51.100.10:5060;rport=5060;received=198.51.100.10;branch=z9hG4bK.5f2d4cda.1
Via: SIP/2.0/WSS 7ks0ij8qfvkl.invalid;branch=z9hG4bK5393049;rport=51822;received=203.0.113.77
Record-Route: <sip:198.51.100.10:5060;lr;ftag=b7sc1pkl2e>
Call-ID: jbg29hifcd1m0a3kq8ar
From: "Alice Example" <sip:alice-8f2c@connections.example.com>;tag=b7sc1pkl2e
To: <sip:+442079460018@connections.example.com>;tag=0c9a9b8d-6d5f-4c25-9a38-cc4d4a5c4b1e
CSeq: 8461 INVITE
Server: Asterisk PBX 20.5.0
Allow: OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, PUBLISH, INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, REFER, MESSAGE
Contact: <sip:192.0.2.44:5060>
Supported: 100rel, timer, replaces, norefersub
Content-Length: 0
""") + b"\r\n\r\n"  # fmt: skip


_OWN = (b"7ks0ij8qfvkl", b"5393049", b"442079460018", b"alice-8f2c", b"b7sc1pkl2e", b"jbg29hifcd1m0a3kq8ar", b"8461")
"""What is another phone's or another call's own in `INVITE`."""

_HEAD = INVITE.partition(b"\r\nContent-Type")[0] + b"\r\n"
WORST = {
    "headers": _HEAD + b"X:y\r\n" * 5_000,
    "headers_allowed": _HEAD + b"X: y\r\n" * 490,
    "commas": _HEAD.replace(b"Contact: ", b"Contact: " + b"," * 60_000) + b"\r\n",
    "quotes": _HEAD.replace(b"Contact: ", b"Contact: " + b'"\\"' * 20_000) + b"\r\n",
    "params": _HEAD.replace(b"tag=", b"x;" * 30_000 + b"tag=") + b"\r\n",
    "branches": _HEAD.replace(b"branch=", b"branch=z9hG4bK," * 4_000 + b"branch=") + b"\r\n",
    "folds": _HEAD.replace(b"Contact: ", b"Contact: a" + b"\r\n " * 20_000) + b"\r\n",
}


def strangers(count: int) -> list[bytes]:
    """INVITEs of phones that have nothing in common."""
    chance = random.Random(1)
    messages = []
    for _ in range(count):
        message = INVITE
        for own in _OWN:
            digits = b"0123456789" if own.isdigit() else b"0123456789abcdefghijklmnopqrstuvwxyz"
            message = message.replace(own, bytes([chance.choice(digits[1:]), *chance.choices(digits, k=len(own) - 1)]))
        messages.append(message)
    return messages


def worst(data: bytes) -> float:
    """CPU milliseconds of one message nobody sends in good faith, read, judged and asked for its Contacts."""
    times = []
    for _ in range(5):
        start = time.process_time()
        try:
            message = parse(data)
            validate(message)
            _ = message.contacts
        except ParseError:
            pass
        times.append((time.process_time() - start) * 1000)
    return min(times)


def floor(data: bytes) -> bytes:
    """Split into lines, join again."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    lines += b"", body
    return b"\r\n".join(lines)


def proxy_request(data: bytes) -> bytes:
    """What a proxy does to every request (RFC 3261 section 16)."""
    message = parse(data)
    if validate(message) is not None:
        raise ValueError("not a fit message")
    message.stamp_via("203.0.113.77", 51822)
    message.prepend("Via", "SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bK.abcdef.1;rport")
    message.prepend("Record-Route", "<sip:198.51.100.10:5060;lr>")
    message.remove("Route")
    message.set("Max-Forwards", str((message.max_forwards or 70) - 1))
    return bytes(message)


def proxy_response(data: bytes) -> bytes:
    """What a proxy does to every response (RFC 3261 section 16.7)."""
    message = parse(data)
    if validate(message) is not None:
        raise ValueError("not a fit message")
    message.pop_first("Via")
    return bytes(message)


def measure(job: Callable[[bytes], object], data: bytes, rounds: int = 9, count: int = 3000) -> float:
    """Median CPU microseconds of one run."""
    for _ in range(200):
        job(data)
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(count):
            job(data)
        times.append((time.process_time() - start) / count * 1e6)
    return statistics.median(times)


def main() -> None:
    """Print the JSON line."""
    if "--verbose" in sys.argv:
        for name, data in (("INVITE", INVITE), ("REGISTER", REGISTER), ("200 OK", OK)):
            whole = proxy_response if name == "200 OK" else proxy_request
            figures = {
                "octets": len(data),
                "floor": measure(floor, data),
                "parse": measure(parse, data),
                "parse_validate": measure(lambda octets: validate(parse(octets)), data),
                "proxy": measure(whole, data),
            }
            print(name, " ".join(f"{key}={value:.2f}" for key, value in figures.items()), file=sys.stderr)
        print("64 KiB, ms:", " ".join(f"{name}={worst(data):.2f}" for name, data in WORST.items()), file=sys.stderr)
    least, value = measure(floor, INVITE), measure(proxy_request, INVITE)
    unknown = itertools.cycle(strangers(10_000))
    strange = measure(lambda _: proxy_request(next(unknown)), INVITE)
    line = {
        "bench": "sip.invite_us",
        "value": round(value, 2),
        "unit": "us",
        "peer": "floor",
        "peer_value": round(least, 2),
        "ratio": round(value / least, 2),
        "peer_version": f"split and join, {platform.python_implementation()} {platform.python_version()}",
        "strangers": round(strange, 2),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
