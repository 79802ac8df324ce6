"""What media workers have done since the gateway started: totals that only grow, for metrics."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import attrs


@attrs.define
class Counters:
    """Of one worker, or of several added up. Times are in seconds.

    `transcode_seconds` is the time spent on transcoding, `cpu_seconds` all a worker's process has used. A leg's
    packets are RTP from it (`in`) and to it (`out`).
    """

    sessions: int = 0
    client_in: int = 0
    client_out: int = 0
    peer_in: int = 0
    peer_out: int = 0
    lost: int = 0
    concealed: int = 0
    one_way: int = 0
    transcode_seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, other: Counters) -> None:
        """Add another's to these."""
        for name in _NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def advance(self, later: Counters) -> None:
        """Take over what is more now. A packet that comes late was no loss after all, and a session that is being
        closed is missing for a moment: to whoever collects totals, one that goes back has begun anew.
        """
        for name in _NAMES:
            setattr(self, name, max(getattr(self, name), getattr(later, name)))

    def add_session(self, stats: dict[str, Any]) -> None:
        """Add the figures of a session that has ended, or as they are so far."""
        client, peer = stats["client"], stats["peer"]
        self.client_in += client["packets_in"]
        self.client_out += client["packets_out"]
        self.peer_in += peer["packets_in"]
        self.peer_out += peer["packets_out"]
        self.lost += client["lost"] + peer["lost"]
        self.concealed += client.get("concealed", 0) + peer.get("concealed", 0)


_NAMES = tuple(attribute.name for attribute in attrs.fields(Counters))


@runtime_checkable
class CountsMedia(Protocol):
    """A media engine that counts (optional)."""

    def counters(self) -> Counters:
        """All that has been done since the gateway started, by workers that have died, too."""
