"""The contract between the core and a transport: how sockets become flows and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import trio

    from siperb_core.entries.model import Listen
    from siperb_core.sip import Flow


class Receiver(Protocol):
    """Where transports deliver. Both methods are synchronous, quick and do not raise."""

    def received(self, data: bytes, flow: Flow) -> None:
        """One whole message as it stood in a datagram, a frame or, framed by Content-Length, on a stream. Keep-alives never arrive here."""

    def closed(self, flow: Flow, reason: str) -> None:
        """A flow has ended, or could not be opened; nothing more arrives from it and nothing can be sent on it."""


class Listener(Protocol):
    """A listening socket."""

    transport: str
    local: tuple[str, int]

    def flow_to(self, host: str, port: int) -> Flow:
        """The flow to an address, from this socket where the transport allows it (UDP), else an open or a new connection.

        Returns at once; what is sent while a connection is being opened is kept, in bounds, and sent when it is up. A connection that
        cannot be opened is reported by `Receiver.closed`. Raises ValueError where the transport cannot open flows (WebSocket).
        """


class TransportType(Protocol):
    """What a plugin gives for one transport (hook `siperb_transports`)."""

    name: str

    async def listen(
        self,
        config: Listen,
        receiver: Receiver,
        *,
        external_address: str | None,
        task_status: trio.TaskStatus[Listener],
    ) -> None:
        """Bind, report the listener by `started`, serve until cancelled. Raises OSError when it cannot bind.

        `external_address` is what Via and Contact should show; None for the outgoing interface's own.
        """
