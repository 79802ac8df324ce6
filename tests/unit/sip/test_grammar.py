"""The grammar cannot be made to backtrack: the structure of every pattern says so."""

from __future__ import annotations

import importlib
import re
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from siperb_core.sip import grammar

PATTERNS = {
    f"{module}.{name}": value
    for module in ("grammar", "headers", "uri", "message", "parser", "framing", "recurring", "validate")
    for name, value in vars(importlib.import_module(f"siperb_core.sip.{module}")).items()
    if isinstance(value, re.Pattern)
}

# 0*([0-9]{1,10}): the zeros may give back ten digits at most.
BOUNDED = {"CSEQ", "CSEQ_LINE"}


def _unbounded_greedy(node: Any) -> int:
    """How many unbounded quantifiers in the tree can give back what they took."""
    count = 0
    if isinstance(node, _parser.SubPattern | list | tuple):
        parts = list(node)
        if len(parts) == 2 and str(parts[0]) in ("MAX_REPEAT", "MIN_REPEAT"):
            _, most, _ = parts[1]
            count += most == _parser.MAXREPEAT
        count += sum(_unbounded_greedy(part) for part in parts)
    return count


@pytest.mark.parametrize("name", PATTERNS)
def test_no_unbounded_quantifier_backtracks(name: str) -> None:
    pattern = PATTERNS[name]
    allowed = 1 if name.rpartition(".")[2] in BOUNDED else 0
    assert _unbounded_greedy(_parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)) <= allowed


@pytest.mark.parametrize("text", ['"a\\"b\\\\"', '""', '"', "plain", '"tab\t"', '"nul\0"'])
def test_unquote_undoes_quote(text: str) -> None:
    assert grammar.unquote(grammar.quote(text)) == text


def test_unfold_joins_continuation_lines_by_one_space() -> None:
    assert grammar.unfold(" a \r\n\t b\r\n  c ") == "a b c"
