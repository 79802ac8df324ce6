"""Softphones at a WebSocket: one by a library, and one that sends its octets itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio_websocket
from trio_websocket import open_websocket

from siperb_core.transport.websocket import WebSocketTransport

WS = WebSocketTransport("ws")
MESSAGE = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/WS c.invalid\r\n\r\n"
GET = b"GET /ws HTTP/1.1\r\nHost: x\r\n"
UPGRADE = GET + b"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Protocol: sip\r\n"


@asynccontextmanager
async def phone(
    listener: Any, path: str = "/ws", origin: str | None = None, subprotocol: str = "sip", tls: Any = False, **more: Any
) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """A softphone that keeps to the protocol."""
    headers = [(b"Origin", origin.encode())] if origin is not None else []
    async with open_websocket(
        *listener.local, path, use_ssl=tls, subprotocols=[subprotocol], extra_headers=headers, **more
    ) as ws:
        yield ws


def frame(data: bytes, opcode: int = 2, *, final: bool = True, length: int | None = None) -> bytes:
    """A frame of a client, masked with zeros; `length` for one that promises more than it holds."""
    length = len(data) if length is None else length
    start = bytes([opcode | (0x80 if final else 0)])
    if length < 126:
        return start + bytes([0x80 | length]) + bytes(4) + data
    if length < 65536:
        return start + b"\xfe" + length.to_bytes(2, "big") + bytes(4) + data
    return start + b"\xff" + length.to_bytes(8, "big") + bytes(4) + data


@asynccontextmanager
async def raw_phone(listener: Any) -> AsyncIterator[trio.SocketStream]:
    """The stream of one whose handshake is done; what it says from here on is the test's."""
    async with await trio.open_tcp_stream(*listener.local) as stream:
        await stream.send_all(
            UPGRADE + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(1)
        assert head.startswith(b"HTTP/1.1 101")
        yield stream


async def closing_code(stream: trio.SocketStream) -> int:
    """The code in the close frame that ends the stream."""
    data = b""
    async for chunk in stream:
        data += chunk
    at = data.rindex(b"\x88")
    return int.from_bytes(data[at + 2 : at + 4], "big")
