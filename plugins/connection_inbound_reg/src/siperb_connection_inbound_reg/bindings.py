"""The PBX's bindings: a registrar of one address of record, kept in the entry's memory so that a restart loses none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from siperb_core import Source
from siperb_core.sip import Message
from siperb_core.sip.registrar import Binding, Registrar

_KEY = "bindings"
_KEPT = ("contact", "instance", "reg_id", "call_id", "cseq", "expires_at", "user_agent", "path", "registered_at")
_MOST = 4
"""A PBX that is a cluster may register from each of its nodes."""

Address = tuple[str, int, str]
"""Host, port and transport a REGISTER came from: where the PBX is, whatever its contact says."""


class Bindings:
    """Where the PBX is. `changed` is called after every REGISTER that changes something. Times are seconds since the
    epoch.
    """

    def __init__(self, aor: str, memory: MutableMapping[str, Any]) -> None:
        self._aor = aor
        self._memory = memory
        self._registrar = Registrar(max_bindings=_MOST)
        self._sources: dict[str, Address] = {}
        self.changed: Callable[[], None] = lambda: None
        self._registrar.restore(self._remembered())

    def _remembered(self) -> Iterator[Binding]:
        if self._memory.get("username") != self._aor:
            return  # of an entry that had this name before, and another PBX
        for item in self._memory.get(_KEY, ()):
            host, port, transport = item["source"]
            self._sources[item["contact"]] = (host, port, transport)
            kept = {name: item[name] for name in _KEPT}
            yield Binding(aor=self._aor, **{**kept, "path": tuple(item["path"])})

    @property
    def next_expiry(self) -> float | None:
        """When the next binding runs out; None where there are none."""
        return self._registrar.next_expiry

    def register(self, request: Message, source: Source, now: float) -> Message:
        """Carry out a REGISTER; the answer, which may leave once the memory is on disk."""
        result = self._registrar.register(request, self._aor, source.flow, now)
        for change in result.changed:
            if change.what != "removed":
                self._sources[change.binding.contact] = (source.host, source.port, source.transport)
        if result.changed:
            self._remember()
            self.changed()
        return result.response

    def expire(self, now: float) -> bool:
        """Drop what has run out; whether anything had."""
        gone = bool(self._registrar.expire(now))
        if gone:
            self._remember()
        return gone

    def newest(self, now: float) -> tuple[Binding, Address] | None:
        """The binding that was refreshed last and is still in force, with the address it came from."""
        for binding in reversed(self._registrar.bindings(self._aor)):
            if binding.expires_at > now:
                return binding, self._sources[binding.contact]
        return None

    def came_from(self, source: Source, now: float) -> bool:
        """Whether a binding in force came on this very path: from the same address and port, by the same transport."""
        address = (source.host, source.port, source.transport)
        return any(
            binding.expires_at > now and (binding.flow == source.flow or self._sources[binding.contact] == address)
            for binding in self._registrar.bindings(self._aor)
        )

    def addresses(self, now: float) -> frozenset[str]:
        """Where the bindings in force came from."""
        in_force = (binding for binding in self._registrar.bindings(self._aor) if binding.expires_at > now)
        return frozenset(self._sources[binding.contact][0] for binding in in_force)

    def _remember(self) -> None:
        bindings = self._registrar.bindings(self._aor)
        contacts = {binding.contact for binding in bindings}
        self._sources = {contact: found for contact, found in self._sources.items() if contact in contacts}
        self._memory["username"] = self._aor
        self._memory[_KEY] = [
            {
                **{name: getattr(binding, name) for name in _KEPT},
                "path": list(binding.path),
                "source": list(self._sources[binding.contact]),
            }
            for binding in bindings
        ]
