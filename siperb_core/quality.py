"""The quality scale: what a plugin's package has to have, bronze to platinum, as far as a machine can see it.

Looks at the package's own folder: sources, tests, README. Runs its tests and mypy where they are installed.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import attrs

Level = Literal["bronze", "silver", "gold", "platinum"]
LEVELS: tuple[Level, ...] = ("bronze", "silver", "gold", "platinum")

PUBLIC_MODULES = (
    "siperb_core",
    "siperb_core.cli",
    "siperb_core.hookspecs",
    "siperb_core.routing",
    "siperb_core.sip",
    "siperb_core.sip.registrar",
    "siperb_core.sip.registration",
    "siperb_core.testing",
    "siperb_core.testing.strategies",
    "siperb_core.testing.tones",
)
"""What plugins may import from: the modules `siperb_core` exports, and the parts of `sip` whose names are many."""

SECTIONS = ("Configuration", "Diagnostics")
_SUITES = {"connection": "check_connection_type", "transcoder": "check_transcoder", "transport": "check_transport"}
_TEST_SECONDS = 600


@attrs.frozen
class Rule:
    """One rule, and whether it is kept: `wrong` is empty, or says what is amiss and how to mend it."""

    level: Level
    name: str
    wrong: str


@attrs.frozen
class Package:
    """A plugin's package on disk. `provides` is what the gateway knows of it, `connection type acme` say."""

    folder: Path
    source: Path
    provides: tuple[str, ...]

    @property
    def sources(self) -> list[Path]:
        """Its modules."""
        return sorted(self.source.rglob("*.py"))

    @property
    def tests(self) -> str:
        """The text of its tests."""
        return "\n".join(path.read_text(encoding="utf-8") for path in sorted((self.folder / "tests").rglob("*.py")))

    @property
    def suites(self) -> list[str]:
        """The conformance suites that are for what it gives."""
        kinds = {what.split(" ", 1)[0] for what in self.provides}
        return [suite for kind, suite in _SUITES.items() if kind in kinds]


def package_of(module: str, provides: Iterable[str]) -> Package:
    """The package a plugin's module is in. Raises LookupError where its folder is not there: it has to be installed
    with `pip install -e`.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"module {module} cannot be found")
    source = Path(spec.origin).parent
    for folder in (source.parent, source.parent.parent):
        if (folder / "pyproject.toml").is_file():
            return Package(folder, source, tuple(provides))
    raise LookupError(
        f"{source} has no pyproject.toml above it: pip install -e its folder, sources and tests are needed"
    )


def check(package: Package, *, run: bool = True) -> list[Rule]:
    """Every rule, in the order of the scale. `run=False` leaves out the package's tests and mypy."""
    rules: list[tuple[Level, str, Callable[[Package], str]]] = [
        ("bronze", "public API only", _public),
        ("bronze", "README", _readme),
        ("bronze", "tests", _tests),
        ("silver", "conformance suite", _conformance),
        ("silver", "README sections", _sections),
        ("gold", "types", _typed),
        ("gold", "diagnostics", _diagnostics),
        ("gold", "migrations", _migrations),
    ]
    if run:
        rules += [("silver", "tests pass", _tests_pass), ("platinum", "mypy --strict", _mypy)]
    rules.append(("platinum", "docstrings", _docstrings))
    found = [Rule(level, name, look(package)) for level, name, look in rules]
    return sorted(found, key=lambda rule: LEVELS.index(rule.level))


def level_of(rules: Iterable[Rule]) -> Level | None:
    """The highest level none of whose rules, nor of those below, is broken; None for not even bronze."""
    broken = {rule.level for rule in rules if rule.wrong}
    reached: Level | None = None
    for level in LEVELS:
        if level in broken:
            break
        reached = level
    return reached


def private_imports(paths: Iterable[Path]) -> Iterator[str]:
    """Imports of the core that are not of its public API, as `file:line module` or `file:line module.name`."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
                names += [f"{node.module}.{alias.name}" for alias in node.names if not _exports(names[0], alias.name)]
            for name in names:
                if name.partition(".")[0] == "siperb_core" and name not in PUBLIC_MODULES:
                    yield f"{path.name}:{getattr(node, 'lineno', 0)} {name}"


def _exports(module: str, name: str) -> bool:
    """Whether a name that is imported from a public module is one that it exports; of other modules nothing is said."""
    if module not in PUBLIC_MODULES:
        return True
    exported: Iterable[str] | None = getattr(import_module(module), "__all__", None)
    return not name.startswith("_") if exported is None else name in exported or f"{module}.{name}" in PUBLIC_MODULES


def _public(package: Package) -> str:
    found = list(private_imports(package.sources))
    return f"imports what is not public: {', '.join(found[:5])}: use what siperb_core exports" if found else ""


def _readme(package: Package) -> str:
    return "" if (package.folder / "README.md").is_file() else "there is no README.md: write one"


def _tests(package: Package) -> str:
    return "" if "def test_" in package.tests else "there are no tests in tests/: begin with the conformance suite"


def _conformance(package: Package) -> str:
    missing = [suite for suite in package.suites if f"{suite}(" not in package.tests]
    return f"no test calls {', '.join(missing)} of siperb_core.testing: add one" if missing else ""


def _sections(package: Package) -> str:
    path = package.folder / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    missing = [name for name in SECTIONS if not re.search(rf"^##+ {name}\b", text, re.MULTILINE)]
    return f"README.md has no section {', '.join(missing)}: write it" if missing else ""


def _typed(package: Package) -> str:
    return (
        "" if (package.source / "py.typed").is_file() else "there is no py.typed beside __init__.py: add an empty file"
    )


def _diagnostics(package: Package) -> str:
    """A connection says how it is: its registration, or whether the other side answers."""
    if "check_connection_type" not in package.suites:
        return ""
    text = "\n".join(path.read_text(encoding="utf-8") for path in package.sources)
    told = any(f"{name}(" in text for name in ("report", "qualified", "raise_issue", "keep_qualifying"))
    return "" if told else "the connection tells nothing of itself: use ctx.report, ctx.qualified or ctx.raise_issue"


def _migrations(package: Package) -> str:
    versions = [int(found) for path in package.sources for found in _VERSION.findall(path.read_text(encoding="utf-8"))]
    if max(versions, default=1) > 1 and "old_settings" not in package.tests:
        return "settings have older versions, and no test migrates them: give check_connection_type old_settings"
    return ""


_VERSION = re.compile(r"^    version: ClassVar\[int\] = (\d+)$", re.MULTILINE)


def _docstrings(package: Package) -> str:
    missing = [
        f"{path.name}:{getattr(node, 'lineno', 1)}"
        for path in package.sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef)
        and not (isinstance(node, ast.ClassDef) and node.name.startswith("_"))
        and ast.get_docstring(node) is None
    ]
    return f"no docstring: {', '.join(missing[:5])}" if missing else ""


def _tests_pass(package: Package) -> str:
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-o", "trio_mode=true"]
    return _run(package, "tests fail", "pytest", *options, str(package.folder / "tests"))


def _mypy(package: Package) -> str:
    return _run(package, "mypy finds", "mypy", "--strict", "--follow-imports=silent", "-p", package.source.name)


def _run(package: Package, wrong: str, *command: str) -> str:
    if find_spec(command[0]) is None:
        return f"{command[0]} is not installed: pip install it"
    core = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join([str(package.source.parent), str(core)])
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=package.folder,
            env={**os.environ, "MYPYPATH": paths if core.name != "site-packages" else str(package.source.parent)},
            check=False,
            capture_output=True,
            text=True,
            timeout=_TEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"{command[0]} does not come to an end within {_TEST_SECONDS} s"
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return "" if done.returncode == 0 else f"{wrong}: {lines[-1][:200] if lines else done.returncode}"
