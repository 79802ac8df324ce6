"""The file format of Asterisk's configuration: sections, templates `(!)`, inheritance `(tpl)`, additions `(+)`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import attrs

MAX_SECTIONS = 20_000
MAX_LINE = 8192
MAX_PARENTS = 32
MAX_OPTIONS = 2_000
"""Of one section, the inherited ones too."""

_SECTION: Final = re.compile(r"\[([^\]]{1,200})\]\s*(?:\(([^)]{0,500})\))?\s*")
_OPTION: Final = re.compile(r"([^=]{1,200}?)\s*(\+?)=>?\s*(.*)", re.DOTALL)


@attrs.frozen
class Option:
    """One `key = value`. `inherited`: it stands in a template."""

    key: str
    value: str
    line: int
    inherited: bool = False


@attrs.define
class Section:
    """One `[name]` with its options in order, those of its templates first."""

    name: str
    line: int
    template: bool = False
    options: list[Option] = attrs.field(factory=list, repr=False)

    def get(self, key: str) -> str:
        """The last value of a key: what comes later in the file wins. '' where there is none."""
        return next((option.value for option in reversed(self.options) if option.key == key), "")

    def get_all(self, key: str) -> list[str]:
        """Every value of a key, those separated by commas one by one."""
        return [
            value.strip()
            for option in self.options
            if option.key == key
            for value in option.value.split(",")
            if value.strip()
        ]

    def line_of(self, key: str) -> int:
        """Where the last value of a key stands."""
        return next((option.line for option in reversed(self.options) if option.key == key), self.line)


def read_sections(text: str, remark: Callable[[int, str], None]) -> list[Section]:
    """The sections in their order, templates resolved; `remark` hears, with the line, what cannot be followed."""
    sections: list[Section] = []
    known: dict[str, Section] = {}
    current: Section | None = None
    comment = 0
    for number, line in enumerate(text.splitlines(), 1):
        line, comment = _uncommented(line, comment)
        line = line.strip()
        if not line:
            continue
        if len(line) > MAX_LINE:
            remark(number, f"is longer than {MAX_LINE} characters: left out")
        elif line.startswith("#"):
            remark(number, f"{line[:80]} is not followed: give that file as well")
        elif line.startswith("["):
            current = _section(line, number, known, sections, remark)
        else:
            _option(line, number, current, remark)
    return sections


def _section(
    line: str, number: int, known: dict[str, Section], sections: list[Section], remark: Callable[[int, str], None]
) -> Section | None:
    match = _SECTION.match(line)
    if match is None:
        remark(number, f"{line[:60]} is no section: left out up to the next")
        return None
    if match.end() < len(line):
        remark(number, f"{line[match.end() :][:60]} behind the section is left out")
    name = match[1].strip()
    marks = [mark.strip() for mark in (match[2] or "").split(",") if mark.strip()]
    if "+" in marks:
        if name in known:
            return known[name]
        remark(number, f"[{name}](+) adds to a section that is not there: taken for a new one")
    if len(sections) >= MAX_SECTIONS:
        remark(number, f"there are more than {MAX_SECTIONS} sections: the rest is left out")
        return None
    section = Section(name, number, template="!" in marks)
    for parent in [mark for mark in marks if mark not in ("!", "+")][:MAX_PARENTS]:
        template = known.get(parent)
        if template is None:
            remark(number, f"template {parent[:60]} is not in the file before this line")
            continue
        inherited = [attrs.evolve(option, inherited=True) for option in template.options]
        section.options += inherited[: MAX_OPTIONS - len(section.options)]
    sections.append(section)
    if section.template or name not in known or not known[name].template:
        known[name] = section
    return section


def _option(line: str, number: int, section: Section | None, remark: Callable[[int, str], None]) -> None:
    match = _OPTION.fullmatch(line)
    if match is None:
        remark(number, f"{line[:60]} is no key = value: left out")
    elif section is None:
        remark(number, f"{match[1][:60]} stands outside any section: left out")
    elif len(section.options) >= MAX_OPTIONS:
        remark(number, f"[{section.name[:60]}] has more than {MAX_OPTIONS} options: left out")
    else:
        section.options.append(Option(match[1].strip().lower(), match[3].strip(), number))


def _uncommented(line: str, depth: int) -> tuple[str, int]:
    r"""A line without its comments: `;` to the end unless written `\;`, and `;--` to `--;`, which nests over lines."""
    kept: list[str] = []
    index = 0
    while index < len(line):
        if line.startswith(";--", index) and not line.startswith(";---", index):
            depth += 1
            index += 3
        elif depth and line.startswith("--;", index):
            depth -= 1
            index += 3
        elif depth:
            index += 1
        elif line.startswith("\\;", index):
            kept.append(";")
            index += 2
        elif line[index] == ";":
            break
        else:
            kept.append(line[index])
            index += 1
    return "".join(kept), depth
