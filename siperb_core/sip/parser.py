"""Octets to `Message`, in one pass over the header lines (RFC 3261 sections 7 and 18.3).

Refuses what cannot be framed or routed and nothing else; `validate` judges the rest.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import cast

from siperb_core.sip.errors import ParseError
from siperb_core.sip.grammar import (
    ABSOLUTE_URI,
    HEADER_NAME,
    LINE_END,
    REQUEST_LINE,
    SIP_URI,
    STATUS_LINE,
    TEL_URI,
    TOKEN,
    unfold,
)
from siperb_core.sip.message import Message
from siperb_core.sip.registry import KNOWN, canonical
from siperb_core.sip.uri import plain_port

# The largest head (start line and header lines) in octets, and the most header lines.
MAX_HEAD = 64 * 1024
MAX_LINES = 512
# The largest body in octets.
MAX_BODY = 256 * 1024

# Start lines that are remembered, and the longest of them in characters.
_START_LINES = 4096
_LONGEST_REMEMBERED = 200

_known = KNOWN.get
# "Via:" with its colon: a line cut at its first blank is looked up in one go, and has a colon if it is found.
_known_beginning = {f"{spelling}:": name for spelling, name in KNOWN.items()}.get
_SALVAGED = frozenset({"via", "from", "to", "call-id", "cseq"})
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
_WORD = re.compile(rf"[ \t]*+({TOKEN})[ \t]")


def parse(data: bytes) -> Message:
    """Read one whole message: a datagram, a WebSocket message, or what `StreamFramer` cut off a stream.

    CRLFs before the start line are skipped (section 7.5), octets after the body that Content-Length announces are
    dropped (section 18.3). `bytes(parse(data)) == data` for any message without such. Raises ParseError.
    """
    if data[:2] == b"\r\n":
        data = data[cast(re.Match[bytes], _EMPTY_LINES.match(data)).end() :]
    octets, end, body = data.partition(b"\r\n\r\n")
    head = octets.decode("utf-8", "surrogateescape")
    try:
        if len(octets) > MAX_HEAD:
            raise ParseError("Message Too Large", 513)
        if not end:
            raise ParseError("No blank line after the header fields")
        lines = head.split("\r\n")
        if len(lines) > MAX_LINES + 1:
            raise ParseError("Message Too Large", 513)
        # A lone CR or LF is a line break to some and not to others: the way headers are smuggled past a proxy. Looked
        # for in the lines put together, since finding a character is quick and counting it is not (0.3 us against 1.2).
        text = "".join(lines)
        if "\n" in text or "\r" in text:
            raise ParseError("Lone CR or LF in the header fields")
        start = lines.pop(0)
        found = [_known_beginning(line.partition(" ")[0]) for line in lines]
        if None in found:
            if "\r\n " in head or "\r\n\t" in head:
                lines = LINE_END.split(head)
                start = lines.pop(0)
                found = [None] * len(lines)
            names = [name or _name(line) for name, line in zip(found, lines, strict=True)]
        else:
            names = cast(list[str], found)
        if "content-length" in names:
            body = _body(names, lines, body)
        elif len(body) > MAX_BODY:
            raise ParseError("Request Entity Too Large", 413)
        read = _remembered_start if len(start) <= _LONGEST_REMEMBERED else _read_start
        method, uri, status, reason, version = read(start)
        return Message(start, names, lines, body, method, uri, status, reason, version)
    except ParseError as error:
        error.message = salvage(head)
        raise


def _read_start(start: str) -> tuple[str, str, int, str, str]:
    """Method and URI, or status and reason phrase, and the version, as `Message` takes them. Raises ParseError."""
    match = REQUEST_LINE.fullmatch(start)
    if match is not None:
        method, uri, version = match.groups()
        check_request_uri(uri)
        return method, uri, 0, "", version
    match = STATUS_LINE.fullmatch(start)
    if match is None:
        raise ParseError("Bad start line")
    version, status, reason = match.groups()
    return "", "", int(status), reason or "", version


# Status lines, REGISTERs of one domain and calls to one number begin alike: 0.1 us instead of 1.5. What the network can
# make this keep is 4,096 lines of 200 characters.
_remembered_start = lru_cache(maxsize=_START_LINES)(_read_start)


def check_request_uri(uri: str) -> None:
    """Raises ParseError when the text is no URI by the grammar of its scheme."""
    match = SIP_URI.fullmatch(uri)
    if match is not None:
        plain_port(match[5])
        return
    scheme = uri.partition(":")[0].lower()
    grammar = TEL_URI if scheme == "tel" else ABSOLUTE_URI
    if scheme in ("sip", "sips") or grammar.fullmatch(uri) is None:
        raise ParseError("Bad Request-URI")


def _name(line: str) -> str:
    """The canonical name of a header line. Raises ParseError when it has none."""
    written, colon, _ = line.partition(":")
    known = _known(written)
    if known is not None and colon:
        return known
    match = HEADER_NAME.fullmatch(written)
    if match is None or not colon:
        raise ParseError("Bad header line")
    return canonical(match[1])


def _body(names: list[str], lines: list[str], body: bytes) -> bytes:
    place = names.index("content-length")
    if "content-length" in names[place + 1 :]:
        # Two lengths, even equal ones, are two ways to read the rest: RFC 4475 section 3.3.9.
        raise ParseError("Several Content-Length")
    value = lines[place].partition(":")[2]
    # As nearly everybody writes it: compared as text, nothing to convert.
    length = len(body)
    if value != f" {length}":
        length = content_length(value)
    if length == len(body) <= MAX_BODY:
        return body
    if length > MAX_BODY:
        raise ParseError("Request Entity Too Large", 413)
    if length > len(body):
        raise ParseError("Content-Length exceeds the message")
    return body[:length]


def content_length(value: str) -> int:
    """The number in a Content-Length value. Raises ParseError."""
    value = unfold(value)
    if not (value.isascii() and value.isdigit()):
        raise ParseError("Bad Content-Length")
    # Larger than any limit is enough to know; the digits themselves may fill the whole head.
    return int(value) if len(value) <= 10 else int(value.lstrip("0")[:11] or "0")


def salvage(head: str) -> Message | None:
    """As much of a broken request as its answer needs; None for what gets no answer (a response, an ACK, noise)."""
    match = _WORD.match(head)
    if match is None or match[1].upper() in ("ACK", "SIP"):
        return None
    names, lines = [], []
    for line in LINE_END.split(head, MAX_LINES)[1:MAX_LINES]:
        written, colon, value = line.partition(":")
        name = canonical(written.rstrip(" \t"))
        unfolded = value.replace("\r\n", "")
        if colon and name in _SALVAGED and "\n" not in unfolded and "\r" not in unfolded:
            names.append(name)
            lines.append(line)
    if "via" not in names or names.count("cseq") != 1 or names.count("call-id") != 1:
        return None
    return Message(f"{match[1]} ", names, lines, b"", match[1])
