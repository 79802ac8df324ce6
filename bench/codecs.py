"""What one packet of 20 ms costs each codec and each pair of codecs: CPU microseconds, the best of five rounds.

python bench/codecs.py [SECONDS OF AUDIO]; one JSON line each.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import struct
import sys
import time
from collections.abc import Callable, Sequence

from siperb_core.sdp.plan import Codec
from siperb_transcoder_opus_g722 import OpusG722, codecs, libraries

CLOCK = {"opus": Codec("opus", 48000, 2), "G722": Codec("G722", 8000), "PCMA": Codec("PCMA", 8000)}
CLOCK["PCMU"] = Codec("PCMU", 8000)


def voice(rate: int, seconds: int) -> bytes:
    """Something as busy as speech: a few gliding harmonics, noise, and pauses."""
    noise = random.Random(1)
    samples = []
    phase = 0.0
    for i in range(rate * seconds):
        t = i / rate
        phase += 2 * math.pi * (140 + 40 * math.sin(2 * math.pi * 0.7 * t)) / rate
        loud = max(0.0, math.sin(2 * math.pi * 1.3 * t)) * 6000
        samples.append(round(loud * sum(math.sin(phase * h) / h for h in range(1, 9)) + noise.gauss(0, 200)))
    return struct.pack(f"<{len(samples)}h", *samples)


def cost(step: Callable[[bytes], object], inputs: Sequence[bytes]) -> float:
    """CPU microseconds for one of the inputs."""
    best = math.inf
    for _ in range(5):
        start = time.process_time()
        for item in inputs:
            step(item)
        best = min(best, time.process_time() - start)
    return round(best / len(inputs) * 1e6, 1)


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    g722 = "libspandsp" if libraries.spandsp() else "PyAV"
    payloads: dict[str, list[bytes]] = {}
    for name in codecs.NAMES:
        rate = 16000 if name in ("opus", "G722") else 8000
        pcm, size = voice(rate, seconds), rate // 50 * 2
        blocks = [pcm[i : i + size] for i in range(0, len(pcm), size)]
        encoder, decoder = codecs.encoder(name, rate), codecs.decoder(name, rate)
        payloads[name] = [encoder.encode(block) for block in blocks]
        both = ((f"encode_{name}", encoder.encode, blocks), (f"decode_{name}", decoder.decode, payloads[name]))
        for bench, step, inputs in both:
            print(
                json.dumps({"bench": f"codecs.{bench}", "value": cost(step, inputs), "unit": "us/packet", "g722": g722})
            )
    for source, target in itertools.permutations(codecs.NAMES, 2):
        transcoder = OpusG722().create(CLOCK[source], CLOCK[target])
        value = cost(transcoder.transcode, payloads[source])
        print(json.dumps({"bench": f"codecs.{source}_to_{target}", "value": value, "unit": "us/packet", "g722": g722}))
        transcoder.close()


if __name__ == "__main__":
    main()
