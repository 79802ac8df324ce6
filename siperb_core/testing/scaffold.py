"""A new plugin's package, complete and working, out of templates."""

from __future__ import annotations

import keyword
import re
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

KINDS = ("connection", "transcoder")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
_LONGEST = 24


def scaffold(what: str, name: str, directory: Path) -> Path:
    """Write the package of a plugin into a new folder of `directory`; the folder.

    Raises ValueError for a name that cannot be one, and FileExistsError where the folder is there already.
    """
    if what not in KINDS:
        raise ValueError(f'"{what}" is not a kind of plugin: use {" or ".join(KINDS)}')
    if not _NAME.fullmatch(name) or len(name) > _LONGEST or keyword.iskeyword(name):
        raise ValueError(
            f'"{name[:60]}" cannot be the name: use small letters, digits and "_", a letter first, at most {_LONGEST}'
        )
    kind = name.replace("-", "_")
    package = f"siperb_{what}_{kind}"
    words = {
        "DIST": package.replace("_", "-"),
        "PACKAGE": package,
        "ENTRY": f"{what}_{kind}",
        "KIND": kind,
        "CLASS": "".join(part.capitalize() for part in kind.split("_")),
        "TITLE": kind.replace("_", " ").capitalize(),
        "CORE": ".".join(version("siperb-core").split(".")[:2]),
    }
    folder = directory / words["DIST"]
    folder.mkdir(parents=True)
    templates = files("siperb_core.testing") / "templates"
    _write(templates / "pyproject.toml.in", folder / "pyproject.toml", words)
    _write(templates / what / "README.md.in", folder / "README.md", words)
    for template in (templates / what / "src").iterdir():
        _write(template, folder / "src" / package / template.name.removesuffix(".in"), words)
    for template in (templates / what / "tests").iterdir():
        _write(template, folder / "tests" / template.name.removesuffix(".in"), words)
    (folder / "src" / package / "py.typed").touch()
    return folder


def _write(template: Traversable, path: Path, words: dict[str, str]) -> None:
    text = re.sub(r"@([A-Z]+)@", lambda match: words[match[1]], template.read_text(encoding="utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
