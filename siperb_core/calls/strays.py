"""2xx to INVITEs that nobody waits for (any more): acknowledged, and hung up (RFC 3261 sections 13.2.2.4, 16.7 step 5).

A 2xx may come when the call has gone elsewhere or is given up, from further ends of a fork, or after the transaction is
gone: then only its branch tells what it answers. So what is needed of an INVITE outlives its transaction for a while.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import attrs
import structlog

from siperb_core.calls.host import CallHost
from siperb_core.calls.sender import OwnRequest
from siperb_core.entries.contract import Credentials
from siperb_core.sip import Flow, Message
from siperb_core.sip.dialog import Dialog, Leg, own_ack, own_request, route_set
from siperb_core.sip.proxy import COMPLETED_ELSEWHERE

if TYPE_CHECKING:
    from siperb_core.calls.call import Call

log = structlog.get_logger()

KEPT_SECONDS = 240.0
"""From an INVITE's final response on: the 64*T1 its transaction may last yet, and some minutes for what is late."""
MOST_KEPT = 4096
"""INVITEs; beyond it the oldest are forgotten."""
MOST_ENDS = 64
"""Ends of forks that are hung up for one INVITE; the 2xx of further ones are left to time out."""


class LiveCalls(Protocol):
    """Where a call is found (`siperb_core.calls.directory`)."""

    def by_token(self, token: str) -> Call | None:
        """The call whose Contacts have this user part."""


@attrs.define(eq=False)
class SentInvite:
    """What is kept of an INVITE whose final response was here."""

    token: str  # of the call
    connection: str
    call_id: str
    from_tag: str
    number: int  # in CSeq
    in_dialog: bool
    leg: Leg
    flow: Flow
    credentials: Callable[[], Credentials | None]
    forget_at: float
    ended: set[str] = attrs.field(factory=set)  # tags of the ends that were sent a BYE


class Strays:
    """The INVITEs that may still be answered, by the branch in their Via."""

    def __init__(self, host: CallHost, calls: LiveCalls) -> None:
        self._host = host
        self._calls = calls
        self._kept: OrderedDict[str, SentInvite] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(
        self,
        request: Message,
        token: str,
        connection: str,
        leg: Leg,
        flow: Flow,
        credentials: Callable[[], Credentials | None],
    ) -> SentInvite:
        """Remember an INVITE as it was sent, from its final response on."""
        branch = request.via.branch
        kept = self._kept.get(branch)
        if kept is None:
            now = self._host.now()
            kept = self._kept[branch] = SentInvite(
                token, connection, request.call_id, request.from_tag, request.cseq.number,
                bool(request.to_tag), leg, flow, credentials, now + KEPT_SECONDS,
            )  # fmt: skip
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return kept

    def expire(self) -> None:
        """Forget what is over: they are in the order in which they came."""
        now = self._host.now()
        while self._kept and next(iter(self._kept.values())).forget_at <= now:
            self._kept.popitem(last=False)

    def on_response(self, response: Message, flow: Flow) -> None:
        """A 2xx to an INVITE whose transaction is gone. Raises ParseError."""
        invite = self._kept.get(response.via.branch)
        if (
            invite is None
            or invite.forget_at <= self._host.now()
            or (response.call_id, response.from_tag) != (invite.call_id, invite.from_tag)
            or response.cseq.number != invite.number
            or not (flow == invite.flow or self._host.sources.comes_from(flow, invite.leg, invite.connection))
        ):
            log.debug("sip.stray_response", call_id=response.get("Call-ID"), status=response.status)
            return
        self.late(invite, response, flow)

    def late(self, invite: SentInvite, response: Message, flow: Flow) -> None:
        """A 2xx that was not waited for, which came on this flow: of a dialog that is alive, perhaps.

        Raises ParseError.
        """
        call = self._calls.by_token(invite.token)
        if call is None or not call.acknowledge_again(response, invite):
            self.hang_up(invite, response, flow=flow)

    def hang_up(self, invite: SentInvite, response: Message, leg: Leg | None = None, flow: Flow | None = None) -> None:
        """Acknowledge a 2xx, and send one BYE to who gave it.

        `leg` is its end's where that is known already; `flow` the connection it came on, where that is another than the
        INVITE's. Raises ParseError.
        """
        tag = response.to_tag
        if not tag or (tag not in invite.ended and len(invite.ended) >= MOST_ENDS):
            return
        if leg is None:
            routes = invite.leg.routes if invite.in_dialog else tuple(reversed(route_set(response)))
            leg = attrs.evolve(invite.leg, routes=routes)
            leg.learn(response)
        dialog = Dialog(invite.call_id, invite.from_tag, tag, leg, leg)
        signalling = self._host.signalling
        if flow is None or not flow.reliable:
            flow = invite.flow
        signalling.acknowledge(own_ack(dialog, number=invite.number), flow)
        if tag not in invite.ended:
            invite.ended.add(tag)
            bye = own_request("BYE", dialog, "callee", [("Reason", COMPLETED_ELSEWHERE)])
            OwnRequest(signalling, leg, flow, invite.credentials).send(bye)
