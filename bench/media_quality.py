"""How speech sounds after a call through us, beside rtpengine: PESQ wideband (ITU-T P.862.2). JSON lines.

python bench/media_quality.py [--rounds N]. A real call, ICE and DTLS-SRTP, in real time: speech as Opus from the
softphone and as G.722 from the PBX at once, through rtpengine and through our worker one after another. Both ends are
the same for both: our codecs make what is sent and samples of what is heard. `kbit_s` is what each spent on Opus.
`low_effort_` is our worker as it is with many calls.
Needs espeak-ng and pesq: `make peers` installs both.
"""

from __future__ import annotations

import argparse
import json
import select
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import trio
import trio_asyncio
from av.audio.resampler import AudioResampler
from media_bridges import Bridge, rtpengine, rtpengine_version, worker
from media_load import PACKET, WARM, LoadCall

from siperb_core.media.certificate import make_certificate
from siperb_core.media.dtls import load_certificate
from siperb_transcoder_opus_g722 import codecs

RATE, SECONDS = 16000, 8
SILENCE = bytes(640)
TEXT = (
    "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background. It is easy to tell the "
    "depth of a well. These days a chicken leg is a rare dish. Rice is often served in round bowls."
)
WAYS = {"media.pesq_opus_g722": ("pbx", "G722"), "media.pesq_g722_opus": ("web", "opus")}
"""Who hears it, and in which codec."""


def speech(work: Path) -> bytes:
    """Eight seconds of a voice."""
    path = work / "speech.wav"
    subprocess.run(["espeak-ng", "-v", "en", "-s", "140", "-w", path, TEXT], check=True)
    resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(path)) as wav:
        frames = [out for frame in wav.decode(audio=0) for out in resampler.resample(frame)]
    return b"".join(bytes(frame.planes[0])[: 2 * frame.samples] for frame in frames)[: SECONDS * RATE * 2]


class Listener(LoadCall):
    """A call that keeps what both ends hear: RTP packets in the order they came."""

    def __init__(self, nursery: trio.Nursery, certificate: Any) -> None:
        super().__init__(nursery, certificate, "opus", keys=False)
        self.packets: dict[str, list[bytes]] = {"web": [], "pbx": []}

    def web_heard(self, data: bytes, now: float) -> None:
        """Keep it."""
        self.packets["web"].append(data)

    def phone_readable(self) -> None:
        """Keep them."""
        try:
            while True:
                self.packets["pbx"].append(self.phone.recv(2048))
        except BlockingIOError:
            pass

    def payloads(self, end: str) -> list[bytes]:
        """By their numbers; neither side adds extensions or contributing sources."""
        packets = self.packets[end]
        first = int.from_bytes(packets[0][2:4], "big")
        numbered = {((int.from_bytes(data[2:4], "big") - first + 0x8000) & 0xFFFF): data[12:] for data in packets}
        return [numbered[number] for number in sorted(numbered)]


def encoded(codec: str, pcm: bytes) -> list[bytes]:
    """Speech in packets, with silence before for the call to settle, and after."""
    encoder = codecs.encoder(codec, RATE)
    blocks = [pcm[at : at + 640] for at in range(0, len(pcm), 640)]
    return [encoder.encode(block) for block in [SILENCE] * WARM + blocks + [SILENCE] * 25]


def score(original: bytes, payloads: list[bytes], codec: str) -> float:
    """MOS-LQO, 1.0 to 4.64, of the eight seconds that are most like the original."""
    import numpy
    from pesq import pesq

    decoder = codecs.decoder(codec, RATE)
    heard = numpy.frombuffer(b"".join(map(decoder.decode, payloads)), "<i2")
    asked = numpy.frombuffer(original, "<i2")
    size = 1 << (len(heard) + len(asked)).bit_length()
    spectrum = numpy.fft.rfft(heard.astype(float), size) * numpy.conj(numpy.fft.rfft(asked.astype(float), size))
    start = int(numpy.argmax(numpy.fft.irfft(spectrum, size)[: max(1, len(heard) - len(asked))]))
    return float(pesq(RATE, asked, heard[start : start + len(asked)], "wb"))


async def measure(bridge: Bridge, pcm: bytes) -> dict[str, dict[str, float]]:
    """One call; for each way MOS, the share of packets that came, and the bit rate."""
    async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
        made = make_certificate()
        call = Listener(nursery, load_certificate(made.pem))
        [remote] = bridge.connect("opus", {"calls": [call.describe()], "fingerprint": made.fingerprint})
        epoll = select.epoll()
        handlers = {call.web.fileno(): call.connection.readable, call.phone.fileno(): call.phone_readable}
        for number in handlers:
            epoll.register(number, select.EPOLLIN)

        async def serve() -> None:
            while True:
                await trio.lowlevel.wait_readable(epoll.fileno())
                for number, _ in epoll.poll(0, 512):
                    handlers[number]()

        async def keep_time() -> None:
            while True:
                call.connection.advance(time.monotonic())
                await trio.sleep(PACKET)

        nursery.start_soon(serve)
        nursery.start_soon(keep_time)
        call.start(remote)
        with trio.fail_after(30):
            await call.connected.wait()
        sent = list(zip(encoded("opus", pcm), encoded("G722", pcm), strict=True))
        begin = trio.current_time()
        for n, (web, pbx) in enumerate(sent):
            await trio.sleep_until(begin + PACKET * n)
            call.send(n, web, pbx)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    await bridge.release()
    results = {}
    for bench, (end, codec) in WAYS.items():
        payloads = call.payloads(end)
        results[bench] = {
            "mos": score(pcm, payloads, codec),
            "arrived": len(payloads) / len(sent),
            "kbit_s": sum(map(len, payloads[-25 - SECONDS * 50 : -25])) * 8 / SECONDS / 1000,
        }
    return results


def missing() -> str:
    """What there is not; "" where it can be measured."""
    for module in ("numpy", "pesq"):
        if find_spec(module) is None:
            return f"{module} is not installed"
    return "" if shutil.which("espeak-ng") else "espeak-ng is not installed"


async def main(rounds: int) -> None:
    """Measure both."""
    version = rtpengine_version()
    reason = missing()
    taken: dict[str, list[dict[str, dict[str, float]]]] = {}
    if not reason:
        async with AsyncExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            bridges: dict[str, Bridge] = {}
            if version is not None:
                bridges["rtpengine"] = stack.enter_context(rtpengine(work))
            bridges["ours"] = await stack.enter_async_context(worker())
            bridges["cheap"] = await stack.enter_async_context(worker("low", "41000-41099"))
            pcm = speech(work)
            for _ in range(rounds):
                for name, bridge in bridges.items():
                    taken.setdefault(name, []).append(await measure(bridge, pcm))
    for bench in WAYS:
        line: dict[str, Any] = {"bench": bench, "value": None, "unit": "MOS-LQO"}
        line |= {"peer": "rtpengine", "peer_value": None, "ratio": None, "peer_version": version}
        if reason or version is None:
            line["reason"] = reason or "not installed"
        for name, prefix in (("ours", ""), ("rtpengine", "peer_"), ("cheap", "low_effort_")):
            of = [result[bench] for result in taken.get(name, [])]
            if of:
                line[f"{prefix}value"] = round(statistics.median(one["mos"] for one in of), 3)
                line[f"{prefix}rounds"] = [round(one["mos"], 3) for one in of]
                line[f"{prefix}arrived"] = round(min(one["arrived"] for one in of), 4)
                line[f"{prefix}kbit_s"] = round(statistics.median(one["kbit_s"] for one in of), 1)
        if line["value"] and line["peer_value"]:
            line["ratio"] = round(line["value"] / line["peer_value"], 3)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How speech sounds after a call.")
    parser.add_argument("--rounds", type=int, default=3)
    trio.run(main, parser.parse_args().rounds)
