"""The header lines every message is judged by, read quickly where most of their text was read before.

On a flow the same addresses and the same Via come again and again; new in each call are the tag and the branch. So a
line is cut there: what stands before is remembered, what follows is one token. Whatever does not fit this shape (tags
or branches in other spellings, folded lines, Vias joined by commas, mistakes) is left to the complete grammar, by
returning None; what is read here the complete grammar reads alike.

What peers can make this keep is bounded: 4,096 texts of at most 200 characters in each of these functions. One who
sends a new text in every message pays for reading it, about 3 us, and pushes out others.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

from siperb_core.sip.errors import ParseError
from siperb_core.sip.grammar import ADDRESS_LINE, CSEQ_LINE, MAX_FORWARDS_LINE, PARAMS, TOKEN, VIA_LINE, unfold
from siperb_core.sip.headers import (
    CSeq,
    NameAddr,
    Params,
    Via,
    cseq_of,
    name_addr_of,
    parse_name_addr,
    parse_params,
    split_list,
    via_of,
)

_MOST = 4096
_LONGEST = 200

_is_token = re.compile(TOKEN).fullmatch
# A branch that is more than the magic cookie (section 8.1.1.7), and the parameters after it.
_BRANCH_AND_MORE = re.compile(rf"(z9hG4bK{TOKEN})({PARAMS})")
# Via values that would send a response to everybody: RFC 4475 section 3.3.10.
_TO_EVERYBODY = re.compile(
    r"(?:[ \t]|(?:received|maddr)[ \t]*+=[ \t]*+)\[?"
    r"(?:255\.255\.255\.255|2(?:2[4-9]|3[0-9])(?:\.[0-9]{1,3}){3}|[fF]{2}[0-9A-Fa-f]{2}:)"
)
# The same addresses behind a single character, which a search finds sooner; nearly every Via ends here.
_PERHAPS_TO_EVERYBODY = re.compile(r"[ \t=]\[?(?:2[235]|[fF]{2})")


TopVia: TypeAlias = tuple[Via, str, str | None, Via | None]
"""A Via cut at its branch: what stands before it, the branch, the text after it; and the whole once it was asked for.
Uncut (the text after it is None) the first is the whole."""


def address_line(line: str) -> NameAddr | tuple[NameAddr, str] | None:
    """From or To: the address, or the address without its tag and the tag. None: ask the grammar."""
    before, tagged, tag = line.partition(";tag=")
    if len(before) > _LONGEST:
        return None
    address = _address_before(before)
    if not tagged or address is None:
        return address
    return None if address.params or not _is_token(tag) else (address, tag)


@lru_cache(maxsize=_MOST)
def _address_before(text: str) -> NameAddr | None:
    match = ADDRESS_LINE.fullmatch(text)
    return None if match is None else name_addr_of(*match.groups())


def via_line(line: str) -> TopVia | None:
    """Via, cut at its branch. None: ask the grammar. Raises ParseError for a port above 65535."""
    before, _, after = line.partition(";branch=")
    match = _BRANCH_AND_MORE.fullmatch(after)
    if match is None or len(before) > _LONGEST or len(match[2]) > _LONGEST:
        return None
    via = _via_before(before)
    return None if via is None else (via, match[1], match[2], None)


@lru_cache(maxsize=_MOST)
def _via_before(text: str) -> Via | None:
    match = VIA_LINE.fullmatch(text)
    if match is None:
        return None
    via = via_of(*match.groups())
    return via if via.param("branch") is None else None


def whole_via(via: Via, branch: str, more: str) -> Via:
    """The Via that `via_line` has cut."""
    params = via.params + (("branch", branch),)
    if more:
        params += _params_after(more)
    return Via(via.protocol, via.host, via.port, params)


@lru_cache(maxsize=_MOST)
def _params_after(text: str) -> Params:
    return parse_params(text)


def cseq_line(line: str) -> CSeq | None:
    """CSeq: numbers are small as a rule, and one call's messages share theirs. None: ask the grammar."""
    return _cseq(line) if len(line) <= _LONGEST else None


@lru_cache(maxsize=_MOST)
def _cseq(line: str) -> CSeq | None:
    match = CSEQ_LINE.fullmatch(line)
    return None if match is None else cseq_of(*match.groups())


def max_forwards_line(line: str) -> int | None:
    """Max-Forwards, at most 255. None: ask the grammar."""
    return _max_forwards(line) if len(line) <= _LONGEST else None


@lru_cache(maxsize=_MOST)
def _max_forwards(line: str) -> int | None:
    match = MAX_FORWARDS_LINE.fullmatch(line)
    return None if match is None else min(int(match[1]), 255)


def contacts_in(value: str) -> tuple[NameAddr, ...]:
    """The addresses of one Contact line: the same in every message of a phone or PBX. Raises ParseError."""
    return _remembered_contacts(value) if len(value) <= _LONGEST else _contacts(value)


def _contacts(value: str) -> tuple[NameAddr, ...]:
    elements = split_list(value)
    try:
        return tuple([parse_name_addr(element) for element in elements])
    except ParseError:
        raise ParseError("Bad Contact") from None


_remembered_contacts = lru_cache(maxsize=_MOST)(_contacts)


def via_to_everybody(line: str) -> bool:
    """Whether a Via line would send a response to a broadcast or multicast address."""
    before, _, after = line.partition(";branch=")
    branch, _, more = after.partition(";")
    if len(line) > _LONGEST or "\n" in line or not _is_token(branch):
        return _to_everybody(unfold(line))
    return _remembered_to_everybody(before) or _remembered_to_everybody(f";{more}")


def _to_everybody(text: str) -> bool:
    return _PERHAPS_TO_EVERYBODY.search(text) is not None and _TO_EVERYBODY.search(text) is not None


_remembered_to_everybody = lru_cache(maxsize=_MOST)(_to_everybody)
