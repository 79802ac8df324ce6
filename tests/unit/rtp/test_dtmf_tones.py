"""Digits as tones: made, found through codecs, and not found in what is none."""

from __future__ import annotations

import math
import random
from array import array

import pytest

from siperb_core.rtp import g711
from siperb_core.rtp.dtmf_tones import RATE, ToneDetector, tone
from siperb_core.rtp.events import DIGITS, Digit


def heard(pcm: bytes, law: str = "PCMA") -> list[Digit]:
    detector = ToneDetector()
    found = []
    for start in range(0, len(pcm), 320):
        payload = g711.encode(law, pcm[start : start + 320])  # type: ignore[arg-type]
        found += detector.feed(g711.decode(law, payload))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("law", ["PCMA", "PCMU"])
@pytest.mark.parametrize("milliseconds", [50, 70, 160, 1000])
def test_every_digit_is_found_once_with_its_duration(law: str, milliseconds: int) -> None:
    samples = RATE * milliseconds // 1000
    pcm = bytes(333 * 2) + b"".join(tone(key, 0, samples) + bytes(1600) for key in DIGITS)
    found = heard(pcm + bytes(320 - len(pcm) % 320), law)
    assert "".join(digit.key for digit in found) == DIGITS
    assert all(digit.milliseconds == pytest.approx(milliseconds, abs=26) for digit in found)


def test_a_digit_with_a_lost_packet_in_it_is_one() -> None:
    whole = tone("5", 0, 1600)
    assert [d.key for d in heard(whole[:1600] + bytes(320) + whole[1920:] + bytes(1600))] == ["5"]


@pytest.mark.parametrize("seed", range(8))
def test_each_digit_is_one_where_packets_are_lost(seed: int) -> None:
    """5 % of them, in digits and between: two alike in a row are the hardest."""
    dice = random.Random(seed)
    keys = "1155990##" * 10
    pcm = bytes(2 * dice.randrange(160)) + b"".join(tone(key, 0, 960) + bytes(1920) for key in keys)
    detector, found, missing, lost = ToneDetector(), list[Digit](), 0, 0
    for start in range(0, len(pcm), 320):
        if dice.random() < 0.05:
            missing, lost = missing + 1, lost + 1
            continue
        found += detector.lose(160 * missing) if missing else []
        found += detector.feed(pcm[start : start + 320])
        missing = 0
    assert lost > 30
    assert "".join(digit.key for digit in found) == keys
    assert all(60 <= digit.milliseconds <= 130 for digit in found)


def test_a_digit_is_one_where_the_decoder_has_to_find_its_way_back_after_a_loss() -> None:
    dice = random.Random(3)
    noise = array("h", [dice.randint(-9000, 9000) for _ in range(400)]).tobytes()
    detector = ToneDetector()
    found = detector.feed(tone("5", 0, 400)) + detector.lose(160) + detector.feed(noise + tone("5", 960, 640))
    assert [digit.key for digit in found + detector.feed(bytes(1600))] == ["5"]


def test_a_digit_ends_where_the_stream_is_gone_for_long() -> None:
    detector = ToneDetector()
    found = detector.feed(tone("5", 0, 960)) + detector.lose(8000) + detector.feed(tone("5", 0, 960))
    assert [digit.key for digit in found + detector.feed(bytes(1600))] == ["5", "5"]


def test_noise_single_tones_and_speech_like_sound_are_no_digits() -> None:
    dice = random.Random(5)
    noise = array("h", [dice.randint(-9000, 9000) for _ in range(3 * RATE)])
    single = array("h", [round(9000 * math.sin(2 * math.pi * 770 * n / RATE)) for n in range(RATE)])
    turns = [2 * math.pi * (120 + 20 * math.sin(n / 900)) * n / RATE for n in range(3 * RATE)]
    voice = array("h", [round(sum(3000 / k * math.sin(k * turn) for k in range(1, 12))) for turn in turns])
    assert [heard(sound.tobytes()) for sound in (noise, single, voice)] == [[], [], []]
