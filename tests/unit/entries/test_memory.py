"""What an entry remembers is in the store at once."""

from __future__ import annotations

from typing import Any

import pytest

from siperb_core.entries.memory import MAX_VALUE, Memory


class FakeStore:
    def __init__(self) -> None:
        self.kept: dict[str, Any] = {"old": 1}

    def open(self) -> Memory:
        return Memory(self.kept, self.kept.__setitem__, self.kept.__delitem__)


def test_changes_go_through_to_the_store() -> None:
    store = FakeStore()
    memory = store.open()
    memory["bindings"] = [{"contact": "sip:a"}]
    del memory["old"]
    assert store.kept == {"bindings": [{"contact": "sip:a"}]}
    assert dict(store.open()) == store.kept
    assert len(memory) == 1


def test_a_value_that_was_read_is_a_copy() -> None:
    store = FakeStore()
    memory = store.open()
    memory["list"] = [1]
    memory["list"].append(2)
    assert memory["list"] == [1] == store.kept["list"]


def test_what_cannot_be_kept_is_refused_and_changes_nothing() -> None:
    store = FakeStore()
    memory = store.open()
    with pytest.raises(TypeError):
        memory["old"] = object()
    with pytest.raises(ValueError, match="keep less"):
        memory["old"] = "x" * MAX_VALUE
    assert memory["old"] == 1 == store.kept["old"]
