"""What is known of a plugin before it is loaded: its entry point, its package, the version of the core it asks for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import EntryPoint, version
from importlib.util import find_spec
from pathlib import Path


class Unusable(Exception):
    """A plugin is to be set aside; the message is the reason."""


def mentions(point: EntryPoint, hooks: Iterable[str]) -> bool:
    """Whether a plugin may implement one of the hooks, by its text: a hook has to be an attribute of the entry
    point's module.

    True where that cannot be told, so that nothing is left out by mistake.
    """
    try:
        spec = find_spec(point.module)
        text = Path(spec.origin).read_text() if spec is not None and spec.origin is not None else "import *"
    except (ImportError, ValueError, OSError):
        return True
    return bool(point.attr) or "import *" in text or any(hook in text for hook in hooks)


def disabled_by(config: Path) -> tuple[str, ...]:
    """The plugins and packages a configuration file disables, whatever else is wrong with it; none where there is no
    file, or one that cannot be read.
    """
    try:
        table = tomllib.loads(config.read_text(encoding="utf-8")).get("plugins")
    except (OSError, ValueError, RecursionError):
        return ()
    names = table.get("disable") if isinstance(table, dict) else None
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def import_plugin(point: EntryPoint) -> object:
    """What the entry point names; of a class, a new object. Raises Unusable."""
    try:
        found = point.load()
        return found() if isinstance(found, type) else found
    except (Exception, SystemExit) as error:
        raise Unusable(f"cannot be imported: {sentence(error)}") from error


def check_core(point: EntryPoint) -> None:
    """Raises Unusable where the plugin's package asks for another version of the core (Requires-Dist, PEP 508)."""
    if point.dist is None:
        return
    for text in point.dist.requires or ():
        found = _CORE_NEEDED.match(text)
        if found is None or not found[1]:
            continue
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        have = version("siperb-core")
        try:
            fits = SpecifierSet(found[1]).contains(have, prereleases=True)
        except InvalidSpecifier as error:
            raise Unusable(f"asks for a version of siperb-core that cannot be read: {found[1]}") from error
        if not fits:
            raise Unusable(f"needs siperb-core{found[1]}, this is {have}: install versions that fit each other")


_CORE_NEEDED = re.compile(
    r"\s*siperb[-_.]core(?![-_.\w])\s*(?:\[[^\]]*\])?\s*\(?([^;)]*?)\s*\)?\s*(?:;|$)", re.IGNORECASE
)


def distribution_of(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the package it comes with, empty where there is none."""
    dist = point.dist
    return (dist.name, dist.version) if dist is not None else ("", "")


def sentence(error: BaseException) -> str:
    """An exception as one sentence."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
