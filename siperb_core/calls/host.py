"""What a call needs of the gateway around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from siperb_core.calls.media import CallMedia
    from siperb_core.calls.record import CallRecord
    from siperb_core.entries.contract import Credentials, Target
    from siperb_core.entries.model import Entry
    from siperb_core.events import CallEvent
    from siperb_core.signalling import Signalling
    from siperb_core.sip import Flow
    from siperb_core.sip.dialog import Leg


class CallHost(Protocol):
    """The gateway, as calls see it."""

    signalling: Signalling

    @property
    def domain(self) -> str:
        """The softphones' domain."""

    def flow_to(self, target: Target, then: Callable[[Flow | None], None]) -> None:
        """Find the way to a target and call `then` with it, or with None when there is none.

        At once where the address is known.
        """

    def credentials(self, connection: str) -> Credentials | None:
        """What a connection shows when its PBX challenges a request."""

    def leg_flow(self, leg: Leg) -> Flow | None:
        """The flow that reaches this leg now: its own, or, for a softphone that reconnected, its device's."""

    def contact(self, token: str, flow: Flow) -> str:
        """Our Contact on a flow: `<sip:TOKEN@host:port;transport=...>`."""

    def open_media(self, entry: Entry, call_id: str, client: Flow, peer: Flow) -> CallMedia | None:
        """Media for a call between these two flows; None when the entry lets SDP pass untouched.

        Raises one of `siperb_core.calls.media.NO_MEDIA`.
        """

    def save_dialog(self, token: str, data: dict[str, Any], then: Callable[[], None]) -> None:
        """Write a dialog to the store; `then` is called once it is on disk."""

    def forget_dialog(self, token: str) -> None:
        """Remove it."""

    def keep_record(self, record: CallRecord) -> None:
        """Write the record of a call that is over to the store."""

    def announce(self, event: CallEvent) -> None:
        """Tell the plugins."""

    def now(self) -> float:
        """Seconds since the epoch."""
