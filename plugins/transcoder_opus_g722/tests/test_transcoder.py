"""Every pair of codecs: durations, levels, loss, bad payloads."""

from __future__ import annotations

import itertools
import math
import random
from array import array

import pytest

from siperb_core import AdjustsEffort, Codec, ExpectsLoss, MakesNoise, Transcoder
from siperb_core.testing import opus_duration
from siperb_core.testing.tones import analyse, second
from siperb_transcoder_opus_g722 import OpusG722, codecs, g722, libraries, opus, siperb_transcoders
from siperb_transcoder_opus_g722.opus import OpusDecoder

CODECS = {
    "opus": Codec("opus", 48000, 2, "minptime=10;useinbandfec=1"),
    "G722": Codec("G722", 8000),
    "PCMA": Codec("PCMA", 8000),
    "PCMU": Codec("PCMU", 8000),
}
PAIRS = list(itertools.permutations(CODECS, 2))
EFFORTS = [(*pair, effort) for pair in PAIRS for effort in (("low", "high") if pair[1] == "opus" else ("",))]
G722_BACKENDS = ["spandsp", "pyav"]
FFI_DLOPEN = libraries.ffi.dlopen


@pytest.fixture(params=G722_BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to do G.722: with libspandsp where it is installed, and as on a machine without it."""
    if request.param == "pyav":
        monkeypatch.setattr(libraries, "spandsp", lambda: None)
    elif libraries.spandsp() is None:
        pytest.skip("libspandsp is not installed")
    return str(request.param)


def created(source: str, target: str, effort: str, ptime: int = 20) -> Transcoder:
    """A transcoder that was told how much CPU Opus is worth; "" where nobody can choose."""
    transcoder = OpusG722().create(CODECS[source], CODECS[target], ptime=ptime)
    if effort:
        assert isinstance(transcoder, AdjustsEffort)
        transcoder.adjust_effort(high=effort == "high")
    return transcoder


def rate_of(name: str) -> int:
    return 16000 if name in ("opus", "G722") else 8000


def packets(name: str, pcm: bytes, ptime: int) -> list[bytes]:
    encoder = codecs.encoder(name, rate_of(name))
    size = rate_of(name) * ptime // 1000 * 2
    out = [encoder.encode(pcm[i : i + size]) for i in range(0, len(pcm) - size + 1, size)]
    encoder.close()
    return out


def samples(name: str, payloads: list[bytes]) -> bytes:
    decoder = codecs.decoder(name, rate_of(name))
    pcm = b"".join(map(decoder.decode, payloads))
    decoder.close()
    return pcm


def test_the_hook_gives_every_pair() -> None:
    (kind,) = siperb_transcoders()
    assert kind.pairs() == set(PAIRS)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("ptime", [10, 20, 40, 60])
def test_a_packet_comes_out_as_long_as_it_went_in(source: str, target: str, ptime: int, backend: str) -> None:
    transcoder = OpusG722().create(CODECS[source], CODECS[target], ptime=ptime)
    for payload in packets(source, second(1000, -6, rate_of(source)), ptime):
        out = transcoder.transcode(payload)
        assert len(samples(target, [out])) == rate_of(target) * ptime // 1000 * 2
    transcoder.close()


@pytest.mark.parametrize(("source", "target", "effort"), EFFORTS)
@pytest.mark.parametrize("ptime", [20, 60])
def test_a_tone_keeps_its_level_and_stays_clean(
    source: str, target: str, effort: str, ptime: int, backend: str
) -> None:
    transcoder = created(source, target, effort, ptime)
    # 1004 Hz, as telephony measures: 1000 Hz would meet the same eight steps of G.711 in every period.
    sent = packets(source, second(1004, -6, rate_of(source)) * 2, ptime)
    heard = analyse(samples(target, [transcoder.transcode(payload) for payload in sent]), rate_of(target))
    transcoder.close()
    assert heard.hz == pytest.approx(1004, abs=1)
    assert heard.dbfs == pytest.approx(-6, abs=0.5)
    assert heard.tone_to_rest >= 35  # G.711's own steps are 37 dB below the tone


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_short_packets_keep_the_level_too(source: str, target: str, backend: str) -> None:
    transcoder = OpusG722().create(CODECS[source], CODECS[target], ptime=10)
    sent = packets(source, second(1004, -6, rate_of(source)) * 2, 10)
    heard = analyse(samples(target, [transcoder.transcode(payload) for payload in sent]), rate_of(target))
    transcoder.close()
    assert heard.dbfs == pytest.approx(-6, abs=0.5)
    assert heard.tone_to_rest >= 20  # what Opus itself gives at 32 kbit/s in frames of 10 ms


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_lost_packet_is_made_up_for_and_long_loss_fades_away(source: str, target: str, backend: str) -> None:
    transcoder = OpusG722().create(CODECS[source], CODECS[target])
    before = [transcoder.transcode(p) for p in packets(source, second(1000, -6, rate_of(source)), 20)]
    lost = [transcoder.conceal() for _ in range(50)]
    heard = samples(target, before + lost)
    packet = rate_of(target) // 50 * 2
    assert len(heard) == 100 * packet
    first = analyse(heard[50 * packet : 52 * packet], rate_of(target))
    assert first.hz == pytest.approx(1000, abs=40)
    assert first.dbfs > -20
    assert analyse(heard[80 * packet :], rate_of(target)).dbfs < -35
    transcoder.close()


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_loss_before_the_first_packet(source: str, target: str, backend: str) -> None:
    transcoder = OpusG722().create(CODECS[source], CODECS[target], ptime=40)
    assert len(samples(target, [transcoder.conceal()])) == rate_of(target) * 40 // 1000 * 2
    transcoder.close()


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("payload", [b"", bytes(5000)])
def test_a_payload_that_cannot_be_is_refused_and_the_call_goes_on(
    source: str, target: str, payload: bytes, backend: str
) -> None:
    transcoder = OpusG722().create(CODECS[source], CODECS[target])
    with pytest.raises(ValueError, match=r"empty|payload|packet"):
        transcoder.transcode(payload)
    good = packets(source, second(1000, -6, rate_of(source)), 20)
    assert [transcoder.transcode(p) for p in good]
    transcoder.close()


def test_a_malformed_opus_packet_is_refused() -> None:
    decoder = opus.OpusDecoder(16000)
    with pytest.raises(ValueError, match="not an Opus packet"):
        decoder.decode(b"\xff")  # code 3 without its frame count octet (RFC 6716 section 3.2.5)
    decoder.close()


def test_a_stereo_opus_packet_comes_out_as_mono() -> None:
    stereo = opus.OpusEncoder(16000).encode(bytes(640))
    marked = bytes([stereo[0] | 0b100]) + stereo[1:]  # the s bit of the TOC (RFC 6716 section 3.1)
    assert len(opus.OpusDecoder(16000).decode(marked)) == 640


@pytest.mark.parametrize("ptime", [5, 30, 50, 80, 100, 120])
def test_durations_no_single_opus_frame_has(ptime: int) -> None:
    encoder, decoder = opus.OpusEncoder(16000), opus.OpusDecoder(16000)
    pcm = second(1000, -6, 16000) * 2
    size = 32 * ptime
    heard = b"".join(decoder.decode(encoder.encode(pcm[i : i + size])) for i in range(0, len(pcm) - size + 1, size))
    assert len(heard) == len(pcm) // size * size
    assert analyse(heard, 16000).is_tone(1000, above_rest=25)


def test_samples_that_are_no_packet_are_refused() -> None:
    with pytest.raises(ValueError, match="no packet of"):
        opus.OpusEncoder(16000).encode(bytes(642))
    with pytest.raises(ValueError, match="no packet of 140 ms"):
        opus.OpusEncoder(16000).encode(bytes(140 * 32))


@pytest.mark.parametrize("encoder", [g722.PyavEncoder, g722.SpandspEncoder])
def test_half_an_octet_of_g722_is_refused(encoder: type[codecs.Encoder], backend: str) -> None:
    if encoder is g722.SpandspEncoder and backend == "pyav":
        pytest.skip("not what this machine would use")
    with pytest.raises(ValueError, match="whole octets"):
        encoder(16000).encode(bytes(6))  # type: ignore[call-arg]


def test_both_ways_to_do_g722_understand_each_other() -> None:
    if libraries.spandsp() is None:
        pytest.skip("libspandsp is not installed")
    pcm = second(1000, -6, 16000)
    for encoder, decoder in (
        (g722.SpandspEncoder(16000), g722.PyavDecoder(16000)),
        (g722.PyavEncoder(16000), g722.SpandspDecoder(16000)),
    ):
        heard = analyse(b"".join(decoder.decode(encoder.encode(pcm[i : i + 640])) for i in range(0, 32000, 640)), 16000)
        assert heard.dbfs == pytest.approx(-6, abs=0.1)


def loud(kind: str) -> bytes:
    """Two seconds that were too loud for 16 bits, at 16 kHz."""
    noise, value = random.Random(1), 0.0
    if kind != "noise":
        hertz = int(kind)
        wave = [34400 * math.sin(2 * math.pi * hertz * n / 16000) for n in range(32000)]
    else:
        wave = [value := 0.9 * value + noise.gauss(0, 9000) for _ in range(32000)]
    return array("h", [max(-32768, min(32767, round(sample))) for sample in wave]).tobytes()


@pytest.mark.parametrize("ptime", [10, 20, 60])
@pytest.mark.parametrize("kind", ["noise", "100", "200", "300", "500", "1000", "2000", "2500", "3000", "4000"])
def test_what_is_too_loud_for_16_bits_is_as_loud_as_they_hold_and_does_not_crack(kind: str, ptime: int) -> None:
    if libraries.spandsp() is None:
        pytest.skip("libspandsp is not installed")
    ours, ffmpeg = g722.SpandspDecoder(16000), g722.PyavDecoder(16000)
    sent = packets("G722", loud(kind), ptime)
    heard = array("h", b"".join(map(ours.decode, sent)))
    assert heard == array("h", b"".join(map(ffmpeg.decode, sent)))
    assert max(map(abs, heard)) >= 32767, "it was too loud"


def test_what_is_too_loud_after_a_state_nobody_knows_costs_nothing_but_samples() -> None:
    if libraries.spandsp() is None:
        pytest.skip("libspandsp is not installed")
    dice = random.Random(2)
    ours, ffmpeg = g722.SpandspDecoder(16000), g722.PyavDecoder(16000)
    sent = [dice.randbytes(dice.randrange(1, 200)) for _ in range(300)]
    for payload in sent:
        heard, asked = array("h", ours.decode(payload)), array("h", ffmpeg.decode(payload))
        apart = [one for one, other in zip(heard, asked, strict=True) if one != other]
        assert all(abs(sample) > 0x4000 for sample in apart), "only what is near full scale can be mistaken"


def test_expected_loss_changes_opus_to_silk_with_fec_and_back() -> None:
    transcoder = OpusG722().create(CODECS["G722"], CODECS["opus"])
    source = packets("G722", second(400, -6, 16000) * 2, 20)

    def configurations(payloads: list[bytes]) -> set[int]:
        return {transcoder.transcode(p)[0] >> 3 for p in payloads}  # RFC 6716 table 2

    assert min(configurations(source[:25])) >= 16  # CELT only
    transcoder.expect_loss(10)  # type: ignore[attr-defined]
    configurations(source[25:30])  # the change takes a packet or two
    assert max(configurations(source[30:50])) < 12  # SILK only
    transcoder.expect_loss(0)  # type: ignore[attr-defined]
    configurations(source[50:55])
    assert min(configurations(source[55:])) >= 16
    transcoder.close()


@pytest.mark.parametrize("hertz", [440, 1000, 2000])
def test_a_tone_is_as_clean_while_the_effort_changes_every_quarter_of_a_second(hertz: int) -> None:
    transcoder = created("G722", "opus", "low")
    assert isinstance(transcoder, AdjustsEffort)
    out = []
    for n, payload in enumerate(packets("G722", second(hertz, -6, 16000) * 4, 20)):
        if n % 13 == 12:
            transcoder.adjust_effort(high=n // 13 % 2 == 0)
        out.append(transcoder.transcode(payload))
    transcoder.close()
    configurations = {payload[0] >> 3 for payload in out}  # RFC 6716 table 2
    assert min(configurations) < 12, "SILK was among them"
    assert max(configurations) >= 16, "and CELT"
    heard = analyse(samples("opus", out)[32000:], 16000)
    assert heard.is_tone(hertz, within=1, above_rest=35)
    assert heard.dbfs == pytest.approx(-6, abs=0.5)


def test_only_towards_opus_is_there_an_effort_to_choose() -> None:
    for source, target in PAIRS:
        transcoder = OpusG722().create(CODECS[source], CODECS[target])
        assert isinstance(transcoder, AdjustsEffort) == (target == "opus")
        transcoder.close()


@pytest.mark.parametrize(("fmtp", "most"), [("", 90), ("minptime=10; maxaveragebitrate=12000;stereo=1", 45)])
def test_the_receivers_bit_rate_is_kept(fmtp: str, most: int) -> None:
    transcoder = OpusG722().create(CODECS["G722"], Codec("opus", 48000, 2, fmtp))
    source = packets("G722", second(400, -6, 16000), 20)
    sizes = [len(transcoder.transcode(p)) for p in source][10:]
    assert sum(sizes) / len(sizes) < most
    transcoder.close()


def test_a_pair_not_offered_is_refused() -> None:
    with pytest.raises(ValueError, match="G729"):
        OpusG722().create(Codec("G729", 8000), CODECS["opus"])
    with pytest.raises(ValueError, match="opus to opus"):
        OpusG722().create(CODECS["opus"], CODECS["opus"])
    with pytest.raises(ValueError, match="16000"):
        codecs.decoder("PCMA", 16000)


def test_closing_twice_is_harmless(backend: str) -> None:
    for source, target in PAIRS:
        transcoder = OpusG722().create(CODECS[source], CODECS[target])
        transcoder.close()
        transcoder.close()


def test_without_the_systems_libopus_the_one_inside_pyav_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoSystemLibraries:
        def dlopen(self, name: str) -> object:
            if "/" not in name:
                raise OSError(name)
            return FFI_DLOPEN(name)

    monkeypatch.setattr(libraries, "ffi", NoSystemLibraries())
    library = libraries.opus.__wrapped__()
    monkeypatch.undo()
    assert b"libopus" in libraries.ffi.string(library.opus_get_version_string())


def test_without_any_libopus_the_reason_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLibraries:
        def dlopen(self, name: str) -> object:
            raise OSError(name)

    monkeypatch.setattr(libraries, "ffi", NoLibraries())
    monkeypatch.setattr(libraries, "opus", libraries.opus.__wrapped__)
    with pytest.raises(OSError, match="install the system package libopus0"):
        siperb_transcoders()


@pytest.mark.parametrize("effort", ["low", "high"])
@pytest.mark.parametrize("hertz", [440, 700, 1000, 2000, 3000])
def test_a_tone_from_g722_to_opus_stands_35_db_above_the_rest(hertz: int, effort: str, backend: str) -> None:
    transcoder = created("G722", "opus", effort)
    sent = packets("G722", second(hertz, -12, 16000) * 3, 20)
    out = [transcoder.transcode(payload) for payload in sent]
    heard = samples("opus", out)[32000:]  # past the start
    transcoder.close()
    assert analyse(heard, 16000).is_tone(hertz, within=1, above_rest=35)
    assert sum(map(len, out)) * 8 / 3 < 40_000, "bit/s"


def test_a_lost_opus_packet_comes_out_of_the_one_after_it() -> None:
    transcoder = OpusG722().create(CODECS["opus"], CODECS["PCMA"])
    encoder = opus.OpusEncoder(16000)
    encoder.expect_loss(20)
    # A tone that begins in the packet that is lost: nothing before it could tell.
    pcm = bytes(16000) + second(300, -12, 16000)[: 640 * 4]
    sent = [encoder.encode(pcm[at : at + 640]) for at in range(0, len(pcm), 640)]
    lost = next(n for n in range(len(sent)) if len(sent[n]) > 20 and n >= 25)
    for payload in sent[:lost]:
        transcoder.transcode(payload)
    recovered = transcoder.recover(sent[lost + 1])  # type: ignore[attr-defined]
    assert len(recovered) == 160
    assert max(array("h", samples("PCMA", [recovered]))) > 1000
    encoder.close()
    transcoder.close()


@pytest.mark.parametrize("ptime", [10, 20])
@pytest.mark.parametrize("loss", [0, 10])
def test_silence_towards_opus_is_a_packet_of_an_octet_that_the_decoder_fills_with_noise(ptime: int, loss: int) -> None:
    transcoder = OpusG722().create(CODECS["G722"], CODECS["opus"], ptime=ptime)
    assert isinstance(transcoder, MakesNoise)
    assert isinstance(transcoder, ExpectsLoss)
    assert transcoder.noise(60) == b"", "nothing is known of the packets yet"
    transcoder.expect_loss(loss)
    sent = [transcoder.transcode(payload) for payload in packets("G722", second(1000, -6, 16000), ptime)]
    silence = transcoder.noise(60)
    assert len(silence) == 1
    assert opus_duration(silence) == opus_duration(sent[-1]) == ptime
    decoder = OpusDecoder(16000, ptime=ptime)
    for payload in [*sent, *[silence] * 40]:
        pcm = decoder.decode(payload)
        assert len(pcm) == 16 * ptime * 2
    assert analyse(pcm, 16000).dbfs < -30, "noise as loud as the quietest of what went before"
    assert len(decoder.decode(sent[-1])) == 16 * ptime * 2, "and speaks again"
    decoder.close()
    transcoder.close()


def test_other_codecs_have_no_word_for_silence() -> None:
    for source, target in PAIRS:
        transcoder = OpusG722().create(CODECS[source], CODECS[target])
        if target != "opus" and isinstance(transcoder, MakesNoise):
            assert transcoder.noise(60) == b""
        transcoder.close()
