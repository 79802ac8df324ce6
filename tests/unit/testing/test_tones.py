"""What the ears of the test peers hear."""

from __future__ import annotations

from array import array
from random import Random

import pytest

from siperb_core.testing.tones import SILENCE, analyse, second


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize(("hz", "dbfs"), [(350, -6.0), (1000, -20.0), (1004, 0.0), (3401, -40.0)])
def test_a_tone_is_heard_as_it_was_made(rate: int, hz: int, dbfs: float) -> None:
    heard = analyse(second(hz, dbfs, rate), rate)
    assert heard.hz == pytest.approx(hz, abs=0.5)
    assert heard.dbfs == pytest.approx(dbfs, abs=0.2)
    assert heard.tone_to_rest > 35
    assert heard.is_tone(hz)
    assert not heard.is_tone(hz + 100)


def test_a_second_goes_on_without_a_click() -> None:
    twice = second(440, -6, 8000) * 2
    assert analyse(twice[8000:-8000], 8000).tone_to_rest > 45


def test_noise_is_no_tone() -> None:
    noise = Random(1)
    pcm = array("h", [noise.randint(-8000, 8000) for _ in range(8192)]).tobytes()
    assert analyse(pcm, 8000).tone_to_rest < 0


@pytest.mark.parametrize("pcm", [b"", b"\x01", bytes(200), bytes(40000)])
def test_silence(pcm: bytes) -> None:
    heard = analyse(pcm, 8000)
    assert (heard.hz, heard.dbfs) == (SILENCE.hz, SILENCE.dbfs)
    assert not heard.is_tone(1000)


@pytest.mark.parametrize(("hz", "dbfs"), [(0, -6), (4000, -6), (1000, 1)])
def test_a_tone_that_cannot_be_is_refused(hz: int, dbfs: float) -> None:
    with pytest.raises(ValueError, match="no tone of"):
        second(hz, dbfs, 8000)
