"""The response to a request, made out of it (RFC 3261 section 8.2.6)."""

from __future__ import annotations

from collections.abc import Iterable

from siperb_core.sip.errors import ParseError
from siperb_core.sip.message import Message
from siperb_core.sip.registry import REASONS

_COPIED = frozenset({"via", "from", "to", "call-id", "cseq"})


def response_to(
    request: Message,
    status: int,
    reason: str = "",
    *,
    to_tag: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Message:
    """The response to a request (RFC 3261 section 8.2.6): all Via, From, To, Call-ID and CSeq are copied as they are,
    and Timestamp into a 100; `to_tag` is appended to a To that has no tag. The reason defaults to the RFC's phrase.

    Copies what there is: a request that lacks one of them still gets an answer.
    """
    response = Message.response(status, reason or REASONS.get(status, "Unknown"), headers, body)
    names = _COPIED if status != 100 else _COPIED | {"timestamp"}
    response.copy_lines(request, names, {"to": f";tag={to_tag}"} if to_tag and not _has_tag(request) else {})
    if content_type is not None and body:
        response.add("Content-Type", content_type)
    return response


def _has_tag(request: Message) -> bool:
    try:
        return bool(request.to_tag)
    except ParseError:
        return True
