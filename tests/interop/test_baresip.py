"""baresip as a PBX behind each connection type: called and calling, heard at both ends within half a decibel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from baresip_namespace import ADDRESS, NamespaceMissing, open_namespace

from ..integration.transport.certificates import write_certificate

BODY = Path(__file__).with_name("baresip_calls.py")
LIMIT = 90  # seconds, the scenario's own included


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A network namespace for the module's tests, which run in it one after another."""
    try:
        with open_namespace() as name:
            yield name
    except NamespaceMissing as reason:
        pytest.skip(f"baresip needs a network namespace: {reason}")


@pytest.mark.parametrize(
    "scenario", ["trunk", "sdes_trunk", "dtls_trunk", "inbound_registration", "outbound_registration"]
)
def test_calls_both_ways(scenario: str, namespace: str, tmp_path: Path) -> None:
    write_certificate(tmp_path, ADDRESS)
    command = ["ip", "netns", "exec", namespace, sys.executable, "-W", "error", str(BODY), scenario, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT)
    screen = tmp_path / "baresip" / "screen"
    heard = screen.read_text(errors="replace") if screen.exists() else ""
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-6000:]}\nbaresip:\n{heard[-3000:]}"
