"""The contract between the core and a transport: how sockets become flows and messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import attrs

if TYPE_CHECKING:
    import trio

    from siperb_core.entries.model import Listen
    from siperb_core.sip import Flow


@attrs.frozen
class TlsOptions:
    """How a TLS connection that we open is to be secured. Connections are shared only where these are equal.

    `server_name` is the name the certificate must be for (RFC 5922 section 7) and is sent as SNI; empty for the address
    that is dialled.
    `ca` is a file of trusted certificates, empty for the system's. `verify=False` accepts any certificate.
    """

    server_name: str = ""
    ca: str = ""
    verify: bool = True


class Receiver(Protocol):
    """Where transports deliver. Both methods are synchronous, quick and do not raise."""

    def received(self, data: bytes, flow: Flow) -> None:
        """One whole message as it stood in a datagram, a frame or, framed by Content-Length, on a stream. Keep-alives
        never arrive here.
        """

    def closed(self, flow: Flow, reason: str) -> None:
        """A flow has ended, or could not be opened; nothing more arrives from it and nothing can be sent on it."""


@runtime_checkable
class Doorkeeper(Protocol):
    """A receiver that knows who is who may have these as well. Both are quick and do not raise."""

    def knows(self, flow: Flow) -> bool:
        """Whether the other end of an accepted connection is known by its address: a PBX's, say."""

    def nuisance(self, what: str, event: str, source: str, **details: object) -> None:
        """A stranger did what he can do as often as he likes: counted under `what`, logged once in a while."""


def vouch(flow: Flow) -> None:
    """Say of any flow that its other end has proved who it is: an accepted connection, which is a stranger's until
    then, may stay and counts among our peers. That of UDP matters to nobody.
    """
    own = getattr(flow, "vouch", None)  # not by `isinstance`: that takes 30 us for a protocol
    if own is not None:
        own()


@runtime_checkable
class SaysGoodbye(Protocol):
    """A flow whose other end can be told that it is about to be closed, and why: a WebSocket."""

    def say_goodbye(self, code: int, reason: str) -> None:
        """Send the close frame (RFC 6455 section 7.4), if it can be sent at once."""


class Listener(Protocol):
    """A listening socket."""

    transport: str
    local: tuple[str, int]

    def flow_to(self, host: str, port: int, tls: TlsOptions | None = None) -> Flow:
        """The flow to an address, from this socket where the transport allows it (UDP), else an open or a new
        connection.

        Returns at once; what is sent while a connection is being opened is kept, in bounds, and sent when it is up. A
        connection that
        cannot be opened is reported by `Receiver.closed`. `host` is a literal address; names go through the resolver
        first. `tls` matters to
        TLS alone. Raises ValueError where the transport cannot open flows (WebSocket), where `host` is a name or of the
        other address family.
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
