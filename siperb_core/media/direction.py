"""One direction of one call: RTP packet in, RTP packets out. No socket, no clock, no await: this is the path every
packet takes.

One packet comes out for one that goes in. Sequence numbers keep their distance, so that what was lost stays lost to the
receiver, except for short gaps, which the transcoder fills. Timestamps are scaled from one codec's clock to the
other's. Whatever happens at the source (another SSRC, another payload type, a leap), the stream that comes out is one:
one SSRC, sequence numbers and timestamps without a leap back.
"""

from __future__ import annotations

from typing import Final, Literal

from siperb_core.media.contract import Transcoder
from siperb_core.rtp.events import rescale_event
from siperb_core.rtp.packet import COMFORT_NOISE, HEADER, RtpError, payload_bounds
from siperb_core.rtp.quality import Reception
from siperb_core.sdp.plan import Stream

MAX_CONCEALED: Final = 5

Counter = Literal["malformed", "payload_type", "late", "codec", "no_event"]

_pack = HEADER.pack
_unpack = HEADER.unpack_from


class Direction:
    """Carries packets from one leg (`source`, as we receive there) to the other (`target`, as we send there).

    `sequence` and `timestamp` are where the outgoing stream begins; random, as RFC 3550 section 5.1 asks.
    `dropped` counts packets that went no further, by reason.
    """

    def __init__(self, *, ssrc: int, sequence: int, timestamp: int) -> None:
        self.ssrc = ssrc
        self.reception = Reception(8000)
        self.source_ssrc: int | None = None
        self.packets_out = 0
        self.octets_out = 0
        self.concealed = 0
        self.dropped: dict[Counter, int] = {"malformed": 0, "payload_type": 0, "late": 0, "codec": 0, "no_event": 0}
        self.transcoder: Transcoder | None = None
        self._source: Stream | None = None
        self._target: Stream | None = None
        self._receive = self._dtmf_receive = self._send = self._dtmf_send = -1
        self._source_clock = self._target_clock = 8000
        self._dtmf_clocks = (8000, 8000)
        self._sequence_offset = 0
        self._next_sequence = sequence  # where the next stream of the source is joined on
        self._next_timestamp = timestamp
        self._base_timestamp = timestamp
        self._last_timestamp = 0  # the source's, as it came
        self._ticks = 0  # the source's since the base, without wraps
        self._step = 0  # ticks from the packet before last to the last
        self._last_at = 0.0
        self._joined = False
        self._audio_last = False
        self.last_timestamp_out = timestamp
        self.last_out_at = 0.0

    def configure(self, source: Stream, target: Stream, transcoder: Transcoder | None) -> None:
        """Set or change what goes in and out. `transcoder` is None for relay: the payload is passed on as it is."""
        if self._source is not None and source.codec.clock != self._source_clock:
            self.reception = self._reclocked(source.codec.clock)
        elif self._source is None:
            self.reception.clock = source.codec.clock
        if source.codec.clock != self._source_clock or target.codec.clock != self._target_clock:
            self._joined = False
        if transcoder is not self.transcoder:
            self.close()
        self._source, self._target, self.transcoder = source, target, transcoder
        self._receive, self._send = source.receive, target.send
        self._dtmf_receive = -1 if source.dtmf_receive is None else source.dtmf_receive
        self._dtmf_send = -1 if target.dtmf_send is None else target.dtmf_send
        self._source_clock, self._target_clock = source.codec.clock, target.codec.clock
        self._dtmf_clocks = (source.dtmf_clock, target.dtmf_clock)

    def close(self) -> None:
        """Give the transcoder's memory back."""
        transcoder, self.transcoder = self.transcoder, None
        if transcoder is not None:
            transcoder.close()

    def interrupt(self) -> None:
        """The stream pauses (hold, another branch): what comes next is joined on, and nothing in between counts as
        lost.
        """
        self.source_ssrc = None

    def forward(self, data: bytes, now: float) -> list[bytes]:
        """Turn one packet into what is to be sent, in order; nothing when it is dropped, which is counted.

        Never raises on the peer's mistakes.
        """
        try:
            start, end = payload_bounds(data)
        except RtpError:
            self.dropped["malformed"] += 1
            return []
        _, second, sequence, timestamp, ssrc = _unpack(data)
        payload_type = second & 0x7F
        if payload_type != self._receive and payload_type != self._dtmf_receive and payload_type != COMFORT_NOISE:
            self.dropped["payload_type"] += 1
            return []
        reception = self.reception
        if ssrc != self.source_ssrc:
            if reception.received:
                reception.restart(sequence)
            else:
                reception.arrived(sequence)
            self.source_ssrc = ssrc
            self._joined = False
            arrival, missing = "first", 0
        else:
            arrival, missing = reception.arrived(sequence)
            if arrival in ("duplicate", "jump") or (arrival == "late" and self.transcoder is not None):
                self.dropped["late"] += 1
                return []
        if arrival == "restart" or not self._joined:
            self._join(sequence, timestamp, now)
        elif arrival == "late":
            return self._pass_late(data, second, sequence, timestamp, start, end)
        else:
            step = (timestamp - self._last_timestamp) & 0xFFFFFFFF
            if step > 0x7FFFFFFF:
                step -= 0x100000000
            if abs(step) > 60 * self._source_clock:  # the source began its timestamps anew
                step = round((now - self._last_at) * self._source_clock)
            self._ticks += step
            self._step, self._last_timestamp = step, timestamp
        self._last_at = now
        if payload_type == self._receive:
            reception.timed(timestamp, now)
            return self._audio(data[start:end], second, sequence, missing, now)
        self._audio_last = False
        if payload_type == self._dtmf_receive and self._dtmf_send >= 0:
            return self._event(data[start:end], second, sequence, now)
        self.dropped["no_event"] += 1
        self._sequence_offset -= 1  # it is not lost: nobody was to have it
        return []

    def _join(self, sequence: int, timestamp: int, now: float) -> None:
        """Join a new stream of the source on to the stream that goes out."""
        self._sequence_offset = self._next_sequence - sequence
        if self.packets_out:
            gap = min(max(round((now - self.last_out_at) * self._target_clock), 1), 60 * self._target_clock)
            self._base_timestamp = (self.last_timestamp_out + gap) & 0xFFFFFFFF
        else:
            self._base_timestamp = self._next_timestamp
        self._last_timestamp, self._ticks, self._step = timestamp, 0, 0
        self._joined = True
        self._audio_last = False

    def _scaled(self, ticks: int) -> int:
        return (self._base_timestamp + ticks * self._target_clock // self._source_clock) & 0xFFFFFFFF

    def _audio(self, payload: bytes, second: int, sequence: int, missing: int, now: float) -> list[bytes]:
        transcoder = self.transcoder
        out: list[bytes] = []
        if transcoder is not None:
            if missing and missing <= MAX_CONCEALED and self._audio_last and self._step > 0:
                self._conceal(transcoder, sequence, missing, now, out)
            try:
                payload = transcoder.transcode(payload)
            except ValueError:
                self.dropped["codec"] += 1
                return out
            if not payload:  # silence the other codec has no packet for
                self._sequence_offset -= 1
                return out
        self._audio_last = True
        out.append(self._build(second & 0x80 | self._send, sequence, self._scaled(self._ticks), payload, now))
        return out

    def _conceal(self, transcoder: Transcoder, sequence: int, missing: int, now: float, out: list[bytes]) -> None:
        # The timestamps tell whether the missing packets held sound: after a pause (DTX) they leap by more.
        step, rest = divmod(self._step, missing + 1)
        if rest or step > self._source_clock // 8:
            return
        for left in range(missing, 0, -1):
            try:
                payload = transcoder.conceal()
            except ValueError:
                return
            if payload:
                self.concealed += 1
                out.append(
                    self._build(self._send, sequence - left, self._scaled(self._ticks - left * step), payload, now)
                )

    def _event(self, payload: bytes, second: int, sequence: int, now: float) -> list[bytes]:
        source_clock, target_clock = self._dtmf_clocks
        try:
            payload, offset = rescale_event(payload, source_clock, target_clock)
        except RtpError:
            self.dropped["malformed"] += 1
            return []
        return [
            self._build(
                second & 0x80 | self._dtmf_send,
                sequence,
                (self._scaled(self._ticks) + offset) & 0xFFFFFFFF,
                payload,
                now,
            )
        ]

    def _pass_late(self, data: bytes, second: int, sequence: int, timestamp: int, start: int, end: int) -> list[bytes]:
        """Relay a packet that was overtaken: the receiver puts it in order."""
        if second & 0x7F != self._receive:
            self.dropped["late"] += 1
            return []
        step = (timestamp - self._last_timestamp) & 0xFFFFFFFF
        ticks = self._ticks + step - (0x100000000 if step > 0x7FFFFFFF else 0)
        self.packets_out += 1
        self.octets_out += end - start
        header = _pack(
            0x80,
            second & 0x80 | self._send,
            (sequence + self._sequence_offset) & 0xFFFF,
            self._scaled(ticks),
            self.ssrc,
        )
        return [header + data[start:end]]

    def _build(self, second: int, sequence: int, timestamp: int, payload: bytes, now: float) -> bytes:
        sequence = (sequence + self._sequence_offset) & 0xFFFF
        self._next_sequence = (sequence + 1) & 0xFFFF
        self.last_timestamp_out, self.last_out_at = timestamp, now
        self.packets_out += 1
        self.octets_out += len(payload)
        return _pack(0x80, second, sequence, timestamp, self.ssrc) + payload

    def _reclocked(self, clock: int) -> Reception:
        """A reception at another clock that keeps what was counted."""
        fresh = Reception(clock)
        fresh.lost_before, fresh.received_before = self.reception.lost, self.reception.packets
        self.source_ssrc = None
        return fresh
