"""A telephone exchange for two or more browsers: just enough SIP over WebSocket to try a phone without a gateway.

It registers anybody with the right password, passes requests from phone to phone (RFC 3261 section 16 at its smallest:
a Via of its own, nothing else), and refuses some numbers by itself. Media goes from browser to browser.
"""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import Any

import trio
import trio_websocket

REALM = "example.test"
PASSWORD = "secret"
REFUSED = {
    "busy": ("486 Busy Here", ()),
    "nobody": ("404 Not Found", ()),
    "codec": (
        "488 Not Acceptable Here",
        ('Warning: 305 exchange "no common codec: the PBX offers only G729; this gateway bridges G722, PCMA, PCMU"',),
    ),
}


class Exchange:
    """Serve with `await nursery.start(exchange.serve)`; then `ws` is its URL and `registered` its phones."""

    def __init__(self) -> None:
        self.ws = ""
        self.registered: dict[str, Any] = {}
        self.hosts: dict[str, Any] = {}
        self.connections: dict[str, Any] = {}
        self.seen: list[str] = []

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            serve = partial(trio_websocket.serve_websocket, self._phone, "127.0.0.1", 0, None, handler_nursery=nursery)
            server = await nursery.start(serve)
            self.ws = f"ws://127.0.0.1:{server.port}/ws"
            task_status.started()

    async def drop_all(self) -> None:
        """Close every WebSocket, as a restarted gateway would."""
        for connection in list(self.connections.values()):
            await connection.aclose(1001)

    async def _phone(self, request: Any) -> None:
        connection = await request.accept(subprotocol="sip")
        name = f"c{id(connection)}"
        self.connections[name] = connection
        try:
            while True:
                text = await connection.get_message()
                if isinstance(text, bytes):
                    text = text.decode()
                if text.strip():
                    await self._message(name, connection, text)
        except trio_websocket.ConnectionClosed:
            pass
        finally:
            del self.connections[name]
            self.registered = {user: c for user, c in self.registered.items() if c is not connection}

    async def _message(self, name: str, connection: Any, text: str) -> None:
        first = text.split("\r\n", 1)[0]
        self.seen.append(first)
        contact = re.search(r"^(?:Contact|m):.*@([^;>\s]+)", text, re.M | re.I)
        if contact:
            self.hosts[contact[1]] = connection
        if first.startswith("SIP/2.0"):
            await self._response(text)
        elif first.startswith("REGISTER"):
            await self._register(connection, text)
        else:
            await self._request(name, connection, text, first)

    async def _register(self, connection: Any, text: str) -> None:
        user = _one(r"^To:.*sip:([^@]+)@", text)
        credentials = dict(re.findall(r'(\w+)="?([^",\s]+)"?', _one(r"^Authorization: Digest (.*)$", text)))
        if not credentials:
            await connection.send_message(
                _reply(
                    text,
                    "401 Unauthorized",
                    f'WWW-Authenticate: Digest realm="{REALM}", nonce="n1", qop="auth", algorithm=MD5',
                )
            )
            return
        if not _right(credentials, PASSWORD):
            await connection.send_message(_reply(text, "403 Forbidden"))
            return
        contact = _one(r"^Contact: (.*)$", text)
        if "expires=0" in contact or _one(r"^Expires: (\d+)", text) == "0":
            self.registered.pop(user, None)
            await connection.send_message(_reply(text, "200 OK"))
        else:
            self.registered[user] = connection
            contact = re.sub(r";expires=\d+", "", contact)
            await connection.send_message(_reply(text, "200 OK", f"Contact: {contact};expires=300"))

    async def _request(self, name: str, connection: Any, text: str, first: str) -> None:
        method, uri, _ = first.split(" ", 2)
        user, _, host = uri.removeprefix("sip:").partition("@")
        target = self.hosts.get(host.split(";")[0]) or self.registered.get(user)
        if target is None and method != "ACK":
            status, extra = REFUSED.get(user, ("480 Temporarily Unavailable", ()))
            await connection.send_message(_reply(text, status, *extra))
        elif target is not None:
            # The same branch for an INVITE, its CANCEL and its ACK, as the phone chose them alike.
            branch = hashlib.md5(_one(r"^Via:.*branch=([^;,\s]+)", text).encode()).hexdigest()
            head, rest = text.split("\r\n", 1)
            await target.send_message(f"{head}\r\nVia: SIP/2.0/WS {name}.invalid;branch=z9hG4bK{branch}\r\n{rest}")

    async def _response(self, text: str) -> None:
        head, via, rest = text.split("\r\n", 2)
        origin = self.connections.get(_one(r"WS (\w+)\.invalid", via))
        if origin is not None:
            await origin.send_message(f"{head}\r\n{rest}")


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text.replace("\r", ""), re.M | re.I)
    return found[1] if found else ""


def _reply(request: str, status: str, *extra: str) -> str:
    kept = [
        line for line in request.split("\r\n\r\n")[0].split("\r\n") if re.match(r"(Via|From|To|Call-ID|CSeq):", line)
    ]
    kept = [f"{line};tag=exchange" if line.startswith("To:") and "tag=" not in line else line for line in kept]
    return "\r\n".join([f"SIP/2.0 {status}", *kept, *extra, "Content-Length: 0", "", ""])


def _right(given: dict[str, str], password: str) -> bool:
    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode()).hexdigest()

    first = md5(given["username"], REALM, password)
    second = md5("REGISTER", given["uri"])
    return given["response"] == md5(first, given["nonce"], given["nc"], given["cnonce"], "auth", second)
