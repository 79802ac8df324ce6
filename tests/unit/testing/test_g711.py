"""G.711 against the standard's own formula, worked out sample by sample."""

from __future__ import annotations

from array import array

import pytest

from siperb_core.rtp import g711

EVERY_SAMPLE = array("h", range(-32768, 32768)).tobytes()
EVERY_OCTET = bytes(range(256))
# From ITU-T G.711 tables 1a and 2a: the decoder's largest, smallest and zero outputs, as 16-bit samples.
KNOWN = {
    "PCMA": {0xAA: 32256, 0x2A: -32256, 0xD5: 8, 0x55: -8},
    "PCMU": {0x80: 32124, 0x00: -32124, 0xFF: 0, 0x7F: 0},
}


@pytest.mark.parametrize("law", ["PCMA", "PCMU"])
def test_known_octets(law: g711.Law) -> None:
    for octet, sample in KNOWN[law].items():
        assert array("h", g711.decode(law, bytes([octet])))[0] == sample


@pytest.mark.parametrize("law", ["PCMA", "PCMU"])
def test_every_sample_is_at_most_half_a_step_off(law: g711.Law) -> None:
    back = array("h", g711.decode(law, g711.encode(law, EVERY_SAMPLE)))
    for sample, got in zip(range(-32768, 32768), back, strict=True):
        assert abs(got - sample) <= (abs(sample) + 132) / 32 + 8  # sixteen steps in every doubling


@pytest.mark.parametrize("law", ["PCMA", "PCMU"])
def test_decoding_and_encoding_gives_the_octet_back(law: g711.Law) -> None:
    octets = bytes(o for o in EVERY_OCTET if (law, o) != ("PCMU", 0x7F))  # mu-law has two zeros
    assert g711.encode(law, g711.decode(law, octets)) == octets


def test_one_law_to_the_other_is_the_nearest_octet() -> None:
    assert g711.translate("PCMA", "PCMU", EVERY_OCTET) == g711.encode("PCMU", g711.decode("PCMA", EVERY_OCTET))
    assert g711.decode("PCMU", bytes([g711.SILENCE["PCMU"]])) == b"\x00\x00"
    assert abs(array("h", g711.decode("PCMA", bytes([g711.SILENCE["PCMA"]])))[0]) == 8


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="16-bit"):
        g711.encode("PCMA", b"\x00\x00\x00")
