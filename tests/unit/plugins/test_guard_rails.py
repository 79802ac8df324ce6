"""A plugin that fails again and again is switched off; one that blocks the event loop is named."""

from __future__ import annotations

import sys
import threading
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_core import hookimpl
from siperb_core.events import CallEvent
from siperb_core.faults import FAULT_SECONDS, MOST_FAULTS
from siperb_core.plugins import GROUP, PluginInfo, Plugins, load_plugins
from siperb_core.watchdog import Watchdog

CALL = CallEvent("started", 0.0, "id", "outbound", "office", "alice", "laptop", "a", "b")


class Fails:
    calls = 0

    @hookimpl
    def siperb_call_event(self, event: CallEvent) -> None:
        self.calls += 1
        raise ZeroDivisionError


class Knows:
    @hookimpl
    def siperb_device_secret(self, username: str) -> str:
        return "not-to-be-seen"


def failing(clock: Any) -> tuple[Plugins, Fails, list[str]]:
    plugins, bad, told = Plugins(clock), Fails(), []
    plugins.register("bad", bad)
    plugins.infos.append(PluginInfo("bad", "siperb-bad", "1", "loaded"))
    plugins.changed = lambda: told.append(plugins.infos[0].reason)
    return plugins, bad, told


def test_repeated_faults_switch_a_plugin_off() -> None:
    plugins, bad, told = failing(lambda: 100.0)
    for _ in range(MOST_FAULTS + 5):
        plugins.call_event(CALL)
    assert bad.calls == MOST_FAULTS
    assert plugins.infos[0].state == "set_aside"
    assert told == [f"switched off after {MOST_FAULTS} faults in 0 s, the last: ZeroDivisionError in siperb_call_event"]


def test_a_fault_now_and_then_does_not() -> None:
    times = iter(range(0, 10_000, int(FAULT_SECONDS / (MOST_FAULTS - 2))))
    plugins, bad, told = failing(lambda: float(next(times)))
    for _ in range(3 * MOST_FAULTS):
        plugins.call_event(CALL)
    assert bad.calls == 3 * MOST_FAULTS
    assert not told


def test_hooks_are_traced_and_secrets_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIPERB_TRACE_HOOKS", "1")
    plugins = Plugins()
    plugins.register("knows", Knows())
    plugins.register("bad", Fails())
    assert plugins.device_secret("alice") == "not-to-be-seen"
    plugins.call_event(CALL)
    printed = capsys.readouterr().err
    assert "hook siperb_device_secret(username='alice') knows: (a secret)" in printed
    assert "bad: raised ZeroDivisionError" in printed
    assert "not-to-be-seen" not in printed


@pytest.mark.parametrize(
    ("needs", "loads"),
    [
        ("siperb-core", True),
        ("siperb-core>=0.1", True),
        ("siperb_core[test] (>=0.1,<99)", True),
        ("siperb-core-extras>=99", True),
        ("siperb-core>=99", False),
        ("siperb-core<0.1; python_version>'3'", False),
    ],
)
def test_a_plugin_for_another_core_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: str, loads: bool
) -> None:
    from importlib.metadata import distributions

    info = tmp_path / "siperb_elsewhere-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: siperb-elsewhere\nVersion: 1\nRequires-Dist: {needs}\n"
    )
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nelsewhere = siperb_elsewhere\n")
    (tmp_path / "siperb_elsewhere.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    (dist,) = distributions(path=[str(tmp_path)])
    plugins = load_plugins(found=lambda: dist.entry_points)
    assert (plugins.infos[0].state == "loaded") is loads
    assert loads or "this is" in plugins.infos[0].reason
    assert ("siperb_elsewhere" in sys.modules) is loads
    sys.modules.pop("siperb_elsewhere", None)


async def test_who_blocks_the_loop_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin does not stop before the watchdog has seen it: nothing here depends on how long anything takes."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "siperb_blocks.py").write_text("def wait(until):\n    while not until.wait(0.01):\n        pass\n")
    point = EntryPoint("blocks", "siperb_blocks", GROUP)
    blocks = point.load()
    told: list[tuple[str, str]] = []
    heard = trio.Event()
    seen = threading.Event()

    class Watches(Watchdog):
        def _culprit(self, loop: int) -> tuple[str, str] | None:
            found = super()._culprit(loop)
            looks.append(found)
            if looks[-2:] == [found, found] and found is not None:
                seen.set()
            return found

    def blocked(plugin: str, where: str) -> None:
        told.append((plugin, where))
        heard.set()

    looks: list[Any] = []
    watchdog = Watches({"siperb_blocks": "blocks"}, blocked)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watchdog.run)
            await trio.to_thread.run_sync(watchdog.watching.wait)
            while not told:
                seen.clear()
                looks.clear()
                blocks.wait(seen)
                await trio.lowlevel.checkpoint()
                with trio.move_on_after(1):
                    await heard.wait()
            nursery.cancel_scope.cancel()
    assert told[0][0] == "blocks"
    assert "siperb_blocks:2 in wait" in told[0][1] or "siperb_blocks" in told[0][1]
