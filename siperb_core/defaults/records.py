"""Calls that are over are kept in the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from siperb_core.hookspecs import hookimpl
from siperb_core.store import Store


class KeptRecords:
    """The plugin that writes them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @hookimpl
    def siperb_call_record(self, record: Mapping[str, Any]) -> None:
        """Write one."""
        self._store.add_call(record["call_id"], record, record["started"], record["ended"])
