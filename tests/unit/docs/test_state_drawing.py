"""The drawings of docs/explanation/state-machines.md have every transition of their tables, and no other."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "explanation/state-machines.md").read_text()
MACHINES = re.findall(r"^```\{state-machine\} (\S+)$", PAGE, flags=re.MULTILINE)
SVG = "{http://www.w3.org/2000/svg}"
ROWS = [("a", "on", "b"), ("a", "<again>", "a"), ("b", "off", "a"), ("b", "end", "c"), ("b", "fail", "c")]


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("state_machine", DOCS / "_ext/state_machine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_back(svg: str) -> set[tuple[str, str, str]]:
    """(state, events as they are written, next state), by following the lines of the drawing."""
    root = ElementTree.fromstring(svg)
    boxes = [(float(box.get("y") or 0), float(box.get("height") or 0)) for box in root.iter(f"{SVG}rect")]
    texts = [(float(text.get("y") or 0), text.text or "", text.get("font-weight")) for text in root.iter(f"{SVG}text")]
    names = [text for _, text, weight in texts if weight]
    heads = {path.get("fill"): _y(path) for path in root.iter(f"{SVG}path") if path.get("fill") != "none"}
    dots = {float(dot.get("cy") or 0): dot.get("fill") for dot in root.iter(f"{SVG}circle")}

    def state_at(y: float) -> str:
        (found,) = [name for name, (top, height) in zip(names, boxes, strict=True) if top <= y <= top + height]
        return found

    found, waiting = set(), ""
    for y, text, weight in texts:
        if weight:
            continue
        stays = text.startswith("↻ ")
        waiting = f"{waiting} {text.removeprefix('↻ ')}".strip()
        if stays:
            found.add((state_at(y), waiting, state_at(y)))
            waiting = ""
        elif y + 4 in dots:  # the line runs under the last line of its label
            found.add((state_at(y), waiting, state_at(heads[dots[y + 4]])))
            waiting = ""
    return found


def _y(path: ElementTree.Element) -> float:
    return float((path.get("d") or "").split("l")[0].split()[1])


def test_the_page_has_all_machines() -> None:
    assert len(MACHINES) == 6


def test_an_event_leads_where_the_table_says(drawing: ModuleType) -> None:
    assert read_back(drawing.draw("x", ROWS)) == {
        ("a", "on", "b"),
        ("a", "<again>", "a"),
        ("b", "off", "a"),
        ("b", "end, fail", "c"),
    }


@pytest.mark.parametrize("path", MACHINES)
def test_every_row_is_drawn(drawing: ModuleType, path: str) -> None:
    rows = drawing.machine(path).TRANSITIONS
    expected = {
        (state, " ".join(drawing.label_lines(events)), target)
        for state in drawing.states(rows)
        for target, events in drawing.edges(rows, state).items()
    }
    svg = drawing.draw(path, rows)
    assert read_back(svg) == expected
    assert svg == drawing.draw(path, rows), "the same octets every time"
