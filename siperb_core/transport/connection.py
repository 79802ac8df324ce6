"""One connected socket, plain or TLS: bounded, never waiting where it is written to.

A plain socket with `wait_readable` costs a third of trio's streams, TLS included, and writing needs no task while the
kernel has room. What writes is synchronous; when the kernel's buffer is full a task flushes the rest.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Awaitable, Callable

import trio

READ_SIZE = 16_384
MAX_OUT = 256 * 1024
"""Octets waiting for a peer that does not read; beyond it the connection is given up."""
LINGER_SECONDS = 2.0
USER_TIMEOUT_MS = 30_000

Spawn = Callable[[Callable[[], Awaitable[None]]], None]

_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection:
    """The octets of one connection. What they mean is the business of the class derived from it.

    `end` may be called from anywhere and only closes the socket; the one task that reads sees it, and reports.
    """

    __slots__ = ("_flushed", "_flushing", "_out", "_socket", "_spawn", "ended", "heard", "opened")

    def __init__(self, sock: socket.socket, spawn: Spawn, *, opened: bool) -> None:
        self._socket = sock
        self._spawn = spawn
        self._out = bytearray()
        self._flushing = False
        self._flushed: trio.Event | None = None
        self.opened = opened  # False while connecting or in a TLS handshake: what is written waits
        self.ended: str | None = None
        self.heard = trio.current_time()

    def write(self, data: bytes) -> None:
        """Send, or keep in bounds until the peer takes it. Raises OSError when the connection has ended or the bound is
        exceeded.
        """
        if self.ended is not None:
            raise BrokenPipeError(errno.EPIPE, self.ended)
        sent = 0
        if self.opened and not self._out:
            try:
                sent = self._socket.send(data)
            except _AGAIN:
                pass
            except OSError as error:
                self.end(reason_of(error))
                raise
            if sent == len(data):
                return
        if len(self._out) + len(data) - sent > MAX_OUT:
            self.end("the peer does not read what it is sent")
            raise OSError(errno.ENOBUFS, self.ended)
        # Appended only: OpenSSL wants to see the same octets again when it could not send them.
        self._out += data[sent:] if sent else data
        self.flush_soon()

    def flush_soon(self) -> None:
        """Start the task that sends what is kept, unless it runs already."""
        if self._out and self.opened and not self._flushing and self.ended is None:
            self._flushing = True
            self._spawn(self._flush)

    async def _flush(self) -> None:
        try:
            while self._out and self.ended is None:
                await trio.lowlevel.wait_writable(self._socket)
                try:
                    sent = self._socket.send(self._out)
                except ssl.SSLWantReadError:
                    await trio.sleep(0.05)  # a key update of the peer has to be read first, which the reader does
                except _AGAIN:
                    pass
                else:
                    del self._out[:sent]
        except trio.ClosedResourceError:
            pass
        except OSError as error:
            self.end(reason_of(error))
        finally:
            self._flushing = False
            if self._flushed is not None:
                self._flushed.set()

    async def read(self) -> bytes:
        """The next octets, b"" at the end of the stream. Raises OSError; trio.ClosedResourceError once `end` was
        called.
        """
        sock = self._socket
        while True:
            if self.ended is not None:
                raise trio.ClosedResourceError(self.ended)
            if isinstance(sock, ssl.SSLSocket) and sock.pending():
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(sock)
            try:
                data = sock.recv(READ_SIZE)
            except ssl.SSLWantWriteError:
                await trio.sleep(
                    0.05
                )  # our answer to a key update does not fit now; the flushing task may own wait_writable
            except _AGAIN:
                pass
            else:
                self.heard = trio.current_time()
                return data

    async def secure(self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None) -> None:
        """Do the TLS handshake. Raises OSError (ssl.SSLError is one)."""
        sock = context.wrap_socket(
            self._socket, server_side=server_side, do_handshake_on_connect=False, server_hostname=server_name
        )
        self._socket = sock
        while True:
            try:
                sock.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(sock)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(sock)
            else:
                return

    async def linger(self) -> None:
        """Let the peer have the last octets written: closing at once, with octets of its own unread, would reset them
        away.
        """
        with trio.move_on_after(LINGER_SECONDS):
            try:
                if self._flushing:
                    self._flushed = trio.Event()
                    await self._flushed.wait()
                if isinstance(self._socket, ssl.SSLSocket):
                    try:
                        self._socket.unwrap()  # sends close_notify; the peer's is not waited for
                    except (*_AGAIN, ssl.SSLError, ValueError):
                        pass
                self._socket.shutdown(socket.SHUT_WR)
                for _ in range(64):
                    await trio.lowlevel.wait_readable(self._socket)
                    if not socket.socket.recv(self._socket, READ_SIZE):
                        break
            except (OSError, ValueError, trio.ClosedResourceError):
                pass

    def end(self, reason: str) -> None:
        """Close the socket; the first reason stays."""
        if self.ended is None:
            self.ended = reason
            self._out.clear()
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


def tune(sock: socket.socket) -> None:
    """Set what every connection of ours has: no Nagle, and a dead peer noticed within minutes, in seconds when it is
    written to.
    """
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS),
    ):
        sock.setsockopt(level, option, value)


def reason_of(error: OSError) -> str:
    """The error in words for a log or a diagnosis."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    return error.strerror or str(error)
