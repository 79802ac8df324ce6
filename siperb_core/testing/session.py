"""A call of a user agent: INVITE, its dialog, and what happens in it (RFC 3261 sections 12 to 15, RFC 3311, RFC 6086).

Everything that arrives for a call goes through one queue and one task, so that two things never happen to it at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import trio

from siperb_core.sdp.description import SdpError
from siperb_core.sip import Flow, Message, NameAddr, ParseError, response_to
from siperb_core.sip.transaction import ClientTransaction, ServerTransaction
from siperb_core.testing.call_dialog import CallDialog
from siperb_core.testing.call_media import CallMedia, Change, first_of, info_digit
from siperb_core.testing.user_agent import ALLOW, Credentials, UserAgent

_QUEUE = 64  # things that may wait for a call's task; more are lost, and retransmitted by the peer
_T1, _T2 = 0.5, 4.0

Direction = Literal["outgoing", "incoming"]


class CallFailed(Exception):
    """A call, or a change to one, was refused: `status` and `reason` say by what, `response` is the whole answer."""

    def __init__(self, status: int, reason: str, response: Message | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.response = response


class Call(CallDialog):
    """One call. Made by `UserAgent`'s users; `media` decides what is heard."""

    def __init__(
        self,
        agent: UserAgent,
        media: CallMedia,
        *,
        direction: Direction,
        flow: Flow,
        contact: str,
        local: NameAddr,
        remote: NameAddr,
        call_id: str,
        credentials: Credentials | None = None,
    ) -> None:
        super().__init__(contact=contact, local=local, remote=remote, call_id=call_id)
        self.agent = agent
        self.direction = direction
        self.rang = trio.Event()
        self.confirmed = trio.Event()
        """The ACK of the INVITE was sent or came."""
        self.ended = trio.Event()
        self.was_answered = False
        self.status = 0
        """Of the INVITE's last response; 0 before there is one."""
        self.reason = ""
        self.ended_by: Literal["", "us", "them", "network"] = ""
        self.invite: Message | None = None
        """The INVITE as it came or went, without our Via."""
        self.responses: list[Message] = []
        """All responses to our INVITE, in order."""
        self.bye: Message | None = None
        """The BYE that ended the call, if they sent one."""
        self.takes_transfers = False
        """Whether a REFER is accepted; `refer` is then for the test to follow."""
        self.refer: Message | None = None
        self._media = media
        self._flow = flow
        self._credentials = credentials
        self._decided = trio.Event()
        self._invite_server: ServerTransaction | None = None
        self._invite_client: ClientTransaction | None = None
        self._resend: Message | None = None  # our INVITE as it would go out again, for a challenge
        self._acks: dict[tuple[int, str], Message] = {}
        self._changing: Change | None = None
        self._early_body = b""
        self._acked: trio.Event = trio.Event()
        self._offered_in_answer = False
        self._cancelling = False
        self._late_offer = False
        self._queue_in, self._queue_out = trio.open_memory_channel[tuple[str, object, Message]](_QUEUE)

    # What users ask

    async def answered(self) -> None:
        """Wait until the call is answered. Raises CallFailed when it is refused, cancelled or times out instead."""
        await self._decided.wait()
        if not self.was_answered:
            raise CallFailed(self.status, self.reason, self.responses[-1] if self.responses else None)

    def ring(self, status: int = 180) -> None:
        """Answer an incoming call's INVITE with a provisional response."""
        self._respond_to_invite(status)

    async def progress(self) -> None:
        """Early media: 183 with our answer."""
        assert self.invite is not None
        self._early_body = await self._media.answer(self.invite.body)
        self._respond_to_invite(183, body=self._early_body)

    async def accept(self) -> None:
        """Answer an incoming call with 200 and wait for the ACK, for which 200 is repeated.

        A call that is gone by then is no error: see `ended`. An offer that cannot be answered refuses the call.
        """
        assert self.invite is not None
        try:
            if self._early_body:
                body = self._early_body
            elif self.invite.body:
                body = await self._media.answer(self.invite.body)
            else:
                self._offered_in_answer = True
                body = await self._media.offer()
        except SdpError as error:
            warning = f'{error.warning_code} {self.agent.name} "{error.warning}"'
            self.reject(error.status, headers=[("Warning", warning)])
            return
        if self.ended.is_set() or self._invite_server is None:
            return
        self.was_answered = True
        self.status, self.reason = 200, "OK"
        self._decided.set()
        await self._answer_until_acked(self._invite_server, self._response(self.invite, 200, body))

    def reject(self, status: int, reason: str = "", headers: Iterable[tuple[str, str]] = ()) -> None:
        """Refuse an incoming call."""
        if self.invite is None or self.was_answered or self.ended.is_set():
            return
        assert self._invite_server is not None
        response = response_to(self.invite, status, reason, to_tag=self.local_tag, headers=headers)
        self.agent.respond(self._invite_server, response)
        self._end("us", status, response.reason)

    def cancel(self) -> None:
        """Give up an outgoing call that is not answered yet."""
        if self._invite_client is not None and not self._decided.is_set():
            self._cancelling = True
            self.agent.cancel(self._invite_client)

    async def hangup(self) -> None:
        """End the call whatever its state, and wait until the other side knows. Ended already: nothing happens."""
        if self.ended.is_set():
            return
        if not self.was_answered:
            if self.direction == "incoming":
                self.reject(480)
            else:
                self.cancel()
                await self.ended.wait()
            return
        bye = self._request("BYE")
        self._end("us")
        await self.agent.request(bye, self._flow_for(bye), self._credentials)

    async def hold(self) -> None:
        """Put the other side on hold by re-INVITE. Raises CallFailed."""
        self._media.hold(True)
        await self.reinvite()

    async def resume(self) -> None:
        """Take the other side off hold by re-INVITE. Raises CallFailed."""
        self._media.hold(False)
        await self.reinvite()

    async def reinvite(self) -> None:
        """Offer anew in the running call and wait until the answer is acknowledged. Raises CallFailed."""
        if self.ended.is_set() or not self.was_answered or self._changing is not None:
            raise CallFailed(491, "Request Pending")
        change = self._changing = Change()
        try:
            body = await self._media.offer()
            self._send_invite(self._request("INVITE", [("Allow", ALLOW), ("Content-Type", "application/sdp")], body))
            await change.done.wait()
        finally:
            self._changing = None
        if change.response is None:
            raise CallFailed(487, "Call ended")
        if change.response.status >= 300:
            raise CallFailed(change.response.status, change.response.reason, change.response)

    async def update(self) -> None:
        """Offer anew by UPDATE (RFC 3311). Raises CallFailed."""
        body = await self._media.offer()
        response = await self.request("UPDATE", [("Content-Type", "application/sdp")], body)
        if response.status >= 300:
            raise CallFailed(response.status, response.reason, response)
        await self._media.accept(response.body)

    async def send_info(self, digit: str, *, milliseconds: int = 160) -> None:
        """Send a digit in a SIP INFO, as telephones do (application/dtmf-relay). Raises CallFailed."""
        body = f"Signal={digit}\r\nDuration={milliseconds}\r\n".encode()
        response = await self.request("INFO", [("Content-Type", "application/dtmf-relay")], body)
        if response.status >= 300:
            raise CallFailed(response.status, response.reason, response)

    async def request(self, method: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Message:
        """Send any request but INVITE in the dialog; gives its final response."""
        request = self._request(method, headers, body)
        return await self.agent.request(request, self._flow_for(request), self._credentials)

    # Beginning

    def begin_incoming(self, transaction: ServerTransaction, invite: Message) -> None:
        """Take an INVITE that came in."""
        self.invite = invite
        self._invite_server = transaction
        self.remote_tag = invite.from_tag
        self._remote_cseq = invite.cseq.number
        self._learn_target(invite)
        self._routes = tuple(invite.values("Record-Route"))
        self._register()

    async def begin_outgoing(
        self, uri: str, headers: Iterable[tuple[str, str]] = (), *, late_offer: bool = False
    ) -> None:
        """Send the INVITE; with `late_offer` the other side has to offer, in its 200 (section 13.2.1)."""
        self._target = uri
        self._late_offer = late_offer
        body = b"" if late_offer else await self._media.offer()
        self._register()
        kind = [("Content-Type", "application/sdp")] if body else []
        invite = self._request("INVITE", [("Allow", ALLOW), *headers, *kind], body, contact=True)
        self.invite = invite.copy()
        self._send_invite(invite)

    def _register(self) -> None:
        self.agent.calls[self.call_id, self.local_tag] = self
        self.agent.nursery.start_soon(self._serve)

    # Receiving

    def takes(self, request: Message) -> bool:
        """Whether a request with our tag is of this dialog (section 12.2.2)."""
        return not self.ended.is_set() and self.remote_tag in ("", request.from_tag)

    def on_request(self, transaction: ServerTransaction, request: Message) -> None:
        """A request in the dialog."""
        if request.cseq.number < self._remote_cseq:
            self.agent.respond(transaction, response_to(request, 500))
            return
        self._remote_cseq = request.cseq.number
        self._put("request", transaction, request)

    def on_response(self, transaction: ClientTransaction, response: Message) -> None:
        """A response to our INVITE or re-INVITE."""
        if 200 <= response.status < 300:
            ack = self._acks.get((response.cseq.number, response.to_tag))
            if ack is not None:
                self.agent.send(ack.copy(), self._flow_for(ack))
                return
        self._put("response", transaction, response)

    def on_ack(self, message: Message) -> None:
        """The ACK to a 2xx of ours."""
        if self._offered_in_answer and message.body:
            self._offered_in_answer = False
            self._put("answer", None, message)
        self.confirmed.set()
        self._acked.set()

    def on_cancel(self, transaction: ServerTransaction) -> None:
        """A CANCEL for `transaction`, which may be this call's INVITE."""
        if transaction is self._invite_server and self.invite is not None and not self.was_answered:
            self.agent.respond(transaction, response_to(self.invite, 487, to_tag=self.local_tag))
            self._end("them", 487, "Request Terminated")

    def _put(self, what: str, transaction: object, message: Message) -> None:
        try:
            self._queue_in.send_nowait((what, transaction, message))
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            pass

    async def _serve(self) -> None:
        try:
            with self._queue_out:
                async for what, transaction, message in self._queue_out:
                    try:
                        await self._handle(what, transaction, message)
                    except ParseError:
                        continue
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await self._media.close()

    async def _handle(self, what: str, transaction: object, message: Message) -> None:
        if isinstance(transaction, ServerTransaction):
            await self._handle_request(transaction, message)
        elif isinstance(transaction, ClientTransaction):
            await self._handle_response(transaction, message)
        else:
            await self._take_answer(message.body)

    async def _take_answer(self, body: bytes) -> None:
        try:
            await self._media.accept(body)
        except SdpError:
            self.abandon()

    async def _handle_request(self, transaction: ServerTransaction, request: Message) -> None:
        match request.method:
            case "BYE":
                self.agent.respond(transaction, response_to(request, 200))
                self.bye = request
                self._end("them")
            case "INVITE" | "UPDATE":
                await self._handle_offer(transaction, request)
            case "INFO":
                digit = info_digit(request)
                if digit:
                    self._media.digit_by_info(digit)
                self.agent.respond(transaction, response_to(request, 200))
            case "REFER" if self.takes_transfers:
                self.agent.respond(transaction, self._response(request, 202, b""))
                self.refer = request
            case "OPTIONS" | "MESSAGE" | "NOTIFY":
                self.agent.respond(transaction, response_to(request, 200, headers=[("Allow", ALLOW)]))
            case _:
                self.agent.respond(transaction, response_to(request, 405, headers=[("Allow", ALLOW)]))

    async def _handle_offer(self, transaction: ServerTransaction, request: Message) -> None:
        if self._changing is not None:
            self.agent.respond(transaction, response_to(request, 491))
            return
        try:
            if request.body:
                body = await self._media.answer(request.body)
            elif request.method == "INVITE":
                self._offered_in_answer = True
                body = await self._media.offer()
            else:
                body = b""
        except SdpError as error:
            warning = f'{error.warning_code} {self.agent.name} "{error.warning}"'
            self.agent.respond(transaction, response_to(request, error.status, headers=[("Warning", warning)]))
            return
        self._learn_target(request)
        response = self._response(request, 200, body)
        if request.method == "INVITE":
            # In a task of its own: the ACK it waits for is news to this one.
            self.agent.nursery.start_soon(self._answer_until_acked, transaction, response)
        else:
            self.agent.respond(transaction, response)

    async def _handle_response(self, transaction: ClientTransaction, response: Message) -> None:
        status = response.status
        initial = not self._decided.is_set()
        if initial:
            self.responses.append(response)
            self.status, self.reason = status, response.reason
        if status < 200:
            if initial and status > 100:
                await self._handle_provisional(response)
        elif status < 300:
            await self._handle_success(response, initial)
        else:
            await self._handle_failure(response, initial)

    async def _handle_provisional(self, response: Message) -> None:
        self._learn_target(response)
        self.rang.set()
        if response.body and response.body != self._early_body and not self._late_offer:
            self._early_body = response.body
            await self._take_answer(response.body)

    async def _handle_success(self, response: Message, initial: bool) -> None:
        number = response.cseq.number
        if not initial and self._changing is None:
            # A second branch of the fork has answered as well: it is thanked and sent home (section 13.2.2.4).
            known = self.remote_tag, self._target, self._routes
            self._establish(response)
            self._acknowledge(number, response.to_tag)
            self.agent.start(self._request("BYE"), self._flow, None)
            self.remote_tag, self._target, self._routes = known
            return
        if initial:
            self._establish(response)
        else:
            self._learn_target(response)
        late = initial and self._late_offer
        answer = await self._late_answer(response.body) if late else b""
        self._acknowledge(number, response.to_tag, answer)
        if initial and (self._cancelling or (late and not answer)):
            self.abandon()
            return
        if not late and not (initial and response.body == self._early_body):
            await self._take_answer(response.body)
        if self._changing is not None:
            self._changing.finish(response)
        if initial and not self.ended.is_set():
            self.was_answered = True
            self._decided.set()
            self.confirmed.set()

    async def _late_answer(self, offer: bytes) -> bytes:
        try:
            return await self._media.answer(offer)
        except SdpError:
            return b""

    async def _handle_failure(self, response: Message, initial: bool) -> None:
        if self._resend is not None:
            again = self.agent.authorised(self._resend, response, self._credentials)
            if again is not None and not self._cancelling:
                self._cseq = again.cseq.number
                self._send_invite(again)
                return
        if initial:
            self._end("network" if response.get("To") is None else "them", response.status, response.reason)
        elif self._changing is not None:
            self._changing.finish(response)
            if response.status in (408, 481):
                self.abandon()  # section 12.2.1.2

    # Sending

    def _send_invite(self, invite: Message) -> None:
        self._resend = invite.copy()
        self._invite_client = self.agent.start(invite, self._flow_for(invite), self)

    def _flow_for(self, message: Message) -> Flow:
        return self.agent.flow_for(message, self._flow)

    def _respond_to_invite(self, status: int, body: bytes = b"") -> None:
        if self.invite is None or self._invite_server is None or self._decided.is_set():
            return
        self.agent.respond(self._invite_server, self._response(self.invite, status, body))

    async def _answer_until_acked(self, transaction: ServerTransaction, response: Message) -> None:
        """Section 13.3.1.4: the 2xx is repeated until the ACK comes, for 64*T1; then the call is ended."""
        acked = self._acked = trio.Event()
        wait, deadline = _T1, trio.current_time() + 64 * _T1
        while not acked.is_set() and not self.ended.is_set():
            self.agent.respond(transaction, response.copy())
            with trio.move_on_after(wait if not self._flow.reliable else math.inf):
                await first_of(acked, self.ended)
            wait = min(2 * wait, _T2)
            if trio.current_time() >= deadline:
                self.abandon("network")

    def _acknowledge(self, number: int, to_tag: str, body: bytes = b"") -> None:
        ack = self._request("ACK", [("Content-Type", "application/sdp")] if body else [], body)
        ack.set("CSeq", f"{number} ACK")
        if self._resend is not None:
            for name in ("Authorization", "Proxy-Authorization"):
                value = self._resend.get(name)
                if value is not None:
                    ack.set(name, value)  # section 22.1
        flow = self._flow_for(ack)
        ack.prepend("Via", self.agent.layer.new_via(flow))
        self._acks[number, to_tag] = ack
        self.agent.send(ack.copy(), flow)

    def abandon(self, by: Literal["us", "network"] = "us") -> None:
        """End the call whatever its state, without waiting for anybody."""
        if self.ended.is_set():
            return
        if self.direction == "incoming" and not self.was_answered:
            self.reject(480)
            return
        if self.remote_tag:
            bye = self._request("BYE")
            self.agent.start(bye, self._flow_for(bye), None)
        else:
            self.cancel()
        self._end(by, 487 if self._cancelling else 0, "Request Terminated" if self._cancelling else "")

    # State

    def _end(self, by: Literal["us", "them", "network"], status: int = 0, reason: str = "") -> None:
        if self.ended.is_set():
            return
        self.ended_by = by
        if status:
            self.status, self.reason = status, reason
        self.agent.calls.pop((self.call_id, self.local_tag), None)
        self.ended.set()
        self._decided.set()
        if self._changing is not None:
            self._changing.done.set()
        self._queue_in.close()
