"""A gateway's call layer between fake flows: what goes in is SIP, what comes out is SIP, and time is virtual."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs
import trio

from siperb_core.calls import CallMedia, Calls
from siperb_core.calls.policy import MediaPolicy, media_policy
from siperb_core.calls.record import CallRecord
from siperb_core.entries.contract import Claim, Credentials, OutboundCall, OutboundLeg, Refusal, Source, Target
from siperb_core.entries.decisions import CallAttempt, MediaEndpoint
from siperb_core.entries.live import LoadedConnection
from siperb_core.entries.model import Entry
from siperb_core.events import CallEvent
from siperb_core.signalling import Signalling
from siperb_core.sip import Flow, Message, ParseError, parse, response_to
from siperb_core.sip.dialog import Leg
from siperb_core.sip.registrar import Binding
from siperb_core.sip.transaction import ServerTransaction
from siperb_core.targets import Ways


class FakeFlow:
    """A flow whose far end is the test."""

    def __init__(self, transport: str, remote: tuple[str, int]) -> None:
        self.transport = transport
        self.reliable = transport != "udp"
        self.remote = remote
        self.local = ("192.0.2.1", 5060)
        self.sent_by = "192.0.2.1:5060"
        self.sent: deque[Message] = deque()
        self.dead = False

    def send(self, data: bytes) -> None:
        if self.dead:
            raise OSError("flow is dead")
        self.sent.append(parse(data))

    def next(self) -> Message:
        """The next message the gateway sent here."""
        return self.sent.popleft()

    def next_of(self, what: str | int) -> Message:
        """The next of a method or a status, others before it passed over."""
        while True:
            message = self.next()
            if what in (message.method, message.status):
                return message


@attrs.define
class FakeConnection:
    """A connection with a fixed way out."""

    flow: FakeFlow
    credentials: Credentials | None = None
    refusal: Refusal | None = None

    def outbound_leg(self, call: OutboundCall) -> OutboundLeg | Refusal:
        return self.refusal or OutboundLeg(
            target=Target("pbx.example", flow=self.flow),
            request_uri=f"sip:{call.number}@pbx.example",
            from_uri="sip:200@pbx.example",
            to_uri=f"sip:{call.number}@pbx.example",
        )

    def claims(self, request: Message, source: Source) -> Claim | None:
        return None

    def answer(self, request: Message, source: Source) -> Message | None:
        return None


class World:
    """The call layer's host, and its request user."""

    domain = "gw.example"

    def __init__(self) -> None:
        self.signalling = Signalling()
        self.signalling.user = self
        self.sources = self
        self.calls = Calls(self)
        self.candidates: list[LoadedConnection] = []
        self.bindings: list[Binding] = []
        self.entry = Entry("office", "fake")
        self.events: list[CallEvent] = []
        self.attempts: list[CallAttempt] = []
        self.saved: dict[str, Mapping[str, Any]] = {}
        self.records: list[CallRecord] = []
        self.failed_emergencies: list[tuple[str, str]] = []
        self.reachable: dict[tuple[str, str, int], FakeFlow] = {}
        self.dead: set[Flow] = set()
        self.ways: dict[str, list[FakeFlow]] = {}
        self.aside: list[tuple[Flow, float | None]] = []
        self.strangers: set[Flow] = set()
        self.media: Callable[[Entry, str, Flow, Flow], CallMedia | None] = lambda *_: None

    async def run(self) -> None:
        """What runs beside the calls: the timers of transactions, and every few seconds those of calls."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.signalling.run_timers)
            while True:
                await trio.sleep(5)
                self.calls.expire()

    def connect(
        self,
        name: str,
        flow: FakeFlow,
        *,
        failover: bool = False,
        redirects: Literal["pass", "follow"] = "pass",
        **more: Any,
    ) -> None:
        entry = Entry(name, "fake", failover=failover, redirects=redirects)
        self.candidates.append(LoadedConnection(entry, None, FakeConnection(flow, **more)))  # type: ignore[arg-type]

    def bind(self, device: str, flow: FakeFlow) -> None:
        self.bindings.append(
            Binding(
                aor=device,
                contact=f"sip:{device}@abc.invalid;transport=ws",
                instance="",
                reg_id="",
                call_id="x",
                cseq=1,
                expires_at=1e12,
                flow=flow,
                user_agent="",
                path=(),
                registered_at=0,
            )
        )

    # RequestUser

    def on_request(self, transaction: ServerTransaction, request: Message) -> None:
        try:
            if request.to_tag:
                device = request.from_.parsed_uri.user or "" if transaction.flow.transport == "ws" else ""
                if not self.calls.on_request(transaction, request, device=device):
                    self.signalling.refuse(transaction, 481)
            elif transaction.flow.transport == "ws":
                device = request.from_.parsed_uri.user or ""
                self.calls.outbound(transaction, self.candidates, user="alice", device=device)
            else:
                self.calls.inbound(transaction, self.entry, lambda: self.bindings, "alice")
        except ParseError as error:
            self.signalling.refuse(transaction, error.status, error.reason)

    def on_ack(self, request: Message, flow: Flow) -> None:
        self.calls.on_ack(request, flow)

    def on_stray_response(self, response: Message, flow: Flow) -> None:
        self.calls.strays.on_response(response, flow)

    def on_flow_closed(self, flow: Flow, reason: str) -> None:
        """The transactions on it have failed already; there is nothing else here that a flow carries."""

    # Choices

    @property
    def choices(self) -> World:
        return self

    def admit(self, call: CallAttempt, then: Callable[[Refusal | None], None]) -> None:
        self.attempts.append(call)
        then(None)

    def ring(self, call: CallAttempt) -> list[Binding] | Refusal:
        self.attempts.append(call)
        return self.bindings

    def connections(self, number: str, user: str, method: str) -> list[LoadedConnection]:
        return [item for item in self.candidates if item.entry.name == number]

    def answer(self, connection: str, endpoint: MediaEndpoint, fault: Callable[[str], None]) -> Flow | None:
        return None

    def media_policy(self, entry: Entry, transport: str, peer_offer: bytes, call: CallAttempt) -> MediaPolicy:
        return media_policy(entry, transport, peer_offer)

    # CallHost

    def flows_to(self, target: Target, then: Callable[[Ways], None]) -> None:
        flows = self.ways.get(target.host) or [target.flow]
        then(Ways([lambda flow=flow: flow for flow in flows]))  # type: ignore[misc]

    def put_aside(self, flow: Flow, seconds: float | None = None) -> None:
        self.aside.append((flow, seconds))

    def is_peer(self, flow: Flow) -> bool:
        return flow not in self.strangers

    def tls_of(self, leg: Leg) -> tuple[str, str, bool] | None:
        return leg.tls

    def credentials(self, connection: str) -> Credentials | None:
        return next((item.connection.credentials for item in self.candidates if item.entry.name == connection), None)

    def leg_flow(self, leg: Leg, connection: str) -> Flow | None:
        if leg.flow is None and leg.address is not None:
            return self.reachable.get(leg.address)
        return None if leg.flow in self.dead else leg.flow

    def comes_from(self, flow: Flow, leg: Leg, connection: str) -> bool:
        known = leg.flow.remote if leg.flow is not None else leg.address and leg.address[1:]
        return flow == leg.flow or (flow.remote[0] == (known and known[0]) and flow not in self.strangers)

    def instance_on(self, flow: Flow) -> str:
        return next((binding.instance for binding in self.bindings if binding.flow == flow), "")

    def any_flow(self, leg: Leg) -> Flow | None:
        return next((binding.flow for binding in self.bindings if binding.aor == leg.device), None)

    def contact(self, token: str, flow: Flow) -> str:
        return f"<sip:{token}@{flow.sent_by}{'' if flow.transport == 'udp' else f';transport={flow.transport}'}>"

    def open_media(self, entry: Entry, call_id: str, client: Flow, peer: Flow, policy: MediaPolicy) -> CallMedia | None:
        return self.media(entry, call_id, client, peer)

    def save_dialog(self, token: str, data: dict[str, Any], then: Callable[[], None]) -> None:
        self.saved[token] = data
        then()

    def forget_dialog(self, token: str) -> None:
        self.saved.pop(token, None)

    def keep_record(self, record: CallRecord) -> None:
        self.records.append(record)

    def emergency_failed(self, number: str, user: str) -> None:
        self.failed_emergencies.append((number, user))

    def announce(self, event: CallEvent) -> None:
        self.events.append(event)

    def now(self) -> float:
        return trio.current_time()


class EndPoint:
    """A user agent written out by hand: it knows only its own dialog."""

    def __init__(self, world: World, flow: FakeFlow, user: str) -> None:
        self.world = world
        self.flow = flow
        self.contact = f"<sip:{user}@{user}.invalid;transport={flow.transport}>"
        self.uri = f"sip:{user}@gw.example"
        self.tag = f"tag-{user}"
        self.remote = ""  # From/To of the other side with its tag
        self.local = f"<{self.uri}>;tag={self.tag}"
        self.target = ""
        self.call_id = f"call-{user}"
        self.cseq = 1
        self._branch = 0

    def deliver(self, message: Message) -> None:
        self.world.signalling.received(bytes(message), self.flow)

    def request(self, method: str, *headers: tuple[str, str], body: bytes = b"", cseq: int | None = None) -> Message:
        """A request of this end; `cseq` for ACK and CANCEL, which repeat one."""
        self._branch += 1
        if cseq is None:
            self.cseq += 1
        protocol = f"SIP/2.0/{self.flow.transport.upper()}"
        message = Message.request(
            method,
            self.target,
            [
                ("Via", f"{protocol} {self.flow.remote[0]};branch=z9hG4bK{self.tag}{self._branch}"),
                ("Max-Forwards", "70"),
                ("From", self.local),
                ("To", self.remote),
                ("Call-ID", self.call_id),
                ("CSeq", f"{cseq or self.cseq} {method}"),
                *([] if method in ("BYE", "CANCEL") else [("Contact", self.contact)]),
                *headers,
            ],
            body,
        )
        self.deliver(message)
        return message

    def invite(self, number: str, *headers: tuple[str, str], body: bytes = b"", method: str = "INVITE") -> Message:
        """Open a dialog."""
        self.target = f"sip:{number}@gw.example"
        self.remote = f"<{self.target}>"
        return self.request(method, *headers, body=body)

    def respond(self, request: Message, status: int, *headers: tuple[str, str], body: bytes = b"") -> Message:
        """Answer a request the gateway sent here."""
        extra = [("Contact", self.contact), *headers]
        message = response_to(request, status, to_tag=self.tag, headers=extra, body=body)
        if status < 300 and request.contacts:
            self.target = request.contacts[0].uri
            self.local, self.remote = message.get("To") or "", request.get("From") or ""
            self.call_id = request.call_id
        self.deliver(message)
        return message

    def learn(self, response: Message) -> Message:
        """Take the dialog from a response to `invite`."""
        self.remote = response.get("To") or ""
        if response.contacts:
            self.target = response.contacts[0].uri
        return response


def established(world: World, phone: EndPoint, pbx: EndPoint, *headers: tuple[str, str]) -> None:
    """A call from the phone, answered (with these headers) and acknowledged."""
    world.connect("office", pbx.flow, credentials=Credentials("200", "pw"))
    phone.invite("600")
    pbx.respond(pbx.flow.next_of("INVITE"), 200, *headers)
    phone.learn(phone.flow.next_of(200))
    phone.request("ACK", cseq=phone.cseq)
    pbx.flow.next_of("ACK")
