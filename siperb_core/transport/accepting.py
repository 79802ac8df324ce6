"""Accepting connections: one loop a listening socket, which nothing a client does can end."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import structlog
import trio

from siperb_core.transport.connection import tune

BACKLOG = 4096
"""The kernel clips it to net.core.somaxconn: 10,000 phones that reconnect at once must not meet SYN drops."""
PAUSE_SECONDS = 0.2
_OVERLOADED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
# The connection died before it was accepted (accept(2)); the socket that listens is well.
_STILLBORN = {
    errno.ECONNABORTED,
    errno.EPERM,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
}

log = structlog.get_logger(__name__)


async def accept(sock: socket.socket, admit: Callable[[socket.socket], None]) -> None:
    """Accept until cancelled. `admit` owns what it is given and must not raise. Raises OSError when the socket itself
    is broken.
    """
    sock.listen(BACKLOG)
    while True:
        await trio.lowlevel.wait_readable(sock)
        for _ in range(64):
            try:
                connected, _ = sock.accept()
                connected.setblocking(False)
                tune(connected)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _OVERLOADED:
                    # No descriptor left: those who wait are served when others have gone.
                    log.error("transport.accept_failed", error=error.strerror)
                    await trio.sleep(PAUSE_SECONDS)
                elif error.errno not in _STILLBORN and error.errno != errno.EINVAL:
                    raise
            else:
                admit(connected)
