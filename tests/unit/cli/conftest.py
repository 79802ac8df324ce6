"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from .terminal import TEXT, Terminal


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAPTOP", "s3cret")
    path = tmp_path / "siperb.toml"
    path.write_text(TEXT)
    path.chmod(0o644)
    return path


@pytest.fixture
def siperb(config: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(config, capsys)
