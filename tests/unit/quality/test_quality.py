"""The quality scale sees what a package lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from siperb_core.plugins import load_plugins
from siperb_core.quality import Package, check, level_of, package_of, private_imports
from siperb_core.testing.scaffold import scaffold


def package(folder: Path, what: str = "connection") -> Package:
    source = next((folder / "src").iterdir())
    return Package(folder, source, ("connection type acme" if what == "connection" else "transcoder acme",))


@pytest.mark.parametrize("what", ["connection", "transcoder"])
def test_a_new_package_is_at_platinum(tmp_path: Path, what: str) -> None:
    rules = check(package(scaffold(what, "acme", tmp_path), what), run=False)
    assert [rule for rule in rules if rule.wrong] == []
    assert level_of(rules) == "platinum"


OWN = [
    *("connection_direct", "connection_feature_code", "connection_inbound_reg", "connection_outbound_reg"),
    *("connection_trunk", "console", "events_webhook", "transcoder_opus_g722"),
]


@pytest.mark.parametrize("name", OWN)
def test_our_own_plugins_are_at_platinum(name: str) -> None:
    """All but their own tests and mypy, which the suite and `make check` run anyway."""
    (info,) = [info for info in load_plugins().infos if info.name == name]
    rules = check(package_of(f"siperb_{name}", info.provides), run=False)
    assert [rule for rule in rules if rule.wrong] == []
    assert level_of(rules) == "platinum"


def damage(found: Package, what: str) -> None:
    match what:
        case "README":
            (found.folder / "README.md").unlink()
        case "README sections":
            (found.folder / "README.md").write_text("# acme\n")
        case "conformance suite":
            (found.folder / "tests" / "test_conformance.py").unlink()
        case "types":
            (found.source / "py.typed").unlink()
        case "public API only":
            (found.source / "more.py").write_text('"""More."""\nfrom siperb_core.gateway import Gateway\n')
        case "docstrings":
            (found.source / "more.py").write_text("class More: ...\n")


@pytest.mark.parametrize(
    ("what", "level"),
    [
        ("README", None),
        ("public API only", None),
        ("README sections", "bronze"),
        ("conformance suite", "bronze"),
        ("types", "silver"),
        ("docstrings", "gold"),
    ],
)
def test_what_is_missing_costs_the_level(tmp_path: Path, what: str, level: str | None) -> None:
    found = package(scaffold("connection", "acme", tmp_path))
    damage(found, what)
    rules = check(found, run=False)
    assert what in {rule.name for rule in rules if rule.wrong}
    assert level_of(rules) == level


def test_what_is_public_and_what_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("import siperb_core\nfrom siperb_core.sip import Message\nfrom siperb_core.entries import peer\n")
    assert list(private_imports([path])) == ["x.py:3 siperb_core.entries"]
    path.write_text(
        "from siperb_core import Entry, gateway, sip\nfrom siperb_core.sip import Message, _x, dialog\n"
        "from siperb_core.sip import registrar\nfrom siperb_core.testing import tones\nimport siperb_core.testing.pbx\n"
    )
    assert list(private_imports([path])) == [
        "x.py:1 siperb_core.gateway",
        "x.py:2 siperb_core.sip._x",
        "x.py:2 siperb_core.sip.dialog",
        "x.py:5 siperb_core.testing.pbx",
    ]
