"""A second SIP parser, naive and complete, written from RFC 3261 section 25.1 character by character: the oracle.

No regular expressions, nothing shared with the product: slow, and plain enough to be read beside the grammar.
It takes and refuses what the product documents to take and refuse; `Refused` is its only exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
TOKEN = LETTERS + DIGITS + "-.!%*_+`'~"
COMPACT = {"v": "via", "f": "from", "t": "to", "i": "call-id", "l": "content-length", "m": "contact"}


class Refused(Exception):
    """Not in the grammar."""


@dataclass
class Address:
    """A name-addr."""

    display: str
    uri: str
    params: list[tuple[str, str | None]]


@dataclass
class Parsed:
    """Everything a message says."""

    method: str = ""
    uri: str = ""
    status: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        """The unfolded values of a header."""
        return [value for key, value in self.fields if key == name]


def read(data: bytes) -> Parsed:
    """A datagram, framed and cut into fields."""
    while data[:1] in (b"\r", b"\n") and data[:2] == b"\r\n":
        data = data[2:]
    end = data.find(b"\r\n\r\n")
    if end < 0:
        raise Refused("no blank line")
    head, body = data[:end].decode("utf-8", "surrogateescape"), data[end + 4 :]
    lines: list[str] = []
    for line in head.split("\r\n"):
        if "\r" in line or "\n" in line:
            raise Refused("lone line break")
        if lines and line[:1] in (" ", "\t"):
            lines[-1] = lines[-1].rstrip(" \t") + " " + line.lstrip(" \t") if len(lines) > 1 else "\0"
        else:
            lines.append(line)
    parsed = Parsed()
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.rstrip(" \t").lower()
        if not colon or not name or any(c not in TOKEN for c in name):
            raise Refused("header line")
        parsed.fields.append((COMPACT.get(name, name), value.strip(" \t")))
    lengths = parsed.all("content-length")
    if len(lengths) > 1:
        raise Refused("lengths")
    if lengths:
        if not lengths[0] or any(c not in DIGITS for c in lengths[0]) or int(lengths[0]) > len(body):
            raise Refused("length")
        body = body[: int(lengths[0])]
    parsed.body = body
    start = lines[0].split(" ")
    if len(start) == 3 and start[0] and all(c in TOKEN for c in start[0]) and start[2].upper() == "SIP/2.0":
        parsed.method, parsed.uri = start[0], start[1]
    elif start[0].upper() == "SIP/2.0" and len(start) > 1 and len(start[1]) == 3 and all(c in DIGITS for c in start[1]):
        parsed.status = int(start[1])
        if not 100 <= parsed.status <= 699:
            raise Refused("status")
    else:
        raise Refused("start line")
    return parsed


class Reader:
    """A cursor over one field value."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        """The next character, '' at the end."""
        return self.text[self.at : self.at + 1]

    def blanks(self) -> int:
        """Skip SWS; how much there was."""
        start = self.at
        while self.peek() and self.peek() in " \t":
            self.at += 1
        return self.at - start

    def take(self, characters: str) -> str:
        """The longest run of these characters."""
        start = self.at
        while self.peek() and self.peek() in characters:
            self.at += 1
        return self.text[start : self.at]

    def until(self, stops: str) -> str:
        """The longest run of visible characters before one of these."""
        start = self.at
        while self.peek() and self.peek() not in stops and self.peek() > " " and self.peek() != "\x7f":
            self.at += 1
        return self.text[start : self.at]

    def quoted(self) -> str:
        """A quoted-string as written."""
        start = self.at
        self.at += 1
        while self.peek() != '"':
            if not self.peek():
                raise Refused("open quote")
            self.at += 2 if self.peek() == "\\" else 1
        self.at += 1
        return self.text[start : self.at]

    def params(self) -> list[tuple[str, str | None]]:
        """*( SEMI generic-param )"""
        found: list[tuple[str, str | None]] = []
        while True:
            back = self.at
            self.blanks()
            if self.peek() != ";":
                self.at = back
                return found
            self.at += 1
            self.blanks()
            name = self.take(TOKEN)
            if not name:
                raise Refused("parameter name")
            value = None
            back = self.at
            self.blanks()
            if self.peek() == "=":
                self.at += 1
                self.blanks()
                value = self.quoted() if self.peek() == '"' else self.until(';,"<>')
                if not value:
                    raise Refused("parameter value")
            else:
                self.at = back
            found.append((name, value))


def unquoted(text: str) -> str:
    """The content of a quoted-string."""
    if not text.startswith('"'):
        return text
    content, escaped = "", False
    for c in text[1:-1]:
        if c == "\\" and not escaped:
            escaped = True
        else:
            content, escaped = content + c, False
    return content


def scheme(text: str) -> str:
    """The scheme of a URI."""
    name, colon, rest = text.partition(":")
    if (
        not colon
        or not rest
        or not name
        or name[0] not in LETTERS
        or any(c not in LETTERS + DIGITS + "+-." for c in name)
    ):
        raise Refused("scheme")
    return name


def address(text: str) -> Address:
    """name-addr or addr-spec with its parameters."""
    reader = Reader(text)
    if reader.peek() == '"':
        display = unquoted(reader.quoted())
        reader.blanks()
        if reader.peek() != "<":
            raise Refused("no address behind the name")
    else:
        bracket = text.find("<")
        display = text[:bracket].rstrip(" \t") if bracket >= 0 else ""
        if bracket >= 0 and all(c in TOKEN or c in " \t" or c >= "\x80" for c in display):
            reader.at = bracket
        else:
            display = ""
    if reader.peek() == "<":
        reader.at += 1
        uri = reader.until('<>"')
        if reader.peek() != ">":
            raise Refused("open bracket")
        reader.at += 1
    else:
        uri = reader.until('<>",;?')
    scheme(uri)
    params = reader.params()
    if reader.peek():
        raise Refused("rest")
    return Address(display, uri, params)


def via(text: str) -> tuple[str, str, int | None, list[tuple[str, str | None]]]:
    """The first via-parm: transport, host as written, port, parameters."""
    reader = Reader(text)
    for part in ("sip", "2.0"):
        if reader.take(LETTERS + DIGITS + ".").lower() != part:
            raise Refused("protocol")
        reader.blanks()
        if reader.peek() != "/":
            raise Refused("protocol")
        reader.at += 1
        reader.blanks()
    transport = reader.take(TOKEN)
    if not transport or not reader.blanks():
        raise Refused("transport")
    if reader.peek() == "[":
        reader.at += 1
        host = f"[{reader.take('0123456789abcdefABCDEF:.')}]"
        if reader.peek() != "]" or ":" not in host:
            raise Refused("host")
        reader.at += 1
    else:
        host = reader.take(LETTERS + DIGITS + "-._")
        if not host:
            raise Refused("host")
    port = None
    back = reader.at
    reader.blanks()
    if reader.peek() == ":":
        reader.at += 1
        reader.blanks()
        digits = reader.take(DIGITS)
        if not 1 <= len(digits) <= 5 or int(digits) > 65535:
            raise Refused("port")
        port = int(digits)
    else:
        reader.at = back
    params = reader.params()
    reader.blanks()
    if reader.peek() not in ("", ","):
        raise Refused("rest")
    return transport, host, port, params


def elements(text: str) -> list[str]:
    """The elements of a comma-separated list."""
    found, current = [], ""
    reader = Reader(text)
    while reader.peek():
        if reader.peek() == '"':
            current += reader.quoted()
        elif reader.peek() == "<":
            end = text.find(">", reader.at)
            if end < 0:
                raise Refused("open bracket")
            current += text[reader.at : end + 1]
            reader.at = end + 1
        elif reader.peek() == ",":
            found.append(current)
            current = ""
            reader.at += 1
        else:
            current += reader.peek()
            reader.at += 1
    return [element.strip(" \t") for element in [*found, current] if element.strip(" \t")]


def cseq(text: str) -> tuple[int, str]:
    """CSeq"""
    reader = Reader(text)
    digits = reader.take(DIGITS)
    gap = reader.blanks()
    method = reader.take(TOKEN)
    if not digits or not gap or not method or reader.peek() or int(digits) >= 2**32:
        raise Refused("cseq")
    return int(digits), method
