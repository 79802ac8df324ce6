"""What is remembered of users over a restart, in the memory of entries: do-not-disturb, and the number dialled last."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siperb_core import EntryContext

_QUIET = "dnd:"
_RECENT = "dialled:"
_LONGEST_NUMBER = 256


class Quiet:
    """Who is not to be disturbed. It is one switch for each user, whichever entry's code turns it: kept in that entry's
    memory, in force as long as that entry is loaded and the user is among its users.
    """

    def __init__(self) -> None:
        self._entries: dict[str, EntryContext] = {}

    def join(self, ctx: EntryContext) -> None:
        """An entry is loaded."""
        self._entries[ctx.entry.name] = ctx

    def leave(self, name: str) -> None:
        """An entry is unloaded; what it remembers is in force again when it is loaded again."""
        self._entries.pop(name, None)

    def is_on(self, user: str) -> bool:
        """Whether this user is not to be disturbed."""
        key = f"{_QUIET}{user}"
        return any(key in ctx.memory and ctx.entry.rings(user) for ctx in self._entries.values())

    def turn(self, user: str, on: bool | None, name: str) -> bool:
        """Turn a user's switch on or off, or over (None), by a code of the entry `name`; how it stands now."""
        if on is None:
            on = not self.is_on(user)
        key = f"{_QUIET}{user}"
        for ctx in self._entries.values():
            if not on:
                ctx.memory.pop(key, None)
            elif ctx.entry.name == name:
                ctx.memory[key] = ctx.now()
        return on and self.is_on(user)

    def since(self, name: str) -> dict[str, float]:
        """The users whose switch was turned on by this entry's codes, and when: seconds since the epoch."""
        ctx = self._entries.get(name)
        if ctx is None:
            return {}
        kept = {key.removeprefix(_QUIET): key for key in ctx.memory if key.startswith(_QUIET)}
        return {user: ctx.memory[key] for user, key in sorted(kept.items()) if ctx.entry.rings(user)}


class MostRecent:
    """The number every user has dialled last, in one entry's memory."""

    def __init__(self, memory: MutableMapping[str, Any]) -> None:
        self._memory = memory

    def number_of(self, user: str) -> str:
        """The number a user has dialled last; empty where there is none."""
        number = self._memory.get(f"{_RECENT}{user}", "")
        return number if isinstance(number, str) else ""

    def note(self, user: str, number: str) -> None:
        """A user has dialled a number. What could not be dialled again is not kept."""
        if number and len(number) <= _LONGEST_NUMBER and number.isprintable():
            self._memory[f"{_RECENT}{user}"] = number
