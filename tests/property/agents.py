"""User agents for properties of the call layer: transactions by the book, dialogs by the book, wishes from outside."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import attrs

from siperb_core.sip import Message, response_to
from siperb_core.sip.transaction import (
    AckReceived,
    CancelReceived,
    ClientTransaction,
    Effect,
    RequestReceived,
    ResponseReceived,
    Send,
    ServerTransaction,
    TimedOut,
    TransportFailed,
)
from siperb_core.sip.transaction_layer import TransactionLayer

SENT_AGAIN = 0.5
"""Seconds after which a 2xx goes out again, doubled every time up to 4 (RFC 3261 section 13.3.1.4)."""


class Path:
    """One end of a flow; `carry` takes what is sent."""

    def __init__(self, transport: str, here: str, there: str, carry: Callable[[bytes], None]) -> None:
        self.transport = transport
        self.reliable = transport != "udp"
        self.remote = (there, 5060)
        self.local = (here, 5060)
        self.sent_by = f"{here}:5060"
        self.dead = False
        self._carry = carry

    def send(self, data: bytes) -> None:
        if self.dead:
            raise OSError("flow is dead")
        self._carry(data)


@attrs.define(eq=False)
class AgentDialog:
    """A dialog as one agent has it."""

    call_id: str
    local: str
    remote: str
    tags: tuple[str, str]  # own, other
    target: str
    routes: list[str]
    cseq: int
    confirmed: bool = False
    ended: bool = False
    inviting: bool = False

    @property
    def key(self) -> tuple[str, frozenset[str]]:
        """What both ends call it."""
        return self.call_id, frozenset(self.tags)


@attrs.define(eq=False)
class Answer:
    """A 2xx to an INVITE whose ACK has not come."""

    server: ServerTransaction
    response: Message
    dialog: AgentDialog
    due: float
    interval: float
    until: float


class Agent:
    """A softphone or a PBX. It answers of itself what a user agent has to, and the rest when it is told to."""

    def __init__(self, name: str, transport: str, address: str, carry: Callable[[bytes], None]) -> None:
        self.name = name
        self._tokens = itertools.count(1)
        self.layer = TransactionLayer(lambda: f"{name}{next(self._tokens)}")
        self.path = Path(transport, address, "192.0.2.1", carry)
        self.flow: Path
        """The gateway's end."""
        self.contact = f"<sip:{name}@{address};transport={transport}>"
        self.dialogs: dict[tuple[str, str, str], AgentDialog] = {}
        self.ringing: list[ServerTransaction] = []
        self.calling: dict[ClientTransaction, list[AgentDialog]] = {}
        self.cancelled: set[ClientTransaction] = set()
        self.answers: list[Answer] = []
        self.known: set[str] = set()
        """Call-IDs of what this agent has been in."""
        self.byes: set[tuple[str, frozenset[str]]] = set()
        """Dialogs whose BYE came in."""
        self.subscriptions: dict[tuple[str, str, str], AgentDialog] = {}
        """What this agent watches, and what it is watched in."""
        self.subscribing: dict[ClientTransaction, bool] = {}
        """SUBSCRIBEs and REFERs of its own, and whether their 2xx has come."""
        self.asked: set[str] = set()
        """Call-IDs of these."""
        self.acknowledged = 0
        """PRACKs that came in."""
        self.gone = False

    # ---- wishes

    def invite(self, uri: str, sender: str, now: float) -> None:
        """Call somebody."""
        number = next(self._tokens)
        call_id = f"{self.name}-call-{number}"
        self.known.add(call_id)
        headers = [("From", f"<{sender}>;tag={self.name}t{number}"), ("To", f"<{uri}>"), ("Call-ID", call_id)]
        headers += [("CSeq", "1 INVITE"), ("Max-Forwards", "70"), ("Contact", self.contact)]
        self.calling[self._request(Message.request("INVITE", uri, headers), now)] = []

    def ask(self, method: str, uri: str, sender: str, now: float) -> None:
        """SUBSCRIBE, REFER or NOTIFY, outside any dialog."""
        number = next(self._tokens)
        call_id = f"{self.name}-ask-{number}"
        self.known.add(call_id)
        headers = [("From", f"<{sender}>;tag={self.name}t{number}"), ("To", f"<{uri}>"), ("Call-ID", call_id)]
        headers += [
            ("CSeq", f"1 {method}"),
            ("Max-Forwards", "70"),
            ("Contact", self.contact),
            *_about(method, "active"),
        ]
        client = self._request(Message.request(method, uri, headers), now)
        if method != "NOTIFY":
            self.subscribing[client] = False
            self.asked.add(call_id)

    def cancel(self, client: ClientTransaction, now: float) -> None:
        """Give a call up."""
        self.cancelled.add(client)
        self._perform(self.layer.cancel(client, now), now)

    def answer(self, server: ServerTransaction, status: int, fork: int, now: float, *, reliably: bool = False) -> None:
        """Answer a call, as one of the ends behind this agent; a provisional response `reliably` wants a PRACK."""
        if server.final:
            return
        tag = f"{self.name}-end{fork}"
        response = response_to(server.request, status, to_tag=tag, headers=[("Contact", self.contact)])
        if reliably and 100 < status < 200:
            response.add("Require", "100rel")
            response.add("RSeq", f"{next(self._tokens)}")
        if 200 <= status < 300:
            self.ringing.remove(server)
            self._accept(server, response, self._callee_dialog(server.request, response, tag), now)
        elif status >= 300:
            self.ringing.remove(server)
        self._perform(self.layer.respond(server, response, now), now)

    def say(self, dialog: AgentDialog, method: str, now: float) -> None:
        """A request in a dialog."""
        if method == "INVITE" and (dialog.inviting or not dialog.confirmed):
            return
        if method == "BYE":
            dialog.ended = True
        dialog.inviting = dialog.inviting or method == "INVITE"
        client = self._request(self._in_dialog(dialog, method), now)
        client.context = dialog
        if method == "INVITE":
            self.calling[client] = [dialog]

    def says_in_subscription(self, dialog: AgentDialog, method: str, state: str, now: float) -> None:
        """A NOTIFY with a state, or a SUBSCRIBE that lengthens (`active`) or ends."""
        client = self._request(self._in_dialog(dialog, method, None, *_about(method, state)), now)
        client.context = dialog
        dialog.ended = dialog.ended or (state == "terminated" and method == "NOTIFY")

    def watched(self) -> list[AgentDialog]:
        """Subscriptions that are not over, either side's."""
        return [dialog for dialog in self.subscriptions.values() if not dialog.ended]

    def alive(self) -> list[AgentDialog]:
        """Dialogs that are confirmed and not over."""
        return [dialog for dialog in self.dialogs.values() if dialog.confirmed and not dialog.ended]

    # ---- time

    @property
    def next_deadline(self) -> float | None:
        """When something is due."""
        times = [answer.due for answer in self.answers]
        if self.layer.next_deadline is not None:
            times.append(self.layer.next_deadline)
        return min(times, default=None)

    def advance(self, now: float) -> None:
        """Do what is due."""
        self._perform(self.layer.advance(now), now)
        for answer in list(self.answers):
            if answer.dialog.ended:
                self.answers.remove(answer)
            elif answer.until <= now:
                self.answers.remove(answer)
                self.say(answer.dialog, "BYE", now)
            elif answer.due <= now:
                answer.interval = min(answer.interval * 2, 4)
                answer.due = now + answer.interval
                self._perform(self.layer.respond(answer.server, answer.response.copy(), now), now)

    # ---- what comes in

    def receive(self, message: Message, now: float) -> None:
        """A message of the gateway."""
        self._perform(self.layer.receive(message, self.path, now), now)

    def _perform(self, effects: list[Effect], now: float) -> None:
        for effect in effects:
            match effect:
                case Send(message=message):
                    if not self.gone:
                        self.path.send(bytes(message))
                case RequestReceived(transaction=server):
                    self._on_request(server, now)
                case CancelReceived(transaction=server):
                    if server in self.ringing:
                        self.answer(server, 487, 1, now)
                case AckReceived(message=message):
                    self._on_ack(message)
                case ResponseReceived(transaction=client, message=message):
                    self._on_response(client, message, now)
                case TimedOut(transaction=client) | TransportFailed(transaction=ClientTransaction() as client):
                    self._on_response(client, response_to(client.request, 408), now)
                case _:
                    pass

    def _on_request(self, server: ServerTransaction, now: float) -> None:
        request = server.request
        self.known.add(request.call_id)
        dialog = self.dialogs.get((request.call_id, request.to_tag, request.from_tag))
        if not request.to_tag and request.method == "INVITE":
            self.ringing.append(server)
            return
        if self._is_about_subscription(server, now):
            return
        status = 200
        if request.method == "PRACK":
            invite = next((of.request for of in self.ringing if of.request.call_id == request.call_id), None)
            if invite is not None:
                assert (request.get("RAck") or "").split()[1:] == [f"{invite.cseq.number}", "INVITE"]
                self.acknowledged += 1
        if request.to_tag:
            if request.method == "BYE":
                self.byes.add((request.call_id, frozenset((request.to_tag, request.from_tag))))
            early = next((server for server in self.ringing if server.request.call_id == request.call_id), None)
            if early is not None:
                if request.method == "BYE":
                    self.answer(early, 487, 1, now)
            elif dialog is None or (dialog.ended and request.method != "BYE"):
                status = 481
            elif request.method == "BYE":
                dialog.ended = True
            elif request.method == "INVITE" and dialog.inviting:
                status = 491
        response = response_to(request, status, to_tag=f"{self.name}-any", headers=[("Contact", self.contact)])
        if request.method == "INVITE" and status == 200:
            assert dialog is not None
            self._accept(server, response, dialog, now)
        self._perform(self.layer.respond(server, response, now), now)

    def _is_about_subscription(self, server: ServerTransaction, now: float) -> bool:
        request, method = server.request, server.request.method
        dialog = self.subscriptions.get((request.call_id, request.to_tag, request.from_tag))
        headers = [("Contact", self.contact), *([("Expires", "60")] if method == "SUBSCRIBE" else [])]
        if not request.to_tag and method in ("SUBSCRIBE", "REFER"):
            tag = f"{self.name}-sub{next(self._tokens)}"
            response = response_to(request, 202, to_tag=tag, headers=headers)
            self.subscriptions[request.call_id, tag, request.from_tag] = dialog = AgentDialog(
                request.call_id, response.get("To") or "", request.get("From") or "", (tag, request.from_tag),
                request.contacts[0].uri, request.values("Record-Route"), 1000, confirmed=True,
            )  # fmt: skip
            early = len(self.subscriptions) % 2  # a NOTIFY may come before the 2xx (RFC 6665 section 4.4.1)
            if early:
                self.says_in_subscription(dialog, "NOTIFY", "active", now)
            self._perform(self.layer.respond(server, response, now), now)
            if not early:
                self.says_in_subscription(dialog, "NOTIFY", "active", now)
            return True
        mine = request.call_id in self.asked
        if dialog is None and mine and method == "NOTIFY":
            dialog = self._subscriber_dialog(
                request.call_id, request.get("To") or "", request.get("From") or "", request
            )
        if dialog is None:
            return False
        status = 481 if dialog.ended else 200
        dialog.ended = dialog.ended or "terminated" in (request.get("Subscription-State") or "")
        self._perform(self.layer.respond(server, response_to(request, status, headers=headers), now), now)
        if method == "SUBSCRIBE" and status == 200 and request.get("Expires") == "0":
            self.says_in_subscription(dialog, "NOTIFY", "terminated", now)
        return True

    def _subscriber_dialog(self, call_id: str, local: str, remote: str, message: Message) -> AgentDialog:
        tags = (message.to_tag, message.from_tag) if message.is_request else (message.from_tag, message.to_tag)
        routes = message.values("Record-Route")
        if not message.is_request:
            routes.reverse()
        dialog = AgentDialog(call_id, local, remote, tags, message.contacts[0].uri, routes, 1, confirmed=True)
        return self.subscriptions.setdefault((call_id, *tags), dialog)

    def _on_ack(self, request: Message) -> None:
        for answer in list(self.answers):
            of = answer.server.request
            same = (of.call_id, of.cseq.number) == (request.call_id, request.cseq.number)
            if same and answer.dialog.tags[0] == request.to_tag:
                answer.dialog.confirmed = True
                self.answers.remove(answer)

    def _on_response(self, client: ClientTransaction, response: Message, now: float) -> None:
        if client in self.subscribing:
            if 200 <= response.status < 300 and not self.subscribing[client]:
                self.subscribing[client] = True
                local, remote = response.get("From") or "", response.get("To") or ""
                self._subscriber_dialog(response.call_id, local, remote, response)
            return
        if client.request.method in ("NOTIFY", "SUBSCRIBE") and response.status in (408, 481):
            dialog = client.context
            if isinstance(dialog, AgentDialog) and dialog in self.subscriptions.values():
                dialog.ended = True
        if client not in self.calling or response.status < 101:
            return
        known = self.calling[client]
        first = client.context
        if first is not None:  # a re-INVITE
            assert isinstance(first, AgentDialog)
            if response.status >= 200:
                first.inviting = False
            if 200 <= response.status < 300:
                self._acknowledge(first, client.request.cseq.number)
            elif response.status in (408, 481) and not first.ended:
                self.say(first, "BYE", now)
            return
        if response.status >= 300 or not response.to_tag:
            return
        key = (response.call_id, response.from_tag, response.to_tag)
        dialog = self.dialogs.get(key)
        if dialog is None:
            dialog = self.dialogs[key] = AgentDialog(
                response.call_id,
                response.get("From") or "",
                response.get("To") or "",
                (response.from_tag, response.to_tag),
                response.contacts[0].uri,
                list(reversed(response.values("Record-Route"))),
                client.request.cseq.number,
            )
            known.append(dialog)
        if response.status < 200:
            rseq = response.get("RSeq")
            if rseq is not None and not dialog.ended and not dialog.confirmed and client not in self.cancelled:
                rack = ("RAck", f"{rseq} {client.request.cseq.number} INVITE")
                self._request(self._in_dialog(dialog, "PRACK", None, rack), now)
            return
        dialog.target = response.contacts[0].uri
        unwanted = client in self.cancelled or any(other.confirmed for other in known if other is not dialog)
        dialog.confirmed = True
        self._acknowledge(dialog, client.request.cseq.number)
        if unwanted or dialog.ended:  # by a BYE in the early dialog, which this answer has crossed
            self.say(dialog, "BYE", now)

    # ---- messages

    def _request(self, message: Message, now: float) -> ClientTransaction:
        client, effects = self.layer.request(message, self.path, now)
        self._perform(effects, now)
        return client

    def _in_dialog(self, dialog: AgentDialog, method: str, cseq: int | None = None, *more: tuple[str, str]) -> Message:
        if cseq is None:
            dialog.cseq += 1
        headers = [("Route", route) for route in dialog.routes]
        headers += [("From", dialog.local), ("To", dialog.remote), ("Call-ID", dialog.call_id)]
        headers += [("CSeq", f"{cseq or dialog.cseq} {method}"), ("Max-Forwards", "70"), ("Contact", self.contact)]
        return Message.request(method, dialog.target, [*headers, *more])

    def _acknowledge(self, dialog: AgentDialog, cseq: int) -> None:
        ack = self._in_dialog(dialog, "ACK", cseq)
        ack.prepend("Via", self.layer.new_via(self.path))
        if not self.gone:
            self.path.send(bytes(ack))

    def _callee_dialog(self, request: Message, response: Message, tag: str) -> AgentDialog:
        key = (request.call_id, tag, request.from_tag)
        dialog = AgentDialog(
            request.call_id,
            response.get("To") or "",
            request.get("From") or "",
            (tag, request.from_tag),
            request.contacts[0].uri,
            request.values("Record-Route"),
            1000,
        )
        self.dialogs[key] = dialog
        return dialog

    def _accept(self, server: ServerTransaction, response: Message, dialog: AgentDialog, now: float) -> None:
        self.answers.append(Answer(server, response.copy(), dialog, now + SENT_AGAIN, SENT_AGAIN, now + 32))


def _about(method: str, state: str) -> list[tuple[str, str]]:
    """The headers of a request about a subscription of a minute."""
    match method:
        case "REFER":
            return [("Refer-To", "<sip:603@gw.example>")]
        case "SUBSCRIBE":
            return [("Event", "presence"), ("Expires", "60" if state == "active" else "0")]
    return [("Event", "presence"), ("Subscription-State", "active;expires=60" if state == "active" else state)]
