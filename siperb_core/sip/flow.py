"""What the protocol core knows of a flow: the path a message came in on or goes out by (RFC 5626 section 3.1).

The sockets behind it live in `siperb_core.transport`; nothing here opens, reads or waits.
"""

from __future__ import annotations

from typing import Protocol


class Flow(Protocol):
    """One path to one peer: a UDP local/remote address pair, a TCP or TLS connection, a WebSocket.

    Two flows are equal when a message sent on either takes the same path; flows are hashable.
    """

    @property
    def transport(self) -> str:
        """`udp`, `tcp`, `tls`, `ws` or `wss`."""

    @property
    def reliable(self) -> bool:
        """False for UDP only: whether the transaction layer leaves retransmission to the transport."""

    @property
    def remote(self) -> tuple[str, int]:
        """Address and port of the peer, the address as text."""

    @property
    def local(self) -> tuple[str, int]:
        """Address and port on our side, the address as text."""

    @property
    def sent_by(self) -> str:
        """Our `host:port` as the peer should see it: what goes into Via and, with a user part, into Contact."""

    def send(self, data: bytes) -> None:
        """Hand over one whole SIP message, never waiting. Raises OSError when the flow is known to be dead."""
