"""RTCP of one leg: what we report to its far end, and what the far end reports to us (RFC 3550 section 6.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from siperb_core.media.direction import Direction
from siperb_core.rtp.packet import RtpError
from siperb_core.rtp.quality import mean_opinion_score
from siperb_core.rtp.rtcp import (
    Bye,
    Report,
    ReportBlock,
    SenderInfo,
    build_bye,
    build_cname,
    build_report,
    middle,
    ntp_time,
    parse_rtcp,
    round_trip,
)

INTERVAL: Final = 5.0
SENDER_SILENCE: Final = 10.0  # after two intervals without a packet we are no sender (section 6.3.8)


class LegReports:
    """`inbound` carries what this leg sends to us, `outbound` what we send to it. `wall` gives seconds since 1970."""

    def __init__(
        self,
        inbound: Direction,
        outbound: Direction,
        *,
        cname: str,
        wall: Callable[[], float],
        spread: Callable[[], float],
    ) -> None:
        self.inbound, self.outbound = inbound, outbound
        self.round_trip: float | None = None
        self.remote_loss = 0.0
        self.left = False
        self._cname, self._wall, self._spread = cname, wall, spread
        self._due: float | None = None
        self._last_sr = 0
        self._last_sr_at = 0.0

    def due(self, now: float) -> bool:
        """Whether a report is to be sent now; the interval is spread by half either way (section 6.2)."""
        if self._due is None:
            self._due = now + INTERVAL * (0.1 + 0.4 * self._spread())  # the first one comes early
        if now < self._due:
            return False
        self._due = now + INTERVAL * (0.5 + self._spread())
        return True

    def build(self, now: float, clock: int) -> bytes:
        """Write the compound packet. `clock` is that of the stream we send."""
        out, ssrc = self.outbound, self.outbound.ssrc
        sender = None
        if out.packets_out and now - out.last_out_at < SENDER_SILENCE:
            # The RTP timestamp of this instant, not of the last packet.
            timestamp = (out.last_timestamp_out + int((now - out.last_out_at) * clock)) & 0xFFFFFFFF
            sender = SenderInfo(ntp_time(self._wall()), timestamp, out.packets_out, out.octets_out)
        blocks: tuple[ReportBlock, ...] = ()
        reception, source = self.inbound.reception, self.inbound.source_ssrc
        if source is not None:
            delay = int((now - self._last_sr_at) * 65536) & 0xFFFFFFFF if self._last_sr else 0
            blocks = (
                ReportBlock(
                    source,
                    reception.interval_loss(),
                    reception.lost,
                    reception.highest,
                    int(reception.jitter),
                    self._last_sr,
                    delay,
                ),
            )
        return build_report(Report(ssrc, sender, blocks)) + build_cname(ssrc, self._cname)

    def goodbye(self, now: float, clock: int) -> bytes:
        """Write the last compound packet."""
        return self.build(now, clock) + build_bye((self.outbound.ssrc,))

    def received(self, data: bytes, now: float) -> bool:
        """Take in a compound packet; False when it is malformed."""
        try:
            packets = parse_rtcp(data)
        except RtpError:
            return False
        for packet in packets:
            if isinstance(packet, Bye):
                self.left = True
                continue
            if packet.sender is not None and packet.ssrc == self.inbound.source_ssrc:
                self._last_sr, self._last_sr_at = middle(packet.sender.ntp), now
            for block in packet.blocks:
                if block.ssrc == self.outbound.ssrc:
                    self.remote_loss = block.fraction_lost / 256
                    rtt = round_trip(block, ntp_time(self._wall()))
                    if rtt is not None and rtt < 60:
                        self.round_trip = rtt
        return True

    def stats(self, codec: str) -> dict[str, Any]:
        """This leg's figures under the names of the JSON output. `mos` is of what we receive from it."""
        reception = self.inbound.reception
        lost, packets = reception.lost, reception.packets
        loss = lost / (lost + packets) if packets else 0.0
        mos = mean_opinion_score(codec, loss, reception.jitter_ms, 1000 * (self.round_trip or 0.0)) if packets else None
        return {
            "packets_in": packets,
            "packets_out": self.outbound.packets_out,
            "lost": lost,
            "jitter_ms": round(reception.jitter_ms, 1),
            "round_trip_ms": None if self.round_trip is None else round(1000 * self.round_trip, 1),
            "loss_reported": round(self.remote_loss, 3),
            "mos": mos,
        }
