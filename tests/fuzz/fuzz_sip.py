"""Feeds the SIP parser octets nobody would write: `python tests/fuzz/fuzz_sip.py --seconds 60` (see driver.py).

Wrong is any exception but ParseError, and any message that is not given back octet by octet.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from driver import main

try:
    from atheris import instrument_imports
except ImportError:
    instrument_imports = contextlib.nullcontext

with instrument_imports():  # not instrument_all, which takes minutes over the standard library
    from siperb_core.sip import KEEPALIVE, ParseError, StreamFramer, parse, response_to, validate

OWN = Path(__file__).parents[1] / "torture/own"


def judge(data: bytes) -> None:
    """One case. Raises AssertionError, or whatever the parser should not have raised."""
    framer = StreamFramer()
    with contextlib.suppress(ParseError):
        for piece in framer.feed(data):
            assert piece == KEEPALIVE or piece in data, "the framer made octets up"
    try:
        message = parse(data)
    except ParseError as error:
        if error.message is not None:
            bytes(response_to(error.message, error.status, error.reason, to_tag="t"))
        return
    assert bytes(message) in data, "an untouched message was changed"
    verdict = validate(message)
    for name in ("via", "from_", "to", "from_tag", "to_tag", "call_id", "cseq", "max_forwards", "contacts", "expires"):
        try:
            getattr(message, name)
        except ParseError:
            optional = name in ("contacts", "expires") or (name == "max_forwards" and not message.is_request)
            assert verdict is not None or optional, f"{name} is bad and nobody said so"
    for name, _ in message.items()[:40]:
        with contextlib.suppress(ParseError):
            message.values(name)
    with contextlib.suppress(ParseError):
        edited = message.copy()
        edited.stamp_via("192.0.2.1", 5060)
        edited.prepend("Via", "SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKfuzz")
        again = parse(bytes(edited))
        assert again.via.branch == "z9hG4bKfuzz", "an edit was read as something else"
        assert again.body == message.body, "an edit moved the body"
    if message.is_request:
        parse(bytes(response_to(message, 400, to_tag="t")))


def seeds() -> list[bytes]:
    """The torture messages of our own."""
    return [path.read_bytes() for path in sorted(OWN.glob("*.sip"))]


if __name__ == "__main__":
    sys.exit(main(__doc__, judge, seeds()))
