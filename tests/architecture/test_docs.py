"""What the documentation says of the code is so: paths and names exist, generated pages have everything."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

import siperb_core
from siperb_core import hookspecs
from siperb_core.own_metrics import OWN
from siperb_core.quality import LEVELS, check
from siperb_core.testing.scaffold import scaffold

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CORE = ROOT / "siperb_core"
CHECKED = ("explanation/architecture.md", "explanation/packet-walk.md")
HOOKS = [name for name in vars(hookspecs) if name.startswith("siperb_")]

sys.path.insert(0, str(DOCS / "_ext"))
import reference  # noqa: E402


def spans(text: str) -> list[str]:
    """What stands in backquotes, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def tree(text: str) -> list[str]:
    """The paths of the tree in a block: first words, indented below the folder they are in."""
    found: list[str] = []
    folder = ""
    for block in re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            for name in re.findall(r"[\w./]+(?=[, ])", re.split(r"  +", line.strip())[0] + " "):
                inner = line.startswith(" ")
                found.append(folder + name if inner else name)
                if not inner and name.endswith("/"):
                    folder = name
    return found


def resolve(dotted: str) -> Any:
    """The module, class or attribute of that name; raises AttributeError, ImportError."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            value = getattr(value, name)
        return value
    raise ImportError(dotted)


@pytest.mark.parametrize("page", CHECKED)
def test_every_path_and_name_exists(page: str) -> None:
    text = (DOCS / page).read_text()
    missing = [path for path in tree(text) if not (ROOT / path).exists()]
    known = {name for path in [*CORE.rglob("*.py"), *(ROOT / "plugins").rglob("*.py")] for name in _names(path)}
    for span in spans(text):
        if re.fullmatch(r"[\w./]+(\.py|/)", span):
            missing += [span] * (not (CORE / span).exists() and not (ROOT / span).exists())
        elif re.fullmatch(r"siperb_core(\.\w+)+", span):
            try:
                resolve(span)
            except (ImportError, AttributeError):
                missing.append(span)
        elif re.fullmatch(r"[A-Z][a-z]+[A-Za-z]*|siperb_\w+", span):
            missing += [span] * (span not in known and not hasattr(hookspecs, span))
    assert missing == []
    assert len(spans(text)) > 10


def _names(path: Path) -> list[str]:
    return re.findall(r"^(?:class|def) (\w+)", path.read_text(), re.MULTILINE)


def test_the_check_sees_what_is_missing() -> None:
    assert tree("```text\nsiperb_core/\n  nowhere.py, x.py   what\n```\n") == [
        "siperb_core/",
        "siperb_core/nowhere.py",
        "siperb_core/x.py",
    ]
    with pytest.raises((ImportError, AttributeError)):
        resolve("siperb_core.media.nowhere.Nothing")


def test_the_house_is_complete() -> None:
    """Every module and room of the core is in the drawing."""
    drawn = set(tree((DOCS / CHECKED[0]).read_text()))
    there = {f"siperb_core/{path.name}" for path in CORE.glob("*.py") if not path.name.startswith("_")}
    there |= {f"siperb_core/{path.parent.name}/" for path in CORE.glob("*/__init__.py")}
    assert there - drawn == set()


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_on_its_page(name: str) -> None:
    text = reference.hook_page(getattr(hookspecs, name))
    for parameter in inspect.signature(getattr(hookspecs, name)).parameters:
        assert f"| `{parameter}` |" in text
    for part in ("**When:** ", "**Several plugins:** ", f"def {name}("):
        assert re.search(rf"{re.escape(part)}\S?", text)
        assert part + "\n" not in text
    assert f"### {name}\n" in reference.hooks()


def test_every_key_and_command_is_on_its_page() -> None:
    keys, commands = reference.keys(), reference.commands()
    from siperb_core.plugins import load_plugins

    for kind, found in load_plugins().connection_types.items():
        assert f"[connection.settings] of {kind}" in keys
        for field in attrs.fields(found.config_class):
            assert f"| `{field.name}` |" in keys
    for command in ("run", "connection add NAME", "new WHAT NAME", "plugins check NAME"):
        assert f"## `siperb {command}" in commands
    assert "| `--port-base` | `8000` |" in commands


def test_every_metric_is_on_its_page_with_its_labels() -> None:
    text = reference.metrics()
    for own in OWN:
        (section,) = re.findall(rf"^## `siperb_{own.name}`\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
        assert f"A {own.kind}. {own.help}" in section
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(own.labels)


def test_rules_for_prometheus_ask_for_what_there_is() -> None:
    text = (DOCS / "how-to/watch-with-prometheus.md").read_text()
    known = {f"siperb_{own.name}": own for own in OWN}
    asked = re.findall(r"\b(siperb_\w+?)(?:_bucket)?(?:\{(\w+)=|[\[ ])", "\n".join(re.findall(r"expr: (.*)", text)))
    assert len(asked) >= 6
    for name, label in asked:
        assert name in known
        assert not label or label in known[name].labels


def test_the_pages_are_written_once(tmp_path: Path) -> None:
    reference.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(reference.PAGES)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    reference.write(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_examples_are_true() -> None:
    """Those of the docstrings of the whole core, and of every page, the generated ones as they are written now."""
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    found = [
        example
        for path in CORE.rglob("*.py")
        if re.search(r"^ +>>> ", path.read_text(), re.MULTILINE)
        for example in finder.find(importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)))
    ]
    pages = {path.name: path.read_text() for path in DOCS.rglob("*.md") if path.name not in reference.PAGES}
    pages |= {"hooks.md": reference.hooks(), "plugin-types.md": reference.plugin_types()}
    names = {name: getattr(siperb_core, name) for name in siperb_core.__all__}
    for name, text in pages.items():
        unfenced = re.sub(r"^[ ]*```.*$", "", text, flags=re.MULTILINE)
        found.append(doctest.DocTestParser().get_doctest(unfenced, dict(names), name, name, 0))
    failed = sum(runner.run(example).failed for example in found)
    tried = {example.name: len(example.examples) for example in found if example.examples}
    assert failed == 0
    assert sum(tried.values()) >= 3
    assert "plugin-types.md" in tried, "the reference shows the examples of what is public"


def test_every_rule_of_the_scale_is_in_its_page(tmp_path: Path) -> None:
    from siperb_core.quality import Package

    folder = scaffold("connection", "acme", tmp_path)
    package = Package(folder, next((folder / "src").iterdir()), ("connection type acme",))
    text = (DOCS / "reference/quality-scale.md").read_text()
    rows = re.findall(rf"^\| ({'|'.join(LEVELS)}) \| ([^|]+) \|", text, re.MULTILINE)
    ruled = {(rule.level, rule.name) for rule in check(package, run=False)}
    assert {(level, name) for level, name in rows} == ruled | {("silver", "tests pass"), ("platinum", "mypy --strict")}
