"""Octets to `Message`, in one pass over the header lines (RFC 3261 sections 7 and 18.3).

Refuses what cannot be framed or routed and nothing else; `validate` judges the rest.
"""

from __future__ import annotations

import re

from siperb_core.sip.errors import ParseError
from siperb_core.sip.grammar import (
    ABSOLUTE_URI,
    CONTENT_LENGTH,
    HEADER_NAME,
    LINE_END,
    REQUEST_LINE,
    SIP_URI,
    STATUS_LINE,
    TEL_URI,
)
from siperb_core.sip.message import Message
from siperb_core.sip.registry import COMPACT, KNOWN_OCTETS, METHODS

# The largest head (start line and header lines) in octets, and the most header lines.
MAX_HEAD = 64 * 1024
MAX_LINES = 512
# The largest body in octets.
MAX_BODY = 256 * 1024

_known = KNOWN_OCTETS.get
_METHODS = {name.encode(): name for name in METHODS}
_SALVAGED = frozenset({"via", "from", "to", "call-id", "cseq"})
_WORD = re.compile(rb"\s*+([A-Za-z0-9\-.!%*_+`'~]++)[ \t]")


def parse(data: bytes) -> Message:
    """Read one whole message: a datagram, a WebSocket message, or what `StreamFramer` cut off a stream.

    CRLFs before the start line are skipped (section 7.5), octets after the body that Content-Length announces are
    dropped (section 18.3). `bytes(parse(data)) == data` for any message without such. Raises ParseError.
    """
    if data[:2] == b"\r\n":
        data = data.lstrip(b"\r\n")
    head, end, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n") if b"\r\n " not in head and b"\r\n\t" not in head else LINE_END.split(head)
    try:
        if len(head) > MAX_HEAD or len(lines) > MAX_LINES:
            raise ParseError("Message Too Large", 513)
        if not end:
            raise ParseError("No blank line after the header fields")
        breaks = head.count(b"\r\n")
        if head.count(b"\n") != breaks or head.count(b"\r") != breaks:
            # A lone CR or LF is a line break to some and not to others: the way headers are smuggled past a proxy.
            raise ParseError("Lone CR or LF in the header fields")
        start = lines.pop(0)
        names = [_known(line.partition(b":")[0]) or _name(line) for line in lines]
        if "content-length" in names:
            body = _body(names, lines, body)
        elif len(body) > MAX_BODY:
            raise ParseError("Request Entity Too Large", 413)
        return _message(start, names, lines, body)
    except ParseError as error:
        error.message = salvage(head)
        raise


def _message(start: bytes, names: list[str], lines: list[bytes], body: bytes) -> Message:
    match = REQUEST_LINE.fullmatch(start)
    if match is not None:
        octets, uri_octets, version = match.groups()
        uri = uri_octets.decode("ascii")
        check_request_uri(uri)
        method = _METHODS.get(octets) or octets.decode("ascii")
        return Message(start, names, lines, body, method=method, uri=uri, version=version.decode("ascii"))
    match = STATUS_LINE.fullmatch(start)
    if match is None:
        raise ParseError("Bad start line")
    reason = (match[3] or b"").decode("utf-8", "surrogateescape")
    return Message(start, names, lines, body, status=int(match[2]), reason=reason, version=match[1].decode("ascii"))


def check_request_uri(uri: str) -> None:
    """Raises ParseError when the text is no URI by the grammar of its scheme."""
    match = SIP_URI.fullmatch(uri)
    if match is not None:
        port = match[5]
        if port is not None and int(port) > 65535:
            raise ParseError("Port out of range")
        return
    scheme = uri.partition(":")[0].lower()
    grammar = TEL_URI if scheme == "tel" else ABSOLUTE_URI
    if scheme in ("sip", "sips") or grammar.fullmatch(uri) is None:
        raise ParseError("Bad Request-URI")


def _name(line: bytes) -> str:
    """The canonical name of a header line whose spelling is not among the known. Raises ParseError."""
    octets, colon, _ = line.partition(b":")
    match = HEADER_NAME.fullmatch(octets)
    if match is None or not colon:
        raise ParseError("Bad header line")
    known = _known(match[1])
    if known is None:
        name = match[1].decode("ascii").lower()
        known = COMPACT.get(name) or _known(name.encode()) or name
    return known


def _body(names: list[str], lines: list[bytes], body: bytes) -> bytes:
    if names.count("content-length") > 1:
        # Two lengths, even equal ones, are two ways to read the rest: RFC 4475 section 3.3.9.
        raise ParseError("Several Content-Length")
    length = content_length(lines[names.index("content-length")].partition(b":")[2])
    if length > MAX_BODY:
        raise ParseError("Request Entity Too Large", 413)
    if length == len(body):
        return body
    if length > len(body):
        raise ParseError("Content-Length exceeds the message")
    return body[:length]


def content_length(value: bytes) -> int:
    """The number in a Content-Length value. Raises ParseError."""
    match = CONTENT_LENGTH.fullmatch(value)
    if match is None:
        match = CONTENT_LENGTH.fullmatch(value.replace(b"\r\n", b""))
    if match is None:
        raise ParseError("Bad Content-Length")
    return int(match[1])


def salvage(head: bytes) -> Message | None:
    """As much of a broken request as its answer needs; None for what gets no answer (a response, an ACK, noise)."""
    match = _WORD.match(head[:256])
    if match is None or match[1].upper() in (b"ACK", b"SIP"):
        return None
    names, lines = [], []
    for line in LINE_END.split(head[:MAX_HEAD])[1 : MAX_LINES + 1]:
        octets, _, value = line.partition(b":")
        name = _known(octets.strip(b" \t")) or _known(octets.strip(b" \t").lower())
        if name in _SALVAGED and b"\n" not in value.replace(b"\r\n", b"") and b"\r" not in value.replace(b"\r\n", b""):
            names.append(name)
            lines.append(line)
    if "via" not in names or names.count("cseq") != 1 or names.count("call-id") != 1:
        return None
    return Message(match[1] + b" ", names, lines, b"", method=match[1].decode("ascii"))
