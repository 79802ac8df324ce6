"""Flows over UDP, TCP, TLS and WebSocket on trio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siperb_core.transport.stream import StreamTransport
from siperb_core.transport.udp import UdpTransport
from siperb_core.transport.websocket import WebSocketTransport

if TYPE_CHECKING:
    from siperb_core.transport.contract import TransportType

TRANSPORTS: tuple[TransportType, ...] = (
    UdpTransport(),
    StreamTransport("tcp"),
    StreamTransport("tls"),
    WebSocketTransport("ws"),
    WebSocketTransport("wss"),
)
"""The core's own transports."""

__all__ = ["TRANSPORTS"]
