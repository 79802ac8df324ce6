"""A SIP message as its raw header lines plus an index of their names (RFC 3261 section 7).

A header is parsed when it is asked for, once; a line nobody edits is written out as it came in, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

from siperb_core.sip.errors import ParseError
from siperb_core.sip.grammar import CALL_ID, CSEQ, NAME_ADDR, ROUTING_FIELDS, unfold
from siperb_core.sip.headers import (
    CSeq,
    NameAddr,
    Via,
    cseq_of,
    name_addr_of,
    parse_name_addr,
    parse_via,
    split_list,
    via_of,
)
from siperb_core.sip.registry import KNOWN, WRITTEN, canonical
from siperb_core.sip.uri import plain_port

# The cookie of section 8.1.1.7 with nothing behind it.
_SHORT_BRANCH = re.compile(r"z9hg4bk(?![^ \t;])")
# Parameters of From or To that are a tag and nothing else, in the spelling everybody uses.
_TAG_ALONE = re.compile(r";tag=([A-Za-z0-9\-.!%*_+`'~]++)")
# Besides Content-Length, which `parse` has counted.
_SINGLE = ("from", "to", "call-id", "cseq", "max-forwards")

_known = KNOWN.get


def _line(name: str, value: str) -> str:
    line = f"{name}: {value}"
    if "\n" in line or "\r" in line or (":" in name):
        raise ValueError(f"not one header line: {line!r}")
    return line


class Message:
    """One request or response. Made by `parse`, `Message.request`, `Message.response` and `response_to`.

    `method` and `uri` are "" in a response, `status` is 0 in a request. `version` is the SIP version as `2.0`.
    Header names are equal in any case and in compact or long form. Values are text, unfolded, without blanks at the
    ends; octets that are not UTF-8 are surrogates, which encode back to themselves. Writing a value with a line break
    in it raises ValueError: that is our mistake, never the peer's.
    """

    __slots__ = ("_cache", "_lines", "_names", "_start", "_uri", "body", "method", "reason", "status", "version")

    def __init__(
        self,
        start: str,
        names: list[str],
        lines: list[str],
        body: bytes,
        method: str = "",
        uri: str = "",
        status: int = 0,
        reason: str = "",
        version: str = "2.0",
    ) -> None:
        self._start = start
        self._names = names
        self._lines = lines
        self._cache: dict[str, Any] = {}
        self._uri = uri
        self.body = body
        self.method = method
        self.status = status
        self.reason = reason
        self.version = version

    @classmethod
    def request(cls, method: str, uri: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> Message:
        """A new request; Content-Length is added."""
        if set(" \r\n") & set(method + uri):
            raise ValueError(f"blank in the request line: {method!r} {uri!r}")
        return cls(f"{method} {uri} SIP/2.0", [], [], b"", method=method, uri=uri)._filled(headers, body)

    @classmethod
    def response(cls, status: int, reason: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> Message:
        """A new response; Content-Length is added."""
        return cls(_status_line(status, reason), [], [], b"", status=status, reason=reason)._filled(headers, body)

    def _filled(self, headers: Iterable[tuple[str, str]], body: bytes) -> Message:
        for name, value in headers:
            key = canonical(name)
            if key != "content-length":
                self._names.append(key)
                self._lines.append(_line(name, value))
        self.body = body
        self._names.append("content-length")
        self._lines.append(f"Content-Length: {len(body)}")
        return self

    @property
    def is_request(self) -> bool:
        """True for a request."""
        return not self.status

    @property
    def uri(self) -> str:
        """The Request-URI as written; setting it rewrites the request line."""
        return self._uri

    @uri.setter
    def uri(self, uri: str) -> None:
        if not self.method or set(" \r\n") & set(uri):
            raise ValueError(f"not a Request-URI: {uri!r}")
        self._uri = uri
        self._start = f"{self.method} {uri} SIP/{self.version}"

    # Reading

    def get(self, name: str) -> str | None:
        """The value of the first header line of this name; None when there is none."""
        key = _known(name) or canonical(name)
        return self._value(key) if key in self._names else None

    def _value(self, key: str) -> str:
        line = self._lines[self._names.index(key)]
        value = line[line.index(":") + 1 :].strip(" \t")
        return value if "\n" not in value else unfold(value)

    def get_all(self, name: str) -> list[str]:
        """The values of all header lines of this name, one for each line."""
        key = _known(name) or canonical(name)
        if key not in self._names:
            return []
        return [unfold(line[line.index(":") + 1 :]) for line in self._named(key)]

    def _named(self, key: str) -> list[str]:
        names, lines = self._names, self._lines
        if names.count(key) == 1:
            return [lines[names.index(key)]]
        return [line for name, line in zip(names, lines, strict=True) if name == key]

    def values(self, name: str) -> list[str]:
        """The elements of a comma-separated header over all its lines. Raises ParseError for an open quote."""
        values = self.get_all(name)
        if not values:
            return values
        if len(values) == 1:
            return split_list(values[0])
        return [element for value in values for element in split_list(value)]

    def items(self) -> list[tuple[str, str]]:
        """All header lines as (name, value), names as written."""
        pairs = (line.partition(":") for line in self._lines)
        return [(name.rstrip(" \t"), unfold(value)) for name, _, value in pairs]

    def count(self, name: str) -> int:
        """How many header lines of this name there are."""
        return self._names.count(canonical(name))

    def __bytes__(self) -> bytes:
        head = "\r\n".join([self._start, *self._lines, "\r\n"])
        return head.encode("utf-8", "surrogateescape") + self.body

    def __repr__(self) -> str:
        return f"<Message {self._start!r}>"

    def copy(self) -> Message:
        """An independent copy."""
        return self._with(self._names.copy(), self._lines.copy(), self._cache.copy())

    def _with(self, names: list[str], lines: list[str], cache: dict[str, Any]) -> Message:
        other = Message(
            self._start, names, lines, self.body, self.method, self._uri, self.status, self.reason, self.version
        )
        other._cache = cache
        return other

    def edited(
        self, without: frozenset[str], prefix: str, values: dict[str, str], top: Iterable[tuple[str, str]] = ()
    ) -> Message:
        """A copy for another hop, in one pass: without the header lines of these names and those that begin with
        `prefix`, with each of these values in the place of the first header of its name, or at the end, and with the
        header lines of `top` above all others. Names are canonical: in lower case and long. What is in `values` and in
        `without` is written.
        """
        names: list[str] = []
        lines: list[str] = []
        for name, value in top:
            names.append(name)
            lines.append(_line(WRITTEN[name], value))
        missing = values.copy()
        begins = prefix[:1]
        for name, line in zip(self._names, self._lines, strict=True):
            if name in values:
                if name not in missing:
                    continue
                line = _line(WRITTEN[name], missing.pop(name))
            elif name in without or (name[:1] == begins and name.startswith(prefix)):
                continue
            names.append(name)
            lines.append(line)
        for name, value in missing.items():
            names.append(name)
            lines.append(_line(WRITTEN[name], value))
        cache = self._cache
        kept = {key: cache[key] for key in cache if key not in without and key not in values}
        return self._with(names, lines, kept)

    def copy_lines(self, other: Message, names: frozenset[str], more: dict[str, str]) -> None:
        """Put the header lines of these names of another message above one's own, as they are but for the text that
        `more` has to be appended to them. Names are canonical.
        """
        kept: list[str] = []
        lines: list[str] = []
        for name, line in zip(other._names, other._lines, strict=True):
            if name in names:
                kept.append(name)
                lines.append(line + more[name] if name in more else line)
        self._names[:0] = kept
        self._lines[:0] = lines
        for name in kept:
            self._cache.pop(name, None)

    # Editing

    def set(self, name: str, value: str) -> None:
        """Replace all header lines of this name by one, at the place of the first, or at the end."""
        line = _line(name, value)
        key = canonical(name)
        self._cache.pop(key, None)
        names = self._names
        count = names.count(key)
        if not count:
            names.append(key)
            self._lines.append(line)
            return
        first = names.index(key)
        self._lines[first] = line
        if count > 1:
            self._drop(key, first + 1)

    def add(self, name: str, value: str) -> None:
        """Put a header line after the last of that name, or at the end."""
        key = canonical(name)
        names = self._names
        place = len(names)
        if key in names:
            while names[place - 1] != key:
                place -= 1
        self._lines.insert(place, _line(name, value))
        names.insert(place, key)
        self._cache.pop(key, None)

    def prepend(self, name: str, value: str) -> None:
        """Put a header line before the first of that name, or at the top."""
        key = canonical(name)
        place = self._names.index(key) if key in self._names else 0
        self._lines.insert(place, _line(name, value))
        self._names.insert(place, key)
        self._cache.pop(key, None)

    def remove(self, name: str) -> None:
        """Take off all header lines of this name."""
        key = canonical(name)
        if key in self._names:
            self._cache.pop(key, None)
            self._drop(key, 0)

    def pop_first(self, name: str) -> str | None:
        """Take off and return the first element of a comma-separated header; None when there is none.

        Raises ParseError for an open quote."""
        key = canonical(name)
        names, lines = self._names, self._lines
        while key in names:
            place = names.index(key)
            line = lines[place]
            colon = line.index(":")
            elements = split_list(unfold(line[colon + 1 :]))
            self._cache.pop(key, None)
            if len(elements) > 1:
                lines[place] = f"{line[:colon]}: {', '.join(elements[1:])}"
                return elements[0]
            del lines[place], names[place]
            if elements:
                return elements[0]
        return None

    def stamp_via(self, received: str, rport: int) -> None:
        """Write where the request came from into its topmost Via: `received` (section 18.2.1; always, so that a reader
        needs no rule), and `rport` when the sender asked for it (RFC 3581 section 4). Raises ParseError."""
        if "via" in self._names:
            place = self._names.index("via")
            line = self._lines[place]
            asked = line.partition(";rport")
            # The form every browser and most phones send: nothing to weigh, the text is put in its place.
            if (
                asked[1]
                and asked[2][:1] in ("", ";")
                and '"' not in line
                and "," not in line
                and "received" not in line
                and "\n" not in line
            ):
                self._lines[place] = f"{asked[0]};rport={rport}{asked[2]};received={received}"
                self._cache.pop("via", None)
                return
        via = self.via
        if via.param("rport") is not None:
            via = via.with_param("rport", str(rport))
        via = via.with_param("received", received)
        place = self._names.index("via")
        line = self._lines[place]
        if "," in line:
            self.pop_first("Via")
            self.prepend("Via", str(via))
        else:
            self._lines[place] = _line(line[: line.index(":")], str(via))
        self._cache["via"] = via

    def set_body(self, body: bytes, content_type: str | None = None) -> None:
        """Replace the body and its Content-Length, and the Content-Type when one is given; an empty body has none."""
        self.body = body
        if not body:
            self.remove("Content-Type")
        elif content_type is not None:
            self.set("Content-Type", content_type)
        self.set("Content-Length", str(len(body)))

    def _drop(self, key: str, start: int) -> None:
        names, lines = self._names, self._lines
        kept = [i for i in range(start, len(names)) if names[i] != key]
        names[start:], lines[start:] = [names[i] for i in kept], [lines[i] for i in kept]

    # Parsed on demand. The cache holds the groups of a match of the grammar until somebody wants the object.

    def _matched(self, key: str, grammar: re.Pattern[str]) -> tuple[Any, ...]:
        if key not in self._names:
            raise ParseError(f"Missing {WRITTEN[key]}")
        match = grammar.fullmatch(self._value(key))
        if match is None:
            raise ParseError(f"Bad {WRITTEN[key]}")
        return match.groups()

    def check(self) -> None:
        """Raises ParseError unless Via, From, To, Call-ID and CSeq are there, once each but for Via, and keep their
        grammar; and that the branch is more than the magic cookie, which any other such branch would equal."""
        names, lines = self._names, self._lines
        place = names.index
        try:
            from_, to, via = lines[place("from")], lines[place("to")], lines[place("via")]
            fields = f"{from_}\n{to}\n{lines[place('call-id')]}\n{lines[place('cseq')]}\n{via}"
        except ValueError:
            missing = next(key for key in ("via", "from", "to", "call-id", "cseq") if key not in names)
            raise ParseError(f"Missing {WRITTEN[missing]}") from None
        if len(set(names)) != len(names):
            for key in _SINGLE:
                if names.count(key) > 1:
                    raise ParseError(f"Several {WRITTEN[key]}")
        match = ROUTING_FIELDS.fullmatch(fields)
        if match is None:
            _ = self.from_, self.to, self.call_id, self.cseq
            if self.via.branch.lower() == "z9hg4bk":
                raise ParseError("Empty Via branch")
            return
        groups = match.groups()
        cache = self._cache
        cache["call-id"] = groups[8]
        cache["cseq"] = cseq_of(groups[9], groups[10])
        if groups[13] is not None:
            plain_port(groups[13])
        if "from" not in cache:
            cache["from"] = groups[0:4]
        if "to" not in cache:
            cache["to"] = groups[4:8]
        if "via" not in cache:
            cache["via"] = groups[11:15]
        # Nearly every branch is longer than the cookie, and says so without being taken apart.
        params = groups[14].lower()
        if _SHORT_BRANCH.search(params) and self.via.branch.lower() == "z9hg4bk":
            raise ParseError("Empty Via branch")

    @property
    def via(self) -> Via:
        """The topmost Via. Raises ParseError, also when there is none."""
        via = self._cache.get("via")
        if type(via) is not Via:
            if via is not None:
                via = via_of(*via)
            elif "via" in self._names:
                via = parse_via(self._value("via"))
            else:
                raise ParseError("Missing Via")
            self._cache["via"] = via
        return via

    def _address(self, key: str) -> NameAddr:
        address = self._cache.get(key)
        if type(address) is not NameAddr:
            address = name_addr_of(*(address or self._matched(key, NAME_ADDR)))
            self._cache[key] = address
        return address

    @property
    def from_(self) -> NameAddr:
        """From. Raises ParseError, also when there is none."""
        return self._address("from")

    @property
    def to(self) -> NameAddr:
        """To. Raises ParseError, also when there is none."""
        return self._address("to")

    @property
    def from_tag(self) -> str:
        """The tag in From, '' when there is none. Raises ParseError."""
        return self._tag("from")

    @property
    def to_tag(self) -> str:
        """The tag in To, '' when there is none. Raises ParseError."""
        return self._tag("to")

    def _tag(self, key: str) -> str:
        """As `_address(key).tag`; where only the groups of the match are there, mostly without the rest of it."""
        found = self._cache.get(key)
        if type(found) is tuple:
            tag = _TAG_ALONE.fullmatch(params := found[3])
            if tag is not None:
                return cast(str, tag[1])
            if not params:
                return ""
        return self._address(key).tag

    @property
    def call_id(self) -> str:
        """Call-ID. Raises ParseError, also when there is none."""
        call_id = self._cache.get("call-id")
        if call_id is None:
            call_id = self._cache["call-id"] = self._matched("call-id", CALL_ID)[0]
        return cast(str, call_id)

    @property
    def cseq(self) -> CSeq:
        """CSeq. Raises ParseError, also when there is none or its number exceeds 2**32 - 1."""
        cseq = self._cache.get("cseq")
        if cseq is None:
            cseq = self._cache["cseq"] = cseq_of(*self._matched("cseq", CSEQ))
        return cast(CSeq, cseq)

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards, 0 to 255; larger counts as 255 (RFC 3261 section 20.22). None: absent. Raises ParseError."""
        if "max-forwards" not in self._names:
            return None
        return _number("Max-Forwards", self._value("max-forwards"), 255)

    @property
    def contacts(self) -> list[NameAddr]:
        """All Contact addresses; `*` is the address whose uri is `*`. Raises ParseError."""
        contacts = self._cache.get("contact")
        if contacts is None:
            contacts = self._cache["contact"] = [_contact(value) for value in self.values("Contact")]
        return cast(list[NameAddr], contacts)

    @property
    def expires(self) -> int | None:
        """Expires in seconds, at most 2**32 - 1; None when absent. Raises ParseError."""
        value = self.get("Expires")
        if value is None:
            return None
        return _number("Expires", value, 0xFFFFFFFF)


def _number(name: str, digits: str, most: int) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise ParseError(f"Bad {name}")
    if len(digits) > 10:
        # int() of a whole line of digits would be quadratic.
        digits = digits.lstrip("0")[:11] or "0"
    return min(int(digits), most)


def _contact(value: str) -> NameAddr:
    try:
        return parse_name_addr(value)
    except ParseError:
        raise ParseError("Bad Contact") from None


def _status_line(status: int, reason: str) -> str:
    if not 100 <= status <= 699 or "\n" in reason or "\r" in reason:
        raise ValueError(f"not a status line: {status} {reason!r}")
    return f"SIP/2.0 {status} {reason}"
