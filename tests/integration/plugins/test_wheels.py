"""Wheels in fresh virtual environments: the core alone, the core with a plugin, and a package fresh from `siperb new`.

Minutes, and a package index has to be reachable: only with SIPERB_WHEELS=1, as CI sets it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from siperb_core.testing.scaffold import scaffold

ROOT = Path(__file__).resolve().parents[3]
CONFIG = """
[gateway]
domain = "gw.example"
[[connection]]
name = "office"
type = "outbound_trunk"
allow_from = ["192.0.2.1"]
[connection.settings]
server = "192.0.2.1"
"""

pytestmark = pytest.mark.skipif(os.environ.get("SIPERB_WHEELS") != "1", reason="takes minutes: SIPERB_WHEELS=1")


def run(*command: str | Path, cwd: Path, expect: int = 0) -> str:
    """In an environment that knows nothing of this checkout; the output."""
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, check=False, capture_output=True, text=True
    )
    assert done.returncode == expect, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the core and the trunk, by the command `make dist` uses."""
    folder = tmp_path_factory.mktemp("wheels")
    for package in (ROOT, ROOT / "plugins" / "connection_trunk"):
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, package, cwd=folder)
    return folder


def fresh(folder: Path, wheels: Path, *packages: str) -> Path:
    """A new environment with these packages, ours from the wheels alone; its `bin`."""
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    binaries = folder / "venv" / "bin"
    run(
        binaries / "pip",
        "install",
        "--quiet",
        "--find-links",
        wheels,
        "-c",
        ROOT / "constraints.txt",
        *packages,
        cwd=folder,
    )
    return binaries


def test_the_core_alone_runs_and_says_what_it_has_not(tmp_path: Path, wheels: Path) -> None:
    binaries = fresh(tmp_path, wheels, "siperb-core")
    (tmp_path / "siperb.toml").write_text(CONFIG)
    (row,) = json.loads(run(binaries / "siperb", "plugins", "--json", cwd=tmp_path))
    assert (row["name"], row["state"]) == ("defaults", "loaded")
    assert "outbound_trunk" in run(binaries / "siperb", "check", cwd=tmp_path, expect=2)


def test_the_core_with_one_plugin(tmp_path: Path, wheels: Path) -> None:
    binaries = fresh(tmp_path, wheels, "siperb-core", "siperb-connection-trunk")
    (tmp_path / "siperb.toml").write_text(CONFIG)
    assert "fine" in run(binaries / "siperb", "check", cwd=tmp_path)
    rows = json.loads(run(binaries / "siperb", "plugins", "--json", cwd=tmp_path))
    assert {row["name"]: row["state"] for row in rows} == {"defaults": "loaded", "connection_trunk": "loaded"}


def test_a_new_package_as_a_wheel_carries_a_call(tmp_path: Path, wheels: Path) -> None:
    """`siperb new` out of the wheel, its wheel built, installed beside the core's, its tests run: one is a call."""
    folder = scaffold("connection", "acme", tmp_path)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, folder, cwd=tmp_path)
    binaries = fresh(tmp_path, wheels, "siperb-connection-acme[test]")
    tests = tmp_path / "elsewhere"
    (folder / "tests").rename(tests)  # away from the source, so that what is tested is what is installed
    assert "2 passed" in run(binaries / "pytest", "-q", "-o", "trio_mode=true", tests, cwd=tmp_path)
    assert "siperb-transcoder-new" in run(binaries / "siperb", "new", "transcoder", "new", cwd=tmp_path)
