"""Wheels in fresh virtual environments: the core alone, the core with a plugin, and a package fresh from `siperb new`.

An environment has our wheels, and of other people's packages those that the wheels ask for, and that these ask for:
linked from the environment the tests run in, which spares minutes of installing. Wheels are built with what their
`build-system` names, for which a package index has to be reachable: only with SIPERB_WHEELS=1, as CI sets it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def outside() -> dict[str, str]:
    """The environment of somebody who knows nothing of this checkout."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command: str | Path, cwd: Path, expect: int = 0) -> str:
    """In an environment that knows nothing of this checkout; the output."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=outside(), check=False, capture_output=True, text=True)
    assert done.returncode == expect, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the core and all plugins, by `make dist` itself, in the environment the tests run in as it is."""
    folder = tmp_path_factory.mktemp("wheels")
    stamp = f"{sys.prefix}/.setup-done"
    run("make", "-C", ROOT, f"--old-file={stamp}", "dist", f"VENV={sys.prefix}", f"DIST={folder}", cwd=folder)
    names = {"siperb-core", *(f"siperb-{path.parent.name}" for path in ROOT.glob("plugins/*/pyproject.toml"))}
    built = {canonicalize_name(wheel.name.split("-")[0]) for wheel in folder.glob("*.whl")}
    assert built == set(map(canonicalize_name, names))
    return folder


def fresh(folder: Path, wheels: Path, *packages: str) -> Path:
    """A new environment with these packages, ours from the wheels alone; its `bin`."""
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    for package in needed(wheels, packages):
        for top in {path.parts[0] for path in package.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(package.locate_file(top))))
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--find-links", wheels)
    run(*pip, *packages, cwd=folder)
    (folder / "venv" / "bin" / "pytest").write_text(f'#!/bin/sh\nexec "{python}" -m pytest "$@"\n')
    (folder / "venv" / "bin" / "pytest").chmod(0o755)
    return python.parent


def needed(wheels: Path, packages: Iterable[str]) -> list[Distribution]:
    """Other people's packages that these ask for, directly or not, as they are installed here."""
    ours = {canonicalize_name(wheel.name.split("-")[0]): wheel for wheel in wheels.glob("*.whl")}
    found: dict[str, Distribution] = {}
    todo, done = list(packages), set()
    while todo:
        wanted = Requirement(todo.pop())
        name = canonicalize_name(wanted.name)
        if (name, *sorted(wanted.extras)) in done:
            continue
        done.add((name, *sorted(wanted.extras)))
        if name in ours:
            with ZipFile(ours[name]) as archive:
                (metadata,) = [path for path in archive.namelist() if path.endswith(".dist-info/METADATA")]
                asked = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist") or []
        else:
            found[name] = distribution(name)
            asked = found[name].requires or []
        for text in asked:
            marker = Requirement(text).marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                todo.append(text.partition(";")[0])
    return list(found.values())


def test_the_core_alone_runs_and_says_what_it_has_not(tmp_path: Path, wheels: Path) -> None:
    binaries = fresh(tmp_path, wheels, "siperb-core")
    (tmp_path / "siperb.toml").write_text(CONFIG)
    (row,) = json.loads(run(binaries / "siperb", "plugins", "--json", cwd=tmp_path))
    assert (row["name"], row["state"]) == ("defaults", "loaded")
    assert "outbound_trunk" in run(binaries / "siperb", "check", cwd=tmp_path, expect=2)
    with running(binaries, tmp_path):
        (row,) = json.loads(run(binaries / "siperb", "show", "connections", "--json", cwd=tmp_path))
        assert (row["name"], row["state"]) == ("office", "type_missing")
        assert "no installed plugin gives" in row["reason"]
        (plugin,) = json.loads(run(binaries / "siperb", "show", "plugins", "--json", cwd=tmp_path))
        assert plugin["name"] == "defaults"


@contextmanager
def running(binaries: Path, folder: Path) -> Iterator[None]:
    """`siperb run`, which comes up, is asked from outside, and goes in order when it is told to."""
    log = folder / "log"
    with (
        log.open("w") as written,
        subprocess.Popen(
            [binaries / "siperb", "run"], cwd=folder, env=outside(), stdout=written, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 120
            while "gateway.started" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
        assert process.wait(60) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def test_the_core_with_one_plugin(tmp_path: Path, wheels: Path) -> None:
    binaries = fresh(tmp_path, wheels, "siperb-core", "siperb-connection-trunk")
    (tmp_path / "siperb.toml").write_text(CONFIG)
    assert "fine" in run(binaries / "siperb", "check", cwd=tmp_path)
    rows = json.loads(run(binaries / "siperb", "plugins", "--json", cwd=tmp_path))
    assert {row["name"]: row["state"] for row in rows} == {"defaults": "loaded", "connection_trunk": "loaded"}
    with running(binaries, tmp_path):
        (row,) = json.loads(run(binaries / "siperb", "show", "connections", "--json", cwd=tmp_path))
        assert (row["name"], row["state"]) == ("office", "loaded")


def test_the_core_with_every_plugin(tmp_path: Path, wheels: Path) -> None:
    names = {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")}
    packages = [f"siperb-{name.replace('_', '-')}" for name in sorted(names)]
    binaries = fresh(tmp_path, wheels, "siperb-core", *packages)
    (tmp_path / "siperb.toml").write_text(CONFIG)
    rows = json.loads(run(binaries / "siperb", "plugins", "--json", cwd=tmp_path))
    assert {row["name"]: row["reason"] for row in rows if row["state"] != "loaded"} == {}
    assert {row["name"] for row in rows} == {"defaults", *names}


def test_a_new_package_as_a_wheel_carries_a_call(tmp_path: Path, wheels: Path) -> None:
    """`siperb new` out of the wheel, its wheel built, installed beside the core's, its tests run: one is a call."""
    folder = scaffold("connection", "acme", tmp_path)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, folder, cwd=tmp_path)
    binaries = fresh(tmp_path, wheels, "siperb-connection-acme[test]")
    tests = tmp_path / "elsewhere"
    (folder / "tests").rename(tests)  # away from the source, so that what is tested is what is installed
    assert "2 passed" in run(binaries / "pytest", "-q", "-o", "trio_mode=true", tests, cwd=tmp_path)
    assert "siperb-transcoder-new" in run(binaries / "siperb", "new", "transcoder", "new", cwd=tmp_path)
