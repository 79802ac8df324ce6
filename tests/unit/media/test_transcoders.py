"""A plugin's transcoder used with care: what it does wrong is told, and its packet counts as one that is broken."""

from __future__ import annotations

from typing import Any, cast

import pytest

from siperb_core.media.contract import AdjustsEffort, ExpectsLoss, Levels, MakesNoise, Recovers
from siperb_core.media.transcoders import GuardedTranscoder

OPTIONAL = (AdjustsEffort, ExpectsLoss, Levels, MakesNoise, Recovers)
PARTS = {
    "transcode": (b"x",),
    "conceal": (),
    "recover": (b"x",),
    "noise": (60,),
    "level": (),
    "expect_loss": (5,),
}


class Works:
    """Has no part that is optional."""

    def transcode(self, payload: bytes) -> bytes:
        if payload == b"broken":
            raise ValueError
        return payload

    def conceal(self) -> bytes:
        return b"concealed"

    def close(self) -> None:
        pass


class Fails:
    """Has all parts, and nothing works."""

    def __getattr__(self, name: str) -> Any:
        if name in (*PARTS, "close", "adjust_effort"):
            return self._fail
        raise AttributeError(name)

    def _fail(self, *_: object, **__: object) -> None:
        raise ZeroDivisionError


def guarded(transcoder: object) -> tuple[GuardedTranscoder, list[Exception]]:
    told: list[Exception] = []
    return GuardedTranscoder(cast(Any, transcoder), told.append), told


def test_it_does_what_the_transcoder_does_and_has_what_that_has() -> None:
    transcoder, told = guarded(Works())
    assert (transcoder.transcode(b"x"), transcoder.conceal()) == (b"x", b"concealed")
    with pytest.raises(ValueError, match=r"^$"):
        transcoder.transcode(b"broken")
    transcoder.close()
    assert told == [], "a payload that cannot be decoded is no fault"
    assert not any(isinstance(transcoder, part) for part in OPTIONAL)
    assert all(isinstance(guarded(Fails())[0], part) for part in OPTIONAL)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_raises_is_told_and_raises_what_callers_expect(part: str) -> None:
    transcoder, told = guarded(Fails())
    with pytest.raises(ValueError, match="has failed"):
        getattr(transcoder, part)(*PARTS[part])
    assert [type(error) for error in told] == [ZeroDivisionError]


@pytest.mark.parametrize("part", PARTS)
def test_a_packet_that_is_broken_is_nobodys_fault_here(part: str) -> None:
    """`recover` reads a packet of the peer's, too."""

    class Strict:
        def __getattr__(self, name: str) -> Any:
            return self._refuse

        def _refuse(self, *_: object) -> None:
            raise ValueError("broken")

    transcoder, told = guarded(Strict())
    with pytest.raises(ValueError, match="broken"):
        getattr(transcoder, part)(*PARTS[part])
    assert told == []


def test_closing_never_raises() -> None:
    transcoder, told = guarded(Fails())
    transcoder.close()
    assert [type(error) for error in told] == [ZeroDivisionError]


@pytest.mark.parametrize("nonsense", [None, "text", 5, bytearray(b"x")])
def test_what_is_no_payload_is_told(nonsense: object) -> None:
    transcoder = Works()
    transcoder.transcode = lambda payload: nonsense  # type: ignore[assignment, method-assign]
    careful, told = guarded(transcoder)
    with pytest.raises(ValueError, match="has failed"):
        careful.transcode(b"x")
    assert [str(error) for error in told] == [f"transcode returned a {type(nonsense).__name__}"]
