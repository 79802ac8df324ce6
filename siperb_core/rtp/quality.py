"""How well a stream arrives: loss and jitter (RFC 3550 appendix A), and what that sounds like (ITU-T G.107, the
E-model).
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

MAX_DROPOUT: Final = 3000
MAX_MISORDER: Final = 100

Arrival = Literal["first", "next", "late", "duplicate", "jump", "restart"]


@attrs.define
class Reception:
    """Counts one source's packets as RFC 3550 A.1 and A.8 do. `clock` is the RTP clock in Hz; arrival times are in
    seconds.

    A sequence number that leaps out of bounds is believed only when the next packet follows it (A.1): then it is a
    `restart`.
    """

    clock: int
    received: int = 0
    lost_before: int = 0  # of sources that were replaced by this one
    received_before: int = 0
    base: int = 0
    highest: int = 0  # extended: above 16 bits the number of wraps
    jitter: float = 0.0  # in units of the clock
    _suspect: int = -1
    _transit: float | None = None
    _expected_prior: int = 0
    _received_prior: int = 0

    def arrived(self, sequence: int) -> tuple[Arrival, int]:
        """Take note of a packet. Returns what it is and, for `next`, how many packets are missing just before it."""
        if not self.received:
            self.base = self.highest = sequence
            self.received = 1
            return "first", 0
        step = (sequence - self.highest) & 0xFFFF
        if step == 1:  # nearly always
            self.highest += 1
            self.received += 1
            return "next", 0
        if step == 0:
            return "duplicate", 0
        if step < MAX_DROPOUT:
            self.highest += step
            self.received += 1
            return "next", step - 1
        if step > 0x10000 - MAX_MISORDER:
            self.received += 1
            return "late", 0
        if sequence == self._suspect:
            self.restart(sequence)
            return "restart", 0
        self._suspect = (sequence + 1) & 0xFFFF
        return "jump", 0

    def restart(self, sequence: int) -> None:
        """Begin anew at `sequence`, another source or a source that began anew; what was counted stays counted."""
        self.lost_before, self.received_before = self.lost, self.packets
        self.base = self.highest = sequence
        self.received = 1
        self._suspect, self._transit = -1, None
        self._expected_prior = self._received_prior = 0

    def timed(self, timestamp: int, now: float) -> None:
        """Update the jitter with a packet's RTP timestamp and its arrival (A.8)."""
        transit = now * self.clock - timestamp
        if self._transit is not None:
            difference = abs(transit - self._transit)
            if difference < self.clock:  # a leap in the timestamps (DTX, a new base) is no jitter
                self.jitter += (difference - self.jitter) / 16
        self._transit = transit

    @property
    def packets(self) -> int:
        """Packets received, of all sources."""
        return self.received + self.received_before

    @property
    def lost(self) -> int:
        """Packets lost, of all sources; never negative."""
        expected = self.highest - self.base + 1 if self.received else 0
        return self.lost_before + max(expected - self.received, 0)

    @property
    def jitter_ms(self) -> float:
        """The interarrival jitter in milliseconds."""
        return 1000 * self.jitter / self.clock

    def interval_loss(self) -> int:
        """Give the fraction lost since this was last asked, in 1/256 (A.3)."""
        expected_now = self.highest - self.base + 1 if self.received else 0
        expected, received = expected_now - self._expected_prior, self.received - self._received_prior
        self._expected_prior, self._received_prior = expected_now, self.received
        lost = expected - received
        return min(255, lost * 256 // expected) if expected > 0 and lost > 0 else 0


# Equipment impairment and loss robustness (G.113 appendix I; Opus by published fits of the same model).
_IMPAIRMENT: Final = {"opus": (0.0, 20.0), "G722": (0.0, 10.0), "PCMA": (0.0, 4.3), "PCMU": (0.0, 4.3)}


def mean_opinion_score(codec: str, loss: float, jitter_ms: float, rtt_ms: float = 0.0) -> float:
    """Estimate the mean opinion score, 1.0 to 4.5, by the E-model (G.107).

    `loss` is a fraction of 1; the delay is taken to be half the round trip, a jitter buffer of twice the jitter, and
    one packet.
    """
    delay = rtt_ms / 2 + 2 * jitter_ms + 20
    delay_impairment = 0.024 * delay + (0.11 * (delay - 177.3) if delay > 177.3 else 0.0)
    base, robustness = _IMPAIRMENT.get(codec, (0.0, 4.3))
    percent = 100 * min(max(loss, 0.0), 1.0)
    equipment = base + (95 - base) * percent / (percent + robustness)
    rating = 93.2 - delay_impairment - equipment
    if rating <= 0:
        return 1.0
    score = 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6
    return round(min(max(score, 1.0), 4.5), 2)
