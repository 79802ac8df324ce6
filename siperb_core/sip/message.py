"""A SIP message as its raw header lines plus an index of their names (RFC 3261 section 7).

A header is parsed when it is asked for, once; a line nobody edits is written out as it came in, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from typing import Any, cast

from siperb_core.sip.errors import ParseError
from siperb_core.sip.grammar import CALL_ID, CSEQ, NAME_ADDR, TOKEN, unfold
from siperb_core.sip.headers import (
    CSeq,
    NameAddr,
    Via,
    cseq_of,
    name_addr_of,
    parse_number,
    parse_via,
    split_list,
)
from siperb_core.sip.recurring import (
    TopVia,
    address_line,
    contacts_in,
    cseq_line,
    max_forwards_line,
    via_line,
    whole_via,
)
from siperb_core.sip.registry import KNOWN, WRITTEN, canonical

# Besides Content-Length, which `parse` has counted.
_SINGLE = ("from", "to", "call-id", "cseq", "max-forwards")
# Top Vias by what stands before the branch and after it: without `received`, and `rport` at most asked for.
_PLAIN_VIAS = frozenset({((), ""), ((), ";rport"), ((("rport", None),), "")})

_known = KNOWN.get
_is_name = re.compile(TOKEN).fullmatch


def _line(name: str, value: str) -> str:
    if "\n" in value or "\r" in value or (name not in KNOWN and not _is_name(name)):
        raise ValueError(f"not one header line: {name!r}, {value!r}")
    return f"{name}: {value}"


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
        value = self._lines[self._names.index(key)].partition(":")[2]
        return unfold(value) if "\n" in value else value.strip(" \t")

    def get_all(self, name: str) -> list[str]:
        """The values of all header lines of this name, one for each line."""
        key = _known(name) or canonical(name)
        match self._names.count(key):
            case 0:
                return []
            case 1:
                return [self._value(key)]
            case _:
                return [unfold(line.partition(":")[2]) for line in self.lines(key)]

    def lines(self, name: str) -> list[str]:
        """The header lines of this name as they stand in the message, names and folds included."""
        key = _known(name) or canonical(name)
        return [line for named, line in zip(self._names, self._lines, strict=True) if named == key]

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

    def __contains__(self, name: str) -> bool:
        """Whether there is a header line of this name."""
        return (_known(name) or canonical(name)) in self._names

    def count(self, name: str) -> int:
        """How many header lines of this name there are."""
        return self._names.count(_known(name) or canonical(name))

    def __bytes__(self) -> bytes:
        head = "\r\n".join([self._start, *self._lines, "\r\n"])
        return head.encode("utf-8", "surrogateescape") + self.body

    def __repr__(self) -> str:
        return f"<Message {self._start!r}>"

    def copy(self) -> Message:
        """An independent copy."""
        return self._with(self._names.copy(), self._lines.copy(), self._cache.copy())

    def outline(self, *names: str) -> Message:
        """A message of which only the start line is left, and the header lines of these (canonical) names."""
        kept = [place for place, name in enumerate(self._names) if name in names] if names else ()
        other = self._with([self._names[place] for place in kept], [self._lines[place] for place in kept], {})
        other.body = b""
        return other

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
        key = _known(name) or canonical(name)
        self._cache.pop(key, None)
        names = self._names
        if key not in names:
            names.append(key)
            self._lines.append(line)
            return
        first = names.index(key)
        self._lines[first] = line
        if key in names[first + 1 :]:
            self._drop(key, first + 1)

    def add(self, name: str, value: str) -> None:
        """Put a header line after the last of that name, or at the end."""
        key = _known(name) or canonical(name)
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
        key = _known(name) or canonical(name)
        names = self._names
        place = names.index(key) if key in names else 0
        self._lines.insert(place, _line(name, value))
        names.insert(place, key)
        self._cache.pop(key, None)

    def remove(self, name: str) -> None:
        """Take off all header lines of this name."""
        key = _known(name) or canonical(name)
        names = self._names
        if key in names:
            self._cache.pop(key, None)
            place = names.index(key)
            del names[place], self._lines[place]
            if key in names:
                self._drop(key, place)

    def pop_first(self, name: str) -> str | None:
        """Take off and return the first element of a comma-separated header; None when there is none.

        Raises ParseError for an open quote."""
        key = _known(name) or canonical(name)
        names, lines = self._names, self._lines
        while key in names:
            place = names.index(key)
            written, _, value = lines[place].partition(":")
            elements = split_list(unfold(value))
            self._cache.pop(key, None)
            if len(elements) > 1:
                lines[place] = f"{written}: {', '.join(elements[1:])}"
                return elements[0]
            del lines[place], names[place]
            if elements:
                return elements[0]
        return None

    def stamp_via(self, received: str, rport: int) -> None:
        """Write where the request came from into its topmost Via: `received` (section 18.2.1; always, so that a reader
        needs no rule), and `rport` when the sender asked for it (RFC 3581 section 4). Raises ParseError."""
        before, _, more, _ = self.top_via()
        place = self._names.index("via")
        line = self._lines[place]
        if (before.params, more) in _PLAIN_VIAS:
            # The forms nearly everybody sends: nothing to weigh, the text is put in its place.
            text, asked, rest = line.partition(";rport")
            self._lines[place] = f"{text}{f'{asked}={rport}{rest}' if asked else ''};received={received}"
            del self._cache["via"]
            return
        via = self.via
        if via.param("rport") is not None:
            via = via.with_param("rport", str(rport))
        via = via.with_param("received", received)
        if "," in line:
            self.pop_first("Via")
            self.prepend("Via", str(via))
        else:
            self._lines[place] = f"{line.partition(':')[0]}: {via}"
        self._cache.pop("via", None)

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

    # Parsed on demand. The cache holds what `recurring` has cut a line into until somebody wants the object.

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
        names, lines, cache = self._names, self._lines, self._cache
        place = names.index
        try:
            via, from_, to = lines[place("via")], lines[place("from")], lines[place("to")]
            call_id, cseq = lines[place("call-id")], lines[place("cseq")]
        except ValueError:
            missing = next(key for key in ("via", "from", "to", "call-id", "cseq") if key not in names)
            raise ParseError(f"Missing {WRITTEN[missing]}") from None
        if (more := len(names) - len(set(names))) and more != names.count("via") - 1:
            for key in _SINGLE:
                if names.count(key) > 1:
                    raise ParseError(f"Several {WRITTEN[key]}")
        cache["from"] = address_line(from_) or self.from_
        cache["to"] = address_line(to) or self.to
        text = call_id.partition(":")[2].strip(" \t")
        plain = text.isascii() and text.isprintable() and " " not in text and text
        cache["call-id"] = text if plain else self.call_id
        cache["cseq"] = cseq_line(cseq) or self.cseq
        cut = via_line(via)
        if cut is not None:
            cache["via"] = cut
        elif self.branch.lower() == "z9hg4bk":
            raise ParseError("Empty Via branch")

    def top_via(self) -> TopVia:
        """The topmost Via, cut at its branch: as much of it as most readers need. Raises ParseError."""
        found: TopVia | None = self._cache.get("via")
        if found is None:
            if "via" not in self._names:
                raise ParseError("Missing Via")
            via = parse_via(self._value("via"))
            found = self._cache["via"] = (via, via.branch, None, via)
        return found

    @property
    def via(self) -> Via:
        """The topmost Via. Raises ParseError, also when there is none."""
        before, branch, more, via = self.top_via()
        if via is None:
            via = whole_via(before, branch, more or "")
            self._cache["via"] = (before, branch, more, via)
        return via

    @property
    def branch(self) -> str:
        """The branch of the topmost Via, '' when it has none. Raises ParseError."""
        return self.top_via()[1]

    @property
    def sent_by(self) -> tuple[str, int | None]:
        """Host and port that the topmost Via names as the sender's. Raises ParseError."""
        via = self.top_via()[0]
        return via.host, via.port

    def _address(self, key: str) -> NameAddr:
        address = self._cache.get(key)
        if type(address) is not NameAddr:
            if address is not None:
                plain, tag = address
                address = NameAddr(plain.display, plain.uri, (("tag", tag),))
            else:
                address = name_addr_of(*self._matched(key, NAME_ADDR))
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
        found = self._cache.get(key)
        return cast(str, found[1]) if type(found) is tuple else self._address(key).tag

    @property
    def call_id(self) -> str:
        """Call-ID. Raises ParseError, also when there is none."""
        call_id: str | None = self._cache.get("call-id")
        if call_id is None:
            call_id = self._cache["call-id"] = self._matched("call-id", CALL_ID)[0]
        return call_id

    @property
    def cseq(self) -> CSeq:
        """CSeq. Raises ParseError, also when there is none or its number exceeds 2**32 - 1."""
        cseq: CSeq | None = self._cache.get("cseq")
        if cseq is None:
            cseq = self._cache["cseq"] = cseq_of(*self._matched("cseq", CSEQ))
        return cseq

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards, 0 to 255; larger counts as 255 (RFC 3261 section 20.22). None: absent. Raises ParseError."""
        hops: int | None = self._cache.get("max-forwards")
        if hops is None and "max-forwards" in self._names:
            hops = max_forwards_line(self._lines[self._names.index("max-forwards")])
            if hops is None:
                hops = parse_number("Max-Forwards", self._value("max-forwards"), 255)
            self._cache["max-forwards"] = hops
        return hops

    @property
    def contacts(self) -> tuple[NameAddr, ...]:
        """All Contact addresses; `*` is the address whose uri is `*`. Raises ParseError."""
        contacts: tuple[NameAddr, ...] | None = self._cache.get("contact")
        if contacts is None:
            found = [contacts_in(value) for value in self.get_all("Contact")]
            contacts = self._cache["contact"] = found[0] if len(found) == 1 else tuple(chain.from_iterable(found))
        return contacts

    @property
    def expires(self) -> int | None:
        """Expires in seconds, at most 2**32 - 1; None when absent. Raises ParseError."""
        value = self.get("Expires")
        if value is None:
            return None
        return parse_number("Expires", value, 0xFFFFFFFF)


def _status_line(status: int, reason: str) -> str:
    if not 100 <= status <= 699 or "\n" in reason or "\r" in reason:
        raise ValueError(f"not a status line: {status} {reason!r}")
    return f"SIP/2.0 {status} {reason}"
