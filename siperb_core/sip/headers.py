"""The header fields a proxy reads: addresses, Via, CSeq, and comma-separated lists (RFC 3261 sections 20 and 25.1)."""

from __future__ import annotations

import re

import attrs

from siperb_core.sip.errors import ParseError
from siperb_core.sip.grammar import CSEQ, LIST_ELEMENT, NAME_ADDR, ONE_PARAM, VIA, quote, unquote
from siperb_core.sip.uri import Uri, host_port, parse_uri, plain_host, plain_port

Params = tuple[tuple[str, str | None], ...]

# The most elements of one header line and parameters of one element. Each takes about a microsecond, and 64 KiB hold
# 30,000 of them; nobody has use for as many as there may be header lines.
MOST_ELEMENTS = 512


@attrs.frozen
class NameAddr:
    """The value of From, To, Contact, Route and their like: `"display" <uri>;params`.

    `display` is the plain text, unquoted; `uri` is as written; `params` are those of the header field, values as
    written (quotes included), None for a flag. `Contact: *` is the address whose `uri` is `*`.
    """

    display: str
    uri: str
    params: Params = ()

    def param(self, name: str) -> str | None:
        """The value of a header parameter, unquoted, its name in any case: '' for a flag, None when absent."""
        return _param(self.params, name)

    def with_param(self, name: str, value: str | None) -> NameAddr:
        """A copy with this parameter set (None: a flag), at its old place or at the end. The value is written as is."""
        return NameAddr(self.display, self.uri, _with_param(self.params, name, value))

    def without_param(self, name: str) -> NameAddr:
        """A copy without this parameter."""
        return NameAddr(self.display, self.uri, _without_param(self.params, name))

    @property
    def tag(self) -> str:
        """The tag parameter (RFC 3261 section 19.3), '' when there is none."""
        return _param(self.params, "tag") or ""

    @property
    def parsed_uri(self) -> Uri:
        """The URI, read. Raises ParseError."""
        return parse_uri(self.uri)

    def __str__(self) -> str:
        if self.uri == "*":
            return "*"
        text = f"{quote(self.display)} <{self.uri}>" if self.display else f"<{self.uri}>"
        return text + _params_text(self.params) if self.params else text


@attrs.frozen
class Via:
    """One Via element: `SIP/2.0/<protocol> host:port;params` (RFC 3261 section 20.42)."""

    protocol: str
    host: str
    port: int | None = None
    params: Params = ()

    @property
    def branch(self) -> str:
        """The branch parameter, '' when there is none (an RFC 2543 element)."""
        return _param(self.params, "branch") or ""

    @property
    def sent_by(self) -> str:
        """`host` or `host:port`, as compared in section 17.2.3."""
        return host_port(self.host, self.port)

    def param(self, name: str) -> str | None:
        """The value of a parameter, its name in any case: '' for a flag, None when absent."""
        return _param(self.params, name)

    def with_param(self, name: str, value: str | None) -> Via:
        """A copy with this parameter set (None: a flag), at its old place or at the end."""
        return Via(self.protocol, self.host, self.port, _with_param(self.params, name, value))

    def without_param(self, name: str) -> Via:
        """A copy without this parameter."""
        return Via(self.protocol, self.host, self.port, _without_param(self.params, name))

    def __str__(self) -> str:
        return f"SIP/2.0/{self.protocol} {host_port(self.host, self.port)}{_params_text(self.params)}"


@attrs.frozen
class CSeq:
    """The command sequence number and method (RFC 3261 section 20.16)."""

    number: int
    method: str

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


# What stands between two elements of a list.
_NOTHING = re.compile(r"[ \t,]*+")


def parse_name_addr(text: str) -> NameAddr:
    """Read one name-addr or addr-spec with its header parameters. Raises ParseError."""
    match = NAME_ADDR.fullmatch(text)
    if match is None:
        if text == "*":
            return NameAddr("", "*")
        raise ParseError("Bad address")
    return name_addr_of(*match.groups())


def name_addr_of(display: str | None, uri: str | None, bare_uri: str | None, params: str) -> NameAddr:
    """The address from the groups of `NAME_ADDR`."""
    return NameAddr(unquote(display) if display else "", uri or bare_uri or "", parse_params(params))


def parse_via(text: str) -> Via:
    """Read the first of the Via elements in the text. Raises ParseError."""
    match = VIA.match(text)
    if match is None:
        raise ParseError("Bad Via")
    return via_of(*match.groups())


def via_of(protocol: str, host: str, port: str | None, params: str) -> Via:
    """The Via from the groups of `VIA`. Raises ParseError for a port above 65535."""
    return Via(protocol, plain_host(host), plain_port(port), parse_params(params))


def parse_cseq(text: str) -> CSeq:
    """Read a CSeq. Raises ParseError, also above 2**32 - 1."""
    match = CSEQ.fullmatch(text)
    if match is None:
        raise ParseError("Bad CSeq")
    return cseq_of(*match.groups())


def cseq_of(digits: str, method: str) -> CSeq:
    """The CSeq from the groups of `CSEQ`. Raises ParseError above 2**32 - 1."""
    number = int(digits)
    if number > 0xFFFFFFFF:
        raise ParseError("CSeq out of range")
    return CSeq(number, method)


def parse_number(name: str, digits: str, most: int) -> int:
    """The number of a header field that is nothing else; larger counts as `most`. Raises ParseError."""
    if not (digits.isascii() and digits.isdigit()):
        raise ParseError(f"Bad {name}")
    if len(digits) > 10:
        # int() of a whole line of digits would be quadratic.
        digits = digits.lstrip("0")[:11] or "0"
    return min(int(digits), most)


def parse_params(text: str) -> Params:
    """Header parameters, `;a=b;c`, as (name, value) pairs; the text has matched the grammar before.

    Raises ParseError for more than `MOST_ELEMENTS`.
    """
    if not text:
        return ()
    if len(text) > MOST_ELEMENTS and text.count(";") > MOST_ELEMENTS:
        raise ParseError("Too many parameters")
    if '"' in text:
        return tuple([(m[1], m[2]) for m in ONE_PARAM.finditer(text)])
    if " " in text or "\t" in text:
        text = text.replace(" ", "").replace("\t", "")
    parts = text.split(";")
    del parts[0]
    return tuple([(name, value if equals else None) for name, equals, value in [part.partition("=") for part in parts]])


def split_list(text: str) -> list[str]:
    """The elements of a comma-separated list, blanks off and empty ones left out; commas inside quotes and <> do not
    part. Raises ParseError for a quote or bracket that does not close, and for more than `MOST_ELEMENTS`."""
    if "," not in text and '"' not in text and "<" not in text:
        text = text.strip(" \t")
        return [text] if text else []
    elements: list[str] = []
    start, end = _NOTHING.match(text).end(), len(text)  # type: ignore[union-attr]
    while start < end:
        if len(elements) == MOST_ELEMENTS:
            raise ParseError("Too many elements in a list")
        match = LIST_ELEMENT.match(text, start)
        stop = match.end() if match else start
        if stop < end and text[stop] != ",":
            raise ParseError("Unterminated quote or bracket in a list")
        elements.append(text[start:stop].rstrip(" \t"))
        # Over all that is empty at once: commas alone are cheap to send.
        start = _NOTHING.match(text, stop).end()  # type: ignore[union-attr]
    return elements


def _param(params: Params, name: str) -> str | None:
    length = len(name)
    for key, value in params:
        if key == name or (len(key) == length and key.lower() == name.lower()):
            return "" if value is None else unquote(value) if value[:1] == '"' else value
    return None


def _with_param(params: Params, name: str, value: str | None) -> Params:
    lower = name.lower()
    for i, (key, _) in enumerate(params):
        if key.lower() == lower:
            return (*params[:i], (key, value), *params[i + 1 :])
    return (*params, (name, value))


def _without_param(params: Params, name: str) -> Params:
    lower = name.lower()
    return tuple(pair for pair in params if pair[0].lower() != lower)


def _params_text(params: Params) -> str:
    return "".join([f";{k}" if v is None else f";{k}={v}" for k, v in params])
