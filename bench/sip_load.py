"""Softphones on WebSockets as a load, in a process of its own, for the signalling benchmarks (bench/sip.py).

python bench/sip_load.py JOB, a JSON object: `what` (`calls`, `registers` or `idle`), `host`, `port`, `tls`, `domain`,
`number`, `media`, `phones`, `warm`, `count`, `rate`. The phones are named `phone-0`, `phone-1`, ... and have the
password `secret`. Jobs of a `rate` are open loops: so many a second, whatever becomes of them. Talks to the caller in
JSON lines; waits for a line on stdin before what is measured begins and, at the end, before it hangs up.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import select
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from siperb_core.process import raise_descriptor_limit

TALK_SECONDS = 0.05
GIVE_UP_SECONDS = 10.0
PHONES_A_SOURCE = 5_000
"""Connections from one address of loopback, which has 28,000 ports to give."""

_NONCE = re.compile(r'nonce="([^"]+)"[^\r]*algorithm=MD5|nonce="([^"]+)"')
_TO = re.compile(r"^To: *(.*?)\r", re.M | re.I)
_CONTACT = re.compile(r"^Contact: *<([^>]+)>", re.M | re.I)
_ROUTES = re.compile(r"^Record-Route: *(.*?)\r", re.M | re.I)
_CALL_ID = re.compile(r"^Call-ID: *(\S+)", re.M | re.I)
_CSEQ = re.compile(r"^CSeq: *\d+ (\w+)", re.M | re.I)

OFFER = """\
v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=extmap-allow-mixed
a=msid-semantic: WMS 3b1b6f2e-6d0c-4b3a-9c0a-2d2e2f0f7a11
m=audio 54609 UDP/TLS/RTP/SAVPF 111 9 0 8 110 126
c=IN IP4 127.0.0.1
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:3859917557 1 udp 2122260223 127.0.0.1 54609 typ host generation 0 network-id 1 network-cost 10
a=ice-ufrag:Hx3k
a=ice-pwd:asd88fgpdd777uzjYhagZg0K
a=ice-options:trickle
a=fingerprint:sha-256 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:3A:50:22:10:7A:6D:1C:9E:33:F0:12:AA
a=setup:actpass
a=mid:0
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:110 telephone-event/48000
a=rtpmap:126 telephone-event/8000
a=ssrc:2231627014 cname:4TOk42mSjXCkVIa6
""".replace("\n", "\r\n")

PLAIN_OFFER = """\
v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 9 RTP/AVP 8 101
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
""".replace("\n", "\r\n")
"""For calls whose SDP passes as it is: with a browser's the INVITE would be too long for UDP (RFC 3261 18.1.1)."""

COMMON = """\
Max-Forwards: 70\r
From: "Softphone" <sip:{name}@{domain}>;tag={tag}\r
Call-ID: {call_id}\r
User-Agent: JsSIP 3.10.1\r
Supported: path,gruu,outbound,timer,ice,replaces\r
Allow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,INFO,NOTIFY\r
"""


class Phone:
    """One softphone and its WebSocket."""

    def __init__(self, job: dict[str, Any], index: int, tls: ssl.SSLContext | None) -> None:
        self.name, self.domain = f"phone-{index}", job["domain"]
        self.host = f"x{index}.invalid"
        self.call_id = f"{os.urandom(6).hex()}-{index}"
        self.cseq = 0
        self.via = f"SIP/2.0/{'WSS' if tls else 'WS'} {self.host}"
        self._buffer = b""
        source = f"127.0.0.{2 + index // PHONES_A_SOURCE}"
        sock = socket.create_connection((job["host"], job["port"]), 10, (source, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock if tls is None else tls.wrap_socket(sock)
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {job['host']}:{job['port']}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = self.sock.recv(4096)
            if not data:
                raise SystemExit(f"no WebSocket: {answer!r}")
            answer += data
        if b" 101 " not in answer.partition(b"\r\n")[0]:
            raise SystemExit(f"no WebSocket: {answer!r}")
        self._buffer = answer.partition(b"\r\n\r\n")[2]

    def send(self, text: str) -> None:
        """One SIP message as one text frame. Its mask is zero: the gateway cannot tell, and we need not mask."""
        self._frame(0x81, text.encode())

    def _frame(self, first: int, payload: bytes) -> None:
        length = len(payload)
        head = bytes((first, 0x80 | length)) if length < 126 else bytes((first, 0xFE, length >> 8, length & 0xFF))
        self.sock.sendall(head + bytes(4) + payload)

    def receive(self) -> list[str]:
        """The messages that have come; a ping is answered."""
        data = self.sock.recv(65_536)
        if not data:
            raise SystemExit(f"{self.name}: the WebSocket was closed")
        while isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            data += self.sock.recv(65_536)
        self._buffer += data
        messages = []
        while (got := self._next()) is not None:
            opcode, payload = got
            if opcode == 9:
                self._frame(0x8A, payload)
            elif opcode in (1, 2):
                messages.append(payload.decode())
        return messages

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        start, length = 2, buffer[1]
        if length == 126:
            if len(buffer) < 4:
                return None
            start, length = 4, int.from_bytes(buffer[2:4], "big")
        if len(buffer) < start + length:
            return None
        self._buffer = buffer[start + length :]
        return buffer[0] & 15, buffer[start : start + length]

    def register(self, nonce: str = "") -> None:
        """Send a REGISTER; with a nonce, one that answers a challenge."""
        self.cseq += 1
        uri = f"sip:{self.domain}"
        text = f"REGISTER {uri} SIP/2.0\r\nVia: {self.via};branch=z9hG4bK{self.call_id}{self.cseq}\r\n"
        text += COMMON.format(name=self.name, domain=self.domain, tag=self.call_id, call_id=self.call_id)
        text += f"To: <sip:{self.name}@{self.domain}>\r\nCSeq: {self.cseq} REGISTER\r\nExpires: 600\r\n"
        text += f"Contact: <sip:{self.name}@{self.host};transport=ws>;+sip.ice;expires=600\r\n"
        if nonce:
            secret = _md5(f"{self.name}:{self.domain}:secret")
            answer = _md5(f"{secret}:{nonce}:00000001:c0ffee:auth:{_md5(f'REGISTER:{uri}')}")
            text += (
                f'Authorization: Digest algorithm=MD5, username="{self.name}", realm="{self.domain}", nonce="{nonce}", '
                f'uri="{uri}", response="{answer}", qop=auth, cnonce="c0ffee", nc=00000001\r\n'
            )
        self.send(text + "Content-Length: 0\r\n\r\n")

    def registered(self, message: str) -> bool:
        """What came after a REGISTER: a challenge is answered, True for a 200."""
        status = _status(message)
        if status == 401:
            nonce = [match[1] or match[2] for match in _NONCE.finditer(message)]
            self.register(nonce[-1])
        elif status != 200:
            raise SystemExit(f"REGISTER: {message}")
        return status == 200


class Caller:
    """Makes calls and counts how they went."""

    def __init__(self, job: dict[str, Any], phones: list[Phone]) -> None:
        self.uri = f"sip:{job['number']}@{job['domain']}"
        self.offer = OFFER if job.get("media") else PLAIN_OFFER
        self.phones = phones
        self.calls: dict[str, list[str]] = {}  # Call-ID -> what ACK and BYE repeat
        self.hangups: deque[tuple[float, Phone, str]] = deque()
        self.begun = self.done = self.failed = 0

    def begin(self) -> None:
        """INVITE."""
        phone = self.phones[self.begun % len(self.phones)]
        self.begun += 1
        call_id = os.urandom(10).hex()
        self.calls[call_id] = []
        text = f"INVITE {self.uri} SIP/2.0\r\nVia: {phone.via};branch=z9hG4bK{call_id}\r\n"
        text += COMMON.format(name=phone.name, domain=phone.domain, tag=call_id[:8], call_id=call_id)
        text += f"To: <{self.uri}>\r\nCSeq: 1 INVITE\r\nContact: <sip:{phone.name}@{phone.host};transport=ws>\r\n"
        offer = self.offer
        phone.send(f"{text}Content-Type: application/sdp\r\nContent-Length: {len(offer)}\r\n\r\n{offer}")

    def heard(self, phone: Phone, message: str) -> None:
        """A response to INVITE or BYE."""
        status = _status(message)
        if status < 200:
            return
        call_id = _one(_CALL_ID, message)
        if _one(_CSEQ, message) == "BYE":
            del self.calls[call_id]
            self.done += 1
        elif status >= 300:
            self.failed += 1
        elif not self.calls[call_id]:
            target, to = _one(_CONTACT, message), _one(_TO, message)
            routes = [route for line in _ROUTES.findall(message) for route in line.split(",")]
            fields = "".join(f"Route: {route.strip()}\r\n" for route in reversed(routes))
            self.calls[call_id] = [target, f"{fields}To: {to}\r\n"]
            self._in_dialog(phone, call_id, "ACK", 1)
            self.hangups.append((time.monotonic() + TALK_SECONDS, phone, call_id))

    def hang_up(self) -> None:
        """BYE, for the calls whose time has come."""
        now = time.monotonic()
        while self.hangups and self.hangups[0][0] <= now:
            _, phone, call_id = self.hangups.popleft()
            self._in_dialog(phone, call_id, "BYE", 2)

    def _in_dialog(self, phone: Phone, call_id: str, method: str, cseq: int) -> None:
        target, fields = self.calls[call_id]
        text = f"{method} {target} SIP/2.0\r\nVia: {phone.via};branch=z9hG4bK{call_id}{method}\r\n{fields}"
        text += COMMON.format(name=phone.name, domain=phone.domain, tag=call_id[:8], call_id=call_id)
        phone.send(f"{text}CSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n")


def _status(message: str) -> int:
    return int(message[8:11]) if message.startswith("SIP/2.0 ") else 0


def _one(pattern: re.Pattern[str], message: str) -> str:
    match = pattern.search(message)
    if match is None:
        raise SystemExit(f"no {pattern.pattern} in {message}")
    return match[1]


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def connect(job: dict[str, Any]) -> Iterator[Phone]:
    """The phones, registered, one after the other."""
    tls = None
    if job["tls"]:
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    for index in range(job["phones"]):
        phone = Phone(job, index, tls)
        phone.register()
        while not any(map(phone.registered, phone.receive())):
            pass
        yield phone


class Loop:
    """All phones in one epoll set."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.phones: dict[int, Phone] = {}

    def add(self, phone: Phone) -> None:
        """Listen to one more."""
        self.phones[phone.sock.fileno()] = phone
        self.epoll.register(phone.sock.fileno(), select.EPOLLIN)

    def run(self, timeout: float, heard: Callable[[Phone, str], object]) -> None:
        """Give out what has come, once."""
        for fd, _ in self.epoll.poll(timeout, len(self.phones) + 1):
            phone = self.phones[fd]
            for message in phone.receive():
                heard(phone, message)


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def at_rate(loop: Loop, job: dict[str, Any], count: int, caller: Caller | Registerer) -> dict[str, Any]:
    """Begin so many a second, wait for the last to be done."""
    begin = time.monotonic()
    done, failed, started = caller.done, caller.failed, 0
    while caller.done + caller.failed - done - failed < count:
        now = time.monotonic() - begin
        while started < count and started / job["rate"] <= now:
            caller.begin()
            started += 1
        caller.hang_up()
        loop.run(0.002, caller.heard)
        if now > count / job["rate"] + GIVE_UP_SECONDS:
            break
    return {"ok": caller.done - done, "failed": caller.failed - failed, "seconds": time.monotonic() - begin}


class Registerer:
    """Refreshes one phone's registration after the other's, each with a challenge of its own."""

    def __init__(self, phones: list[Phone]) -> None:
        self.phones = phones
        self.begun = self.done = self.failed = 0

    def begin(self) -> None:
        """REGISTER without credentials."""
        self.phones[self.begun % len(self.phones)].register()
        self.begun += 1

    def heard(self, phone: Phone, message: str) -> None:
        """401 or 200."""
        self.done += phone.registered(message)

    def hang_up(self) -> None:
        """Nothing is left to do."""


def main(job: dict[str, Any]) -> None:
    """Do the job."""
    raise_descriptor_limit()
    loop = Loop()

    def wait_for_word() -> None:
        """Until the caller says go; phones go on answering pings."""
        while not select.select([sys.stdin], [], [], 0)[0]:
            loop.run(0.2, lambda phone, message: None)
        sys.stdin.readline()

    for number, phone in enumerate(connect(job), 1):
        loop.add(phone)
        if number == job["warm"] and job["what"] == "idle":
            _say(connected=number)
            wait_for_word()
        if not number % 20:  # the others are asked now and then whether they are there
            loop.run(0, lambda phone, message: None)
    phones = list(loop.phones.values())
    if job["what"] == "idle":
        _say(connected=len(phones))
        wait_for_word()
        return
    user = Caller(job, phones) if job["what"] == "calls" else Registerer(phones)
    at_rate(loop, job, job["warm"], user)
    _say(connected=len(phones))
    wait_for_word()
    _say(**at_rate(loop, job, job["count"], user))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
