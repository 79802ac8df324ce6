"""Plugins' own tables, `[plugins.NAME]`: checked by their classes, secrets taken from where the table says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from siperb_core.entries.diagnostics import secrets_of
from siperb_core.entries.fields import between
from siperb_core.entries.model import Secret
from siperb_core.entries.source import LoadResult, load

HEAD = '[gateway]\ndomain = "gw.example"\n'


@attrs.frozen
class Inner:
    token: Secret


@attrs.frozen
class Table:
    secret: Secret
    seconds: int = attrs.field(default=10, validator=between(1, 60, "seconds"))
    inner: Inner | None = None


def read(folder: Path, table: str, *, mode: int = 0o600) -> LoadResult:
    file = folder / "siperb.toml"
    file.write_text(f"{HEAD}{table}")
    file.chmod(mode)
    return load(file, {}, (), {"mine": Table})


def test_secrets_are_taken_from_where_the_table_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "out-of-the-environment")
    (tmp_path / "key").write_text("out-of-a-file\n")
    found = read(tmp_path, '[plugins.mine]\nsecret = { file = "key" }\ninner = { token = { env = "TOKEN" } }\n')
    assert found.problems == found.warnings == ()
    assert found.config is not None
    plugins = found.config.plugins
    settings: Any = plugins.settings["mine"]
    assert (settings.secret.reveal(), settings.inner.token.reveal()) == ("out-of-a-file", "out-of-the-environment")
    assert "out-of" not in repr(found)
    assert set(secrets_of(plugins)) == {"out-of-a-file", "out-of-the-environment"}, "diagnostics take them out"
    assert not plugins.broken


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ('secret = { env = "NOT_SET" }', "secret: environment variable NOT_SET is not set: set it, or use "),
        ('secret = { file = "nowhere" }', "secret: file nowhere cannot be read (No such file or directory): make it"),
        ("", 'secret: is missing: add secret = { env = "NAME" }'),
        ('secret = "hidden-text"\nseconds = 99', "seconds: 99 is out of range: use 1 to 60 seconds"),
        ('secret = "hidden-text"\ncolour = 1', "colour: unknown key: known here are inner, seconds, secret"),
    ],
)
def test_a_mistake_is_one_line_and_costs_that_plugin_alone(tmp_path: Path, table: str, line: str) -> None:
    found = read(tmp_path, f"[plugins.mine]\n{table}\n[plugins.other]\nx = 1\n")
    (problem,) = map(str, found.problems)
    assert problem.startswith(f"plugins.mine.{line}")
    assert found.config is not None
    plugins = found.config.plugins
    assert plugins.broken == {"mine": problem}
    assert plugins.settings == {}
    assert plugins.tables["other"] == {"x": 1}
    assert "hidden-text" not in repr(found)


def test_a_secret_in_a_file_others_can_read_is_warned_about(tmp_path: Path) -> None:
    found = read(tmp_path, '[plugins.mine]\nsecret = "hidden-text"\n', mode=0o644)
    assert [warning.path for warning in found.warnings] == ["plugins.mine.secret"]
    assert found.problems == ()


def test_without_its_class_a_table_stays_as_it_is_written(tmp_path: Path) -> None:
    found = read(tmp_path, "[plugins.other]\nx = 1\n")
    assert found.problems == ()
    assert found.config is not None
    assert found.config.plugins.tables == {"other": {"x": 1}}
    assert found.config.plugins.settings == {}
