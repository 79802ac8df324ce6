"""The second layer of strictness: is a message fit to be acted on and passed on (RFC 3261 sections 8.2, 16.3, 18)?"""

from __future__ import annotations

import attrs

from siperb_core.sip.errors import ParseError
from siperb_core.sip.message import Message
from siperb_core.sip.recurring import via_to_everybody
from siperb_core.sip.registry import REASONS

_SCHEMES = ("sip:", "sips:", "tel:")


@attrs.frozen
class Verdict:
    """Why a message must not be passed on: the status and reason owed, and header fields that belong to the answer.

    A response with a verdict is dropped: nobody waits for a complaint about it. So is an ACK.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


def validate(message: Message, *, as_proxy: bool = True) -> Verdict | None:
    """None for a message to act on, else what is wrong with it. Never raises.

    `as_proxy=False` judges for the addressee: without Max-Forwards and Proxy-Require, which are the proxy's business.
    """
    try:
        return _judge(message, as_proxy)
    except ParseError as error:
        return Verdict(error.status, error.reason)


def _judge(message: Message, as_proxy: bool) -> Verdict | None:
    if message.version != "2.0":
        return Verdict(505, REASONS[505])
    message.check()
    method = message.method
    if message.status:
        for line in message.lines("Via"):
            if via_to_everybody(line):
                return Verdict(400, "Via names a broadcast address")
        return None
    if message.cseq.method != method:
        return Verdict(400, "CSeq method does not match")
    if method == "REGISTER":
        _ = message.contacts
    uri = message.uri
    if not uri.startswith(_SCHEMES) and not uri.lower().startswith(_SCHEMES):
        return Verdict(416, REASONS[416])
    if "?" in uri and _has_uri_headers(uri):
        # Section 19.1.1: not allowed in a Request-URI. Passing ?Route=... on would let a stranger write our headers.
        return Verdict(400, "Headers in the Request-URI")
    if as_proxy:
        if message.max_forwards == 0:
            return Verdict(483, REASONS[483])
        if "Proxy-Require" in message and method not in ("ACK", "CANCEL"):
            tags = message.values("Proxy-Require")
            if tags:
                return Verdict(420, REASONS[420], (("Unsupported", ", ".join(tags)),))
    return None


def _has_uri_headers(uri: str) -> bool:
    """Whether a SIP URI carries `?headers`; a question mark in its user part is none."""
    return "?" in uri.rpartition("@")[2]
