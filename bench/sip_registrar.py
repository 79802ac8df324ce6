"""A registrar that knows everybody, in a process of its own, for bench/sip.py: 401 to a REGISTER without credentials,
200 to one with any, and to OPTIONS.

python bench/sip_registrar.py. Prints `{"port"}`; to each line on stdin it says what it has seen: `registers`, `bound`
(contacts that are bound now) and `most_a_second`, the most REGISTERs within one second. Ends at the end of stdin.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections import deque

HOST = "127.0.0.1"
_COPIED = re.compile(r"^(?:Via|From|Call-ID|CSeq): .*\r\n", re.M | re.I)
_TO = re.compile(r"^To: (.*)\r\n", re.M | re.I)
_CONTACT = re.compile(r"^Contact: (<[^>]+>);expires=(\d+)", re.M | re.I)


class Registrar:
    """Answers REGISTERs, and counts."""

    def __init__(self) -> None:
        self.registers = 0
        self.bound: dict[str, str] = {}
        self.most_a_second = 0
        self._last_second: deque[float] = deque()
        self._nonce = 0

    def answer(self, text: str) -> str:
        """The response to a REGISTER or OPTIONS; nothing to anything else."""
        method = text.partition(" ")[0]
        if method not in ("REGISTER", "OPTIONS"):
            return ""
        to = _one(_TO, text)[1]
        head = "".join(match[0] for match in _COPIED.finditer(text)) + f"To: {to};tag=registrar\r\n"
        if method == "OPTIONS":
            return f"SIP/2.0 200 OK\r\n{head}Content-Length: 0\r\n\r\n"
        now = time.monotonic()
        self._last_second.append(now)
        while self._last_second[0] <= now - 1:
            self._last_second.popleft()
        self.most_a_second = max(self.most_a_second, len(self._last_second))
        self.registers += 1
        if "\nAuthorization:" not in text:
            self._nonce += 1
            challenge = f'WWW-Authenticate: Digest realm="pbx", nonce="n{self._nonce}", qop="auth", algorithm=MD5'
            return f"SIP/2.0 401 Unauthorized\r\n{head}{challenge}\r\nContent-Length: 0\r\n\r\n"
        contact = _one(_CONTACT, text)
        if contact[2] == "0":
            self.bound.pop(to, None)
        else:
            self.bound[to] = contact[1]
        return f"SIP/2.0 200 OK\r\n{head}Contact: {contact[1]};expires={contact[2]}\r\nContent-Length: 0\r\n\r\n"


def _one(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.search(text)
    if match is None:
        raise SystemExit(f"no {pattern.pattern} in {text}")
    return match


def main() -> None:
    """Serve."""
    registrar = Registrar()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
        while True:
            readable, _, _ = select.select([sock, sys.stdin], [], [])
            if sock in readable:
                data, source = sock.recvfrom(65_536)
                answer = registrar.answer(data.decode())
                if answer:
                    sock.sendto(answer.encode(), source)
            if sys.stdin in readable:
                if not sys.stdin.readline():
                    return
                seen = {"registers": registrar.registers, "bound": len(registrar.bound)}
                print(json.dumps(seen | {"most_a_second": registrar.most_a_second}), flush=True)


if __name__ == "__main__":
    main()
