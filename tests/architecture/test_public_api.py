"""The public API is a list in the repository: who changes it changes the list, and writes a changelog fragment."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import siperb_core
import siperb_core.testing
from siperb_core.quality import PUBLIC_MODULES, private_imports

LIST = Path(__file__).with_name("public_api.txt")
PLUGINS = sorted(path.parent for path in Path(__file__).parents[2].glob("plugins/*/pyproject.toml"))


def lines(name: str, module: ModuleType) -> Iterator[str]:
    for exported in sorted(module.__all__):
        value = getattr(module, exported)
        if isinstance(value, ModuleType):
            yield f"{name}.{exported}: module"
        else:
            yield f"{name}.{exported}{signature(value)}"


def signature(value: Any) -> str:
    """Of functions and of classes that are made by users; types and constants by name alone."""
    if inspect.isfunction(value) and not inspect.isclass(value):
        return str(inspect.signature(value))
    return ""


def test_the_public_api_is_the_one_on_the_list() -> None:
    found = [*lines("siperb_core", siperb_core), *lines("siperb_core.testing", siperb_core.testing)]
    text = "\n".join(re.sub(r" at 0x[0-9a-f]+", "", line) for line in found) + "\n"
    assert text == LIST.read_text(), f"update {LIST.name}, and tell of it in changelog.d: \n{text}"


def test_every_name_is_where_it_is_said_to_be() -> None:
    for module in (siperb_core, siperb_core.testing):
        assert all(getattr(module, name) is not None for name in module.__all__)
        with pytest.raises(AttributeError):
            _ = module.no_such_name  # type: ignore[attr-defined]


def test_what_the_command_line_imports_first_is_cheap() -> None:
    script = "import sys, siperb_core; print(*[n for n in sys.modules if n.startswith('siperb_core.')])"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert loaded == []


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_our_own_plugins_and_their_tests_use_nothing_else(folder: Path) -> None:
    """What their tests need is in the kit: a third party has no more than that."""
    paths = [path for part in ("src", "tests") for path in sorted((folder / part).rglob("*.py"))]
    assert len(paths) >= 3
    assert list(private_imports(paths)) == []


def test_public_modules_exist() -> None:
    import importlib

    for name in PUBLIC_MODULES:
        importlib.import_module(name)
