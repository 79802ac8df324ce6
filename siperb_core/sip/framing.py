"""SIP messages out of a byte stream (RFC 3261 section 18.3, RFC 5626 section 4.4.1)."""

from __future__ import annotations

import re

from siperb_core.sip.errors import ParseError
from siperb_core.sip.parser import MAX_BODY, MAX_HEAD, content_length, salvage

# What `StreamFramer.feed` returns for the double CRLF of a keep-alive ping; the owner of the flow answers b"\r\n".
KEEPALIVE = b"\r\n\r\n"

# The Content-Length line in any spelling, with continuation lines.
_LENGTH_LINE = re.compile(
    rb"\r\n(?:[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-[Ll][Ee][Nn][Gg][Tt][Hh]|[Ll])[ \t]*+:([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)"
)


class StreamFramer:
    """Cuts the octets of one TCP or TLS connection into messages by their Content-Length.

    `max_header` and `max_body` bound what it holds, in octets. After a ParseError the stream cannot be resynchronised:
    the owner answers from `error.message` where there is one, and closes. However the octets are split, the messages
    are the same: those complete before the broken place are returned first, `broken` says at once that no more will
    come, and the next `feed` (of nothing, even) raises.
    """

    def __init__(self, max_header: int = MAX_HEAD, max_body: int = MAX_BODY) -> None:
        self._max_header = max_header
        self._max_body = max_body
        self._buffer = bytearray()
        self._searched = 0
        self._need = 0
        self.broken: ParseError | None = None

    @property
    def pending(self) -> int:
        """Octets held of a message that is not complete yet: 0 between messages."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages these octets complete, each whole, and KEEPALIVE for each ping between them.

        Raises ParseError when the next boundary cannot be known or a limit is exceeded, and from then on always.
        """
        messages: list[bytes] = []
        if self.broken is None:
            self._buffer += data
            try:
                while (message := self._next()) is not None:
                    messages.append(message)
            except ParseError as error:
                self.broken = error
                self._buffer.clear()
        if self.broken is not None and not messages:
            raise self.broken
        return messages

    def _next(self) -> bytes | None:
        buffer = self._buffer
        if not self._need:
            if not self._searched and buffer.startswith((b"\r", b"\n")):
                if buffer[:4] == KEEPALIVE:
                    del buffer[:4]
                    return KEEPALIVE
                # A single CRLF is a pong, or a line too many after a body: skipped once it is clear that it is single.
                if KEEPALIVE.startswith(buffer):
                    return None
                if buffer[:2] != b"\r\n":
                    raise ParseError("Lone CR or LF between messages")
                del buffer[:2]
                return self._next()
            end = buffer.find(KEEPALIVE, max(self._searched - 3, 0))
            if (end if end >= 0 else len(buffer) - 3) > self._max_header:
                raise ParseError("Message Too Large", 513, salvage(_text(bytes(buffer[: self._max_header]))))
            if end < 0:
                self._searched = len(buffer)
                return None
            self._need = end + 4 + self._length(bytes(buffer[:end]))
        if len(buffer) < self._need:
            return None
        message = bytes(buffer[: self._need])
        del buffer[: self._need]
        self._need = self._searched = 0
        return message

    def _length(self, head: bytes) -> int:
        values = _LENGTH_LINE.findall(head)
        try:
            if len(values) > 1:
                raise ParseError("Several Content-Length")
            # A message without one ends with its head (section 20.14 asks for it on streams; user agents that send no
            # body leave it off).
            length = content_length(_text(values[0])) if values else 0
            if length > self._max_body:
                raise ParseError("Request Entity Too Large", 413)
        except ParseError as error:
            error.message = salvage(_text(head))
            raise
        return length


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")
