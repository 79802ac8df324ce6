"""How speech sounds after us, by PESQ (ITU-T P.862.2, wideband): beside the same codecs in FFmpeg, run by PyAV.

Skipped by name where there is nothing to measure with (`make test` builds pesq, with a C compiler) or nothing to
measure (espeak-ng speaks: PESQ is made for speech, and tells nothing of tones).
"""

from __future__ import annotations

import random
import shutil
import subprocess
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from siperb_core import AdjustsEffort, Codec
from siperb_transcoder_opus_g722 import OpusG722, libraries

OPUS, G722 = Codec("opus", 48000, 2, "minptime=10;useinbandfec=1"), Codec("G722", 8000)
RATE, SECONDS = 16000, 8
BITRATE = 32_000  # bit/s of Opus: what the transcoder has by default
TEXT = (
    "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background. It is easy to tell the "
    "depth of a well. These days a chicken leg is a rare dish. Rice is often served in round bowls."
)
SAME = 0.05
"""MOS that two versions of libopus may be apart; it is 0.01."""
CHEAPER = 0.25
"""MOS that low effort may cost: 0.12 and 0.21 with this voice."""
FAIR = {"bare": 2.7, "room": 3.8}
"""MOS no transcoded call may fall below. G.722 alone makes 3.0 of the bare voice, whose pauses are digital silence that
it cannot say, and 4.3 of the same voice, softer, in a room with some noise (-33 over -61 dBFS); Opus alone 3.9 and 4.4.
"""
BACKENDS = ["spandsp", "pyav"]


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A voice that says the Harvard sentences."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    path: Path = tmp_path_factory.mktemp("speech") / "speech.wav"
    subprocess.run(["espeak-ng", "-v", "en", "-s", "140", "-w", path, TEXT], check=True)
    resampler = AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(path)) as wav:
        pcm = b"".join(samples(out) for frame in wav.decode(audio=0) for out in resampler.resample(frame))
    assert len(pcm) >= SECONDS * RATE * 2
    return pcm[: SECONDS * RATE * 2]


def spoken(voice: bytes, place: str) -> bytes:
    """The voice as it is, or softer and in a room."""
    if place == "bare":
        return voice
    noise = random.Random(1)
    return array("h", [round(sample / 4 + noise.gauss(0, 30)) for sample in array("h", voice)]).tobytes()


def score(original: bytes, heard: bytes) -> float:
    """MOS-LQO of what was heard, 1.0 to 4.64, whatever the codecs' delay: where it is most like the original."""
    pesq = pytest.importorskip("pesq", reason="pesq is not installed: make peers")
    numpy = pytest.importorskip("numpy")
    asked, got = (numpy.frombuffer(pcm, "<i2") for pcm in (original, heard))
    size = 1 << (len(asked) + len(got)).bit_length()
    spectrum = numpy.fft.rfft(got.astype(float), size) * numpy.conj(numpy.fft.rfft(asked.astype(float), size))
    delay = int(numpy.argmax(numpy.fft.irfft(spectrum, size)[: RATE // 20]))
    length = len(asked) - RATE // 20  # what every codec has let out by then
    return float(pesq.pesq(RATE, asked[:length], got[delay : delay + length], "wb"))


# --- FFmpeg's codecs, which the transcoder has no part in


def samples(frame: AudioFrame) -> bytes:
    return bytes(frame.planes[0])[: 2 * frame.samples]


def context(name: str, mode: str, rate: int, **options: str) -> Any:
    made: Any = av.CodecContext.create(name, mode)
    made.sample_rate, made.layout, made.options = rate, "mono", options
    if mode == "w":
        made.format = "s16"
    return made


def frames(pcm: Iterable[bytes], rate: int) -> Iterator[AudioFrame]:
    at = 0
    for block in pcm:
        frame = AudioFrame(format="s16", layout="mono", samples=len(block) // 2)
        frame.sample_rate, frame.pts = rate, at
        plane: Any = frame.planes[0]
        plane.update(block + bytes(plane.buffer_size - len(block)))
        at += len(block) // 2
        yield frame


def blocks(pcm: bytes, rate: int) -> list[bytes]:
    """20 ms each."""
    size = rate // 50 * 2
    return [pcm[at : at + size] for at in range(0, len(pcm) - size + 1, size)]


def resampled(pcm: bytes, source: int, target: int) -> bytes:
    resampler = AudioResampler(format="s16", layout="mono", rate=target)
    given: list[AudioFrame | None] = [*frames(blocks(pcm, source), source), None]
    return b"".join(samples(out) for frame in given for out in resampler.resample(frame))


def to_opus(pcm: bytes, rate: int) -> list[bytes]:
    """libopus as FFmpeg sets it: complexity 10."""
    encoder = context("libopus", "w", rate, frame_duration="20", b=str(BITRATE))
    encoder.bit_rate = BITRATE
    given = [*frames(blocks(pcm if rate == RATE else resampled(pcm, RATE, rate), rate), rate), None]
    return [bytes(packet) for frame in given for packet in encoder.encode(frame)]


def from_opus(payloads: list[bytes]) -> bytes:
    decoder = context("libopus", "r", 48000)
    given = [av.Packet(payload) for payload in payloads]
    return resampled(b"".join(samples(f) for packet in given for f in decoder.decode(packet)), 48000, RATE)


def to_g722(pcm: bytes) -> list[bytes]:
    encoder = context("g722", "w", RATE, frame_size="320")
    return [bytes(packet) for frame in frames(blocks(pcm, RATE), RATE) for packet in encoder.encode(frame)]


def from_g722(payloads: list[bytes]) -> bytes:
    decoder = context("g722", "r", RATE)
    return b"".join(samples(f) for payload in payloads for f in decoder.decode(av.Packet(payload)))


# --- what is heard


def octets(payloads: list[bytes]) -> int:
    return sum(map(len, payloads))


def transcoded(source: Codec, target: Codec, payloads: list[bytes], *, high: bool = False) -> list[bytes]:
    transcoder = OpusG722().create(source, target)
    if high:
        assert isinstance(transcoder, AdjustsEffort)
        transcoder.adjust_effort(high=True)
    out = [transcoder.transcode(payload) for payload in payloads]
    transcoder.close()
    return out


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("place", FAIR)
def test_speech_from_opus_to_g722_sounds_as_good_as_from_ffmpeg(
    voice: bytes, place: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(backend, monkeypatch)
    speech = spoken(voice, place)
    sent = to_opus(speech, 48000)
    ours = score(speech, from_g722(transcoded(OPUS, G722, sent)))
    theirs = score(speech, from_g722(to_g722(from_opus(sent))))
    assert ours >= theirs - SAME
    assert ours >= FAIR[place]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("place", FAIR)
def test_speech_from_g722_to_opus_is_no_worse_than_ffmpegs_at_no_more_bits(
    voice: bytes, place: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(backend, monkeypatch)
    speech = spoken(voice, place)
    sent = to_g722(speech)
    ours, theirs = transcoded(G722, OPUS, sent, high=True), to_opus(from_g722(sent), RATE)
    wide = to_opus(from_g722(sent), 48000)  # what FFmpeg does unless it is told that nothing is above 8 kHz
    heard, at_16_khz, at_48_khz = (score(speech, from_opus(of)) for of in (ours, theirs, wide))
    assert heard >= at_16_khz - SAME
    assert heard >= at_48_khz
    assert heard >= FAIR[place] + 0.1
    assert octets(ours) <= 1.02 * min(octets(theirs), octets(wide))


@pytest.mark.parametrize("place", FAIR)
def test_speech_from_g722_to_opus_with_low_effort_is_fair(voice: bytes, place: str) -> None:
    speech = spoken(voice, place)
    sent = to_g722(speech)
    ours = transcoded(G722, OPUS, sent)
    theirs = to_opus(from_g722(sent), RATE)
    heard = score(speech, from_opus(ours))
    assert heard >= FAIR[place]
    assert heard >= score(speech, from_opus(theirs)) - CHEAPER
    assert octets(ours) * 8 / SECONDS < 1.5 * BITRATE, "free to vary, it takes 43 to 45 kbit/s"


def test_speech_is_as_good_when_the_effort_changes_every_second(voice: bytes) -> None:
    speech = spoken(voice, "room")
    transcoder = OpusG722().create(G722, OPUS)
    assert isinstance(transcoder, AdjustsEffort)
    out, cheap = [], transcoded(G722, OPUS, to_g722(speech))
    for n, payload in enumerate(to_g722(speech)):
        transcoder.adjust_effort(high=n // 50 % 2 == 0)
        out.append(transcoder.transcode(payload))
    transcoder.close()
    assert score(speech, from_opus(out)) >= score(speech, from_opus(cheap))


def test_the_score_can_tell_a_packet_in_ten_that_is_missing(voice: bytes) -> None:
    heard = [bytes(len(block)) if n % 10 == 0 else block for n, block in enumerate(blocks(voice, RATE))]
    assert score(voice, b"".join(heard)) < min(FAIR.values())


def use(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do G.722 with libspandsp, or as on a machine without it."""
    if backend == "pyav":
        monkeypatch.setattr(libraries, "spandsp", lambda: None)
    elif libraries.spandsp() is None:
        pytest.skip("libspandsp is not installed")
