"""Directive `state-machine`: a drawing and a table of a state machine, out of the transitions it names in the code.

    ```{state-machine} siperb_core.sip.transaction_client:InviteClient
    ```

The object, a class or a module, has `TRANSITIONS`, rows of (state, event, next state), the first state being where it
begins, and perhaps `AT_ONCE`, states that last no time over a reliable flow. Drawn here, line by line, so that the
documentation builds wherever Python does, offline, and the same octets come out every time.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from html import escape
from typing import Any, ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

Row = tuple[str, str, str]

LINE = 20  # px, of everything below
MARGIN = 6
GAP = 14  # between two states
BOX = 124
CHARACTER = 6.4  # of the labels' font, on average
LABEL = 46  # characters in a line
LANE = 14  # between two vertical lines
COLOURS = ("#3b82c4", "#c2703d", "#4b9a6a", "#a2589f", "#b08a2e", "#5c7f8f", "#c24f5f", "#7a6bc4")


def states(rows: Sequence[Row]) -> list[str]:
    """All states: those something leads out of, in the order of the table, then the others."""
    return list(dict.fromkeys([*(row[0] for row in rows), *(row[2] for row in rows)]))


def edges(rows: Sequence[Row], state: str) -> dict[str, list[str]]:
    """What leads out of a state: the events by the state they lead to, that itself last."""
    found: dict[str, list[str]] = {}
    for source, event, target in rows:
        if source == state:
            found.setdefault(target, []).append(event)
    if state in found:
        found[state] = found.pop(state)
    return found


def label_lines(events: Sequence[str]) -> list[str]:
    """Events as lines of a label; a line is broken between two events only."""
    lines = [events[0]]
    for event in events[1:]:
        if len(lines[-1]) + len(event) + 2 > LABEL:
            lines[-1] += ","
            lines.append(event)
        else:
            lines[-1] += f", {event}"
    return lines


def draw(title: str, rows: Sequence[Row], at_once: Sequence[str] = ()) -> str:
    """The machine as SVG: states below each other; every state has one line, of its own colour, that leads to it."""
    names = states(rows)
    targets = [name for name in names if any(row[2] == name != row[0] for row in rows)]
    longest = max(len(line) for name in names for events in edges(rows, name).values() for line in label_lines(events))
    first_lane = MARGIN + BOX + 30 + longest * CHARACTER
    lane = {name: first_lane + LANE * index for index, name in enumerate(targets)}
    colour = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(targets)}
    joins: dict[str, list[float]] = {name: [] for name in targets}
    shapes: list[str] = []
    right, y = MARGIN + BOX, MARGIN
    for name in names:
        top, port = y, y + LINE // 2
        if name in lane:
            joins[name].append(port)
            shapes.append(_line(right + 6, port, lane[name], port, colour[name]))
            shapes.append(f'<path d="M{right} {port}l8 -4v8z" fill="{colour[name]}"/>')
            y += LINE
        for target, events in edges(rows, name).items():
            lines = label_lines(events)
            for number, text in enumerate(lines):
                sign = "↻ " if target == name and number == 0 else ""
                shapes.append(f'<text x="{right + 14}" y="{y + LINE * number + 12}">{sign}{escape(text)}</text>')
            y += LINE * len(lines)
            if target != name:
                joins[target].append(y - 4)
                shapes.append(_line(right, y - 4, lane[target], y - 4, colour[target]))
                shapes.append(f'<circle cx="{lane[target]:g}" cy="{y - 4}" r="3" fill="{colour[target]}"/>')
        height = max(y - top, LINE) + 4
        dashed = ' stroke-dasharray="4 3"' if name in at_once else ""
        shapes.append(
            f'<rect x="{MARGIN}" y="{top}" width="{BOX}" height="{height}" rx="6" fill="none" stroke="currentColor"'
            f'{dashed}/><text x="{MARGIN + BOX / 2:g}" y="{top + height / 2 + 4:g}" text-anchor="middle"'
            f' font-weight="bold">{escape(name)}</text>'
        )
        y = top + height + GAP
    for name, ys in joins.items():
        shapes.append(_line(lane[name], min(ys), lane[name], max(ys), colour[name]))
    width, height = round(first_lane + LANE * len(targets) + MARGIN), y - GAP + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}" width="{width}"'
        f' style="max-width:100%;height:auto" font-family="sans-serif" font-size="12" fill="currentColor">'
        f"<title>{escape(title)}</title>\n" + "\n".join(shapes) + "\n</svg>\n"
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{colour}" stroke-width="1.5" fill="none"/>'


def machine(path: str) -> Any:
    """The object of a `module` or `module:attribute`. Raises ImportError, AttributeError."""
    module, _, attribute = path.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


class StateMachine(SphinxDirective):
    """The directive."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        """Drawing, what its marks mean, and the table."""
        path = self.arguments[0]
        try:
            found = machine(path)
            rows, at_once = found.TRANSITIONS, getattr(found, "AT_ONCE", ())
        except (ImportError, AttributeError) as error:
            raise self.error(f"state-machine: {error}") from None
        marks = "↻: stays."
        if at_once:
            marks += " Dashed: over TCP, TLS and WebSocket it lasts no time, since nothing can be lost there."
        drawing = nodes.raw("", draw(f"States of {path.rpartition(':')[2]}", rows, at_once), format="html")
        return [drawing, nodes.paragraph("", "", nodes.emphasis("", marks)), _table(rows)]


def _table(rows: Sequence[Row]) -> nodes.table:
    group = nodes.tgroup(cols=3)
    group += [nodes.colspec(colwidth=1) for _ in range(3)]
    group += nodes.thead("", _cells(("State", "Event", "Next state")))
    group += nodes.tbody("", *(_cells(row) for row in rows))
    return nodes.table("", group)


def _cells(texts: Sequence[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", text)) for text in texts))


def setup(app: Sphinx) -> dict[str, Any]:
    """For Sphinx."""
    app.add_directive("state-machine", StateMachine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
