"""The loop of the fuzzers here: cases that nobody would write, guided by coverage where atheris is installed, else good
ones mutated at random (`--seed` repeats a run).

What a case raises is reported with the octets that did it, and ends the run with exit code 1; so does one above 50 ms
of CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SLOW = 0.05
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

Judge = Callable[[bytes], None]


def mutate(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
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


def timed(judge: Judge) -> Judge:
    """The same, and slow is wrong."""

    def judged(data: bytes) -> None:
        start = time.process_time()
        judge(data)
        spent = time.process_time() - start
        assert spent < SLOW, f"{spent * 1000:.0f} ms"

    return judged


def randomly(judge: Judge, seeds: Sequence[bytes], seconds: float, seed: int, *, keep: int) -> int:
    """Random mutation for so long; the first `keep` octets of a seed stay. Returns the exit code."""
    chance, count = random.Random(seed), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(200):
            original = chance.choice(seeds)
            data = original[:keep] + mutate(original[keep:], chance, seeds)
            count += 1
            try:
                judge(data)
            except Exception as error:
                print(f"case {count} of seed {seed}: {type(error).__name__}: {error}\n{data!r}", file=sys.stderr)
                return 1
    print(f"{count} cases, none wrong")
    return 0


def guided(judge: Judge, seeds: Sequence[bytes], seconds: float, *, longest: int) -> None:
    """Coverage-guided by atheris, which ends the process itself. Raises ImportError where it is not installed."""
    import atheris

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / f"{number}").write_bytes(seed)
        atheris.Setup([sys.argv[0], f"-max_total_time={int(seconds)}", f"-max_len={longest}", corpus], judge)
        atheris.Fuzz()


def main(description: str | None, judge: Judge, seeds: Sequence[bytes], *, keep: int = 0, longest: int = 65_000) -> int:
    """Run `judge` for `--seconds` over what becomes of the seeds. Returns the exit code."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--random", action="store_true", help="random mutation even where atheris is installed")
    chosen = options.parse_args()
    judge = timed(judge)
    if not chosen.random:
        with contextlib.suppress(ImportError):
            guided(judge, seeds, chosen.seconds, longest=longest)
            return 0
    return randomly(judge, seeds, chosen.seconds, chosen.seed, keep=keep)
