"""The contract between the registrar and where it keeps bindings over a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

Then = Callable[[], None]
Failed = Callable[[Exception], None]


@attrs.frozen
class StoredBinding:
    """A contact registered for an address-of-record (RFC 3261 section 10). `expires` is in seconds since the epoch."""

    aor: str
    key: str
    data: dict[str, Any]
    expires: float


class LocationStore(Protocol):
    """Where bindings are kept (hook `siperb_location_store`). Writes are done in order; nothing here waits.

    `then` is called once the write is safe - the 200 OK of the REGISTER leaves only then -, `failed` where it is not.
    """

    def put_binding(
        self,
        aor: str,
        key: str,
        data: Mapping[str, Any],
        expires: float,
        *,
        then: Then | None = None,
        failed: Failed | None = None,
    ) -> None:
        """Add a binding, or replace the one of the same `aor` and `key`. `expires` is in seconds since the epoch."""

    def delete_binding(self, aor: str, key: str, *, then: Then | None = None, failed: Failed | None = None) -> None:
        """Remove a binding; one that is not there is no mistake."""

    def load_bindings(self, now: float | None = None) -> list[StoredBinding]:
        """All bindings; with `now` only those that have not expired. Called once, when the gateway starts."""
