"""Settings outlive their versions: what an older one wrote is read, what a newer one wrote is left alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from siperb_core.entries.editing import ConfigFile, EditError
from siperb_core.entries.source import load_text
from siperb_core.plugins import load_plugins

STORED = Path(__file__).parent / "stored"
TYPES = load_plugins(only=("siperb_connection_types",)).connection_types
HEAD = '[gateway]\ndomain = "gw.example"\n'


@attrs.frozen
class Settings:
    """Version 3: a host and a port, which were one text in version 2 and called `peer` in version 1."""

    host: str
    port: int = 5060


class ThirdVersion:
    kind: ClassVar[str] = "third"
    title: ClassVar[str] = "Third"
    version: ClassVar[int] = 3
    config_class: ClassVar[type[Any]] = Settings
    allow_from_required: ClassVar[bool] = False

    def unique_id(self, config: Any) -> None:
        return None

    def migrate(self, data: Mapping[str, Any], old: int) -> Mapping[str, Any]:
        if old < 2:
            data = {"address": data["peer"]}
        if old < 3:
            host, _, port = data["address"].partition(":")
            data = {"host": host, "port": int(port or 5060)}
        return data


def entry_of(text: str, types: Any = None) -> tuple[Any, list[str]]:
    result = load_text((HEAD + text).encode(), Path("siperb.toml"), types or {"third": ThirdVersion()}, private=True)
    assert result.config is not None
    return result.config.connections[0], [str(problem) for problem in result.problems]


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_version_there_was_is_stored_and_can_be_read(kind: str) -> None:
    for version in range(1, TYPES[kind].version + 1):
        entry, problems = entry_of((STORED / f"{kind}-v{version}.toml").read_text(), TYPES)
        assert problems == []
        assert isinstance(entry.settings, TYPES[kind].config_class)


@pytest.mark.parametrize(
    ("version", "settings"), [(1, 'peer = "a:5070"'), (2, 'address = "a:5070"'), (3, 'host = "a"\nport = 5070')]
)
def test_older_settings_are_brought_up(version: int, settings: str) -> None:
    entry, problems = entry_of(
        f'[[connection]]\nname = "x"\ntype = "third"\nversion = {version}\n[connection.settings]\n{settings}\n'
    )
    assert problems == []
    assert entry.settings == Settings("a", 5070)


def test_settings_that_cannot_be_brought_up_cost_their_entry() -> None:
    entry, problems = entry_of('[[connection]]\nname = "x"\ntype = "third"\nversion = 1\n[connection.settings]\n')
    assert "cannot be brought to version 3" in problems[0]
    assert entry.problem


NEWER = """
[[connection]]
name = "newer"   # written by a newer plugin
type = "third"
version = 4
[connection.settings]
something = "that nobody here knows"

[[connection]]
name = "other"
type = "third"
version = 3
[connection.settings]
host = "a"
"""


def test_a_newer_version_is_a_mistake_of_its_entry_alone() -> None:
    entry, (problem,) = entry_of(NEWER)
    assert problem == ("connection.newer.version: is 4, the installed plugin knows 3: install a newer plugin")
    assert entry.problem == problem


def test_a_newer_version_is_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "siperb.toml"
    path.write_text(HEAD + NEWER)
    path.chmod(0o600)
    file = ConfigFile(path, {"third": ThirdVersion()})
    file.change("connection", "other", {"weight": 7})
    try:
        file.save()
    except EditError as error:
        pytest.fail(f"another connection could not be edited: {error.problems}")
    before, _, after = path.read_text().partition("weight = 7\n")
    assert (before + after).replace("\n", "") == (HEAD + NEWER).replace("\n", "")
