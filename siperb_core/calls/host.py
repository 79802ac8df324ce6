"""What a call needs of the gateway around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siperb_core.calls.media import CallMedia
    from siperb_core.calls.policy import MediaDecision, MediaPolicy
    from siperb_core.calls.record import CallRecord
    from siperb_core.entries.contract import Credentials, Refusal, Target
    from siperb_core.entries.decisions import CallAttempt, MediaEndpoint
    from siperb_core.entries.live import LoadedConnection
    from siperb_core.entries.model import Entry
    from siperb_core.events import CallEvent
    from siperb_core.signalling import Signalling
    from siperb_core.sip import Flow
    from siperb_core.sip.dialog import Leg
    from siperb_core.sip.registrar import Binding
    from siperb_core.targets import Ways


class Choices(Protocol):
    """What plugins have a say in while a call comes about (`siperb_core.choices`)."""

    def admit(self, call: CallAttempt, then: Callable[[Refusal | None], None]) -> None:
        """Ask the gates, and call `then` with a refusal or None: at once where none is concerned."""

    def ring(self, call: CallAttempt) -> Sequence[Binding] | Refusal:
        """Where the softphones that are to ring for a call can be reached now."""

    def connections(self, number: str, user: str, method: str) -> list[LoadedConnection]:
        """The connections that may take a softphone's call, in order."""

    def answer(self, connection: str, endpoint: MediaEndpoint, fault: Callable[[str], None]) -> Flow | None:
        """The flow to a peer in this process that answers with this endpoint; None where there are too many."""

    def media_policy(self, entry: Entry, transport: str, peer_offer: bytes, call: CallAttempt) -> MediaDecision:
        """What is done with a call's media. Raises `SdpError` 488 where they cannot be secured as they should."""


class Sources(Protocol):
    """Whose a flow is (`siperb_core.sources`)."""

    def comes_from(self, flow: Flow, leg: Leg, connection: str) -> bool:
        """Whether what comes on a flow may come from this leg's far end: it is the leg's flow or one of its device's,
        or leads to the leg's own address or another one of the connection's PBX.
        """

    def instance_on(self, flow: Flow) -> str:
        """The instance (RFC 5626 section 4.1) of the softphone that registered on a flow; '' where it has none."""

    def any_flow(self, leg: Leg) -> Flow | None:
        """The flow to a leg's device, whichever of its instances is there."""


class CallHost(Protocol):
    """The gateway, as calls see it."""

    signalling: Signalling
    sources: Sources

    @property
    def choices(self) -> Choices:
        """What plugins have a say in."""

    @property
    def domain(self) -> str:
        """The softphones' domain."""

    def flows_to(self, target: Target, then: Callable[[Ways], None]) -> None:
        """Find the ways to a target (RFC 3263) and call `then` with them, none where there are none.

        At once where the address is known.
        """

    def put_aside(self, flow: Flow, seconds: float | None = None) -> None:
        """A destination did not answer, or wants no requests for so many seconds: others are tried before it."""

    def credentials(self, connection: str) -> Credentials | None:
        """What a connection shows when its PBX challenges a request."""

    def is_peer(self, flow: Flow) -> bool:
        """Whether requests of ours are sent to the other end of this flow by our own choice."""

    def tls_of(self, leg: Leg) -> tuple[str, str, bool] | None:
        """What has to be kept of a leg's TLS connection to open it again after a restart."""

    def leg_flow(self, leg: Leg, connection: str) -> Flow | None:
        """The flow that reaches this leg of a call through `connection` now: its own or, for a PBX that named another
        next hop in the dialog, the one that leads there; for a softphone that reconnected, the one its instance has
        registered on.
        """

    def contact(self, token: str, flow: Flow) -> str:
        """Our Contact on a flow: `<sip:TOKEN@host:port;transport=...>`."""

    def open_media(self, entry: Entry, call_id: str, client: Flow, peer: Flow, policy: MediaPolicy) -> CallMedia | None:
        """Media for a call between these two flows, whose SDP is not to pass untouched.

        Raises one of `siperb_core.calls.media.NO_MEDIA`.
        """

    def save_dialog(self, token: str, data: dict[str, Any], then: Callable[[], None]) -> None:
        """Write a dialog to the store; `then` is called once it is on disk."""

    def forget_dialog(self, token: str) -> None:
        """Remove it."""

    def keep_record(self, record: CallRecord) -> None:
        """Write the record of a call that is over to the store."""

    def emergency_failed(self, number: str, user: str) -> None:
        """An emergency call of this user could be made through no connection."""

    def announce(self, event: CallEvent) -> None:
        """Tell the plugins."""

    def now(self) -> float:
        """Seconds since the epoch."""
