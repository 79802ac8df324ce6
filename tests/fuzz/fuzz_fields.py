"""Feeds the parsers inside a message octets nobody would write: URIs, addresses, digest, SDP; streams in odd pieces.

`python tests/fuzz/fuzz_fields.py --seconds 60`. With atheris installed the runs are guided by coverage; without it,
seeds are mutated at random. Any exception but the parser's own, a value that reads differently when it is written and
read again, and any case above 50 ms of CPU is reported with the octets that did it, and ends the run with exit code 1.
The first octet of a case says which parser gets the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

try:
    from atheris import instrument_imports
except ImportError:
    instrument_imports = contextlib.nullcontext

with instrument_imports():  # not instrument_all, which takes minutes over the standard library
    from fuzz_sip import SLOW, mutate

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
    if not data:
        return
    start = time.process_time()
    PARSERS[data[0] % len(PARSERS)](data[1:])
    spent = time.process_time() - start
    assert spent < SLOW, f"{spent * 1000:.0f} ms"


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


def randomly(seconds: float, seed: int) -> int:
    """Random mutation for so long. Returns the exit code."""
    chance, corpus, count = random.Random(seed), seeds(), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(200):
            original = chance.choice(corpus)
            data = original[:1] + mutate(original[1:], chance, corpus)
            count += 1
            try:
                judge(data)
            except Exception as error:
                print(f"case {count} of seed {seed}: {type(error).__name__}: {error}\n{data!r}", file=sys.stderr)
                return 1
    print(f"{count} cases of URI, address, digest, SDP and stream, none wrong")
    return 0


def guided(seconds: float) -> None:
    """Coverage-guided by atheris, which ends the process itself."""
    import tempfile

    import atheris

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            (Path(corpus) / f"{number}").write_bytes(seed)
        atheris.Setup([sys.argv[0], f"-max_total_time={int(seconds)}", "-max_len=4096", corpus], judge)
        atheris.Fuzz()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def main() -> int:
    """Run for `--seconds`."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--random", action="store_true", help="random mutation even where atheris is installed")
    chosen = options.parse_args()
    if not chosen.random:
        with contextlib.suppress(ImportError):
            guided(chosen.seconds)
            return 0
    return randomly(chosen.seconds, chosen.seed)


if __name__ == "__main__":
    sys.exit(main())
