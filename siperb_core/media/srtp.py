"""SRTP (RFC 3711) through pylibsrtp's binding: for each packet its `Session` takes twice as long as libsrtp itself.

What is used below pylibsrtp's public names is held by tests/unit/media/test_aiortc_contract.py.
"""

from __future__ import annotations

from typing import Any, Final

from pylibsrtp import ERRORS, SRTP_MAX_TRAILER_LEN, Error, Session
from pylibsrtp._binding import ffi, lib

_protect: Final = lib.srtp_protect
_unprotect: Final = lib.srtp_unprotect


class SrtpSession:
    """One direction of one leg, of a `Session` that is used nowhere else.

    Every method raises `pylibsrtp.Error` where libsrtp refuses (a forged or repeated packet, no RTP at all) and
    ValueError where a packet is too long.
    """

    def __init__(self, session: Session) -> None:
        self.protect_rtcp, self.unprotect_rtcp = session.protect_rtcp, session.unprotect_rtcp
        self._session = session  # libsrtp's memory is given back with it
        self._context: Any = session._srtp[0]
        self._data: Any = session._cdata
        self._room: Any = session._buffer
        self._longest = len(self._room)
        self._size: Any = ffi.new("int *")

    def protect(self, packet: bytes) -> bytes:
        """Encrypt and authenticate an RTP packet."""
        if len(packet) > self._longest - SRTP_MAX_TRAILER_LEN:
            raise ValueError(f"an RTP packet of {len(packet)} octets")
        return self._process(_protect, packet)

    def unprotect(self, packet: bytes) -> bytes:
        """Check an SRTP packet, also that it has not come before, and decrypt it."""
        if len(packet) > self._longest:
            raise ValueError(f"an SRTP packet of {len(packet)} octets")
        return self._process(_unprotect, packet)

    def _process(self, function: Any, packet: bytes) -> bytes:
        room, size = self._room, self._size
        length = len(packet)
        room[:length] = packet
        size[0] = length
        status = function(self._context, self._data, size)
        if status:
            raise Error(ERRORS[status])
        return room[: size[0]]  # type: ignore[no-any-return]
