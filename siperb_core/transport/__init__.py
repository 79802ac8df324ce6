"""Flows over UDP, TCP, TLS and WebSocket on trio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siperb_core.transport.udp import UdpTransport

if TYPE_CHECKING:
    from siperb_core.transport.contract import TransportType

TRANSPORTS: tuple[TransportType, ...] = (UdpTransport(),)
"""The core's own transports."""

__all__ = ["TRANSPORTS"]
