"""Real peers: what is missing for them is named, and their tests skipped."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent != HERE:
            continue
        item.add_marker(pytest.mark.interop)
        wanted = missing(item.path.stem)
        if wanted:
            item.add_marker(pytest.mark.skip(reason=wanted))


def missing(module: str) -> str:
    """What the tests of a module lack here; "" where nothing."""
    programs = {"sipp": "sip-tester"}
    if "baresip" in module:
        programs |= {"baresip": "baresip-core", "ip": "iproute2"}
        if os.geteuid() != 0:
            return "baresip needs a network namespace of its own, and that needs root"
    lacking = [f"{name} (apt-get install {package})" for name, package in programs.items() if not shutil.which(name)]
    return f"not installed: {', '.join(lacking)}" if lacking else ""
