"""Every issue that the core or one of our plugins raises has its row in the page an administrator looks it up in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/how-to/find-out-what-is-wrong.md"
SOURCES = sorted([*(ROOT / "siperb_core").rglob("*.py"), *ROOT.glob("plugins/*/src/**/*.py")])
PASSED_ON = {"siperb_core/entries/slot.py", "siperb_core/watch.py"}
"""Where an id that somebody else has chosen is handed on."""


def texts(node: ast.AST) -> Iterator[str]:
    """The texts an expression may be: what is put into it stands as `*`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)


def assigned(tree: ast.AST, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            yield from texts(node.value)  # type: ignore[attr-defined]


def ids(path: Path) -> Iterator[str]:
    """What is given to `raise_issue` as the issue's id, in the core after the connection; and what `watch.py` finds."""
    tree = ast.parse(path.read_text())
    name = str(path.relative_to(ROOT))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "raise_issue":
            given = node.args[1] if len(node.args) == 5 else node.args[0]
            found = [*texts(given), *(assigned(tree, given.id) if isinstance(given, ast.Name) else ())]
            assert found or name in PASSED_ON, f"{name}:{node.lineno}: what issue is that?"
            yield from found
        elif name == "siperb_core/watch.py" and isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
            yield from texts(node.value.elts[1])


def raised() -> dict[str, str]:
    """Each kind of issue, and where it comes from."""
    found: dict[str, str] = {}
    for path in SOURCES:
        plugin = path.relative_to(ROOT).parts[1] if path.is_relative_to(ROOT / "plugins") else ""
        for issue in ids(path):
            if issue == "*:*":
                continue  # a plugin's, behind its name
            # What a service raises stands behind its plugin's name; what a connection raises is the connection's.
            behind = f"{plugin}:{issue}" if plugin and not plugin.startswith("connection_") else issue
            found[behind] = str(path.relative_to(ROOT))
    found["*:service"], found["*:settings"] = found.pop("service"), found.pop("settings")
    return found


def rows() -> list[str]:
    """The ids of the page's table, names in capitals as `*`."""
    text = PAGE.read_text().partition("## `siperb show issues`")[2].partition("\n## ")[0]
    own, _, plugins = text.partition("\n| of | issue |")
    names = re.findall(r"^\| `([^`]+)` \|", own, re.MULTILINE) + re.findall(
        r"^\| [^|]+ \| `([^`]+)` \|", plugins, re.MULTILINE
    )
    return [re.sub(r"[A-Z]{2,}", "*", name) for name in names]


def test_issues_are_found_in_the_code() -> None:
    assert {"auth_failed", "no_common_codec", "emergency:*", "certificate:*", "codes_missed"} <= set(raised())


@pytest.mark.parametrize(("issue", "where"), sorted(raised().items()))
def test_every_issue_has_a_row(issue: str, where: str) -> None:
    assert issue in rows(), f"{where} raises {issue}: say in {PAGE.name} when, and when it is gone"


def test_every_row_is_an_issue() -> None:
    assert set(rows()) == set(raised())
