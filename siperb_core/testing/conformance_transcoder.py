"""`check_transcoder`: holds a transcoder type against its contract (`siperb_core.TranscoderType`)."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from siperb_core.media.contract import Transcoder, TranscoderType
from siperb_core.sdp.plan import Codec
from siperb_core.testing.conformance_purity import NotConformant, no_io, require

PTIMES = (10, 20, 40, 60)
"""Milliseconds of a packet; all of them are packets of Opus (RFC 6716 section 2.1.4)."""
PACKETS = 25
GARBAGE = 200
LIVES = 200
MOST_LEFT = 4 << 20
"""Octets that may be kept after so many lives: a transcoder's state is tens of thousands."""
MOST_CALLS = 400
"""Python calls for one packet."""

_CODECS = {
    "opus": Codec("opus", 48000, 2),
    "g722": Codec("G722", 8000),
    "pcma": Codec("PCMA", 8000),
    "pcmu": Codec("PCMU", 8000),
}

Duration = Callable[[bytes], float]


def opus_duration(payload: bytes) -> float:
    """Milliseconds of an Opus packet, by its first octets (RFC 6716 section 3.1). Raises ValueError."""
    if not payload:
        raise ValueError("an empty Opus packet")
    config, code = payload[0] >> 3, payload[0] & 3
    if config < 12:
        frame = (10.0, 20.0, 40.0, 60.0)[config & 3]
    elif config < 16:
        frame = (10.0, 20.0)[config & 1]
    else:
        frame = (2.5, 5.0, 10.0, 20.0)[config & 3]
    if code == 3 and len(payload) < 2:
        raise ValueError("an Opus packet without its count of frames")
    return frame * (1, 2, 2, payload[1] & 63 if code == 3 else 0)[code]


def _octets(payload: bytes) -> float:
    """Milliseconds of G.722 and G.711: eight octets each."""
    return len(payload) / 8


_DURATIONS: Mapping[str, Duration] = {"opus": opus_duration, "g722": _octets, "pcma": _octets, "pcmu": _octets}


class _Pair:
    """One pair of codecs of a type."""

    def __init__(
        self, kind: TranscoderType, source: Codec, target: Codec, payload: Callable[[int, int], bytes], to: Duration
    ) -> None:
        self.kind, self.source, self.target = kind, source, target
        self.payload = payload
        self.duration = to
        self.name = f"{source.name} to {target.name}"

    def create(self, ptime: int = 20) -> Transcoder:
        return self.kind.create(self.source, self.target, ptime=ptime)

    def out(self, payload: bytes, ptime: float, what: str) -> bytes:
        require(isinstance(payload, bytes), f"{self.name}: {what} gives {type(payload).__name__}, not bytes")
        lasts = self.duration(payload)
        require(lasts == ptime, f"{self.name}: {what} gives {lasts:g} ms for {ptime:g} ms")
        return payload

    def durations(self) -> None:
        for ptime in PTIMES:
            coder = self.create(ptime)
            with no_io(self.name):
                self.out(coder.conceal(), ptime, "conceal before the first packet")
                for index in range(PACKETS):
                    self.out(coder.transcode(self.payload(ptime, index)), ptime, "transcode")
                    if index % 7 == 3:
                        self.out(coder.conceal(), ptime, "conceal")
            coder.close()

    def same_again(self) -> None:
        """State is the transcoder's own: two that are given the same give the same, whatever others do."""
        one, other, third = self.create(), self.create(), self.create()
        for index in range(PACKETS):
            payload = self.payload(20, index)
            first = one.transcode(payload)
            third.transcode(self.payload(20, PACKETS - index))
            require(
                first == other.transcode(payload), f"{self.name}: two transcoders give different payloads for the same"
            )
        for coder in (one, other, third):
            coder.close()

    def garbage(self) -> None:
        coder = self.create()
        dice = random.Random(1)  # the same octets in every run
        for index in range(GARBAGE):
            good = self.payload(20, index)
            broken = [
                dice.randbytes(dice.choice((0, 1, 2, 3, 5, 20, 160, 161, 1200, 4000))),
                good[: dice.randrange(len(good))],
                bytes([*good[:2], *dice.randbytes(len(good))]),
            ][index % 3]
            try:
                out = coder.transcode(broken)
            except ValueError:
                pass
            except Exception as error:
                raise NotConformant(f"{self.name}: garbage raises {error!r}, not ValueError") from error
            else:
                require(
                    isinstance(out, bytes) and out,
                    f"{self.name}: garbage gives {out!r}, neither ValueError nor a payload",
                )
        self.out(coder.transcode(self.payload(20, 0)), 20, "transcode after garbage")
        coder.close()

    def bounded(self) -> None:
        """By counting calls, not by a clock: a packet costs as much at the end of a call as at its beginning."""
        coder = self.create()
        for index in range(20):
            coder.transcode(self.payload(20, index))
        early = self._calls(coder)
        for index in range(500):
            coder.transcode(self.payload(20, index))
        late = self._calls(coder)
        require(early <= MOST_CALLS, f"{self.name}: a packet costs {early} Python calls")
        require(late <= early + 8, f"{self.name}: a packet costs {early} Python calls at first and {late} later")
        coder.close()

    def _calls(self, coder: Transcoder) -> int:
        calls = 0
        payload = self.payload(20, 0)

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += event == "call"

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            coder.transcode(payload)
        finally:
            sys.setprofile(before)
        return calls

    def releases(self) -> None:
        def lives(count: int) -> None:
            for _ in range(count):
                coder = self.create()
                coder.transcode(self.payload(20, 0))
                coder.close()
            gc.collect()

        lives(20)
        before = _resident()
        lives(LIVES)
        left = _resident() - before
        require(left <= MOST_LEFT, f"{self.name}: {left >> 10} KiB are left after {LIVES} transcoders were closed")


def _resident() -> int:
    """Octets of memory in use by this process; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    except (OSError, IndexError, ValueError):
        return 0


def check_transcoder(
    kind: TranscoderType,
    *,
    codecs: Iterable[Codec] = (),
    payloads: Mapping[str, Callable[[int, int], bytes]] | None = None,
    durations: Mapping[str, Duration] | None = None,
) -> None:
    """Hold a transcoder type against its contract; NotConformant (an AssertionError) says what is wrong.

    For codecs other than Opus, G.722, PCMA and PCMU (or Opus without a pair that makes it) give the codec, `payloads`
    (a payload by its milliseconds and number) and `durations` (milliseconds of a payload), by the codec's name.

    Checked: one packet in, one out, of exactly its duration, `conceal` too; nothing but ValueError on garbage, and
    work as before after it; no I/O; the same payloads give the same; a packet costs as many calls late as early;
    `close` gives the memory back; a pair that is not among `pairs` is refused by ValueError.
    """
    known = {**_CODECS, **{codec.name.lower(): codec for codec in codecs}}
    lasting = {**_DURATIONS, **{name.lower(): value for name, value in (durations or {}).items()}}
    given = {name.lower(): value for name, value in (payloads or {}).items()}
    require(isinstance(kind.name, str) and kind.name, "name is empty")
    with no_io("pairs"):
        pairs = kind.pairs()
    require(pairs and pairs == kind.pairs(), "pairs is empty, or another one the second time")
    for source, target in sorted(pairs):
        for name in (source, target):
            require(
                name.lower() in known and name.lower() in lasting,
                f"nothing is known of {name}: give codecs and durations",
            )
        make = given.get(source.lower()) or _payloads(kind, known, source)
        pair = _Pair(kind, known[source.lower()], known[target.lower()], make, lasting[target.lower()])
        pair.durations()
        pair.same_again()
        pair.garbage()
        pair.bounded()
        pair.releases()
    _unknown(kind)


def _unknown(kind: TranscoderType) -> None:
    nobody = Codec("x-nobody", 8000)
    try:
        kind.create(nobody, nobody)
    except ValueError:
        return
    except Exception as error:
        raise NotConformant(f"a pair that is not among pairs raises {error!r}, not ValueError") from error
    raise NotConformant("a pair that is not among pairs is taken")


def _payloads(kind: TranscoderType, known: Mapping[str, Codec], source: str) -> Callable[[int, int], bytes]:
    """Payloads of a codec: any octets are G.722 and G.711; Opus is made by the type itself, out of PCMU."""
    if source.lower() in ("g722", "pcma", "pcmu"):
        return lambda ptime, index: random.Random(index).randbytes(8 * ptime)
    maker = next(
        (pair for pair in sorted(kind.pairs()) if pair[1] == source and pair[0].lower() in ("pcmu", "g722")), None
    )
    require(maker is not None, f"no payloads of {source} are known: give payloads")
    assert maker is not None
    made: dict[int, list[bytes]] = {}

    def payload(ptime: int, index: int) -> bytes:
        if ptime not in made:
            coder = kind.create(known[maker[0].lower()], known[source.lower()], ptime=ptime)
            dice = random.Random(ptime)
            made[ptime] = [coder.transcode(dice.randbytes(8 * ptime)) for _ in range(50)]
            coder.close()
        return made[ptime][index % 50]

    return payload
