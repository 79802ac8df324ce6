"""The transcoders keep to the contract."""

from __future__ import annotations

from siperb_core.testing import check_transcoder
from siperb_transcoder_opus_g722 import OpusG722


def test_it_is_a_transcoder_type() -> None:
    check_transcoder(OpusG722())
