"""A call being set up: one request from outside any dialog, and the branches it is forked to (RFC 3261 section 16).

It serves every method that is forwarded; a MESSAGE opens no dialog and is over with its answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Literal

import attrs
import structlog

from siperb_core.calls.branch import Branch, Destinations
from siperb_core.calls.call import Call, CallDirectory
from siperb_core.calls.host import CallHost
from siperb_core.calls.media import NO_MEDIA, Origin, is_sdp, passed_through
from siperb_core.calls.negotiation import is_reliable
from siperb_core.calls.record import CallRecord
from siperb_core.calls.usages import ACK_WITHIN, wants_no_subscription
from siperb_core.entries.contract import Refusal
from siperb_core.entries.decisions import CallAttempt
from siperb_core.entries.model import Entry
from siperb_core.sdp import SdpError
from siperb_core.sip import Flow, Message, ParseError, identity, response_to
from siperb_core.sip.dialog import (
    Dialog,
    Leg,
    Side,
    carry_response,
    route_set,
    untagged,
)
from siperb_core.sip.grammar import quote
from siperb_core.sip.proxy import COMPLETED_ELSEWHERE, ResponseContext, breadth_of
from siperb_core.sip.transaction import ServerTransaction
from siperb_core.sip.transaction_layer import MAGIC_COOKIE

log = structlog.get_logger()

DIALOG_METHODS = frozenset({"INVITE", "SUBSCRIBE", "REFER"})

_MOST_DIALOGS = 64
"""Early dialogs of one request: more ends of forks than a peer has, and a bound to what it can make us keep."""


class CallSetup(Call):
    """A call from its first request on."""

    def __init__(
        self,
        host: CallHost,
        transaction: ServerTransaction,
        direction: Literal["outbound", "inbound"],
        *,
        user: str,
        device: str,
        directory: CallDirectory,
    ) -> None:
        request = transaction.request
        record = CallRecord.of(request, direction, user, device, host.now())
        super().__init__(host, secrets.token_hex(10), request.method, record, directory)
        self.server = transaction
        self.request = request
        self.entry: Entry | None = None
        self.caller = Leg(
            local=untagged(request.to),
            remote=untagged(request.from_),
            contact=host.contact(self.token, transaction.flow),
            routes=route_set(request),
            flow=transaction.flow,
            device=device,
            instance=host.sources.instance_on(transaction.flow) if device else "",
        )
        self.caller.learn(request)
        if not self.caller.target and self.method in DIALOG_METHODS:
            if request.via.branch.startswith(MAGIC_COOKIE):
                raise ParseError("Missing Contact")  # section 8.1.1.8: nothing could be sent back in the dialog
            self.caller.target = request.from_.uri  # what RFC 2543 did without one (its section 6.13)
        self._context = ResponseContext()
        self._branches: dict[str, Branch] = {}
        self._destinations: Destinations | None = None
        self._cancelled = False
        self._success: Message | None = None
        self._saved = False
        self._offer_sent = False
        self._terminated: set[str] = set()  # tags whose subscription ended before the 2xx was there
        self.breadth = breadth_of(request)
        """How many branches the request may have at once (RFC 5393 section 5.3)."""
        transaction.context = self

    # ---- where it goes

    def start(self, destinations: Destinations) -> None:
        """Send the request on."""
        self._destinations = destinations
        destinations.start()

    def expect_branches(self, names: Iterable[str]) -> None:
        """Branches that are about to be started."""
        for name in names:
            self._context.add(name)

    def start_branch(
        self, leg: Leg, flow: Flow, message: Message, name: str = "", patience: float | None = None
    ) -> None:
        """Send the request to one destination, which has failed if it stays silent for `patience` seconds."""
        branch = Branch(self, name or f"{len(self._branches)}", leg, flow)
        self._context.add(branch.name)
        self._branches[branch.name] = branch
        branch.send(message, patience)

    def open_media(self, client: Flow | None, peer: Flow | None) -> bool:
        """Get ports and a worker for the call, where its media are bridged; False when it had to be refused."""
        if self.method != "INVITE" or self.entry is None or client is None or peer is None:
            return True
        if self.media is not None:
            self.media.close()
            self.media = None
            self._negotiations.clear()
        try:
            offer = self.request.body if self.direction == "inbound" else b""
            policy = self.host.choices.media_policy(self.entry, peer.transport, offer, self._attempt())
            if isinstance(policy, Refusal):
                self.refuse(policy.status, policy.reason)
                return False
            if policy.passthrough:
                self.record.media = passed_through(policy.why, self.request.body if is_sdp(self.request) else b"")
                return True
            self.record.media = None
            self.media = self.host.open_media(self.entry, self.request.call_id, client, peer, policy)
        except SdpError as error:
            self._refuse_sdp(error)
            return False
        except NO_MEDIA as error:
            self._refuse_media(error)
            return False
        if self.media is not None:
            self.media.on_dead = self._media_dead
            self.media.on_digit = self.tell_digit
            if self.direction == "inbound":
                self.media.learn_allow(self.request)
        return True

    def _attempt(self) -> CallAttempt:
        record = self.record
        user, device = (record.user, record.device) if self.direction == "outbound" else ("", "")
        return CallAttempt(
            call_id=record.call_id, direction=self.direction, method=self.method, number=record.number,
            caller=record.caller, request=self.request, connection=record.connection, user=user, device=device,
        )  # fmt: skip

    def _media_dead(self, cause: str) -> None:
        if self.established:
            self.end(cause)

    def map_offer(self, message: Message, origin: Origin, branch: str) -> bool:
        """Put the other leg's offer into a request that has one; False when it had to be refused."""
        if self.media is None or not is_sdp(message):
            return True
        try:
            message.set_body(self.media.offer(origin, branch, message.body), "application/sdp")
            self._offer_sent = True
        except SdpError as error:
            self._refuse_sdp(error)
            return False
        except NO_MEDIA as error:
            self._refuse_media(error)
            return False
        return True

    def first_offerer(self, dialog: Dialog) -> Side | None:
        """The caller, with an offer in its INVITE; every early dialog answers it for itself."""
        return "caller" if self._offer_sent and self._answered is None else None

    def _map_response(self, dialog: Dialog | None, response: Message) -> bytes | None:
        """The SDP of a response as the caller gets it, b"" for none, None where it may stay. Raises `SdpError`,
        `NO_MEDIA`.
        """
        if self.media is None or self.method != "INVITE":
            return None
        negotiation = None if dialog is None else self.negotiation(dialog)
        return b"" if negotiation is None else negotiation.in_invite_response("callee", response)

    def on_provisional(self, branch: Branch, response: Message) -> None:
        """101 to 199: an early dialog perhaps, early media perhaps."""
        if self.server.final or self._answered is not None:
            return
        dialog = self._dialog(branch, response)
        try:
            sdp = self._map_response(dialog, response)
        except (SdpError, *NO_MEDIA) as error:
            log.info("sdp.early_answer_refused", call_id=self.request.call_id, reason=str(error))
            if isinstance(error, SdpError) and is_reliable(response):
                self._fail_branch(branch, error)
                return
            sdp = b""
        self.host.signalling.respond(self.server, self._carried(response, sdp))
        if response.status == 199:
            self.drop_dialog(response.to_tag)  # RFC 6228: this early dialog is no more
        if self.record.state == "calling":
            self.record.state = "ringing"
            self.announce("ringing")

    def on_success(self, branch: Branch, response: Message) -> None:
        """2xx: the first wins, the other branches are cancelled; one that comes too late is ended."""
        if self.method != "INVITE":
            self._on_other_success(branch, response)
            return
        known = self.dialogs.get(response.to_tag)
        if self._answered is not None and known is self._answered and not self.over:
            # The callee has not seen the ACK: the caller, seeing the 2xx again, repeats it (section 16.7 step 5).
            self._send_success()
            return
        if self._answered is not None or self.over or branch.given_up or self.server.final:
            self._hang_up(branch, response)
            self._over_without_caller(branch, response)
            return
        dialog = self._dialog(branch, response)
        if dialog is None:
            self._hang_up(branch, response)
            return
        try:
            sdp = self._map_response(dialog, response)
        except (SdpError, *NO_MEDIA) as error:
            self._hang_up(branch, response)
            self._cancel_branches(except_=branch)
            if isinstance(error, SdpError):
                self._refuse_sdp(error)
            else:
                self._refuse_media(error)
            return
        self._answered = dialog
        dialog.confirmed = True
        self._context.final(branch.name, response)
        self._cancel_branches(except_=branch, reason=COMPLETED_ELSEWHERE)
        for tag in [tag for tag, known in self.dialogs.items() if known is not dialog]:
            self.drop_dialog(tag)
        self.usages.ack_by = self.host.now() + ACK_WITHIN
        if self.media is None:
            self.usages.refreshed(response, self.host.now())
        if self.record.direction == "inbound":
            self.record.device = dialog.callee.device
        self.record.answer(self.host.now())
        self.announce("answered")
        self._keep(self._carried(response, sdp))

    def _keep(self, success: Message) -> None:
        """The 2xx leaves when the dialog is on disk."""
        self._success = success
        self.host.save_dialog(self.token, self.as_json(), self._send_success_first)

    def _send_success_first(self) -> None:
        self._saved = True
        self._send_success()

    def _send_success(self) -> None:
        if self._saved and self._success is not None:
            self.host.signalling.respond(self.server, self._success.copy())

    def _on_other_success(self, branch: Branch, response: Message) -> None:
        self._context.final(branch.name, response)
        if self._answered is not None or self.over:
            return  # of a fork; the others' NOTIFYs make subscriptions of their own (RFC 6665 section 4.4.1)
        dialog = self._dialog(branch, response) if self._subscribes(response) else None
        if dialog is None or self.server.final:
            self.host.signalling.respond(self.server, self._carried(response, None))
            self._over("answered")
            return
        dialog.confirmed = True
        self._answered = dialog
        now, tag = self.host.now(), dialog.callee_tag
        if self.method == "SUBSCRIBE":
            self.usages.subscribed(tag, self.request, response, now)
        else:
            self.usages.referred(tag, dialog.callee.last_cseq, self.request.cseq.number, now)
        self._keep(self._carried(response, None))

    def _subscribes(self, response: Message) -> bool:
        """Whether a 2xx to anything but an INVITE leaves a dialog behind."""
        if self.method == "REFER" and wants_no_subscription(response):
            return False
        return self.method in DIALOG_METHODS and response.to_tag not in self._terminated

    def usage_over(self, dialog: Dialog, cause: str) -> None:
        """As `Call.usage_over`; a subscription may end before the 2xx of its SUBSCRIBE is there."""
        if (
            self._answered is None
            and self.method != "INVITE"
            and not self.usages.has(dialog.callee_tag)
            and (len(self._terminated) < _MOST_DIALOGS)
        ):
            self._terminated.add(dialog.callee_tag)
        super().usage_over(dialog, cause)

    def on_final(self, branch: Branch, response: Message, *, reached: bool = True) -> None:
        """A branch has failed."""
        self._final(branch.name, response, reached)

    def _final(self, name: str, response: Message, reached: bool) -> None:
        self._context.final(name, response)
        if self.media is not None and self.direction == "inbound":
            self.media.drop_branch(name)
        for tag in [
            tag for tag, of in self._branch_of.items() if of == name and self.dialogs.get(tag) is not self._answered
        ]:
            self.drop_dialog(tag)
        if self._answered is not None or self.over:
            return
        if response.status >= 600:
            self._cancel_branches()
        if self._context.open:
            return
        if (
            not self._cancelled
            and self._destinations is not None
            and self._destinations.next_after(response, reached=reached)
        ):
            return
        self.finish()

    @property
    def next_offset(self) -> int:
        """What a further try to the same peer adds to the CSeq number, so that it is no merged request there."""
        return max((branch.leg.offset + 1 for branch in self._branches.values()), default=0)

    def superseded(self, response: Message) -> None:
        """A redirection that is followed is no answer any more (section 16.7 step 4)."""
        if response in self._context.finals:
            self._context.finals.remove(response)

    def failed_without_branch(self, status: int, reason: str) -> None:
        """A destination that could not even be tried counts as if it had answered this."""
        self._context.finals.append(response_to(self.request, status, reason))

    def finish(self) -> None:
        """Nothing is left to try: send the best answer back (section 16.7 step 6)."""
        best = self._context.best()
        if self.over:
            return
        if best is None:
            self.refuse(480, "Temporarily Unavailable")
            return
        carried = self._carried(best, None)
        if best.status in (401, 407):
            # The challenge is between the gateway and the PBX; a softphone has no credentials for it.
            reason = "PBX Refused Credentials" if self.direction == "outbound" else "Softphone Asked For Credentials"
            carried = response_to(self.request, 403, reason, to_tag=best.to_tag)
        elif best.status == 503 and best.get("Retry-After") is None:
            carried = response_to(self.request, 503, best.reason, to_tag=best.to_tag or secrets.token_hex(5))
        if not carried.to_tag:
            carried.set("To", f"{self.request.get('To')};tag={secrets.token_hex(5)}")
        self.host.signalling.respond(self.server, carried)
        self.record.status = carried.status
        self._over(f"{carried.status} {carried.reason}")

    def on_cancel(self, transaction: ServerTransaction, cancel: Message) -> None:
        """The caller gave up."""
        self.give_up(cancel.get("Reason") or "")

    def on_caller_lost(self, transaction: ServerTransaction) -> None:
        """The caller's connection is gone, and with it the way for any answer."""
        self.give_up()

    def give_up(self, reason: str = "") -> None:
        """CANCEL what is still ringing; the branches' 487 then ends the call."""
        if self.over or self._answered is not None:
            return
        self._cancelled = True
        self._cancel_branches(reason=reason)
        if not self._context.open:
            self.refuse(487, "Request Terminated")

    def _cancel_branches(self, except_: Branch | None = None, reason: str = "") -> None:
        for name in list(self._context.open):
            branch = self._branches.get(name)
            if branch is not None and branch is not except_:
                branch.cancel(reason)

    def end(self, cause: str, status: int = 503) -> None:
        """As `Call.end`; a call that is not answered yet is refused."""
        if self.over or self._answered is not None:
            super().end(cause, status)
            return
        self._cancel_branches()
        self.refuse(503, "Call Ended By Gateway")

    def abandon(self, status: int, reason: str) -> None:
        """Answer the caller with this, and end whatever was begun already."""
        if not self.over and self._answered is None:
            self._cancel_branches()
            self.refuse(status, reason)

    def _hang_up(self, branch: Branch, response: Message) -> None:
        """A 2xx nobody waits for: acknowledge it, then BYE (section 13.2.2.4, 16.7 step 5)."""
        known = self.dialogs.get(response.to_tag)
        leg = None
        if known is not None and known is not self._answered:
            leg = known.callee
            leg.learn(response)
            self.drop_dialog(known.callee_tag)
        branch.hang_up(response, leg)

    def _fail_branch(self, branch: Branch, error: SdpError) -> None:
        """An answer that cannot be used came in a reliable provisional response: no other will follow it."""
        warning = f"{error.warning_code} siperb {quote(error.warning)}"
        self.record.diagnosis = error.warning
        branch.cancel()
        branch.given_up = True
        self._final(
            branch.name, response_to(self.request, error.status, error.reason, headers=[("Warning", warning)]), True
        )

    def _over_without_caller(self, branch: Branch, response: Message) -> None:
        """The last branch has answered a caller that is gone."""
        self._context.final(branch.name, response)
        if self._answered is None and self.server.final and not self._context.open:
            self._over("the caller's connection was lost")

    def early_dialog(self, request: Message, flow: Flow) -> tuple[Dialog, Side] | None:
        """A NOTIFY may come before the 2xx of its SUBSCRIBE or REFER, and from every end of a fork (RFC 6665 section
        4.4.1).
        """
        if (
            self.method not in ("SUBSCRIBE", "REFER")
            or request.method != "NOTIFY"
            or request.to_tag != self.request.from_tag
            or len(self.dialogs) >= _MOST_DIALOGS
        ):
            return None
        branches = list(self._branches.values())
        if self.direction == "inbound":
            branches = [branch for branch in branches if branch.flow == flow]
        else:
            comes_from, connection = self.host.sources.comes_from, self.record.connection
            branches = [branch for branch in branches if comes_from(flow, branch.leg, connection)]
        if not branches:
            return None
        dialog = self._new_dialog(branches[-1], request.from_tag)
        dialog.callee.routes = route_set(request)
        return dialog, "callee"

    # ---- the small print

    def _dialog(self, branch: Branch, response: Message) -> Dialog | None:
        tag = response.to_tag
        if not tag or self.method not in DIALOG_METHODS:
            return None
        if tag not in self.dialogs and len(self.dialogs) >= _MOST_DIALOGS:
            return None
        routes = route_set(response)
        _ = response.contacts  # raises before anything is kept of what cannot be read
        dialog = self.dialogs.get(tag) or self._new_dialog(branch, tag)
        dialog.callee.learn(response)
        if self.media is not None and self.direction == "outbound":
            self.media.learn_allow(response)
        if routes and not dialog.confirmed:
            dialog.callee.routes = tuple(reversed(routes))
        return dialog

    def _new_dialog(self, branch: Branch, tag: str) -> Dialog:
        """A leg of its own for every tag: what forked behind the PBX has several targets (section 12.1.2)."""
        leg = attrs.evolve(branch.leg, routes=())
        dialog = Dialog(self.request.call_id, self.request.from_tag, tag, self.caller, leg)
        self.dialogs[tag] = dialog
        self._branch_of[tag] = branch.name
        return dialog

    def _carried(self, response: Message, sdp: bytes | None) -> Message:
        carried = carry_response(response, self.request, self.caller.contact)
        if not self.believes("callee"):
            identity.forget_assertions(carried)
        if sdp is not None:
            carried.set_body(sdp, "application/sdp")
        return carried

    def refuse(self, status: int, reason: str, *headers: tuple[str, str]) -> None:
        """Answer the caller with a final response of our own, and end it."""
        if not self.server.final:
            response = response_to(self.request, status, reason, to_tag=secrets.token_hex(5), headers=headers)
            self.host.signalling.respond(self.server, response)
            self.record.status = status
        self._over(f"{status} {reason}")

    def _refuse_sdp(self, error: SdpError) -> None:
        warning = f"{error.warning_code} siperb {quote(error.warning)}"
        self.record.diagnosis = error.warning
        self.refuse(error.status, error.reason, ("Warning", warning))

    def _refuse_media(self, error: Exception) -> None:
        log.warning("media.unavailable", call_id=self.request.call_id, reason=str(error))
        self.record.diagnosis = f"no media: {error}"
        self.refuse(503, "No Media Available", ("Retry-After", "5"))
