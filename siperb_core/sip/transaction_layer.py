"""The transaction layer: finds the transaction a message belongs to, and keeps the timers (RFC 3261 section 17).

What it does of the transport layer's part (section 18): the top Via of what goes out, `received` and `rport` in what
comes in (RFC 3581). Responses always go back on the flow the request came on, also where the Via has no `rport`:
behind a NAT nothing else arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from siperb_core.sip.errors import ParseError
from siperb_core.sip.flow import Flow
from siperb_core.sip.headers import parse_via
from siperb_core.sip.message import Message
from siperb_core.sip.response import response_to
from siperb_core.sip.timers import TimerValues, TimerWheel
from siperb_core.sip.transaction import (
    ACK,
    CANCEL,
    REQUEST,
    TRANSPORT_ERROR,
    AckReceived,
    ClientTransaction,
    Effect,
    RequestReceived,
    Send,
    ServerTransaction,
    StrayResponse,
    Transaction,
    response_event,
)
from siperb_core.sip.transaction_client import InviteClient, NonInviteClient
from siperb_core.sip.transaction_server import InviteServer, NonInviteServer

MAGIC_COOKIE = "z9hG4bK"
"""How the branch of an RFC 3261 Via begins (section 8.1.1.7)."""


class TransactionLayer:
    """All transactions of the gateway.

    Every method takes `now` (seconds, monotonic) and returns effects, which are to be performed in their order. Call
    `advance` at `next_deadline` or soon after. Messages handed in belong to the layer from then on.

    `new_token` gives unguessable text for branches and tags. `max_transactions` bounds what strangers can make us keep:
    beyond it new requests get 503 with Retry-After, without a transaction; requests within a dialog and CANCELs, which
    end things sooner than they start them, have another quarter of that. Transactions that only linger for late copies
    of their messages, up to 64*T1 over UDP, are counted apart, since they are small (1 to 2 KiB) and many:
    `max_lingering`, six times as many as live ones by default. A call over UDP leaves 101 of them behind for each call
    a second (INVITE and BYE, 32 s on both sides, our BYE 5 s), so the default is full at some 1,200 calls a second.
    """

    def __init__(
        self,
        new_token: Callable[[], str],
        *,
        t1: float = 0.5,
        t2: float = 4.0,
        t4: float = 5.0,
        timer_c: float = 180.0,
        max_transactions: int = 20_000,
        max_lingering: int | None = None,
        retry_after: int = 5,
    ) -> None:
        self.timers = TimerValues(t1=t1, t2=t2, t4=t4, timer_c=timer_c)
        self.wheel: TimerWheel[Transaction] = TimerWheel()
        self._new_token = new_token
        self._max_transactions = max_transactions
        self._max_lingering = 6 * max_transactions if max_lingering is None else max_lingering
        self._lingering = 0
        self._unsettled: list[Transaction] = []
        self._retry_after = retry_after
        self._clients: dict[tuple[Any, ...], InviteClient | NonInviteClient] = {}
        self._servers: dict[tuple[Any, ...], InviteServer | NonInviteServer] = {}
        self._originals: dict[tuple[Any, ...], ServerTransaction] = {}
        self._by_flow: dict[Flow, dict[Transaction, None]] = {}

    def __len__(self) -> int:
        """Number of transactions alive, lingering ones included."""
        return len(self._clients) + len(self._servers)

    @property
    def lingering(self) -> int:
        """How many transactions only wait for late copies of their messages."""
        return self._lingering

    @property
    def next_deadline(self) -> float | None:
        """When `advance` has something to do; None when no timer is running."""
        return self.wheel.next_deadline

    # What comes in

    def receive(self, message: Message, flow: Flow, now: float) -> list[Effect]:
        """Give the layer a message that came in on a flow.

        Never raises for what is wrong with the message: one whose Via (or, in a response, CSeq) cannot be read belongs
        to nothing and cannot be answered, and is dropped. Other faults are for `validate` and the user to find.
        """
        out: list[Effect] = []
        try:
            if message.is_request:
                self._receive_request(message, flow, now, out)
            else:
                self._receive_response(message, flow, now, out)
        except ParseError:
            pass
        return out

    def _receive_response(self, message: Message, flow: Flow, now: float, out: list[Effect]) -> None:
        """Section 17.1.3: the branch is ours, and the CSeq method tells an INVITE from its CANCEL."""
        method = message.cseq.method
        transaction = self._clients.get((message.branch, method))
        if transaction is not None:
            transaction.heard(message.top_via(), flow)
            message.pop_first("Via")
            transaction.handle(response_event(message.status), message, now, out)
        elif method == "INVITE" and 200 <= message.status < 300:
            out.append(StrayResponse(message, flow))

    def _receive_request(self, message: Message, flow: Flow, now: float, out: list[Effect]) -> None:
        """Section 17.2.3 (matching), 9.2 (CANCEL)."""
        method = message.method
        if method == "ACK":
            self._receive_ack(message, self._servers.get(_server_key(message, flow, "INVITE")), flow, now, out)
            return
        key = _server_key(message, flow, method)
        known = self._servers.get(key)
        if known is not None:
            known.handle(REQUEST, message, now, out)
            return
        _note_source(message, flow)
        if self._full(message):
            headers = [("Retry-After", str(self._retry_after))]
            refusal = response_to(message, 503, to_tag=self._new_token(), headers=headers)
            out.append(Send(flow, refusal))
            return
        transaction = (InviteServer if method == "INVITE" else NonInviteServer)(self, key, message, flow)
        self._servers[key] = transaction
        self._remember_flow(transaction)
        transaction.begin(now)
        if method == "CANCEL":
            self._receive_cancel(message, transaction, self._servers.get(key[:-1] + ("INVITE",)), now, out)
            return
        original = _original_key(message)
        if original is not None and self._originals.setdefault(original, transaction) is transaction:
            transaction.original = original
        out.append(RequestReceived(transaction, message))

    def _receive_ack(
        self,
        message: Message,
        transaction: ServerTransaction | None,
        flow: Flow,
        now: float,
        out: list[Effect],
    ) -> None:
        if transaction is not None and transaction.key[0] is None:
            # RFC 2543: the To tag tells an ACK to our response from one to another element's (section 17.2.3).
            response = transaction.response
            if response is None or response.to_tag != message.to_tag:
                transaction = None
        if transaction is None:
            out.append(AckReceived(message, flow))
        else:
            transaction.handle(ACK, message, now, out)

    def _receive_cancel(
        self,
        message: Message,
        transaction: ServerTransaction,
        invite: ServerTransaction | None,
        now: float,
        out: list[Effect],
    ) -> None:
        """Section 9.2: the CANCEL is answered here, 481 with nothing to cancel; the user hears of its INVITE."""
        transaction.internal = True
        tag = ""
        if invite is not None and invite.response is not None:
            tag = invite.response.to_tag
        answer = response_to(message, 481 if invite is None else 200, to_tag=tag or self._new_token())
        transaction.handle(response_event(answer.status), answer, now, out)
        if invite is not None:
            invite.handle(CANCEL, message, now, out)

    def _full(self, message: Message) -> bool:
        lingering, most_lingering, most = self._lingering, self._max_lingering, self._max_transactions
        live = len(self._clients) + len(self._servers) - lingering
        if live < most and lingering < most_lingering:
            return False
        if live >= most * 5 // 4 or lingering >= most_lingering * 5 // 4:
            return True
        return message.method != "CANCEL" and not message.to_tag

    def is_merged(self, request: Message) -> bool:
        """Whether a request just received came here before, by another path, and is still being answered.

        Section 8.2.2.2: no To tag, and From tag, Call-ID and CSeq of a request that was not this one. The Request-URI
        has to be the same, too: one that comes back changed is a spiral, not a copy (section 16.3). The answer to a
        merged request is 482.
        """
        key = _original_key(request)
        original = None if key is None else self._originals.get(key)
        return original is not None and original.request is not request

    def is_looped(self, request: Message) -> bool:
        """Whether a request just received is one of ours that has come back as we sent it (section 16.3 step 4).

        One that comes back with another Request-URI is a spiral, and welcome: a PBX that is a proxy returns a call to
        another of its users in this way. The Via with our branch is still in it; its transaction has not ended as long
        as anybody can be going round.
        """
        if len(vias := request.values("Via")) < 2:
            return False
        method = request.method
        for text in vias[1:]:
            sent = self._clients.get((parse_via(text).branch, method))
            if sent is not None and sent.request.uri == request.uri:
                return True
        return False

    # What the user wants

    def new_via(self, flow: Flow) -> str:
        """A Via of ours with a branch of its own, for the ACK to a 2xx: it is in no transaction (section 13.2.2.4)."""
        return f"SIP/2.0/{flow.transport.upper()} {flow.sent_by};branch={MAGIC_COOKIE}{self._new_token()};rport"

    def request(self, message: Message, flow: Flow, now: float) -> tuple[ClientTransaction, list[Effect]]:
        """Send a request in a transaction of its own; our Via is put on top.

        Raises ValueError for ACK and CANCEL, which are none (see `new_via` and `cancel`).
        """
        method = message.method
        if method in ("ACK", "CANCEL"):
            raise ValueError(f"{method} is not sent in a transaction of its own")
        branch = MAGIC_COOKIE + self._new_token()
        message.prepend("Via", f"SIP/2.0/{flow.transport.upper()} {flow.sent_by};branch={branch};rport")
        cls = InviteClient if method == "INVITE" else NonInviteClient
        out: list[Effect] = []
        transaction = self._begin_client(cls(self, (branch, method), message, flow), now, out)
        return transaction, out

    def respond(self, transaction: ServerTransaction, message: Message, now: float) -> list[Effect]:
        """Send a response: provisional ones, one final one, and to an INVITE further 2xx until 64*T1 later.

        What comes too late for the transaction's state is not sent, and is no error: CANCEL, timers, answers cross.
        """
        out: list[Effect] = []
        transaction.handle(response_event(message.status), message, now, out)
        return out

    def drop(self, transaction: ServerTransaction) -> list[Effect]:
        """End a server transaction without a response: its request gets no answer, not even a 100."""
        out: list[Effect] = []
        transaction.abandon(out)
        return out

    def cancel(self, transaction: ClientTransaction, now: float, *, reason: str = "") -> list[Effect]:
        """Give up an INVITE: CANCEL, with `reason` as its Reason header, at once or at the first provisional response.

        The INVITE's final response still arrives, a 487 as a rule, sometimes a 200; 64*T1 after the CANCEL it counts as
        timed out. Nothing happens where there is a final response already, and with other methods.
        """
        out: list[Effect] = []
        if isinstance(transaction, InviteClient):
            transaction.cancel(reason, now, out)
        return out

    # What happens

    def advance(self, now: float) -> list[Effect]:
        """Do what is due."""
        out: list[Effect] = []
        while (due := self.wheel.pop_due(now)) is not None:
            transaction, timer = due
            transaction.fire(timer, now, out)
        # Only here: who has just heard of a final response may still look at the request it belongs to.
        for lingering in self._unsettled:
            if not lingering.ended:
                lingering.settle()
        self._unsettled.clear()
        return out

    def send_failed(self, transaction: ClientTransaction | ServerTransaction, now: float) -> list[Effect]:
        """A message of this transaction could not be sent (section 17.1.4, 17.2.4)."""
        out: list[Effect] = []
        transaction.handle(TRANSPORT_ERROR, None, now, out)
        return out

    def flow_failed(self, flow: Flow, now: float) -> list[Effect]:
        """A flow is gone, and with it all transactions on it."""
        out: list[Effect] = []
        if flow.reliable:
            failed = list(self._by_flow.get(flow, ()))
        else:
            failed = [transaction for transaction in self._all() if transaction.flow == flow]
        for transaction in failed:
            transaction.handle(TRANSPORT_ERROR, None, now, out)
        return out

    # What transactions ask of the layer

    def send_cancel(self, invite: InviteClient, reason: str, now: float, out: list[Effect]) -> None:
        """Send the CANCEL of an INVITE in a transaction that the user does not see. For transactions only."""
        cancel = NonInviteClient(self, (invite.key[0], "CANCEL"), invite.make_cancel(reason), invite.flow)
        cancel.internal = True
        self._begin_client(cancel, now, out)

    def note_lingering(self, transaction: Transaction) -> None:
        """Count a transaction as lingering from here on. For transactions only."""
        self._lingering += 1
        self._unsettled.append(transaction)

    def forget(self, transaction: Transaction) -> None:
        """Take an ended transaction out of all tables. For transactions only."""
        if transaction.lingers:
            self._lingering -= 1
        key = transaction.key
        if isinstance(transaction, ClientTransaction):
            self._clients.pop(key, None)
        else:
            self._servers.pop(key, None)
            if isinstance(transaction, ServerTransaction) and transaction.original is not None:
                del self._originals[transaction.original]
        flow = transaction.flow
        if flow.reliable:
            others = self._by_flow[flow]
            del others[transaction]
            if not others:
                del self._by_flow[flow]

    def _begin_client(
        self, transaction: InviteClient | NonInviteClient, now: float, out: list[Effect]
    ) -> InviteClient | NonInviteClient:
        self._clients[transaction.key] = transaction
        self._remember_flow(transaction)
        transaction.begin(now, out)
        return transaction

    def _remember_flow(self, transaction: Transaction) -> None:
        """Connections end all the time, by the thousand at once; UDP flows hardly ever, so those are searched for."""
        flow = transaction.flow
        if flow.reliable:
            self._by_flow.setdefault(flow, {})[transaction] = None

    def _all(self) -> list[Transaction]:
        return [*self._clients.values(), *self._servers.values()]


def _server_key(message: Message, flow: Flow, method: str) -> tuple[Any, ...]:
    """What requests of one transaction have in common (section 17.2.3).

    Beside branch and sent-by the address the request came from: a stranger who guessed a branch cannot end the call.
    """
    branch = message.branch
    if branch.startswith(MAGIC_COOKIE):
        return (branch, *message.sent_by, flow.remote[0], method)
    via, number = str(message.via), message.cseq.number
    return (None, via, message.uri, message.from_tag, message.call_id, number, flow.remote[0], method)


def _original_key(request: Message) -> tuple[Any, ...] | None:
    """What copies of one request have in common that took different paths; None where there is no telling."""
    try:
        if request.method == "CANCEL" or request.to_tag:
            return None
        return (request.from_tag, request.call_id, request.get("CSeq"), request.uri)
    except ParseError:
        return None


def _note_source(message: Message, flow: Flow) -> None:
    """Write the source into the top Via where it says something new (section 18.2.1, RFC 3581 section 4)."""
    host, port = flow.remote
    if message.sent_by[0] == host:
        via = message.via
        if via.param("rport") is None and via.param("received") is None:
            return
    message.stamp_via(host, port)
