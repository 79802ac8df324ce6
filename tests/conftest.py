"""Settings of the whole suite, and what tests all over it start from."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from siperb_core.plugins import GROUP
from siperb_core.sdp import codecs

settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(autouse=True)
def codecs_as_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codecs that a test's plugins give are unknown to the next test: the process has one list of them."""
    monkeypatch.setattr(codecs, "_KNOWN", dict(codecs._KNOWN))


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`install_plugin(name, text)`: leave a plugin of this text where pip would, module `siperb_NAME_plugin`.

    `attribute` is that of the module's names that is the plugin, where it is not the module itself.
    """

    def install(name: str, text: str, attribute: str = "") -> None:
        module = f"siperb_{name}_plugin"
        info = tmp_path / f"siperb_{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: siperb-{name}\nVersion: 1\n")
        point = f"{module}:{attribute}" if attribute else module
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {point}\n")
        (tmp_path / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)  # of the media workers
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install
