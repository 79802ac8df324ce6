"""The rules of the house that no other tool holds up."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from siperb_core import hookspecs

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "siperb_core"
PURE = ("sip", "sdp", "rtp", "routing")
IMPURE = {
    "trio", "asyncio", "socket", "ssl", "time", "random", "secrets", "logging", "structlog", "sqlite3", "select",
    "threading", "selectors", "uuid", "subprocess", "os",
}  # fmt: skip
LONGEST = 500  # lines of a module
HOOKS = [function for name, function in vars(hookspecs).items() if name.startswith("siperb_")]


def modules(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", modules(*(CORE / room for room in PURE)), ids=lambda path: str(path.relative_to(CORE)))
def test_the_protocol_rooms_are_pure(path: Path) -> None:
    found = imported(path)
    assert {name.partition(".")[0] for name in found}.isdisjoint(IMPURE)
    own = {name.split(".")[1] for name in found if name.startswith("siperb_core.")}
    assert own <= {path.relative_to(CORE).parts[0], "sip"}


def test_only_one_module_calls_hooks() -> None:
    callers = [path for path in modules(CORE) if ".hook." in path.read_text() or "_pm.hook" in path.read_text()]
    assert callers == [CORE / "plugin_calls.py"]


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_every_hook_is_documented_annotated_and_synchronous(hook: object) -> None:
    text = " ".join((inspect.getdoc(hook) or "").split())
    assert "Several plugins:" in text
    assert "alled" in text, "it says when it is called"
    assert callable(hook)
    assert not inspect.iscoroutinefunction(hook)
    signature = inspect.signature(hook)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(param.annotation is not inspect.Parameter.empty for param in signature.parameters.values())


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_every_hook_has_a_test_of_its_name(hook: object) -> None:
    name = f"def test_{getattr(hook, '__name__', '')}"
    assert any(name in path.read_text() for path in modules(ROOT / "tests", ROOT / "plugins"))


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_every_hook_has_a_plugin_that_uses_it(hook: object) -> None:
    """One that is shipped: the core's own behaviour, or a package of this repository."""
    definition = re.compile(rf"@hookimpl(\([a-z=True, ]*\))?\n\s*def {getattr(hook, '__name__', '')}\(")
    shipped = modules(CORE / "defaults", *(ROOT / "plugins").glob("*/src")) + [
        CORE / "operations.py",
        CORE / "watch.py",
    ]
    assert any(definition.search(path.read_text()) for path in shipped)


def test_the_contract_stays_readable() -> None:
    assert len((CORE / "hookspecs.py").read_text().splitlines()) <= 300


@pytest.mark.parametrize(
    "path",
    modules(CORE, *(ROOT / "plugins").glob("*/src")),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_module_is_one_concern(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST
    assert path.stem not in {"utils", "helpers", "common", "manager", "misc"}


def test_plugins_do_not_import_each_other() -> None:
    for folder in (ROOT / "plugins").iterdir():
        own = {path.name for path in (folder / "src").glob("siperb_*")}
        for path in modules(folder / "src"):
            packages = {name.partition(".")[0] for name in imported(path)}
            assert {name for name in packages if name.startswith("siperb_")} <= own | {"siperb_core"}, path
