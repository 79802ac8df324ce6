"""`siperb new` writes packages that are right from the first minute: lint, types, tests, a real call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from siperb_core.cli import FINE, USAGE, main
from siperb_core.testing.scaffold import scaffold

ROOT = Path(__file__).resolve().parents[3]
CASES = [("connection", "acme_door-2"), ("transcoder", "swap_law")]


def run(folder: Path, *command: str) -> None:
    env = {
        **os.environ,
        "MYPYPATH": str(ROOT),
        "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(folder / "found")]),
    }
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def as_if_installed(folder: Path) -> None:
    """What pip would leave beside the package: its entry point. (The wheel itself: tests/integration/plugins.)"""
    import tomllib

    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "found" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        + "".join(f"Requires-Dist: {needed}\n" for needed in project["dependencies"])
    )
    points = project["entry-points"]["siperb.plugins"]
    (info / "entry_points.txt").write_text("[siperb.plugins]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))


@pytest.mark.parametrize(("what", "name"), CASES)
def test_a_new_package_is_right_from_the_first_minute(tmp_path: Path, what: str, name: str) -> None:
    folder = scaffold(what, name, tmp_path)
    run(folder, "ruff", "check", ".")
    run(folder, "ruff", "format", "--check", ".")
    run(folder, "mypy", "--config-file", str(ROOT / "pyproject.toml"), "src")
    as_if_installed(folder)
    run(folder, "pytest", "-q", "-p", "no:cacheprovider", "tests")


def test_siperb_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["new", "connection", "acme", "--dir", str(tmp_path)]
    assert main(command) == FINE
    assert "siperb-connection-acme" in capsys.readouterr().out
    assert main(command) == USAGE
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", "Acme", "9lives", "a b", "../x", "class", "x" * 25, "a--b", "é"])
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        scaffold("connection", name, tmp_path)
    assert not list(tmp_path.iterdir())
