"""Two transaction layers, a network that loses, doubles and reorders, and users who do as they please.

Whatever happens: no exception, every transition is one the tables name, each side is told what its peer decided or that
it will never know, and in the end nothing is left over.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from siperb_core.sip import Message, parse, response_to
from siperb_core.sip.transaction import (
    AckReceived,
    CancelReceived,
    ClientTransaction,
    Effect,
    RequestReceived,
    ResponseReceived,
    Send,
    ServerTransaction,
    StrayResponse,
    TimedOut,
    Transaction,
    TransactionEnded,
    TransportFailed,
)
from siperb_core.sip.transaction_client import InviteClient, NonInviteClient
from siperb_core.sip.transaction_layer import TransactionLayer
from siperb_core.sip.transaction_server import InviteServer, NonInviteServer

MACHINES = (InviteClient, NonInviteClient, InviteServer, NonInviteServer)


@attrs.frozen
class FakeFlow:
    transport: str
    reliable: bool
    remote: tuple[str, int]
    local: tuple[str, int]
    sent_by: str

    def send(self, data: bytes) -> None:
        raise AssertionError("the core does not send")


def flow(transport: str, here: str, there: str) -> FakeFlow:
    return FakeFlow(transport, transport != "udp", (there, 5060), (here, 5060), f"{here}:5060")


class Side:
    """One layer and its user, who keeps the rules of the user: acknowledges 2xx, answers what was cancelled."""

    def __init__(
        self, name: str, address: str, peer_address: str, carry: Callable[[Side, FakeFlow, bytes], None]
    ) -> None:
        tokens = itertools.count(1)
        self.layer = TransactionLayer(lambda: f"{name}{next(tokens)}")
        self.flows = {transport: flow(transport, address, peer_address) for transport in ("udp", "tcp")}
        self.carry = carry
        self.requests: list[ServerTransaction] = []
        self.outcomes: dict[ClientTransaction, list[str]] = {}
        self.ended: set[Transaction] = set()

    def perform(self, effects: list[Effect], now: float) -> None:
        for effect in effects:
            match effect:
                case Send(flow=path, message=message):
                    assert isinstance(path, FakeFlow)
                    self.carry(self, path, bytes(message))
                case RequestReceived(transaction=server):
                    assert server not in self.requests
                    self.requests.append(server)
                case CancelReceived(transaction=server, message=message):
                    assert message.method == "CANCEL"
                    self.perform(self.layer.respond(server, response_to(server.request, 487, to_tag="x"), now), now)
                case ResponseReceived(transaction=client, message=message):
                    assert client not in self.ended
                    assert message.get("Via") is None, "our own Via is taken off"
                    self.outcomes[client].append(str(message.status))
                    if client.method == "INVITE" and 200 <= message.status < 300:
                        self.acknowledge(client, message)
                case TimedOut(transaction=client) | TransportFailed(transaction=ClientTransaction() as client):
                    assert not client.internal
                    assert client.final
                    self.outcomes[client].append(type(effect).__name__)
                case TransactionEnded(transaction=transaction):
                    assert transaction not in self.ended, "once"
                    assert transaction.ended
                    self.ended.add(transaction)
                case TransportFailed() | AckReceived() | StrayResponse():
                    pass

    def acknowledge(self, client: ClientTransaction, response: Message) -> None:
        headers = [("Via", self.layer.new_via(client.flow)), ("From", response.get("From") or "")]
        headers += [("To", response.get("To") or ""), ("Call-ID", response.call_id)]
        ack = Message.request("ACK", client.request.uri, [*headers, ("CSeq", f"{response.cseq.number} ACK")])
        assert isinstance(client.flow, FakeFlow)
        self.carry(self, client.flow, bytes(ack))


class TwoLayers(RuleBasedStateMachine):
    transactions = Bundle("transactions")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.wire: list[tuple[Side, str, bytes]] = []
        self.calls = itertools.count(1)
        self.a = Side("a", "192.0.2.1", "192.0.2.2", self.carry)
        self.b = Side("b", "192.0.2.2", "192.0.2.1", self.carry)

    def carry(self, sender: Side, path: FakeFlow, data: bytes) -> None:
        self.wire.append((self.b if sender is self.a else self.a, path.transport, data))

    def side(self, name: str) -> Side:
        return self.a if name == "a" else self.b

    def deliver(self, index: int, *, keep: bool = False) -> None:
        receiver, transport, data = self.wire[index]
        if not keep:
            del self.wire[index]
        receiver.perform(receiver.layer.receive(parse(data), receiver.flows[transport], self.now), self.now)

    def pass_time(self, until: float) -> None:
        while True:
            deadlines = [side.layer.next_deadline for side in (self.a, self.b)]
            due = min((deadline for deadline in deadlines if deadline is not None), default=None)
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            for side in (self.a, self.b):
                side.perform(side.layer.advance(self.now), self.now)
        self.now = until

    @rule(
        target=transactions,
        name=st.sampled_from("ab"),
        method=st.sampled_from(["INVITE", "OPTIONS"]),
        transport=st.sampled_from(["udp", "udp", "tcp"]),
    )
    def request(self, name: str, method: str, transport: str) -> tuple[str, ClientTransaction]:
        side = self.side(name)
        headers = [("From", "<sip:x@h>;tag=f"), ("To", "<sip:y@h>"), ("Call-ID", f"c{next(self.calls)}")]
        message = Message.request(method, "sip:y@h", [*headers, ("CSeq", f"1 {method}")])
        transaction, effects = side.layer.request(message, side.flows[transport], self.now)
        side.outcomes[transaction] = []
        side.perform(effects, self.now)
        return name, transaction

    @rule(
        name=st.sampled_from("ab"),
        index=st.integers(0, 20),
        status=st.sampled_from([100, 180, 183, 200, 200, 302, 486, 503]),
    )
    def respond(self, name: str, index: int, status: int) -> None:
        side = self.side(name)
        if side.requests:
            server = side.requests[index % len(side.requests)]
            message = response_to(server.request, status, to_tag="x")
            side.perform(side.layer.respond(server, message, self.now), self.now)

    @rule(pair=transactions)
    def cancel(self, pair: tuple[str, ClientTransaction]) -> None:
        side = self.side(pair[0])
        side.perform(side.layer.cancel(pair[1], self.now, reason="SIP ;cause=200"), self.now)

    @rule(pair=consumes(transactions))
    def sending_fails(self, pair: tuple[str, ClientTransaction]) -> None:
        side = self.side(pair[0])
        side.perform(side.layer.send_failed(pair[1], self.now), self.now)

    @rule(name=st.sampled_from("ab"), transport=st.sampled_from(["udp", "tcp", "tcp"]))
    def a_flow_fails(self, name: str, transport: str) -> None:
        side = self.side(name)
        side.perform(side.layer.flow_failed(side.flows[transport], self.now), self.now)

    @rule(index=st.integers(0, 30), what=st.sampled_from(["deliver", "deliver", "deliver", "lose", "double"]))
    def the_network(self, index: int, what: str) -> None:
        if self.wire:
            index %= len(self.wire)
            if what == "lose" and self.wire[index][1] == "udp":
                del self.wire[index]
            else:
                self.deliver(index, keep=what == "double" and self.wire[index][1] == "udp")

    @rule()
    def all_arrives(self) -> None:
        for _ in range(200):
            if not self.wire:
                break
            self.deliver(0)

    @rule(seconds=st.sampled_from([0.1, 0.2, 0.5, 1.0, 4.0, 5.0, 31.9, 32.0, 180.0]))
    def time_passes(self, seconds: float) -> None:
        self.pass_time(self.now + seconds)

    @invariant()
    def tables_and_timers_agree(self) -> None:
        for side in (self.a, self.b):
            for outcome in side.outcomes.values():
                finals = [word for word in outcome if not word.startswith("1")]
                # One outcome; after it only a 2xx may still come, since somebody has answered.
                assert all(word == "200" for word in finals[1:]), outcome
            if len(side.layer) == 0:
                assert side.layer.next_deadline is None

    def teardown(self) -> None:
        for side in (self.a, self.b):
            for server in side.requests:
                side.perform(
                    side.layer.respond(server, response_to(server.request, 503, to_tag="x"), self.now), self.now
                )
        self.wire.clear()
        self.pass_time(self.now + 1000)
        for side in (self.a, self.b):
            assert len(side.layer) == 0, "stuck"
            assert side.layer.next_deadline is None
            assert not side.layer._by_flow
            assert not side.layer._originals
            assert len(side.layer.wheel) == 0
            for transaction, outcome in side.outcomes.items():
                assert transaction in side.ended
                assert any(not word.startswith("1") for word in outcome), "every request has an outcome"


TestTwoLayers = TwoLayers.TestCase


WAY_TO = {
    "Proceeding": ["1xx"],
    "Accepted": ["2xx"],
    "Completed": ["300-699"],
    "Confirmed": ["300-699", "ACK"],
}
RETRANSMISSION = {"timer A", "timer E", "timer G"}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("machine", MACHINES)
def test_the_tables_say_what_the_states_do(machine: type[Transaction], transport: str) -> None:
    """Every event in every state: what has an effect is listed, and what is listed has an effect.

    docs/explanation/state-machines.md is drawn from the tables. They are written for UDP; over a reliable flow nothing
    is sent again, and the states of `AT_ONCE` are passed through.
    """
    at_once = machine.AT_ONCE if transport == "tcp" else ()
    absent = RETRANSMISSION if transport == "tcp" else set()
    expected = {
        (state, event, "Terminated" if target in at_once else target)
        for state, event, target in machine.TRANSITIONS
        if state not in at_once and event not in absent
    }
    seen = set()
    for state in sorted({state for state, _, _ in expected}):
        for event in sorted({event for _, event, _ in machine.TRANSITIONS}):
            for way in (["cancel"], []), ([], ["1xx"]), ([], []):
                transaction = in_state(machine, state, transport, *way)
                before = (set(transaction._timers), getattr(transaction, "cancelled", False))
                out = happen(transaction, event)
                after = (set(transaction._timers), getattr(transaction, "cancelled", False))
                if out or transaction.state != state or before != after:
                    seen.add((state, event, transaction.state))
    assert seen == expected


def happen(transaction: Transaction, event: str) -> list[Effect]:
    """Let the transaction have an event; a timer that does not run is none."""
    out: list[Effect] = []
    if event == "cancel" and isinstance(transaction, InviteClient):
        transaction.cancel("", 100.0, out)
    elif not event.startswith("timer"):
        transaction.handle(event, message_for(transaction, event), 100.0, out)
    elif event in transaction._timers:
        transaction._layer.wheel.stop(transaction._timers[event])
        transaction.fire(event, 100.0, out)
    return out


def in_state(
    machine: type[Transaction], state: str, transport: str, before: list[str], after: list[str]
) -> Transaction:
    """A transaction that got there by events; some came `before` those, some `after` them that changed no state."""
    tokens = itertools.count()
    layer = TransactionLayer(lambda: f"t{next(tokens)}")
    path = flow(transport, "192.0.2.1", "192.0.2.2")
    method = "INVITE" if machine in (InviteClient, InviteServer) else "OPTIONS"
    headers = [("From", "<sip:x@h>;tag=f"), ("To", "<sip:y@h>"), ("Call-ID", "c"), ("CSeq", f"1 {method}")]
    transaction: Transaction
    if machine in (InviteClient, NonInviteClient):
        transaction, _ = layer.request(Message.request(method, "sip:y@h", headers), path, 0)
    else:
        via = ("Via", f"SIP/2.0/{transport.upper()} 192.0.2.2;branch=z9hG4bKx")
        (effect,) = layer.receive(Message.request(method, "sip:y@h", [via, *headers]), path, 0)
        assert isinstance(effect, RequestReceived)
        transaction = effect.transaction
    for event in [*before, *(WAY_TO[state] if transaction.state != state else [])]:
        happen(transaction, event)
    for event in after:
        if (state, event, state) in machine.TRANSITIONS:
            happen(transaction, event)
    assert transaction.state == state
    return transaction


def message_for(transaction: Transaction, event: str) -> Message:
    status = {"1xx": 180, "2xx": 200, "300-699": 486}.get(event)
    return transaction.request if status is None else response_to(transaction.request, status, to_tag="x")
