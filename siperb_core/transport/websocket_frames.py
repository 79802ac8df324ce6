"""The frames of a WebSocket, the server's side (RFC 6455 section 5), without a socket and without extensions."""

from __future__ import annotations

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
OVERSIZED = -1
"""What `FrameReader` gives for a message that was longer than it keeps, with its beginning."""

# RFC 6455 section 7.4.1
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
NOT_UTF8 = 1007
POLICY_VIOLATION = 1008
TOO_BIG = 1009
TRY_LATER = 1013  # of IANA's registry

MAX_FRAGMENTS = 512
"""Of one message. Each costs a frame's work, the empty ones as well; browsers send no fragments at all."""
MAX_DISCARDED = 1 << 20
"""Octets of a message of which only the beginning is kept; one that is longer ends the connection."""

_MAX_CONTROL = 125


class FrameError(Exception):
    """What the client sent is against the protocol; the connection is to be closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameReader:
    """Octets to messages. What a frame's header promises is checked before any of it is kept, so no more than
    `max_message` and a read is held: of a longer message the rest is discarded as it comes.
    """

    __slots__ = ("_buffer", "_final", "_max_message", "_opcode", "_oversized", "_parts", "_size", "_skip", "frames")

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._buffer = b""
        self._opcode = CONTINUATION  # of the message begun; CONTINUATION between messages
        self._parts: list[bytes] = []
        self._size = 0  # of the message so far, what was discarded included
        self._oversized = False
        self._skip = 0  # octets of the frame being read that are still to come, and to be discarded
        self._final = False  # whether that frame is the last of its message
        self.frames = 0
        """Whole frames seen so far: what a rate is measured in."""

    def feed(self, data: bytes) -> None:
        """Take octets of the connection."""
        self._buffer = self._buffer + data if self._buffer else data

    def next_frame(self) -> tuple[int, bytes] | None:
        """Opcode and payload of the next whole message or control frame; CONTINUATION, b"" for a fragment that is not
        the last; OVERSIZED and its first `max_message` octets for a message that was longer.

        None when more octets are needed. Raises FrameError.
        """
        if self._skip:
            return self._discard()
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        opcode, final = buffer[0] & 0x0F, buffer[0] & 0x80
        length = buffer[1] & 0x7F
        self._check(buffer[0], buffer[1], opcode, length)
        start = 2
        if length > _MAX_CONTROL:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
            if length < (126 if start == 4 else 65_536):
                raise FrameError(PROTOCOL_ERROR, "length not in its shortest form")
        if opcode < CLOSE and self._size + length > self._max_message:
            return self._begin_discarding(start, length, final=bool(final))
        end = start + 4 + length
        if len(buffer) < end:
            return None
        payload = _unmask(buffer[start + 4 : end], buffer[start : start + 4])
        self._buffer = buffer[end:]
        self.frames += 1
        if opcode >= CLOSE:
            if opcode == CLOSE:
                _check_close(payload)
            return opcode, payload
        if final and not self._parts:
            return self._whole(opcode, payload)
        self._opcode = opcode or self._opcode
        self._add(payload)
        self._size += length
        return self._end_of_message() if final else (CONTINUATION, b"")

    def _add(self, payload: bytes) -> None:
        if len(self._parts) >= MAX_FRAGMENTS:
            raise FrameError(POLICY_VIOLATION, "too many fragments")
        self._parts.append(payload)

    def _begin_discarding(self, start: int, length: int, *, final: bool) -> tuple[int, bytes] | None:
        """The message gets too long with this frame: what still fits is kept."""
        if self._size + length > MAX_DISCARDED:
            raise FrameError(TOO_BIG, "message too big")
        buffer = self._buffer
        keep = max(0, self._max_message - self._size)
        end = start + 4 + keep
        if len(buffer) < end:
            return None
        self._add(_unmask(buffer[start + 4 : end], buffer[start : start + 4]))
        self._buffer = buffer[end:]
        self._size += length
        self._skip = length - keep
        self._oversized, self._final = True, final
        return self._discard()

    def _discard(self) -> tuple[int, bytes] | None:
        gone = min(self._skip, len(self._buffer))
        self._buffer = self._buffer[gone:]
        self._skip -= gone
        if self._skip:
            return None
        self.frames += 1
        return self._end_of_message() if self._final else (CONTINUATION, b"")

    def _end_of_message(self) -> tuple[int, bytes]:
        opcode, payload, oversized = self._opcode, b"".join(self._parts), self._oversized
        self._opcode, self._parts, self._size, self._oversized = CONTINUATION, [], 0, False
        return (OVERSIZED, payload) if oversized else self._whole(opcode, payload)

    def _check(self, first: int, second: int, opcode: int, length: int) -> None:
        if first & 0x70:
            raise FrameError(PROTOCOL_ERROR, "reserved bits are set")
        if not second & 0x80:
            raise FrameError(PROTOCOL_ERROR, "frame is not masked")
        if opcode >= CLOSE:
            if opcode > PONG or length > _MAX_CONTROL or not first & 0x80:
                raise FrameError(PROTOCOL_ERROR, "bad control frame")
        elif opcode > BINARY:
            raise FrameError(PROTOCOL_ERROR, "unknown opcode")
        elif bool(opcode) == bool(self._parts):
            raise FrameError(PROTOCOL_ERROR, "fragments out of order")

    def _whole(self, opcode: int, payload: bytes) -> tuple[int, bytes]:
        if opcode == TEXT and not _is_utf8(payload):
            raise FrameError(NOT_UTF8, "text is not UTF-8")
        return opcode, payload


def frame(opcode: int, payload: bytes) -> bytes:
    """One final frame of a server, not masked."""
    length = len(payload)
    if length <= _MAX_CONTROL:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65_536:
        return bytes((0x80 | opcode, 126, length >> 8, length & 0xFF)) + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8, "big") + payload


def message_frame(message: bytes) -> bytes:
    """A message in one frame: text, as softphones expect it, or binary where it is not UTF-8 (RFC 7118 section 5)."""
    return frame(TEXT if _is_utf8(message) else BINARY, message)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to what a control frame holds."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason.encode("ascii", "replace")[: _MAX_CONTROL - 2])


def _unmask(payload: bytes, mask: bytes) -> bytes:
    # One XOR of two big integers: 50 times as fast as a loop over octets.
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(length, "little")


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_close(payload: bytes) -> None:
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise FrameError(PROTOCOL_ERROR, "bad close code")
    if not _is_utf8(payload[2:]):
        raise FrameError(NOT_UTF8, "close reason is not UTF-8")
