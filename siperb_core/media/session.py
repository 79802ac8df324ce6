"""One call's media in a worker: the PBX's leg, the branches' legs, and the two directions between the PBX and the
active branch.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
import trio
from aiortc.rtcdtlstransport import RTCCertificate

from siperb_core.media.client_leg import ClientConnection
from siperb_core.media.direction import Direction
from siperb_core.media.messages import MediaEvent
from siperb_core.media.peer_leg import PeerConnection
from siperb_core.media.reports import LegReports
from siperb_core.media.transcoders import Pairs, same_payload
from siperb_core.sdp.plan import SessionPlan, Stream

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


@attrs.define
class _Watch:
    """When a leg was last heard, to tell that it has gone silent."""

    expected_since: float | None = None
    last: float = 0.0
    heard: bool = False
    timed_out: bool = False
    one_way: bool = False


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
        self.to_peer, self.to_client = _new_direction(), _new_direction()
        self.peer = PeerConnection(rtp, rtcp, on_rtp=self._from_peer, on_rtcp=self._rtcp_from_peer)
        serve(rtp, self.peer.readable)
        serve(rtcp, self.peer.rtcp_readable)
        self._active: ClientConnection | None = None
        self._streams: tuple[Stream, Stream] | None = None  # (client's, peer's) once both are agreed
        self._client_to_peer = self._peer_to_client = False
        self._watches = {"client": _Watch(), "peer": _Watch()}
        self._codecs: dict[str, tuple[object, ...]] = {}
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
        else:
            self._streams = None
        self._regate()

    def _configure(self, name: str, direction: Direction, source: Stream, target: Stream) -> None:
        key = (source.codec, target.codec, target.ptime)
        transcoder = direction.transcoder
        if key != self._codecs.get(name):
            transcoder = None
            if not same_payload(source.codec, target.codec):
                maker = self._settings.transcoders.get((source.codec.name.lower(), target.codec.name.lower()))
                if maker is None:
                    detail = f"no transcoder from {source.codec.name} to {target.codec.name}"
                    self._emit(
                        self.id,
                        MediaEvent("codec_failed", leg="client" if name == "to_peer" else "peer", detail=detail),
                    )
                    self._streams = None
                    return
                transcoder = maker.create(source.codec, target.codec, ptime=target.ptime)
            self._codecs[name] = key
        direction.configure(source, target, transcoder)

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
            watch = self._watches[name]
            # A leg that is on hold, or still being set up, owes us nothing.
            if not (flowing and ready):
                watch.expected_since, watch.heard, watch.timed_out, watch.one_way = None, False, False, False
            elif watch.expected_since is None:
                watch.expected_since = now

    # --- packets

    def _from_client(self, connection: ClientConnection, data: bytes, now: float) -> None:
        if not self._client_to_peer or connection is not self._active:
            return
        for packet in self.to_peer.forward(data, now):
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
        for packet in self.to_client.forward(data, now):
            active.send(packet)

    def _rtcp_from_client(self, connection: ClientConnection, data: bytes, now: float) -> None:
        if connection is self._active:
            self._client_reports.received(data, now)

    def _rtcp_from_peer(self, data: bytes, now: float) -> None:
        self._peer_reports.received(data, now)

    # --- time

    @property
    def busy(self) -> bool:
        """Whether a branch's ICE wants to be called often."""
        return any(connection.busy for connection in self.branches.values())

    def advance(self, now: float) -> None:
        """Let time pass: ICE, RTCP, silence."""
        for connection in list(self.branches.values()):
            connection.advance(now)
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
            since = watch.expected_since
            if since is None:
                continue
            silent = now - max(since, watch.last)
            if silent > self._settings.rtp_timeout and not watch.timed_out:
                watch.timed_out = True
                self._emit(self.id, MediaEvent("rtp_timeout", leg=name, detail=f"no RTP for {silent:.0f} s"))
            elif watch.heard and silent < 1:
                watch.timed_out = watch.one_way = False
            if (
                not watch.heard
                and not watch.one_way
                and self._watches[other].heard
                and now - since > self._settings.one_way_after
            ):
                watch.one_way = True
                self._emit(
                    self.id,
                    MediaEvent(
                        "one_way", leg=name, detail=f"no RTP since {now - since:.0f} s, while the other leg sends"
                    ),
                )

    # --- figures and end

    @property
    def flowing(self) -> bool:
        """Whether there are figures worth telling."""
        return self._streams is not None

    def stats(self) -> dict[str, Any]:
        """The session's figures under the names of the JSON output."""
        client = peer = None
        if self._streams is not None:
            client, peer = self._streams
        relayed = client is not None and peer is not None and same_payload(client.codec, peer.codec)
        client_name, peer_name = client.codec.name if client else "", peer.codec.name if peer else ""
        return {
            "mode": ("relay" if relayed else "transcode") if client else "",
            "client_codec": client_name,
            "peer_codec": peer_name,
            "client": self._client_reports.stats(client_name),
            "peer": self._peer_reports.stats(peer_name),
        }

    def sockets(self) -> Iterator[socket.socket]:
        """All sockets of the session."""
        yield self.peer.rtp
        yield self.peer.rtcp
        for connection in self.branches.values():
            yield connection.socket

    async def close(self) -> None:
        """Say goodbye on both legs and give everything back."""
        now = time.monotonic()
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
            self.peer.close()
            self.to_peer.close()
            self.to_client.close()


def _new_direction() -> Direction:
    # 15 bits: far from the wrap, where an SRTP receiver's roll-over counter may go astray (RFC 3711 section 3.3.1).
    return Direction(ssrc=secrets.randbits(32), sequence=secrets.randbits(15), timestamp=secrets.randbits(32))


def _spread() -> float:
    return secrets.randbits(16) / 65536
