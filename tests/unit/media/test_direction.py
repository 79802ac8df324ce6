"""One direction of a call: whatever comes in, what goes out is one well-formed stream."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.media.direction import Direction
from siperb_core.rtp.events import Digit, TelephoneEvent, build_event, parse_event
from siperb_core.rtp.packet import RtpPacket, build_rtp, parse_rtp
from siperb_core.rtp.twins import Twins
from siperb_core.sdp.plan import Codec, Stream

OPUS = Stream(Codec("opus", 48000, 2), 111, 111, dtmf_send=110, dtmf_receive=110, dtmf_clock=48000)
G722 = Stream(Codec("G722", 8000), 9, 9, dtmf_send=101, dtmf_receive=101, dtmf_clock=8000)


class Marking:
    """A transcoder that says what it was given."""

    def __init__(self) -> None:
        self.closed = False

    def transcode(self, payload: bytes) -> bytes:
        if payload == b"bad":
            raise ValueError("no such codec")
        return b"<" + payload + b">" if payload else b""

    def conceal(self) -> bytes:
        return b"concealed"

    def close(self) -> None:
        self.closed = True


class Line:
    """A direction and its clock; `send` gives back what comes out, taken apart."""

    def __init__(self, source: Stream = G722, target: Stream = OPUS, transcoder: Marking | None = None) -> None:
        self.direction = Direction(ssrc=77, sequence=65000, timestamp=0xFFFFFF00)
        self.direction.configure(source, target, transcoder)
        self.now = 100.0

    def send(
        self, sequence: int, timestamp: int, payload: bytes = b"x", *, pt: int = 9, ssrc: int = 5, marker: bool = False
    ) -> list[RtpPacket]:
        self.now += 0.02
        data = build_rtp(RtpPacket(pt, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc, payload, marker))
        return [parse_rtp(p) for p in self.direction.forward(data, self.now)]

    def flush(self) -> list[RtpPacket]:
        """What was held back for packets that did not come."""
        return [parse_rtp(p) for p in self.direction.flush(self.now)]


def gaps(packets: list[RtpPacket]) -> list[tuple[int, int]]:
    return [
        ((b.sequence - a.sequence) & 0xFFFF, (b.timestamp - a.timestamp) & 0xFFFFFFFF)
        for a, b in itertools.pairwise(packets)
    ]


def test_one_packet_in_is_one_packet_out_at_the_other_clock() -> None:
    line = Line(transcoder=Marking())
    out = [p for n in range(1000) for p in line.send(65500 + n, 0xFFFFF000 + 160 * n, b"%d" % n)]
    assert [p.payload for p in out] == [b"<%d>" % n for n in range(1000)]
    assert set(gaps(out)) == {(1, 960)}
    assert {(p.ssrc, p.payload_type) for p in out} == {(77, 111)}


def test_timestamps_go_down_without_drift_over_the_wrap() -> None:
    line = Line(OPUS, G722, Marking())
    out = [p for n in range(1000) for p in line.send(n, 0xFFFFFFFF - 48000 + 960 * n, pt=111)]
    assert set(gaps(out)) == {(1, 160)}


def test_relay_changes_the_header_only() -> None:
    line = Line(G722, attrs.evolve(G722, send=99))
    out = line.send(1, 1000, b"payload", marker=True)
    assert [(p.payload, p.payload_type, p.ssrc, p.marker) for p in out] == [(b"payload", 99, 77, True)]


@pytest.mark.parametrize("missing", [1, 5])
def test_a_short_gap_is_filled(missing: int) -> None:
    line = Line(transcoder=Marking())
    out = line.send(1, 160) + line.send(2, 320) + line.send(3 + missing, 480 + 160 * missing, b"after")
    out += line.flush()
    assert [p.payload for p in out[2:]] == [b"concealed"] * missing + [b"<after>"]
    assert set(gaps(out)) == {(1, 960)}


def test_a_long_gap_stays_a_gap() -> None:
    line = Line(transcoder=Marking())
    out = line.send(1, 160) + line.send(10, 1600) + line.flush()
    assert gaps(out) == [(9, 8640)]
    assert line.direction.reception.lost == 8


def test_a_gap_over_a_pause_is_not_filled() -> None:
    line = Line(transcoder=Marking())
    out = line.send(1, 160) + line.send(3, 80000) + line.flush()
    assert gaps(out) == [(2, (80000 - 160) * 6)]


def test_packets_in_order_do_not_wait() -> None:
    line = Line(transcoder=Marking())
    assert all(len(line.send(n, 160 * n)) == 1 for n in range(20))


@pytest.mark.parametrize("order", [(2, 1, 3, 4), (1, 3, 2, 4), (2, 3, 1, 4), (1, 4, 2, 3), (1, 1, 3, 2, 3, 2, 4)])
def test_packets_that_overtook_one_another_come_out_in_order_and_once(order: tuple[int, ...]) -> None:
    line = Line(transcoder=Marking())
    out = line.send(0, 0, b"0")
    for n in order:
        out += line.send(n, 160 * n, b"%d" % n)
    assert [p.payload for p in out] == [b"<%d>" % n for n in range(5)]
    assert set(gaps(out)) == {(1, 960)}
    assert line.direction.concealed == 0


def test_what_comes_after_its_place_was_filled_is_dropped() -> None:
    line = Line(transcoder=Marking())
    out = [p for n in (1, 2, 4, 5, 6) for p in line.send(n, 160 * n, b"%d" % n)]
    assert [p.payload for p in out] == [b"<1>", b"<2>", b"concealed", b"<4>", b"<5>", b"<6>"]
    assert line.send(3, 480) == []
    assert line.direction.dropped["late"] == 1
    assert [p.payload for p in line.send(7, 1120, b"7")] == [b"<7>"]


def test_a_gap_is_given_up_when_its_time_is_over() -> None:
    line = Line(transcoder=Marking())
    line.send(1, 160)
    line.send(2, 320)
    assert line.send(4, 640) == []
    assert line.direction.flush(line.now + 0.03, give_up=False) == []
    assert len(line.direction.flush(line.now + 0.1, give_up=False)) == 2


def test_another_source_lets_out_what_was_held() -> None:
    line = Line(transcoder=Marking())
    line.send(1, 160)
    line.send(3, 480, b"held")
    assert [p.payload for p in line.send(900, 5, b"new", ssrc=6)] == [b"concealed", b"<held>", b"<new>"]


class Twice(Marking):
    """A transcoder whose packets carry the one before them, too."""

    def recover(self, following: bytes) -> bytes:
        return b"out of " + following


def test_the_packet_before_one_with_error_correction_is_recovered_the_others_are_concealed() -> None:
    line = Line(OPUS, G722, Twice())
    out = [p for n in (1, 2, 5) for p in line.send(n, 960 * n, b"%d" % n, pt=111)] + line.flush()
    assert [p.payload for p in out] == [b"<1>", b"<2>", b"concealed", b"out of 5", b"<5>"]
    assert set(gaps(out)) == {(1, 160)}


@given(st.lists(st.integers(-4, 4), min_size=40, max_size=200), st.sets(st.integers(0, 199)))
def test_any_jumble_within_the_window_comes_out_in_order(shifts: list[int], lost: set[int]) -> None:
    line = Line(transcoder=Marking())
    order = sorted(range(len(shifts)), key=lambda n: n + shifts[n] / 2)
    out = [p for n in order if n not in lost for p in line.send(n, 160 * n, b"%d" % n)] + line.flush()
    assert all(0 < step[0] < 0x8000 and step[1] == 960 * step[0] for step in gaps(out))
    heard = [int(p.payload[1:-1]) for p in out if p.payload != b"concealed"]
    assert heard == sorted(set(heard))


def test_digits_are_told_once_and_leave_no_gap() -> None:
    line = Line(target=attrs.evolve(OPUS, dtmf_send=None), transcoder=Marking())
    digits: list[Digit] = []
    line.direction.on_digit = digits.append
    out = line.send(1, 160)
    for n in range(7):
        event = build_event(TelephoneEvent(7, n > 3, 10, 160 * min(n + 1, 5)))
        out += line.send(2 + n, 320, event, pt=101)
    for n in range(3):  # all that would say its end are lost
        out += line.send(9 + n, 2000, build_event(TelephoneEvent(11, False, 10, 160 * (n + 1))), pt=101)
    out += line.send(15, 3200) + line.send(16, 3360) + line.flush()
    assert digits == [Digit("7", 100), Digit("#", 60)]
    assert [g[0] for g in gaps(out)] == [4, 1], "the lost ones stay lost, the events do not count"


def test_a_packet_of_our_own_fits_in_between() -> None:
    line = Line(OPUS, G722, Marking())
    out = [p for n in range(3) for p in line.send(n, 960 * n, pt=111)]
    line.direction.muted = True
    start = line.direction.instant(line.now + 0.02)
    for n in range(3, 8):
        assert line.send(n, 960 * n, pt=111) == []
        payload = build_event(TelephoneEvent(5, n == 7, 10, 160 * (n - 2)))
        packet = line.direction.inject(
            payload, event=True, marker=n == 3, elapsed=160 * (n - 3), start=start, now=line.now
        )
        out.append(parse_rtp(packet))
    line.direction.muted = False
    out += line.send(8, 960 * 8, pt=111)
    assert [p.payload_type for p in out] == [9] * 3 + [101] * 5 + [9]
    assert {g[0] for g in gaps(out)} == {1}
    assert {p.timestamp for p in out[3:8]} == {start}
    assert (start - out[2].timestamp, (out[8].timestamp - out[2].timestamp) & 0xFFFFFFFF) == (160, 6 * 160)


def test_a_late_packet_is_relayed_in_its_place() -> None:
    line = Line(G722, G722)
    out = line.send(10, 1600) + line.send(12, 1920) + line.send(11, 1760, b"late") + line.send(13, 2080)
    assert gaps(out) == [(2, 320), (0xFFFF, 0xFFFFFFFF - 159), (2, 320)]


def test_a_new_source_is_joined_on() -> None:
    line = Line(transcoder=Marking())
    out = line.send(10, 1600) + line.send(500, 99, ssrc=6) + line.send(501, 259, ssrc=6)
    assert [g[0] for g in gaps(out)] == [1, 1]
    assert gaps(out)[0][1] == pytest.approx(960, abs=1)
    assert line.direction.reception.lost == 0


def test_a_pause_is_no_loss_and_time_goes_on() -> None:
    line = Line(transcoder=Marking())
    out = line.send(10, 1600)
    line.direction.interrupt()
    line.now += 9.98
    out += line.send(510, 81600)
    assert gaps(out)[0][0] == 1
    assert gaps(out)[0][1] == pytest.approx(480000, abs=2)
    assert line.direction.reception.lost == 0


def test_a_leap_of_timestamps_follows_the_clock() -> None:
    line = Line(transcoder=Marking())
    out = line.send(10, 1600) + line.send(11, 0x70000000)
    assert gaps(out)[0] == (1, pytest.approx(960, abs=12))


def test_a_payload_type_nobody_agreed_on_goes_no_further() -> None:
    line = Line(transcoder=Marking())
    assert line.send(1, 160, pt=18) == []
    assert line.direction.dropped["payload_type"] == 1
    assert line.direction.reception.packets == 0


def test_a_payload_that_cannot_be_decoded_costs_itself() -> None:
    line = Line(transcoder=Marking())
    out = line.send(1, 160) + line.send(2, 320, b"bad") + line.send(3, 480)
    assert gaps(out) == [(2, 1920)]
    assert line.direction.dropped["codec"] == 1


class Noisy(Marking):
    """A transcoder whose target has a word for silence."""

    def noise(self, level: int) -> bytes:
        return b"noise %d" % level


def test_comfort_noise_becomes_the_other_codecs_word_and_the_talk_goes_on_with_a_marker() -> None:
    line = Line(transcoder=Noisy())
    out = [p for n in range(4) for p in line.send(n, 160 * n)]
    out += line.send(4, 640, bytes([64]), pt=13)
    line.now += 3
    out += line.send(5, 640 + 24160, b"talk") + line.send(6, 640 + 24320, b"talk")
    assert [(p.payload, p.marker) for p in out[4:]] == [(b"noise 64", False), (b"<talk>", True), (b"<talk>", False)]
    assert gaps(out) == [(1, 960)] * 4 + [(1, 24160 * 6), (1, 960)]
    assert (line.direction.concealed, line.direction.reception.lost, sum(line.direction.dropped.values())) == (0, 0, 0)


@pytest.mark.parametrize("transcoder", [None, Marking()])
def test_comfort_noise_goes_nowhere_where_nobody_agreed_to_it(transcoder: Marking | None) -> None:
    line = Line(G722, G722 if transcoder is None else OPUS, transcoder)
    out = line.send(1, 160, b"talk") + line.send(2, 320, bytes([64]), pt=13)
    line.now += 5
    out += line.send(3, 40320, b"talk") + line.send(4, 40480, b"talk")
    assert {p.payload_type for p in out} == {9 if transcoder is None else 111}
    assert [p.marker for p in out] == [True, True, False], "the first of the call, the first after the silence"
    clock = 1 if transcoder is None else 6
    assert gaps(out) == [(1, 40160 * clock), (1, 160 * clock)]
    assert line.direction.reception.lost == 0


def test_a_phone_that_suppresses_silence_is_not_concealed_and_its_speech_has_a_marker() -> None:
    """Opus DTX (RFC 7587 section 3.1.3): an octet every 400 ms, sequence numbers without a gap."""
    line = Line(OPUS, G722, Twice())
    out = [p for n in range(10) for p in line.send(n, 960 * n, b"speech", pt=111)]
    for n in range(5):
        line.now += 0.38
        out += line.send(10 + n, 960 * (9 + 20 * (n + 1)), b"\x48", pt=111)
    out += [p for n in range(5) for p in line.send(15 + n, 960 * (9 + 103 + n), b"speech", pt=111)]
    assert [p.payload for p in out] == [b"<speech>"] * 10 + [b"<\x48>"] * 5 + [b"<speech>"] * 5
    assert gaps(out) == [(1, 160)] * 9 + [(1, 3200)] * 5 + [(1, 480)] + [(1, 160)] * 4
    assert [n for n, p in enumerate(out) if p.marker] == [0, 15]
    assert (line.direction.concealed, line.direction.reception.lost) == (0, 0)
    assert line.direction.reception.jitter_ms < 3


def test_a_packet_lost_in_a_silence_is_not_concealed() -> None:
    line = Line(OPUS, G722, Twice())
    out = [p for n in range(4) for p in line.send(n, 960 * n, b"speech", pt=111)]
    out += (
        line.send(4, 960 * 3 + 19200, b"\x48", pt=111) + line.send(6, 960 * 3 + 57600, b"\x48", pt=111) + line.flush()
    )
    assert line.direction.concealed == 0
    assert gaps(out)[-1] == (2, 6400)


def test_packets_of_another_length_are_no_silence() -> None:
    line = Line(OPUS, G722, Marking())
    steps = [960] * 5 + [2880] * 5 + [960] * 5
    times = list(itertools.accumulate(steps))
    out = [p for n, at in enumerate(times) for p in line.send(n, at, b"speech", pt=111)]
    assert sum(p.marker for p in out) <= 2, "the first, and the first of the longer ones, which could be one"


def test_silence_and_comfort_noise_leave_no_gap() -> None:
    line = Line(transcoder=Marking())
    out = line.send(1, 160) + line.send(2, 320, b"") + line.send(3, 480, pt=13) + line.send(4, 640)
    assert gaps(out) == [(1, 2880)]


def test_a_key_press_is_passed_on_once_with_one_timestamp() -> None:
    line = Line(transcoder=Marking())
    out = line.send(1, 160)
    for n in range(8):
        event = build_event(TelephoneEvent(7, n > 4, 10, 160 * min(n + 1, 6)))
        out += line.send(2 + n, 320, event, pt=101, marker=n == 0)
    out += line.send(10, 320 + 8 * 160)
    keys = out[1:-1]
    assert {(p.payload_type, p.timestamp) for p in keys} == {(110, (out[0].timestamp + 960) & 0xFFFFFFFF)}
    assert [p.marker for p in keys] == [True] + [False] * 7
    assert [parse_event(p.payload).duration for p in keys] == [960 * min(n + 1, 6) for n in range(8)]
    assert [g[0] for g in gaps(out)] == [1] * 9


def tone_beside_event(line: Line, *, audio_first: bool) -> list[RtpPacket]:
    """Eight packets of a key's tone, each with its telephone-event beside it."""
    out: list[RtpPacket] = line.send(1, 160, b"before")
    for n in range(8):
        event = build_event(TelephoneEvent(7, n == 7, 10, 160 * (n + 1)))
        pair = [(320, event, 101), (320 + 160 * n, b"tone", 9)]
        for k, (timestamp, payload, pt) in enumerate(reversed(pair) if audio_first else pair):
            out += line.send(2 + 2 * n + k, timestamp, payload, pt=pt)
    return out + line.send(18, 320 + 8 * 160, b"after")


@pytest.mark.parametrize("audio_first", [False, True])
def test_the_tone_beside_a_key_press_is_left_out(audio_first: bool) -> None:
    line = Line(transcoder=Marking())
    out = tone_beside_event(line, audio_first=audio_first)
    audio = [p.payload for p in out if p.payload_type == 111]
    assert audio == [b"<before>", *[b"<tone>"] * audio_first, b"<after>"], "before the first event nobody can know"
    assert len([p for p in out if p.payload_type == 110]) == 8
    assert {g[0] for g in gaps(out)} == {1}
    assert (out[-1].timestamp - out[0].timestamp) & 0xFFFFFFFF == 9 * 960


@pytest.mark.parametrize("audio_first", [False, True])
def test_a_key_press_with_its_tone_beside_it_is_told_once_and_in_full(audio_first: bool) -> None:
    line = Line(transcoder=Marking())
    digits: list[Digit] = []
    line.direction.on_digit = digits.append
    out = tone_beside_event(line, audio_first=audio_first)
    assert digits == [Digit("7", 160)]
    assert [p.payload for p in out] == [b"<before>", *[b"<tone>"] * audio_first, b"<after>"]


def test_a_key_press_that_came_in_another_way_does_not_go_through() -> None:
    line = Line(transcoder=Marking())
    line.direction.twins = twins = Twins()
    assert twins.fresh("info", "7", line.now, line.now)
    out = line.send(1, 160)
    for n, key in enumerate([7, 7, 7, 8, 8, 7]):
        out += line.send(
            2 + n, (320, 2000, 4000)[(n > 2) + (n > 4)], build_event(TelephoneEvent(key, False, 10, 160)), pt=101
        )
    assert [parse_event(p.payload).digit for p in out[1:]] == ["8", "8", "7"]
    assert {g[0] for g in gaps(out)} == {1}


def test_a_key_press_the_other_side_cannot_have_leaves_no_gap() -> None:
    line = Line(target=attrs.evolve(OPUS, dtmf_send=None), transcoder=Marking())
    event = build_event(TelephoneEvent(7, False, 10, 160))
    out = line.send(1, 160) + line.send(2, 320, event, pt=101) + line.send(3, 480)
    assert gaps(out) == [(1, 1920)]


def test_a_short_key_press_is_malformed() -> None:
    line = Line(transcoder=Marking())
    assert line.send(1, 160, b"xy", pt=101) == []
    assert line.direction.dropped["malformed"] == 1


def test_another_codec_goes_on_where_the_first_ended() -> None:
    first = Marking()
    line = Line(transcoder=first)
    out = line.send(1, 160)
    pcma = Stream(Codec("PCMA", 8000), 8, 8)
    line.direction.configure(pcma, OPUS, Marking())
    assert first.closed
    out += line.send(2, 320, pt=8)
    assert gaps(out) == [(1, 960)]


def test_another_clock_is_joined_on() -> None:
    line = Line(transcoder=Marking())
    out = line.send(1, 160) + line.send(2, 320)
    line.direction.configure(OPUS, OPUS, None)
    out += line.send(3, 99999, pt=111)
    assert gaps(out)[1] == (1, pytest.approx(960, abs=1))
    assert line.direction.reception.packets == 3


@given(st.lists(st.tuples(st.binary(max_size=40), st.floats(0, 1)), max_size=30))
def test_any_octets_give_nothing_or_rtp(datagrams: list[tuple[bytes, float]]) -> None:
    line = Line(transcoder=Marking())
    for data, wait in datagrams:
        line.now += wait
        for packet in line.direction.forward(data, line.now):
            assert parse_rtp(packet).ssrc == 77


@given(
    st.lists(
        st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.sampled_from([9, 13, 101]), st.integers(1, 2)),
        max_size=60,
    )
)
def test_what_comes_out_never_repeats_a_sequence_number(packets: list[tuple[int, int, int, int]]) -> None:
    line = Line(transcoder=Marking())
    out = [p for s, t, pt, ssrc in packets for p in line.send(s, t, b"abcd", pt=pt, ssrc=ssrc)]
    assert all(0 < step[0] < 0x8000 for step in gaps(out))
