"""What a config entry needs of the world."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

from siperb_core.entries.contract import Target
from siperb_core.sip import Message


class Outside(Protocol):
    """What the gateway does for connection types."""

    domain: str

    async def request(self, message: Message, target: Target) -> Message:
        """As `EntryContext.request`."""

    async def contact_uri(self, entry: str, target: Target) -> str:
        """As `EntryContext.contact_uri`, for the entry of that name."""

    async def keep_alive(self, target: Target, interval: float) -> None:
        """As `EntryContext.keep_alive`."""

    def memory(self, entry: str) -> MutableMapping[str, Any]:
        """As `EntryContext.memory`, for the entry of that name; the same mapping every time."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def random_token(self, octets: int = 12) -> str:
        """As `EntryContext.random_token`."""
