"""The tutorial, followed to the letter: its commands run, its edits made, its output looked for."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TUTORIAL = ROOT / "docs" / "tutorial" / "your-first-connection.md"
BLOCK = re.compile(
    r"^```(?:console|\{code-block\} (\w+))\n(?::caption: ([^\n]*)\n\n)?(.*?)^```\n", re.MULTILINE | re.DOTALL
)

PIP = """
import sys, tomllib
from pathlib import Path
assert sys.argv[1:] == ["install", "-e", ".[test]"], sys.argv
project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
site = Path(sys.prefix) / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
info = site / (project["name"].replace("-", "_") + "-" + project["version"] + ".dist-info")
info.mkdir()
(info / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {project['name']}\\nVersion: {project['version']}\\n")
points = project["entry-points"]["siperb.plugins"]
(info / "entry_points.txt").write_text("[siperb.plugins]\\n" + "".join(f"{a} = {b}\\n" for a, b in points.items()))
(site / "tutorial.pth").write_text(str(Path("src").resolve()) + "\\n")
"""
"""Does what `pip install -e` does, without the network; tests/integration/plugins/test_wheels.py has the real one."""


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Somebody with a virtual environment that has the gateway in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    binaries = tmp_path / "venv" / "bin"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    ours = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    (site / "core.pth").write_text(f"import site; site.addsitedir({str(ours)!r})\n")
    (tmp_path / "pip.py").write_text(PIP)
    for name, command in {
        "siperb": "-c 'import sys; from siperb_core.cli import main; sys.exit(main())'",
        "pytest": "-m pytest -p no:cacheprovider",
        "pip": shlex.quote(str(tmp_path / "pip.py")),
    }.items():
        script = binaries / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(binaries / "python"))} {command} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return Reader(tmp_path, binaries)


class Reader:
    """Does what it reads."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
        self.env.pop("PYTHONPATH", None)
        self.this = ""

    def run(self, command: str) -> str:
        """A command line; the output. `cd` stays."""
        done = subprocess.run(
            ["bash", "-c", f"set -e; {command}; pwd"],
            cwd=self.folder,
            env=self.env,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        *lines, folder = done.stdout.splitlines()
        self.folder = Path(folder)
        return "\n".join([*lines, done.stderr])

    def edit(self, caption: str, text: str) -> None:
        """A block of code: what is there, what it becomes, or a whole file."""
        if caption == "becomes":
            path, old = self.this.split("\n", 1)
            file = self.folder / path
            assert file.read_text().count(old) == 1, f"{old} is not in {path}"
            file.write_text(file.read_text().replace(old, text))
        elif found := re.fullmatch(r"in (\S+), this", caption):
            self.this = f"{found[1]}\n{text}"
        else:
            (self.folder / caption).write_text(text)


def test_the_tutorial_is_true(reader: Reader) -> None:
    steps = 0
    for _, caption, body in BLOCK.findall(TUTORIAL.read_text()):
        if caption:
            reader.edit(caption, body)
            continue
        output = ""
        for line in body.splitlines():
            if line.startswith("$ "):
                output = reader.run(line[2:])
            else:
                assert line in output, f"{line!r} is not in the output:\n{output}"
                steps += 1
    assert steps == 7
    project = tomllib.loads((reader.folder / "pyproject.toml").read_text())
    assert project["project"]["name"] == "siperb-connection-acme"
