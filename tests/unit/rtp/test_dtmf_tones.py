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
@pytest.mark.parametrize("milliseconds", [70, 160, 1000])
def test_every_digit_is_found_once_with_its_duration(law: str, milliseconds: int) -> None:
    samples = RATE * milliseconds // 1000
    pcm = bytes(333 * 2) + b"".join(tone(key, 0, samples) + bytes(1600) for key in DIGITS)
    found = heard(pcm + bytes(320 - len(pcm) % 320), law)
    assert "".join(digit.key for digit in found) == DIGITS
    assert all(digit.milliseconds == pytest.approx(milliseconds, abs=52) for digit in found)


def test_a_digit_with_a_lost_packet_in_it_is_one() -> None:
    whole = tone("5", 0, 1600)
    assert [d.key for d in heard(whole[:1600] + bytes(320) + whole[1920:] + bytes(1600))] == ["5"]


def test_noise_single_tones_and_speech_like_sound_are_no_digits() -> None:
    dice = random.Random(5)
    noise = array("h", [dice.randint(-9000, 9000) for _ in range(3 * RATE)])
    single = array("h", [round(9000 * math.sin(2 * math.pi * 770 * n / RATE)) for n in range(RATE)])
    turns = [2 * math.pi * (120 + 20 * math.sin(n / 900)) * n / RATE for n in range(3 * RATE)]
    voice = array("h", [round(sum(3000 / k * math.sin(k * turn) for k in range(1, 12))) for turn in turns])
    assert [heard(sound.tobytes()) for sound in (noise, single, voice)] == [[], [], []]
