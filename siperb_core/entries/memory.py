"""An entry's memory: a mapping that writes through to the store, which is what `EntryContext.memory` promises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

MAX_VALUE = 64 << 10
"""Octets of one value as JSON: memory is for credentials and bindings, not for a database."""


class Memory(MutableMapping[str, Any]):
    """Small JSON values by key.

    `put` and `delete` carry a change to the store, in order and without waiting. A value that is read is a copy: to
    change it, assign it anew. Raises TypeError for what is not JSON and ValueError for what is too large; nothing is
    changed then.
    """

    def __init__(
        self, remembered: Mapping[str, Any], put: Callable[[str, Any], object], delete: Callable[[str], object]
    ) -> None:
        self._texts = {key: json.dumps(value) for key, value in remembered.items()}
        self._put = put
        self._delete = delete

    def __getitem__(self, key: str) -> Any:
        return json.loads(self._texts[key])

    def __setitem__(self, key: str, value: Any) -> None:
        text = json.dumps(value, allow_nan=False)
        if len(text) > MAX_VALUE:
            raise ValueError(f"{key} is larger than {MAX_VALUE} octets: keep less")
        if self._texts.get(key) != text:
            self._texts[key] = text
            self._put(key, json.loads(text))

    def __delitem__(self, key: str) -> None:
        del self._texts[key]
        self._delete(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)
