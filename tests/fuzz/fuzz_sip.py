"""Feeds the SIP parser octets nobody would write: `python tests/fuzz/fuzz_sip.py --seconds 60`.

With atheris installed the runs are guided by coverage; without it, seeds are mutated at random (`--seed` repeats one).
Any exception but ParseError, any message that is not given back octet by octet, and any case above 50 ms of CPU
is reported with the octets that did it, and ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from pathlib import Path

try:
    from atheris import instrument_imports
except ImportError:
    instrument_imports = contextlib.nullcontext

with instrument_imports():  # not instrument_all, which takes minutes over the standard library
    from siperb_core.sip import KEEPALIVE, ParseError, StreamFramer, parse, response_to, validate

OWN = Path(__file__).parents[1] / "torture/own"
THORNS = [b"\r\n", b"\n", b"\r", b"\r\n ", b'"', b"\\", b"<", b">", b",", b";", b"=", b":", b"@", b"[", b"]", b"%00"]
THORNS += [
    b"\0",
    b"\xff",
    b" " * 64,
    b'"' * 64,
    b"," * 64,
    b"9" * 64,
    b"l: 1\r\n",
    b"\r\nVia: ",
    b"z9hG4bK",
    b"sip:",
    b"*",
]
SLOW = 0.05


def judge(data: bytes) -> None:
    """One case. Raises AssertionError, or whatever the parser should not have raised."""
    start = time.process_time()
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
    spent = time.process_time() - start
    assert spent < SLOW, f"{spent * 1000:.0f} ms"


def seeds() -> list[bytes]:
    """The torture messages of our own."""
    return [path.read_bytes() for path in sorted(OWN.glob("*.sip"))]


def mutate(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """A few wounds."""
    octets = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        place = chance.randrange(len(octets) + 1)
        match chance.randrange(6):
            case 0:
                octets[place:place] = chance.choice(THORNS)
            case 1:
                del octets[place : place + chance.randrange(1, 16)]
            case 2:
                octets[place:place] = octets[place : place + chance.randrange(1, 64)] * chance.choice((1, 2, 50))
            case 3:
                octets[place : place + 1] = bytes([chance.randrange(256)])
            case 4:
                other = chance.choice(others)
                cut = chance.randrange(len(other))
                octets[place:place] = other[cut : cut + 80]
            case _:
                octets[place : place + len(THORNS[0])] = chance.choice(THORNS)
    return bytes(octets[:65_000])


def randomly(seconds: float, seed: int) -> int:
    """Random mutation for so long. Returns the exit code."""
    chance, corpus, count = random.Random(seed), seeds(), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(200):
            data = mutate(chance.choice(corpus), chance, corpus)
            count += 1
            try:
                judge(data)
            except Exception as error:
                print(f"case {count} of seed {seed}: {type(error).__name__}: {error}\n{data!r}", file=sys.stderr)
                return 1
    print(f"{count} cases, none wrong")
    return 0


def guided(seconds: float) -> None:
    """Coverage-guided by atheris, which ends the process itself."""
    import atheris

    inputs = ",".join(str(path) for path in sorted(OWN.glob("*.sip")))
    atheris.Setup([sys.argv[0], f"-max_total_time={int(seconds)}", "-max_len=65000", f"-seed_inputs={inputs}"], judge)
    atheris.Fuzz()


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
