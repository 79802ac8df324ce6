"""One call's media in a worker: the PBX's leg, the branches' legs, and the two directions between the PBX and the
active branch.
"""

from __future__ import annotations

import math
import secrets
import socket
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from operator import mul
from typing import Any, Final, Literal, cast

import attrs
import trio
from aiortc.rtcdtlstransport import RTCCertificate

from siperb_core.media.client_leg import ClientConnection
from siperb_core.media.contract import AdjustsEffort, ExpectsLoss, Levels, Transcoder
from siperb_core.media.counters import Counters
from siperb_core.media.digits import DigitPlayer, ToneEar, ToneVoice
from siperb_core.media.direction import Direction
from siperb_core.media.encoding import Effort, next_loss
from siperb_core.media.messages import MediaEvent
from siperb_core.media.peer_leg import PeerConnection
from siperb_core.media.reports import LegReports
from siperb_core.media.silence import LegWatch
from siperb_core.media.transcoders import GuardedTranscoder, Pairs, same_payload
from siperb_core.plugin_finding import sentence
from siperb_core.rtp import g711
from siperb_core.rtp.events import Digit
from siperb_core.rtp.g711 import Law
from siperb_core.rtp.twins import Twins, Way
from siperb_core.sdp.plan import Codec, SessionPlan, Stream

_clock = time.perf_counter

_SENDS: Final = ("sendrecv", "sendonly")
_RECEIVES: Final = ("sendrecv", "recvonly")


@attrs.frozen
class SessionSettings:
    """What all sessions of a worker share. Times in seconds."""

    nursery: trio.Nursery
    certificate: RTCCertificate
    transcoders: Pairs
    rtp_timeout: float
    one_way_after: float
    complain: Callable[[str, object], None]
    """Told of what went wrong that is nobody's outside."""
    counters: Counters = attrs.field(factory=Counters)


class WorkerSession:
    """Carries out one SessionPlan. `watch_socket` has a socket served by a callback; `emit` tells the main process."""

    def __init__(
        self,
        session_id: int,
        rtp: socket.socket,
        rtcp: socket.socket,
        *,
        settings: SessionSettings,
        emit: Callable[[int, MediaEvent], None],
        serve: Callable[[socket.socket, Callable[[], None]], None],
        forget: Callable[[socket.socket], None],
    ) -> None:
        self.id = session_id
        self.plan = SessionPlan(None)
        self.branches: dict[str, ClientConnection] = {}
        self._settings, self._emit, self._serve, self._forget = settings, emit, serve, forget
        self._counters = settings.counters
        self.to_peer, self.to_client = _new_direction(), _new_direction()
        self.peer = PeerConnection(rtp, rtcp, on_rtp=self._from_peer, on_rtcp=self._rtcp_from_peer)
        serve(rtp, self.peer.readable)
        serve(rtcp, self.peer.rtcp_readable)
        self._active: ClientConnection | None = None
        self._streams: tuple[Stream, Stream] | None = None  # (client's, peer's) once both are agreed
        self._client_to_peer = self._peer_to_client = False
        self._watches = {"client": LegWatch(), "peer": LegWatch()}
        self._codecs: dict[str, tuple[object, ...]] = {}
        self._final: dict[str, Any] | None = None
        self._expected_loss = 0  # per cent, as the transcoder to the client was told
        self.effort: Effort | Literal[""] = ""  # "" where nobody can choose
        self._failed: set[str] = set()  # transcoders, told already
        self._twins = {"client": Twins(), "peer": Twins()}  # by who pressed
        self._voice: ToneVoice | None = None
        self._ear: ToneEar | None = None
        self._peer_player = DigitPlayer(self.to_peer, self.peer.send)
        self._client_player = DigitPlayer(self.to_client, self._to_active)
        cname = secrets.token_hex(8)
        self._client_reports = LegReports(self.to_peer, self.to_client, cname=cname, wall=time.time, spread=_spread)
        self._peer_reports = LegReports(self.to_client, self.to_peer, cname=cname, wall=time.time, spread=_spread)

    def add_branch(self, branch: str, sock: socket.socket) -> None:
        """Take the socket of a new branch."""

        def report(kind: str, detail: str) -> None:
            self._emit(self.id, MediaEvent(kind, branch, "client", detail))  # type: ignore[arg-type]
            self._regate()

        connection = ClientConnection(
            sock,
            nursery=self._settings.nursery,
            certificate=self._settings.certificate,
            tie_breaker=secrets.randbits(64),
            report=report,
            on_rtp=lambda data, now: self._from_client(connection, data, now),
            on_rtcp=lambda data, now: self._rtcp_from_client(connection, data, now),
        )
        self.branches[branch] = connection
        self._serve(sock, connection.readable)

    def drop_branch(self, branch: str) -> None:
        """End a branch: another one answered."""
        connection = self.branches.pop(branch, None)
        if connection is not None:
            if connection is self._active:
                self._active = None
                self._regate()
            self._forget(connection.socket)
            self._settings.nursery.start_soon(connection.close)

    def apply(self, plan: SessionPlan) -> None:
        """Get to what the plan says, whatever was before."""
        self.plan = plan
        if plan.peer is not None:
            self.peer.apply(plan.peer)
            self.to_peer.ssrc = plan.peer.ssrc
        for branch, leg in plan.clients.items():
            connection = self.branches.get(branch)
            if connection is not None:
                connection.apply(leg)
        active = self.branches.get(plan.active) if plan.active is not None else None
        if active is not self._active:
            self._active = active
            self.to_peer.interrupt()
        client = plan.clients.get(plan.active) if plan.active is not None else None
        if client is not None:
            self.to_client.ssrc = client.ssrc
        if client is not None and client.stream is not None and plan.peer is not None and plan.peer.stream is not None:
            self._streams = (client.stream, plan.peer.stream)
            self._configure("to_peer", self.to_peer, client.stream, plan.peer.stream)
            self._configure("to_client", self.to_client, plan.peer.stream, client.stream)
            self._choose_digits(plan.peer.dtmf, client.dtmf, plan.peer.stream)
        else:
            self._streams = None
        self._regate()

    def _configure(self, name: str, direction: Direction, source: Stream, target: Stream) -> None:
        key = (source.codec, target.codec, target.ptime)
        transcoder = direction.transcoder
        if key != self._codecs.get(name):
            transcoder = None
            if not same_payload(source.codec, target.codec):
                try:
                    transcoder = self._transcoder(source.codec, target.codec, target.ptime)
                except KeyError:
                    detail = f"no transcoder from {source.codec.name} to {target.codec.name}"
                    self._emit(
                        self.id,
                        MediaEvent("codec_failed", leg="client" if name == "to_peer" else "peer", detail=detail),
                    )
                except ValueError:
                    pass  # told already
                if transcoder is None:
                    self._streams = None
                    return
                if name == "to_client":
                    self._expected_loss = 0
            self._codecs[name] = key
        direction.configure(source, target, transcoder)

    def _transcoder(self, source: Codec, target: Codec, ptime: int = 20) -> Transcoder:
        """One for this call. Raises KeyError where nobody has one, ValueError where whoever has one fails."""
        maker = self._settings.transcoders[source.name.lower(), target.name.lower()]

        def failed(error: Exception) -> None:
            self._settings.complain(f"transcoder {maker.name}", error)
            if maker.name not in self._failed:
                self._failed.add(maker.name)
                detail = f"transcoder {maker.name} has failed: {sentence(error)}"
                self._emit(self.id, MediaEvent("codec_failed", detail=detail, transcoder=maker.name))

        try:
            return GuardedTranscoder(maker.create(source, target, ptime=ptime), failed)
        except Exception as error:
            failed(error)
            raise ValueError("the transcoder has failed") from error

    def _regate(self) -> None:
        """Decide anew which directions may flow, and whose silence would mean something."""
        to_peer = to_client = False
        if self._streams is not None and self._active is not None:
            client, peer = self._streams
            to_peer = client.direction in _RECEIVES and peer.direction in _SENDS
            to_client = peer.direction in _RECEIVES and client.direction in _SENDS
        if self._client_to_peer and not to_peer:
            self.to_peer.interrupt()
        if self._peer_to_client and not to_client:
            self.to_client.interrupt()
        self._client_to_peer, self._peer_to_client = to_peer, to_client
        now = time.monotonic()
        ready = self._active is not None and self._active.connected
        for name, flowing in (("client", to_peer), ("peer", to_client)):
            self._watches[name].expect(flowing and ready, now)

    def spend(self, effort: Effort) -> None:
        """Encode with this effort from now on, where a codec leaves the choice."""
        self.effort = ""
        for direction in (self.to_peer, self.to_client):
            transcoder: object = direction.transcoder
            if isinstance(transcoder, AdjustsEffort):
                self.effort = effort
                with suppress(ValueError):
                    transcoder.adjust_effort(high=effort == "high")

    # --- digits

    def _choose_digits(
        self, way: Literal["event", "info", "inband"], client_way: Literal["event", "info"], peer: Stream
    ) -> None:
        """Have digits go the way each leg has for them, and be found where the PBX has only tones."""
        self.to_peer.on_digit = None if way == "event" else self._digit_of_client
        self.to_client.on_digit = None if client_way == "event" else self._digit_of_peer
        self.to_peer.twins = self._twins["client"] if way == "event" else None
        self.to_client.twins = self._twins["peer"] if client_way == "event" else None
        key = (way == "inband", peer.codec)
        if key == self._codecs.get("tones"):
            return
        self._codecs["tones"] = key
        self._peer_player.clear()
        self._close_tones()
        if way == "inband":
            try:
                self._voice = ToneVoice(peer.codec, self._transcoder)
                self._ear = ToneEar(peer.codec, self._transcoder, self._tone_of_peer)
            except (KeyError, ValueError):
                self._close_tones()  # no transcoder to speak the codec in: there is no way for digits
        self.to_client.listen = self._ear.hear if self._ear is not None else None

    def _close_tones(self) -> None:
        for tones in (self._voice, self._ear):
            if tones is not None:
                tones.close()
        self._voice = self._ear = None
        self.to_client.listen = None

    def _pressed(self, leg: str, way: Way, digit: Digit) -> bool:
        """Whether a digit of this leg is one that did not come in another way, too."""
        now, lasts = time.monotonic(), digit.milliseconds / 1000
        # An INFO comes when the key is pressed or when it is let go, who knows; the others are known at their end.
        return self._twins[leg].fresh(way, digit.key, now - lasts, now + lasts if way == "info" else now)

    def _tell(self, leg: Literal["client", "peer"], digit: Digit) -> None:
        self._emit(self.id, MediaEvent("digit", leg=leg, digit=digit.key, milliseconds=digit.milliseconds))

    def _digit_of_client(self, digit: Digit) -> None:
        if not self._pressed("client", "event", digit):
            return
        if self.plan.peer is not None and self.plan.peer.dtmf == "info":
            self._tell("peer", digit)
        else:
            self._play("peer", digit)

    def _digit_of_peer(self, digit: Digit, way: Way = "event") -> None:
        if not self._pressed("peer", way, digit):
            return
        client = self.plan.clients.get(self.plan.active or "")
        if client is None or client.dtmf == "info":
            self._tell("client", digit)
        else:
            self._play("client", digit)

    def _tone_of_peer(self, digit: Digit) -> None:
        self._digit_of_peer(digit, "tone")

    def send_digit(self, leg: Literal["client", "peer"], digit: Digit) -> None:
        """Send a digit to a leg in the audio's stream, one of the other leg's SIP INFO."""
        if self._pressed("client" if leg == "peer" else "peer", "info", digit):
            self._play(leg, digit)

    def _play(self, leg: Literal["client", "peer"], digit: Digit) -> None:
        if self._streams is None:
            return
        client, peer = self._streams
        if leg == "peer" and self._client_to_peer and (self._voice is not None or peer.dtmf_send is not None):
            self._peer_player.play(digit, peer, self._voice, self._settings.nursery)
        elif leg == "client" and self._peer_to_client and client.dtmf_send is not None:
            self._client_player.play(digit, client, None, self._settings.nursery)

    def _to_active(self, packet: bytes) -> None:
        if self._active is not None:
            self._active.send(packet)

    # --- packets

    def _from_client(self, connection: ClientConnection, data: bytes, now: float) -> None:
        if not self._client_to_peer or connection is not self._active:
            return
        for packet in self._forward(self.to_peer, data, now):
            self.peer.send(packet)
        watch = self._watches["client"]
        watch.last, watch.heard = now, True

    def _from_peer(self, data: bytes, now: float) -> None:
        active = self._active
        if not self._peer_to_client or active is None:
            return
        watch = self._watches["peer"]
        watch.last, watch.heard = now, True
        if not active.connected:
            self.to_client.interrupt()
            return
        for packet in self._forward(self.to_client, data, now):
            active.send(packet)

    def _forward(self, direction: Direction, data: bytes, now: float) -> list[bytes]:
        if direction.transcoder is None:
            return direction.forward(data, now)
        began = _clock()
        packets = direction.forward(data, now)
        self._counters.transcode_seconds += _clock() - began  # a quarter of a microsecond in all: bench/metrics.py
        return packets

    def _rtcp_from_client(self, connection: ClientConnection, data: bytes, now: float) -> None:
        if connection is self._active and self._client_reports.received(data, now):
            self._watches["client"].reported = now
            self._expect_loss(self._client_reports.remote_loss)

    def _expect_loss(self, fraction: float) -> None:
        """Have Opus carry its sound twice while the phone loses packets (RFC 6716 section 2.1.7), and no longer."""
        percent = next_loss(self._expected_loss, fraction)
        transcoder: object = self.to_client.transcoder
        if percent != self._expected_loss and isinstance(transcoder, ExpectsLoss):
            self._expected_loss = percent
            with suppress(ValueError):
                transcoder.expect_loss(percent)

    def _rtcp_from_peer(self, data: bytes, now: float) -> None:
        if self._peer_reports.received(data, now):
            self._watches["peer"].reported = now

    # --- time

    @property
    def busy(self) -> bool:
        """Whether a branch's ICE wants to be called often."""
        return any(connection.busy for connection in self.branches.values())

    def advance(self, now: float) -> None:
        """Let time pass: ICE, RTCP, silence."""
        for connection in list(self.branches.values()):
            connection.advance(now)
        for packet in self.to_peer.flush(now, give_up=False):
            self.peer.send(packet)
        for packet in self.to_client.flush(now, give_up=False):
            self._to_active(packet)
        if self._streams is not None and self._active is not None and self._active.connected:
            client, peer = self._streams
            if self._client_reports.due(now):
                self._active.send_rtcp(self._client_reports.build(now, client.codec.clock))
            if self._peer_reports.due(now):
                self.peer.send_rtcp(self._peer_reports.build(now, peer.codec.clock))
            self._watch_silence(now)

    def _watch_silence(self, now: float) -> None:
        for name, other in (("client", "peer"), ("peer", "client")):
            watch = self._watches[name]
            if gone := watch.gone(now, self._settings.rtp_timeout):
                self._emit(self.id, MediaEvent("rtp_timeout", leg=name, detail=f"no RTP for {gone:.0f} s"))
            silent = watch.silent(now, self._settings.one_way_after) if self._watches[other].heard else 0.0
            if silent:
                self._counters.one_way += 1
                detail = f"no RTP since {silent:.0f} s, while the other leg sends"
                self._emit(self.id, MediaEvent("one_way", leg=name, detail=detail))

    # --- figures and end

    @property
    def flowing(self) -> bool:
        """Whether there are figures worth telling."""
        return self._streams is not None

    def stats(self) -> dict[str, Any]:
        """The session's figures under the names of the JSON output; those of the end, once it is closed."""
        if self._final is not None:
            return self._final
        client = peer = None
        if self._streams is not None:
            client, peer = self._streams
        relayed = client is not None and peer is not None and same_payload(client.codec, peer.codec)
        client_name, peer_name = client.codec.name if client else "", peer.codec.name if peer else ""
        active = self._active
        guarded = {
            "client": (0, 0, 0) if active is None else (active.filtered, active.srtp_errors, active.send_errors),
            "peer": (self.peer.filtered, self.peer.srtp_errors, self.peer.send_errors),
        }
        legs = {
            name: {
                **reports.stats(codec),
                "codec": codec,
                "level_dbfs": _level(direction, codec),
                "concealed": direction.concealed,
                "dropped": sum(direction.dropped.values()),
                "filtered": guarded[name][0],
                "srtp_errors": guarded[name][1],
                "send_errors": guarded[name][2],
            }
            for name, reports, direction, codec in (
                ("client", self._client_reports, self.to_peer, client_name),
                ("peer", self._peer_reports, self.to_client, peer_name),
            )
        }
        return {
            "mode": ("relay" if relayed else "transcode") if client else "",
            "client_codec": client_name,
            "peer_codec": peer_name,
            "effort": self.effort,
            "ice": self._ice_state(),
            **legs,
        }

    def _ice_state(self) -> str:
        """How far the active branch is: "", "checking", "dtls", "connected", or why it failed."""
        active = self._active
        if active is None or active.agent is None:
            return ""
        if active.connected:
            return "connected"
        return active.agent.failed or ("dtls" if active.agent.selected is not None else "checking")

    def sockets(self) -> Iterator[socket.socket]:
        """All sockets of the session."""
        yield self.peer.rtp
        yield self.peer.rtcp
        for connection in self.branches.values():
            yield connection.socket

    async def close(self) -> None:
        """Say goodbye on both legs and give everything back."""
        now = time.monotonic()
        self._final = self.stats()
        if self._streams is not None:
            client, peer = self._streams
            self.peer.send_rtcp(self._peer_reports.goodbye(now, peer.codec.clock))
            if self._active is not None:
                self._active.send_rtcp(self._client_reports.goodbye(now, client.codec.clock))
        self._client_to_peer = self._peer_to_client = False
        for sock in self.sockets():
            self._forget(sock)
        try:
            for connection in self.branches.values():
                await connection.close()
        finally:
            self._peer_player.clear()
            self._client_player.clear()
            self._close_tones()
            self.peer.close()
            self.to_peer.close()
            self.to_client.close()


def _level(direction: Direction, codec: str) -> float | None:
    """How loud the source was last, in dBFS; None where only its codec would tell, or nothing was heard."""
    if not direction.last_payload:
        return None
    transcoder: object = direction.transcoder
    if isinstance(transcoder, Levels):
        try:
            return round(transcoder.level(), 1)
        except ValueError:
            return None
    if codec in ("PCMA", "PCMU"):
        samples = array("h", g711.decode(cast(Law, codec), direction.last_payload))
        energy = sum(map(mul, samples, samples)) * 2 / len(samples)
        return round(max(10 * math.log10(energy / 32768**2), -100.0), 1) if energy else -100.0
    return None


def _new_direction() -> Direction:
    # 15 bits: far from the wrap, where an SRTP receiver's roll-over counter may go astray (RFC 3711 section 3.3.1).
    return Direction(ssrc=secrets.randbits(32), sequence=secrets.randbits(15), timestamp=secrets.randbits(32))


def _spread() -> float:
    return secrets.randbits(16) / 65536
