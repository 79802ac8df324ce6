"""The contract between the gateway and what carries its calls' packets: a media engine.

The gateway's own is `siperb_core.media.pool.MediaPool`. An engine takes plans (`siperb_core.sdp.plan`) and gives ports;
SDP is written by the gateway, whoever carries the packets.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

import attrs

from siperb_core.media.encoding import EffortSetting
from siperb_core.media.messages import MediaEvent
from siperb_core.rtp.events import Digit
from siperb_core.sdp.plan import SessionPlan


@attrs.frozen
class MediaSettings:
    """What an engine is told when the gateway starts: the table `[media]`, and who gives transcoders.

    `ports` are the first and the last UDP port it may use, `rtp_timeout` is in seconds, `effort` is how well Opus is
    encoded (`siperb_core.media.encoding`).
    """

    ports: tuple[int, int]
    workers: int | Literal["auto"]
    rtp_timeout: float
    transcoder_plugins: tuple[str, ...]
    effort: EffortSetting = "auto"


class EngineSession(Protocol):
    """One call's media. Nothing here waits."""

    peer_port: int
    """The RTP port of the PBX's leg; RTCP is the next one."""
    stats: dict[str, Any]
    """The latest figures, under the names of the JSON output (`media{...}`)."""
    on_event: Callable[[MediaEvent], None] | None

    def add_branch(self, branch: str) -> int:
        """Begin a softphone's leg; its port. Raises `PortsExhaustedError`, `MediaUnavailableError`."""

    def drop_branch(self, branch: str) -> None:
        """End one softphone's leg; unknown ones are ignored."""

    def apply(self, plan: SessionPlan) -> None:
        """Do what the plan says; the whole plan comes again after every offer and answer."""

    def send_digit(self, leg: Literal["client", "peer"], digit: Digit) -> None:
        """Send a digit to a leg, in the way the plan says."""

    def close(self, then: Callable[[], None] | None = None) -> None:
        """End it; `then` is called once the figures are the last ones."""


@runtime_checkable
class MediaElsewhere(Protocol):
    """An `EngineSession` whose ports are not on this machine (optional): the addresses that go into SDP."""

    client_address: str
    """Of the softphones' legs."""
    peer_address: str
    """Of the PBX's leg."""


class MediaEngine(Protocol):
    """What hook `siperb_media_engine` returns: used as an async context as long as the gateway runs."""

    fingerprint: tuple[str, str]
    """Of its DTLS certificate, for SDP: ("sha-256", "AB:CD:...")."""

    async def __aenter__(self) -> Self:
        """Start."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Stop, and give every port back."""

    def open(self, call_id: str, *, client_v6: bool = False, peer_v6: bool = False) -> EngineSession:
        """Begin a session, each leg over IPv4 or IPv6. Raises `MediaUnavailableError`, `PortsExhaustedError`."""
