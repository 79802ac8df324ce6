"""Deprecated names work, and warn whoever uses them; they stay for one minor version."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

import siperb_core
from siperb_core.deprecation import Deprecation, deprecated


@deprecated("new_name", since="0.1", gone="0.2")
def old_name(number: int) -> int:
    """What it did."""
    return number + 1


def test_a_deprecated_function_works_and_warns_its_caller() -> None:
    text = "old_name is deprecated since siperb-core 0.1 and gone in 0.2: use new_name"
    with pytest.warns(DeprecationWarning, match=text) as caught:
        assert old_name(1) == 2
    assert Path(caught[0].filename) == Path(__file__)
    assert old_name.__doc__ == "What it did."


def test_an_old_name_of_the_public_api_gives_the_new_one_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(siperb_core._OLD, "TrunkAnswer", ("Claim", "0.1", "0.2"))
    for _ in range(2):
        with pytest.warns(DeprecationWarning, match=r"TrunkAnswer is .* gone in 0\.2: use siperb_core\.Claim$"):
            assert siperb_core.TrunkAnswer is siperb_core.Claim  # type: ignore[attr-defined]


@pytest.mark.parametrize(("since", "gone"), [("0.2", "0.2"), ("0.3", "0.2"), ("0.1.0", "0.2")])
def test_nothing_goes_without_a_minor_version_of_warning(since: str, gone: str) -> None:
    with pytest.raises(ValueError, match="cannot be gone"):
        Deprecation("x", "y", since, gone)


def test_what_should_be_gone_is_gone() -> None:
    now = tuple(map(int, version("siperb-core").split(".")[:2]))
    for name, (instead, since, gone) in siperb_core._OLD.items():
        assert tuple(map(int, gone.split("."))) > now, f"{name} is to be removed with this version"
        assert Deprecation(name, instead, since, gone)
        assert instead in siperb_core.__all__
