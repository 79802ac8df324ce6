"""SIP over WebSocket for softphones (RFC 7118): ws, and wss on TLS."""

from __future__ import annotations

import contextlib
import errno
import math
import socket
import ssl
from typing import TYPE_CHECKING

import structlog
import trio

from siperb_core.sip import ParseError, response_to
from siperb_core.sip.parser import salvage
from siperb_core.transport.accepting import accept
from siperb_core.transport.address import bind
from siperb_core.transport.connection import reason_of
from siperb_core.transport.connections import SWEEP_SECONDS, ConnectionFlow, ConnectionListener
from siperb_core.transport.door import NOT_SIGNED_IN, TRY_AGAIN_LATER, Door
from siperb_core.transport.tls import ServerCertificate
from siperb_core.transport.websocket_frames import (
    CLOSE,
    CONTINUATION,
    GOING_AWAY,
    OVERSIZED,
    PING,
    POLICY_VIOLATION,
    PONG,
    TOO_BIG,
    TRY_LATER,
    FrameError,
    FrameReader,
    close_frame,
    frame,
    message_frame,
)
from siperb_core.transport.websocket_handshake import Handshake, Refused, refusal

if TYPE_CHECKING:
    from siperb_core.entries.model import Listen
    from siperb_core.sip import Flow
    from siperb_core.transport.contract import Receiver, TlsOptions

HANDSHAKE_SECONDS = 5.0
MAX_MESSAGE = 64 * 1024
"""A longer one is answered 413 where its head can be read."""
MAX_CONNECTIONS = 20_000
"""Of softphones that have signed in."""
MAX_STRANGERS = 8_192
"""Of those that have not: 10,000 phones that come back at once are on their way in at the same moment."""
PING_SECONDS = 25.0
"""Silence after which the client is asked whether it is there; a browser that was closed or lost its network says
nothing.
"""
PONG_SECONDS = 20.0
ANSWER_SECONDS = 10.0
"""As PONG_SECONDS, for a client that is owed a message: a call must not ring for long at one that is gone."""

_BLANK = b" \r\n\t\0"

log = structlog.get_logger(__name__)


class WebSocketFlow(ConnectionFlow):
    """One softphone's WebSocket. A flow is equal to itself alone."""

    __slots__ = ("_asked", "_closing", "_frames", "_ready_at", "_sent")

    _listener: WebSocketListener

    def __init__(self, listener: WebSocketListener, sock: socket.socket) -> None:
        super().__init__(listener, sock, local=sock.getsockname()[:2], remote=sock.getpeername()[:2], opened=True)
        self._frames: FrameReader | None = None  # None until the handshake is done
        self._closing = False
        self._asked = -math.inf  # when it was last pinged
        self._sent = -math.inf  # when the first message went out that nothing was heard after
        self._ready_at = math.inf  # when the handshake was done

    def send(self, data: bytes) -> None:
        """Send one SIP message as one frame: text, or binary where it is not UTF-8. Raises OSError when the socket is
        dead.
        """
        if self._frames is None or self._closing:
            raise BrokenPipeError(
                errno.EPIPE, "the WebSocket is closing" if self._closing else "the WebSocket is not open"
            )
        self.write(message_frame(data))
        if self._sent < self.heard:
            self._sent = trio.current_time()

    async def open(self) -> bool:
        """Do the handshakes; False where the client was refused or gave up. Raises OSError, trio.TooSlowError."""
        listener = self._listener
        handshake = Handshake(listener.path, listener.origins, self.remote, listener.proxies)
        with trio.fail_after(HANDSHAKE_SECONDS):
            if listener.certificate is not None:
                await self.secure(listener.certificate.context(), server_side=True)
            try:
                while data := await self.read():
                    if (accepted := handshake.feed(data)) is not None:
                        if handshake.client != self.remote:
                            self.remote = handshake.client
                            self._listener.door.moved(self)
                        self.write(accepted.response)
                        self._frames = FrameReader(MAX_MESSAGE)
                        self._frames.feed(accepted.trailing)
                        self._ready_at = trio.current_time()
                        return True
                return False
            except Refused as refused:
                self.remote = handshake.client
                self.write(refusal(refused))
                self._note("handshake", "websocket.refused", status=refused.status, reason=refused.why)
        await self.linger()
        return False

    async def run(self, receiver: Receiver) -> str:
        """Deliver messages until the end; the reason."""
        assert self._frames is not None
        frames = self._frames
        while True:
            try:
                while (got := frames.next_frame()) is not None:
                    opcode, payload = got
                    if not self._rate.allows(self.heard):
                        raise FrameError(POLICY_VIOLATION, "too many messages")
                    if opcode == PING:
                        self.write(frame(PONG, payload))
                    elif opcode == CLOSE:
                        if not self._closing:
                            self._closing = True
                            self.write(frame(CLOSE, payload[:2]))
                        await self.linger()
                        return f"closed by the client ({int.from_bytes(payload[:2], 'big') or 1005})"
                    elif opcode == OVERSIZED:
                        self._refuse(payload)
                    elif opcode not in (CONTINUATION, PONG):
                        self._heard(payload, receiver)
            except FrameError as error:
                self._note("frames", "websocket.closed", code=error.code, reason=error.reason)
                self.say_goodbye(error.code, error.reason)
                await self.linger()
                return error.reason
            data = await self.read()
            if not data:
                return "connection lost"
            frames.feed(data)

    def _heard(self, data: bytes, receiver: Receiver) -> None:
        if data[:1] in (b"\r", b"\n", b" ", b"\0", b""):
            stripped = data.lstrip(_BLANK)
            if not stripped:
                if data == b"\r\n\r\n":
                    self.send(b"\r\n")  # RFC 7118 section 6, RFC 5626 section 3.5.1
                return
            data = stripped
        self.deliver(data, receiver)

    def _refuse(self, data: bytes) -> None:
        """Answer a message of which only the beginning was kept (RFC 3261 section 21.4.11). Raises FrameError where it
        was not SIP: what cannot be answered there is no use in going on with.
        """
        head, complete, _ = data.lstrip(_BLANK).partition(b"\r\n\r\n")
        text = head.decode("utf-8", "surrogateescape")
        request = salvage(text)
        if request is None and not text.startswith(("SIP/2.0 ", "ACK ")):
            raise FrameError(TOO_BIG, "message too big")
        status, reason = (413, "Request Entity Too Large") if complete else (513, "Message Too Large")
        self._note("oversized", "websocket.oversized", status=status)
        if request is not None:
            with contextlib.suppress(ParseError):
                self.send(bytes(response_to(request, status, reason)))

    def _note(self, what: str, event: str, **details: object) -> None:
        self._listener.door.note(what, event, self.remote[0], **details)

    def dismiss(self, reason: str) -> None:
        """Close it at once, and say why."""
        self.say_goodbye(TRY_LATER if reason == TRY_AGAIN_LATER else POLICY_VIOLATION, reason)
        self.end(reason)

    def say_goodbye(self, code: int, reason: str) -> None:
        """Send the close frame, if it can be sent at once."""
        if self._frames is not None and not self._closing:
            self._closing = True
            with contextlib.suppress(OSError):
                self.write(close_frame(code, reason))

    def sweep(self, now: float) -> None:
        """Called every few seconds: asks a silent client whether it is there, and ends it when it does not answer."""
        if self._frames is None:
            return
        if self._listener.door.overdue(self, self._ready_at, now):
            self.dismiss(NOT_SIGNED_IN)
            return
        silent = now - self.heard
        unanswered = now - self._sent if self._sent >= self.heard else 0.0
        if self._asked <= self.heard:
            if silent >= PING_SECONDS or unanswered >= SWEEP_SECONDS:
                self._asked = now
                with contextlib.suppress(OSError):
                    self.write(frame(PING, b""))
        elif now - self._asked >= (ANSWER_SECONDS if unanswered else PONG_SECONDS):
            self.end("no answer to a ping")


class WebSocketListener(ConnectionListener[WebSocketFlow]):
    """A listening socket for softphones."""

    def __init__(
        self,
        transport: str,
        sock: socket.socket,
        config: Listen,
        receiver: Receiver,
        external_address: str | None,
        certificate: ServerCertificate | None,
        nursery: trio.Nursery,
    ) -> None:
        door = Door(receiver, most_known=MAX_CONNECTIONS, most_strangers=MAX_STRANGERS, proxies=config.trusted_proxies)
        super().__init__(transport, sock, receiver, external_address, certificate, nursery, door)
        self.path = config.path
        self.origins = config.origins
        self.proxies = config.trusted_proxies

    def flow_to(self, host: str, port: int, tls: TlsOptions | None = None) -> Flow:
        """Raises ValueError: it is always the softphone that connects."""
        raise ValueError(f"a WebSocket to {host} cannot be opened: softphones connect to the gateway")

    def accepted(self, sock: socket.socket) -> WebSocketFlow:
        """The flow of a connection just accepted. Raises OSError where it is gone already."""
        return WebSocketFlow(self, sock)

    async def serve(self, flow: WebSocketFlow) -> None:
        """One client, from its handshake to its end. Nothing it does gets out of here."""
        opened = False
        reason = "the listener was stopped"
        try:
            opened = await flow.open()
            if opened:
                reason = await flow.run(self._receiver)
        except trio.Cancelled:
            flow.say_goodbye(GOING_AWAY, reason)
            raise
        except trio.TooSlowError:
            self.door.note("handshake", "websocket.handshake_timeout", flow.remote[0])
        except OSError as error:
            reason = flow.ended or reason_of(error)
            if not opened and isinstance(error, ssl.SSLError):
                self.door.note("handshake", "tls.handshake_failed", flow.remote[0], reason=reason)
        except trio.ClosedResourceError:
            reason = flow.ended or ""
        except Exception:
            log.exception("transport.connection_failed", transport=self.transport, source=flow.remote[0])
            reason = "internal error"
        finally:
            self.gone(flow, reason, known=opened)


class WebSocketTransport:
    """The transports `ws` and `wss`."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def listen(
        self,
        config: Listen,
        receiver: Receiver,
        *,
        external_address: str | None,
        task_status: trio.TaskStatus[WebSocketListener],
    ) -> None:
        """Bind, report the listener, serve until cancelled. Raises OSError when it cannot bind or cannot use its
        certificate.
        """
        certificate = ServerCertificate(config.certificate, config.key) if self.name == "wss" else None
        with bind(config.bind, socket.SOCK_STREAM) as sock:
            async with trio.open_nursery() as nursery:
                listener = WebSocketListener(self.name, sock, config, receiver, external_address, certificate, nursery)
                nursery.start_soon(listener.sweep)
                nursery.start_soon(accept, sock, listener.admit)
                task_status.started(listener)
                await trio.sleep_forever()
