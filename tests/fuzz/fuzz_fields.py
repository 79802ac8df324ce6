"""Feeds the parsers inside a message octets nobody would write: URIs, addresses, digest, SDP; streams in odd pieces.

`python tests/fuzz/fuzz_fields.py --seconds 60` (see driver.py). Wrong is any exception but the parser's own, and a
value that reads differently when it is written and read again. The first octet of a case says which parser gets the
rest.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from driver import main

try:
    from atheris import instrument_imports
except ImportError:
    instrument_imports = contextlib.nullcontext

with instrument_imports():  # not instrument_all, which takes minutes over the standard library
    from siperb_core.sdp.description import SdpError, parse_sdp
    from siperb_core.sip import ParseError, StreamFramer, parse_name_addr, parse_uri, parse_via
    from siperb_core.sip.digest import DigestServer, answer_challenge, parse_challenge

OWN = Path(__file__).parents[1] / "torture/own"
SERVER = DigestServer("gw.example", b"secret", algorithms=("SHA-256", "MD5"))


def uri(data: bytes) -> None:
    with contextlib.suppress(ParseError):
        first = parse_uri(_text(data))
        assert parse_uri(str(first)) == first, "a URI reads differently once it was written"


def address(data: bytes) -> None:
    text = _text(data)
    with contextlib.suppress(ParseError):
        first = parse_name_addr(text)
        assert parse_name_addr(str(first)).uri == first.uri, "an address reads differently once it was written"
        with contextlib.suppress(ParseError):
            _ = first.parsed_uri
    with contextlib.suppress(ParseError):
        via = parse_via(text)
        assert parse_via(str(via)) == via, "a Via reads differently once it was written"


def digest(data: bytes) -> None:
    text = _text(data)
    result = SERVER.verify(text, method="REGISTER", secret_of=lambda name: "secret", now=1000.0)
    assert not result.ok or "response" in text
    parse_challenge(text)
    answer_challenge([text], method="REGISTER", uri="sip:a", username="a", password="b", cnonce="c")


def sdp(data: bytes) -> None:
    with contextlib.suppress(SdpError):
        parse_sdp(data)


def stream(data: bytes) -> None:
    """However the octets are cut, the messages are the same."""

    def fed(size: int) -> list[bytes]:
        framer, messages = StreamFramer(), []
        with contextlib.suppress(ParseError):
            for start in range(0, len(data), size):
                messages += framer.feed(data[start : start + size])
        return messages

    assert fed(max(len(data), 1)) == fed(max(len(data) // 7, 1)), "where the octets are cut makes a difference"


PARSERS: tuple[Callable[[bytes], None], ...] = (uri, address, digest, sdp, stream)


def judge(data: bytes) -> None:
    """One case."""
    if data:
        PARSERS[data[0] % len(PARSERS)](data[1:])


def seeds() -> list[bytes]:
    """Good values, each behind its parser's number."""
    answer = answer_challenge(
        SERVER.challenge(1000.0), method="REGISTER", uri="sip:gw", username="alice", password="secret", cnonce="abc"
    )
    values: dict[Callable[[bytes], None], list[str]] = {
        uri: [
            "sip:a%20b:c@[2001:db8::1]:5060;transport=tcp;lr?Subject=x&To=y",
            "tel:+1-201;phone-context=x",
            "sips:a@b",
        ],
        address: [
            '"A \\"B\\" <c>" <sip:a@b;lr>;tag=1;q=0.5',
            "<sip:a@b>",
            "SIP/2.0/UDP [::1]:5060;branch=z9hG4bK1;rport",
        ],
        digest: [answer or "", SERVER.challenge(1000.0)[0], 'Digest realm="a\\"b", nonce=x, qop="auth,auth-int"'],
        sdp: [
            "v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=-\r\nc=IN IP4 1.2.3.4\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\n"
            "a=rtpmap:0 PCMU/8000\r\na=fmtp:101 0-15\r\na=candidate:1 1 udp 1 1.2.3.4 5 typ host\r\na=mid:0\r\n"
        ],
    }
    found = [bytes([PARSERS.index(parser)]) + text.encode() for parser, texts in values.items() for text in texts]
    number = bytes([PARSERS.index(stream)])
    return found + [number + path.read_bytes() * 2 for path in sorted(OWN.glob("*.sip")) if path.stat().st_size < 1000]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


if __name__ == "__main__":
    sys.exit(main(__doc__, judge, seeds(), keep=1, longest=4096))
