"""Session descriptions as text: a strict, bounded parser (RFC 4566) in front of everything else.

Strict about structure, because what comes in decides where packets go; tolerant where real devices are careless: lines
may end in LF alone, blank lines may follow the last one, `s=`, `t=` and unknown attributes are not looked at.

Bounds, each far above what browsers send (a Chrome offer with video: 8 kB, 3 media sections, 160 attributes in one):
64 KiB, 2,000 lines, 64 media sections, 512 attributes a section, 128 formats a section.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

MAX_SIZE: Final = 65536
MAX_LINES: Final = 2000
MAX_MEDIA: Final = 64
MAX_ATTRIBUTES: Final = 512
MAX_FORMATS: Final = 128

_REASONS: Final = {400: "Bad Request", 488: "Not Acceptable Here", 491: "Request Pending"}
_TOKEN: Final = re.compile(r"[!#-'*+\-./0-9A-Z^-~]{1,64}")  # RFC 4566 token, and the slash of a protocol
_UNQUOTABLE: Final = re.compile(r"[^ !#-\[\]-~]")
_CONTROL: Final = bytes(set(range(32)) - set(b"\t\n\r") | {127})


class SdpError(Exception):
    """The other side's description cannot be used.

    `status` and `reason` are the SIP answer it is owed (400 not SDP at all, 488 nothing we can bridge, 491 another
    offer is under way); `warning_code` and `warning` go into a Warning header (RFC 3261 section 20.43) and tell people
    what is wrong.
    """

    def __init__(self, warning: str, *, status: int = 488, warning_code: int = 399) -> None:
        # It may quote the other side: nothing that could leave a quoted-string, and not without end.
        self.warning = _UNQUOTABLE.sub("?", warning)[:400]
        super().__init__(self.warning)
        self.status = status
        self.reason = _REASONS[status]
        self.warning_code = warning_code


@attrs.frozen(kw_only=True)
class Attributes:
    """The a= lines of the session or of one media section."""

    attributes: tuple[tuple[str, str], ...]  # names as written; a property has the value ""
    _first: dict[str, str] = attrs.field(init=False, repr=False, eq=False)

    @_first.default
    def _index(self) -> dict[str, str]:
        return dict(reversed(self.attributes))

    def get(self, name: str) -> str | None:
        """The first value of an attribute; None where it is missing."""
        return self._first.get(name)

    def get_all(self, name: str) -> list[str]:
        """All values of an attribute, in order."""
        return [value for key, value in self.attributes if key == name]


@attrs.frozen(kw_only=True)
class Media(Attributes):
    """One media section, `m=` and what follows it."""

    kind: str
    port: int
    proto: str
    formats: tuple[str, ...]
    connection: str | None  # address of its c= line, as written

    @property
    def mid(self) -> str:
        """Its identification (RFC 5888), "" where it has none."""
        return self.get("mid") or ""

    @property
    def disabled(self) -> bool:
        """Port 0 ends a stream (RFC 3264 section 6), unless a bundle gives its port (RFC 8843 section 6)."""
        return self.port == 0 and self.get("bundle-only") is None


@attrs.frozen(kw_only=True)
class SessionDescription(Attributes):
    """A parsed description."""

    connection: str | None  # address of the session's c= line, as written
    media: tuple[Media, ...]

    def connection_of(self, media: Media) -> str | None:
        """The address a media section goes to: its own c= line, or the session's."""
        return media.connection if media.connection is not None else self.connection

    def bundle_of(self, media: Media) -> tuple[str, ...]:
        """The mids of the BUNDLE group (RFC 8843) this section is in; empty where it is in none."""
        if media.mid:
            for value in self.get_all("group"):
                semantics, *mids = value.split() or [""]
                if semantics == "BUNDLE" and media.mid in mids:
                    return tuple(mids)
        return ()


def bad(what: str) -> SdpError:
    """The error for text that is not a session description."""
    return SdpError(f"bad SDP: {what}", status=400)


def number(text: str, low: int, high: int, what: str) -> int:
    """A decimal number within bounds. Raises `SdpError` 400."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high):
        raise bad(f"{what} is not a number from {low} to {high}")
    return int(text)


def _token(text: str, what: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise bad(f"{what} is not a token")
    return text


def _connection(value: str) -> str:
    parts = value.split()
    if len(parts) != 3 or parts[0] != "IN" or parts[1] not in ("IP4", "IP6") or len(parts[2]) > 255:
        raise bad("c= line")
    return parts[2]


@attrs.define
class _Section:
    """Media section in the making."""

    m_line: str = ""
    connection: str | None = None
    attributes: list[tuple[str, str]] = attrs.Factory(list)

    def finish(self) -> Media:
        words = self.m_line.split()
        if len(words) < 4:
            raise bad("m= line")
        kind, port, proto, *formats = words
        if len(formats) > MAX_FORMATS:
            raise bad(f"more than {MAX_FORMATS} formats in one m= line")
        mids = [value for name, value in self.attributes if name == "mid"]
        if not all(_TOKEN.fullmatch(mid) for mid in mids):
            raise bad("a=mid")
        port_text, slash, count = port.partition("/")
        if slash:
            number(count, 1, 65535, "the number of ports")
        return Media(
            kind=_token(kind, "the kind of media"),
            port=number(port_text, 0, 65535, "the port"),
            proto=_token(proto, "the protocol"),
            formats=tuple(_token(entry, "a format") for entry in formats),
            connection=self.connection,
            attributes=tuple(self.attributes),
        )


def parse_sdp(data: bytes) -> SessionDescription:
    """Parse a session description (RFC 4566 section 5).

    Raises `SdpError` 400 on anything that is none, or is larger than the bounds above.
    """
    if len(data) > MAX_SIZE:
        raise bad(f"larger than {MAX_SIZE} octets")
    # What is counted on the octets costs next to nothing; what is done for each line does.
    data = data.rstrip(b" \t\r\n")
    if len(data.translate(None, _CONTROL)) != len(data) or data.count(b"\r") != data.count(b"\r\n"):
        raise bad("control characters")
    if data.count(b"\n") >= MAX_LINES:
        raise bad(f"more than {MAX_LINES} lines")
    if data.count(b"\nm=") > MAX_MEDIA:
        raise bad(f"more than {MAX_MEDIA} media sections")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # session names of old phones; nothing we use or echo can be anything but ASCII
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].strip() != "v=0":
        raise bad("it does not start with v=0")
    session = _Section()
    sections: list[_Section] = []
    origin = False
    current = session
    attributes = session.attributes
    for line in lines[1:]:
        if line.startswith("a="):  # most lines are
            if len(attributes) == MAX_ATTRIBUTES:
                raise bad(f"more than {MAX_ATTRIBUTES} attributes in one section")
            name, _, rest = line[2:].partition(":")
            attributes.append((name.strip(), rest.strip()))
            continue
        if line[1:2] != "=" or not line[0].isalpha():
            raise bad(f"not a line of the form x=value: {line[:40]!r}")
        kind, value = line[0], line[2:]
        if kind == "m":
            current = _Section(m_line=value)
            attributes = current.attributes
            sections.append(current)
        elif kind == "c":
            if current.connection is None:
                current.connection = _connection(value)
        elif kind == "o":
            if origin or sections or len(value.split()) != 6:
                raise bad("o= line")
            origin = True
    if not origin:
        raise bad("no o= line")
    return SessionDescription(
        connection=session.connection,
        attributes=tuple(session.attributes),
        media=tuple(section.finish() for section in sections),
    )
