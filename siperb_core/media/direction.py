"""One direction of one call: RTP packet in, RTP packets out. No socket, no clock, no await: this is the path every
packet takes.

One packet comes out for one that goes in; before a transcoder, what came over a gap waits a moment for what it overtook
(`siperb_core.rtp.reordering`). Sequence numbers keep their distance, so that what was lost stays lost to the
receiver, except for short gaps, which the transcoder fills. Timestamps are scaled from one codec's clock to the
other's. Whatever happens at the source (another SSRC, another payload type, a leap), the stream that comes out is one:
one SSRC, sequence numbers and timestamps without a leap back.

Silence is no loss: where the source stops sending, its sequence numbers go on and its timestamps leap, and so do ours.
Comfort noise (RFC 3389) is never passed on, as nobody has agreed to it; a codec with a word for it says it instead. The
first packet of sound after a silence has the marker bit (RFC 3551 section 4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal

from siperb_core.media.contract import MakesNoise, Recovers, Transcoder
from siperb_core.rtp.events import Digit, EventReader, parse_event, rescale_event
from siperb_core.rtp.packet import COMFORT_NOISE, HEADER, RtpError, payload_bounds
from siperb_core.rtp.quality import Arrival, Reception
from siperb_core.rtp.reordering import Reordering
from siperb_core.rtp.twins import Twins
from siperb_core.sdp.plan import Stream

MAX_CONCEALED: Final = 5
DTX_OCTETS: Final = 2
"""No codec says anything in so few: an encoder that keeps silent, and shows that it is there (RFC 7587 3.1.3)."""

Counter = Literal["malformed", "payload_type", "late", "codec", "no_event"]

_Packet = tuple[int, int, int, int, bytes]  # payload type, marker and type, sequence, timestamp, payload

_pack = HEADER.pack
_unpack = HEADER.unpack_from


class Direction:
    """Carries packets from one leg (`source`, as we receive there) to the other (`target`, as we send there).

    `sequence` and `timestamp` are where the outgoing stream begins; random, as RFC 3550 section 5.1 asks.
    `dropped` counts packets that went no further, by reason.

    Where `on_digit` is set, telephone-events go there instead of through, each once. Else one goes through unless
    `twins` knows it from another way. Tones that a source sends beside its events are left out. While `muted`, audio is
    counted and not passed on: something else is sent through `inject`. `listen` is given every payload of audio, in
    order, and how many packets before it are missing.
    """

    def __init__(self, *, ssrc: int, sequence: int, timestamp: int) -> None:
        self.ssrc = ssrc
        self.reception = Reception(8000)
        self.source_ssrc: int | None = None
        self.last_payload = b""  # of audio, as it came
        self.packets_out = 0
        self.octets_out = 0
        self.concealed = 0
        self.dropped: dict[Counter, int] = {"malformed": 0, "payload_type": 0, "late": 0, "codec": 0, "no_event": 0}
        self.transcoder: Transcoder | None = None
        self.on_digit: Callable[[Digit], None] | None = None
        self.listen: Callable[[bytes, int], None] | None = None
        self.twins: Twins | None = None
        self.muted = False
        self._event_stamp = -1  # of the telephone-event that came last: its timestamp
        self._event_ticks = 0  # how long it has lasted
        self._event_passes = True
        self._event_open = False
        self._events = EventReader()
        self._reordering = Reordering[_Packet]()
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
        self._usual = 0  # ticks from a packet to the next while nobody pauses
        self._spurt = True  # the next packet of sound is the first after a silence
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
            self._reordering.restart(self._reordering.last)
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
        self._reordering.restart(self._reordering.last)
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
        reception, reordering = self.reception, self._reordering
        out: list[bytes] = []
        if ssrc != self.source_ssrc:
            if reordering.holding:
                out = self.flush(now)
            if reception.received:
                reception.restart(sequence)
            else:
                reception.arrived(sequence)
            self.source_ssrc = ssrc
            self._joined = False
            arrival: Arrival = "first"
            missing = 0
        else:
            arrival, missing = reception.arrived(sequence)
            if arrival in ("duplicate", "jump"):
                self.dropped["late"] += 1
                return out
        if arrival != "late" and payload_type == self._receive:
            reception.timed(timestamp, now)
        packet = (payload_type, second, sequence, timestamp, data[start:end])
        if self.transcoder is None:
            return self._pass_late(*packet) if arrival == "late" else self._process(packet, missing, now, arrival)
        if arrival in ("first", "restart"):
            if reordering.holding:
                out += self.flush(now)
            reordering.restart(sequence)
        elif missing or arrival == "late" or reordering.holding:
            if not reordering.put(sequence, packet, now):
                self.dropped["late"] += 1
                return out
            return out + self._release(now)
        else:
            reordering.last = sequence
        return out + self._process(packet, missing, now, arrival)

    def flush(self, now: float, *, give_up: bool = True) -> list[bytes]:
        """Let out what waits for packets that were overtaken; all of it, or what has waited long enough."""
        return self._release(now, give_up=give_up) if self._reordering.holding else []

    def _release(self, now: float, *, give_up: bool = False) -> list[bytes]:
        out: list[bytes] = []
        for missing, packet in self._reordering.take(now, give_up=give_up):
            out += self._process(packet, missing, now, "next")
        return out

    def _process(self, packet: _Packet, missing: int, now: float, arrival: Arrival) -> list[bytes]:
        """Carry on a packet whose turn it is."""
        payload_type, second, sequence, timestamp, payload = packet
        if arrival == "restart" or not self._joined:
            self._join(sequence, timestamp, now)
        else:
            step = (timestamp - self._last_timestamp) & 0xFFFFFFFF
            if step > 0x7FFFFFFF:
                step -= 0x100000000
            if abs(step) > 60 * self._source_clock:  # the source began its timestamps anew
                step = round((now - self._last_at) * self._source_clock)
            self._ticks += step
            if payload_type == self._receive and step != self._usual:
                self._paced(step, missing)
            self._step, self._last_timestamp = step, timestamp
        self._last_at = now
        if payload_type == self._receive:
            if self._event_open and self._within_event(timestamp):
                self._sequence_offset -= 1 + missing
                self._audio_last = False
                return []
            if self.on_digit is not None:
                self._tell(self._events.over(self._dtmf_clocks[0]))
            self.last_payload = payload
            if self.listen is not None:
                self.listen(payload, missing)
            if self.muted:
                self._sequence_offset -= 1 + missing
                self._audio_last = False
                return []
            return self._audio(payload, second, sequence, missing, now)
        self._audio_last = False
        if payload_type != self._dtmf_receive:
            return self._comfort_noise(payload, sequence, now)
        passes = self._follow_event(payload, timestamp, now)
        if self.on_digit is not None:
            self._read_event(payload, timestamp)
        elif self._dtmf_send >= 0 and passes:
            return self._event(payload, second, sequence, now)
        self.dropped["no_event"] += self.on_digit is None and passes
        self._sequence_offset -= 1  # it is not lost: nobody was to have it
        return []

    def _paced(self, step: int, missing: int) -> None:
        """Tell a pause in the source's sound from a packet of another length: two steps alike are no pause."""
        if step == self._step and 0 < step <= self._source_clock * 3 // 25:  # 120 ms, the longest packet there is
            self._usual = step
        elif not missing and self._usual and step > self._usual * 3 // 2:
            self._spurt = True

    def _comfort_noise(self, payload: bytes, sequence: int, now: float) -> list[bytes]:
        """The source says that it falls silent, and how its silence sounds (RFC 3389)."""
        self._spurt = True
        transcoder: object = self.transcoder
        noise = b""
        if isinstance(transcoder, MakesNoise) and not self.muted:
            with suppress(ValueError):
                noise = transcoder.noise(payload[0] & 0x7F if payload else 127)
        if noise:
            return [self._build(self._send, sequence, self._scaled(self._ticks), noise, now)]
        self._sequence_offset -= 1
        return []

    def _follow_event(self, payload: bytes, timestamp: int, now: float) -> bool:
        """Whether this packet's telephone-event is one that may go through."""
        try:
            event = parse_event(payload)
        except RtpError:
            return True  # counted where it is read
        twins = self.twins
        if timestamp != self._event_stamp:
            self._event_stamp = timestamp
            self._event_passes = twins is None or not event.digit or twins.fresh("event", event.digit, now, now)
        elif twins is not None and self._event_passes:
            twins.lasts("event", now)
        carried = self.on_digit is not None or self._dtmf_send >= 0
        self._event_open = carried and self._dtmf_clocks[0] == self._source_clock
        # Until the end is said, what begins where this packet ends is still of it.
        self._event_ticks = event.duration + (not event.end)
        return self._event_passes

    def _within_event(self, timestamp: int) -> bool:
        """Whether audio is of the time of the telephone-event that came last: its tone, which is told already."""
        if (timestamp - self._event_stamp) & 0xFFFFFFFF < self._event_ticks:
            return True
        self._event_open = False
        return False

    def _read_event(self, payload: bytes, timestamp: int) -> None:
        try:
            self._tell(self._events.take(payload, timestamp, self._dtmf_clocks[0]))
        except RtpError:
            self.dropped["malformed"] += 1

    def _tell(self, digits: list[Digit]) -> None:
        for digit in digits:
            if self.on_digit is not None:
                self.on_digit(digit)

    def inject(self, payload: bytes, *, event: bool, marker: bool, elapsed: int, start: int, now: float) -> bytes:
        """A packet of our own between the source's: a telephone-event, or audio in the target's codec.

        `start` is where it began, by `instant`, and `elapsed` how many ticks of the target's clock ago that was.
        """
        second = (self._dtmf_send if event else self._send) | (0x80 if marker else 0)
        timestamp = start if event else (start + elapsed) & 0xFFFFFFFF
        packet = self._build(second, (self._next_sequence - self._sequence_offset) & 0xFFFF, timestamp, payload, now)
        self._sequence_offset += 1
        self.last_timestamp_out = (start + elapsed) & 0xFFFFFFFF
        self._audio_last = False
        return packet

    def instant(self, now: float) -> int:
        """The timestamp of this moment in the stream that goes out."""
        if not self.packets_out:
            return self._next_timestamp
        gap = min(max(round((now - self.last_out_at) * self._target_clock), 1), 60 * self._target_clock)
        return (self.last_timestamp_out + gap) & 0xFFFFFFFF

    def _join(self, sequence: int, timestamp: int, now: float) -> None:
        """Join a new stream of the source on to the stream that goes out."""
        self._sequence_offset = self._next_sequence - sequence
        self._base_timestamp = self.instant(now)
        self._last_timestamp, self._ticks, self._step = timestamp, 0, 0
        self._joined = self._spurt = True
        self._audio_last = self._event_open = False

    def _scaled(self, ticks: int) -> int:
        return (self._base_timestamp + ticks * self._target_clock // self._source_clock) & 0xFFFFFFFF

    def _audio(self, payload: bytes, second: int, sequence: int, missing: int, now: float) -> list[bytes]:
        transcoder = self.transcoder
        out: list[bytes] = []
        if transcoder is not None:
            if missing and missing <= MAX_CONCEALED and self._audio_last and self._step > 0:
                self._conceal(transcoder, sequence, missing, now, out, payload)
            try:
                payload = transcoder.transcode(payload)
            except ValueError:
                self.dropped["codec"] += 1
                return out
            if not payload:  # silence the other codec has no packet for
                self._sequence_offset -= 1
                self._spurt = True
                return out
        self._audio_last = True
        marker = second & 0x80
        if self._spurt or len(self.last_payload) <= DTX_OCTETS:
            marker = self._after_silence(marker)
        out.append(self._build(marker | self._send, sequence, self._scaled(self._ticks), payload, now))
        return out

    def _after_silence(self, marker: int) -> int:
        """The marker bit of a packet after a silence: only sound ends it."""
        begins, self._spurt = self._spurt, len(self.last_payload) <= DTX_OCTETS
        return 0x80 if begins and not self._spurt else marker

    def _conceal(
        self, transcoder: Transcoder, sequence: int, missing: int, now: float, out: list[bytes], following: bytes
    ) -> None:
        # The timestamps tell whether the missing packets held sound: after a pause (DTX) they leap by more.
        step, rest = divmod(self._step, missing + 1)
        if rest or step > self._source_clock // 8:
            return
        for left in range(missing, 0, -1):
            try:
                if left == 1 and isinstance(transcoder, Recovers):
                    payload = transcoder.recover(following)
                else:
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

    def _pass_late(self, payload_type: int, second: int, sequence: int, timestamp: int, payload: bytes) -> list[bytes]:
        """Relay a packet that was overtaken: the receiver puts it in order."""
        if payload_type != self._receive or not self._joined or self.muted:
            self.dropped["late"] += 1
            return []
        step = (timestamp - self._last_timestamp) & 0xFFFFFFFF
        ticks = self._ticks + step - (0x100000000 if step > 0x7FFFFFFF else 0)
        self.packets_out += 1
        self.octets_out += len(payload)
        header = _pack(
            0x80,
            second & 0x80 | self._send,
            (sequence + self._sequence_offset) & 0xFFFF,
            self._scaled(ticks),
            self.ssrc,
        )
        return [header + payload]

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
