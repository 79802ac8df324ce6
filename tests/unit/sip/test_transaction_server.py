"""The server machines of RFC 3261 sections 17.2.1 and 17.2.2, second by second."""

from __future__ import annotations

import itertools

import attrs
import pytest

from siperb_core.sip import Message, parse, response_to
from siperb_core.sip.transaction import (
    AckReceived,
    CancelReceived,
    Effect,
    RequestReceived,
    Send,
    ServerTransaction,
    TransactionEnded,
    TransportFailed,
)
from siperb_core.sip.transaction_layer import TransactionLayer


@attrs.frozen
class FakeFlow:
    transport: str = "udp"
    reliable: bool = False
    remote: tuple[str, int] = ("192.0.2.2", 5060)
    local: tuple[str, int] = ("192.0.2.1", 5060)
    sent_by: str = "192.0.2.1:5060"

    def send(self, data: bytes) -> None:
        raise AssertionError("the core does not send")


UDP = FakeFlow()
TCP = FakeFlow("tcp", True)
VIA = "SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKa"


@pytest.fixture
def layer() -> TransactionLayer:
    tokens = itertools.count(1)
    return TransactionLayer(lambda: f"t{next(tokens)}")


def incoming(method: str = "INVITE", *, via: str = VIA, to_tag: str = "", uri: str = "sip:200@gw") -> Message:
    lines = [f"{method} {uri} SIP/2.0", f"Via: {via}", "Max-Forwards: 70", "From: <sip:100@pbx>;tag=a"]
    lines += ["To: <sip:200@gw>" + (f";tag={to_tag}" if to_tag else ""), "Call-ID: call-1", f"CSeq: 7 {method}"]
    return parse("\r\n".join([*lines, "Content-Length: 0", "", ""]).encode())


def open_(layer: TransactionLayer, message: Message, flow: FakeFlow = UDP, now: float = 0) -> ServerTransaction:
    (effect,) = layer.receive(message, flow, now)
    assert isinstance(effect, RequestReceived)
    assert effect.message is message
    return effect.transaction


def answer(layer: TransactionLayer, transaction: ServerTransaction, status: int, now: float) -> list[Effect]:
    return layer.respond(transaction, response_to(transaction.request, status, to_tag="b"), now)


def sends(effects: list[Effect]) -> list[int]:
    return [effect.message.status for effect in effects if isinstance(effect, Send)]


def kinds(effects: list[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


def run(layer: TransactionLayer, until: float) -> list[tuple[float, Effect]]:
    """All that happens by itself up to that moment, with the time at which it does."""
    seen: list[tuple[float, Effect]] = []
    while (deadline := layer.next_deadline) is not None and deadline <= until:
        seen += [(deadline, effect) for effect in layer.advance(deadline)]
    return seen


class TestInvite:
    def test_100_after_200_ms(self, layer: TransactionLayer) -> None:
        transaction = open_(layer, incoming())
        ((when, effect),) = run(layer, 100)
        assert when == 0.2
        assert isinstance(effect, Send)
        assert effect.message.status == 100
        assert effect.message.to_tag == ""
        assert effect.flow is UDP
        assert transaction.state == "Proceeding"

    def test_no_100_where_the_user_was_faster(self, layer: TransactionLayer) -> None:
        transaction = open_(layer, incoming())
        assert sends(answer(layer, transaction, 180, 0.1)) == [180]
        assert run(layer, 100) == []

    def test_a_retransmission_gets_the_latest_provisional(self, layer: TransactionLayer) -> None:
        transaction = open_(layer, incoming())
        assert layer.receive(incoming(), UDP, 0.1) == []
        layer.advance(0.2)
        assert sends(layer.receive(incoming(), UDP, 0.5)) == [100]
        answer(layer, transaction, 183, 1)
        assert sends(layer.receive(incoming(), UDP, 1.5)) == [183]

    def test_refusal_over_udp_until_acknowledged(self, layer: TransactionLayer) -> None:
        """Timer G: 0.5, 1, 2, then every 4 s; timer I: 5 s (section 17.2.1)."""
        transaction = open_(layer, incoming())
        assert sends(answer(layer, transaction, 486, 0.1)) == [486]
        assert transaction.final
        seen = run(layer, 8)
        assert [round(when - 0.1, 6) for when, _ in seen] == [0.5, 1.5, 3.5, 7.5]
        assert sends(layer.receive(incoming(), UDP, 8)) == [486]
        assert layer.receive(incoming("ACK", to_tag="b"), UDP, 8) == []
        assert transaction.state == "Confirmed"
        assert layer.receive(incoming("ACK", to_tag="b"), UDP, 8.1) == []
        assert layer.receive(incoming(), UDP, 8.2) == []
        assert [(when, type(effect)) for when, effect in run(layer, 100)] == [(13, TransactionEnded)]
        assert len(layer) == 0

    def test_refusal_never_acknowledged(self, layer: TransactionLayer) -> None:
        """Timer H: 32 s."""
        answer(layer, open_(layer, incoming()), 486, 0)
        seen = run(layer, 1000)
        retransmitted = [when for when, effect in seen if isinstance(effect, Send)]
        assert retransmitted == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
        assert [(when, type(effect)) for when, effect in seen[-1:]] == [(32, TransactionEnded)]

    def test_refusal_over_tcp(self, layer: TransactionLayer) -> None:
        answer(layer, open_(layer, incoming(), TCP), 486, 0)
        assert run(layer, 31) == []
        assert kinds(layer.receive(incoming("ACK", to_tag="b"), TCP, 31)) == [TransactionEnded]
        assert layer.next_deadline is None

    def test_accepted(self, layer: TransactionLayer) -> None:
        """RFC 6026 section 7.1: the INVITE is absorbed, further 2xx go out, timer L: 32 s."""
        transaction = open_(layer, incoming())
        assert sends(answer(layer, transaction, 200, 1)) == [200]
        assert transaction.state == "Accepted"
        assert layer.receive(incoming(), UDP, 1.5) == []
        assert sends(answer(layer, transaction, 200, 1.6)) == [200]
        assert answer(layer, transaction, 486, 1.7) == []
        assert answer(layer, transaction, 180, 1.7) == []
        (ack,) = layer.receive(incoming("ACK", to_tag="b"), UDP, 2)
        assert isinstance(ack, AckReceived)
        assert [(when, type(effect)) for when, effect in run(layer, 100)] == [(33, TransactionEnded)]

    def test_the_flow_closes(self, layer: TransactionLayer) -> None:
        waiting = open_(layer, incoming(), TCP)
        accepted = open_(layer, incoming(via="SIP/2.0/TCP h;branch=z9hG4bKb"), TCP)
        answer(layer, accepted, 200, 0)
        effects = layer.flow_failed(TCP, 1)
        assert [(type(effect), effect.transaction) for effect in effects if not isinstance(effect, Send)] == [  # type: ignore[union-attr]
            (TransportFailed, waiting),
            (TransactionEnded, waiting),
            (TransactionEnded, accepted),
        ]
        assert answer(layer, waiting, 486, 2) == []
        assert layer.next_deadline is None


class TestNonInvite:
    def test_answered_over_udp(self, layer: TransactionLayer) -> None:
        """Timer J: 32 s."""
        transaction = open_(layer, incoming("OPTIONS"))
        assert layer.receive(incoming("OPTIONS"), UDP, 0.5) == []
        assert sends(answer(layer, transaction, 100, 1)) == [100]
        assert sends(layer.receive(incoming("OPTIONS"), UDP, 1.5)) == [100]
        assert sends(answer(layer, transaction, 200, 2)) == [200]
        assert sends(layer.receive(incoming("OPTIONS"), UDP, 2.5)) == [200]
        assert answer(layer, transaction, 404, 2.6) == []
        assert [(when, type(effect)) for when, effect in run(layer, 100)] == [(34, TransactionEnded)]

    def test_answered_over_tcp(self, layer: TransactionLayer) -> None:
        transaction = open_(layer, incoming("OPTIONS"), TCP)
        assert kinds(answer(layer, transaction, 200, 2)) == [Send, TransactionEnded]
        assert len(layer) == 0
        assert layer.next_deadline is None

    def test_never_answered(self, layer: TransactionLayer) -> None:
        transaction = open_(layer, incoming("OPTIONS"))
        assert [(when, type(effect)) for when, effect in run(layer, 100)] == [(32, TransactionEnded)]
        assert answer(layer, transaction, 200, 40) == []


class TestCancel:
    def test_of_a_ringing_invite(self, layer: TransactionLayer) -> None:
        """Section 9.2: the layer answers the CANCEL, with the To tag of the INVITE's responses."""
        invite = open_(layer, incoming())
        answer(layer, invite, 180, 1)
        cancel = incoming("CANCEL")
        sent, received = layer.receive(cancel, UDP, 2)
        assert isinstance(sent, Send)
        assert (sent.message.status, sent.message.to_tag, str(sent.message.cseq)) == (200, "b", "7 CANCEL")
        assert isinstance(received, CancelReceived)
        assert received.transaction is invite
        assert received.message is cancel
        assert invite.cancelled
        assert sends(layer.receive(incoming("CANCEL"), UDP, 2.5)) == [200], "a retransmission"
        assert sends(answer(layer, invite, 487, 3)) == [487]
        layer.receive(incoming("ACK", to_tag="b"), UDP, 3)
        assert [type(effect) for _, effect in run(layer, 100)] == [TransactionEnded], "only the INVITE's is of interest"
        assert len(layer) == 0

    def test_of_nothing(self, layer: TransactionLayer) -> None:
        effects = layer.receive(incoming("CANCEL"), UDP, 0)
        assert sends(effects) == [481]
        assert kinds(effects) == [Send]

    def test_too_late(self, layer: TransactionLayer) -> None:
        invite = open_(layer, incoming())
        answer(layer, invite, 200, 1)
        effects = layer.receive(incoming("CANCEL"), UDP, 1.1)
        assert kinds(effects) == [Send]
        assert sends(effects) == [200]
        assert not invite.cancelled

    def test_the_200_may_still_win(self, layer: TransactionLayer) -> None:
        invite = open_(layer, incoming())
        layer.receive(incoming("CANCEL"), UDP, 1)
        assert sends(answer(layer, invite, 200, 1.1)) == [200]

    def test_from_another_address(self, layer: TransactionLayer) -> None:
        open_(layer, incoming())
        stranger = FakeFlow(remote=("203.0.113.1", 5060))
        assert sends(layer.receive(incoming("CANCEL"), stranger, 1)) == [481]

    def test_over_tcp_leaves_nothing(self, layer: TransactionLayer) -> None:
        layer.receive(incoming("CANCEL"), TCP, 0)
        assert len(layer) == 0


class TestMatching:
    @pytest.mark.parametrize(
        "via",
        [
            "SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKb",
            "SIP/2.0/UDP 192.0.2.3;branch=z9hG4bKa",
            VIA.replace("2;", "2:5062;"),
        ],
    )
    def test_branch_and_sent_by_make_the_transaction(self, layer: TransactionLayer, via: str) -> None:
        """Section 17.2.3."""
        assert open_(layer, incoming()) is not open_(layer, incoming(via=via))

    def test_an_ack_of_unknown_branch_belongs_to_a_dialog(self, layer: TransactionLayer) -> None:
        (effect,) = layer.receive(incoming("ACK", to_tag="b", via=VIA + "ck"), UDP, 0)
        assert isinstance(effect, AckReceived)
        assert effect.flow is UDP

    def test_an_ack_nothing_was_answered_to_is_dropped(self, layer: TransactionLayer) -> None:
        open_(layer, incoming())
        assert layer.receive(incoming("ACK"), UDP, 0) == []

    def test_without_a_branch(self, layer: TransactionLayer) -> None:
        """The rules for RFC 2543 peers."""
        via = "SIP/2.0/UDP 192.0.2.2"
        invite = open_(layer, incoming(via=via))
        assert layer.receive(incoming(via=via), UDP, 0.1) == []
        other = incoming(via=via)
        other.set("Call-ID", "call-2")
        open_(layer, other)
        assert kinds(layer.receive(incoming("CANCEL", via=via), UDP, 0.3)) == [Send, CancelReceived]
        answer(layer, invite, 487, 1)
        assert kinds(layer.receive(incoming("ACK", via=via, to_tag="x"), UDP, 1)) == [AckReceived]
        assert invite.state == "Completed"
        assert layer.receive(incoming("ACK", via=via, to_tag="b"), UDP, 1) == []
        assert invite.state == "Confirmed"

    def test_what_has_no_via_is_dropped(self, layer: TransactionLayer) -> None:
        message = incoming()
        message.remove("Via")
        assert layer.receive(message, UDP, 0) == []
        assert len(layer) == 0

    @pytest.mark.parametrize("header", ["From", "To", "Call-ID", "CSeq"])
    @pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "CANCEL"])
    def test_a_request_with_other_faults_can_be_answered(
        self, layer: TransactionLayer, method: str, header: str
    ) -> None:
        message = incoming(method)
        message.set(header, "<<<")
        if method == "CANCEL":
            assert sends(layer.receive(message, TCP, 0)) == [481]
        else:
            transaction = open_(layer, message, TCP)
            assert sends(answer(layer, transaction, 400, 0)) == [400]

    def test_merged_requests(self, layer: TransactionLayer) -> None:
        """Section 8.2.2.2, but a spiral is none: its Request-URI has changed."""
        first, copy = incoming(), incoming(via="SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKb")
        spiral = incoming(via="SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKc", uri="sip:300@gw")
        within = incoming(via="SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKd", to_tag="b")
        transaction = open_(layer, first, TCP)
        for message in (copy, spiral, within):
            open_(layer, message, TCP)
        assert [layer.is_merged(message) for message in (first, copy, spiral, within)] == [False, True, False, False]
        layer.send_failed(transaction, 1)
        assert not layer.is_merged(incoming(via="SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKe"))


class TestVia:
    @pytest.mark.parametrize(
        ("via", "noted"),
        [
            (VIA, VIA),
            (VIA + ";rport", VIA + ";rport=5060;received=192.0.2.2"),
            (VIA.replace("192.0.2.2", "x1.invalid"), VIA.replace("192.0.2.2", "x1.invalid") + ";received=192.0.2.2"),
            (VIA + ";received=6.6.6.6", VIA + ";received=192.0.2.2"),
        ],
    )
    def test_the_source_is_noted(self, layer: TransactionLayer, via: str, noted: str) -> None:
        """Section 18.2.1, RFC 3581 section 4."""
        transaction = open_(layer, incoming(via=f"{via}, SIP/2.0/TCP 10.0.0.1;branch=z9hG4bKx"))
        assert transaction.request.values("Via") == [noted, "SIP/2.0/TCP 10.0.0.1;branch=z9hG4bKx"]
        assert layer.receive(incoming(via=f"{via}, SIP/2.0/TCP 10.0.0.1;branch=z9hG4bKx"), UDP, 0.1) == []


class TestBound:
    def test_new_requests_beyond_it_get_503(self) -> None:
        tokens = itertools.count()
        layer = TransactionLayer(lambda: f"t{next(tokens)}", max_transactions=4, retry_after=7)
        first = open_(layer, incoming(via=VIA + "0"))
        for i in range(1, 4):
            open_(layer, incoming(via=VIA + str(i)))
        (refusal,) = layer.receive(incoming(via=VIA + "9"), UDP, 0)
        assert isinstance(refusal, Send)
        assert refusal.transaction is None
        assert refusal.message.status == 503
        assert refusal.message.get("Retry-After") == "7"
        assert refusal.message.to_tag
        assert layer.receive(incoming(via=VIA + "0"), UDP, 0) == [], "what is known goes on"
        assert kinds(layer.receive(incoming("CANCEL", via=VIA + "0"), UDP, 0)) == [Send, CancelReceived]
        open_(layer, incoming("BYE", via=VIA + "7", to_tag="b"))
        assert sends(layer.receive(incoming("BYE", via=VIA + "8", to_tag="b"), UDP, 0)) == [503], (
            "there is an end to it"
        )
        layer.send_failed(first, 1)
        open_(layer, incoming("BYE", via=VIA + "8", to_tag="b"))
        assert (len(layer), layer.lingering) == (6, 1), "the CANCEL is over and counted apart"

    def test_what_lingers_keeps_nobody_out(self) -> None:
        layer = TransactionLayer(lambda: "t", max_transactions=2)
        for i in range(12):
            answer(layer, open_(layer, incoming(via=f"{VIA}{i}")), 200 if i % 2 else 486, 0)
        assert (len(layer), layer.lingering) == (12, 12)
        assert sends(layer.receive(incoming(via=VIA + "x"), UDP, 1)) == [503], "there is an end to it, too"
        open_(layer, incoming("BYE", via=VIA + "y", to_tag="b"), now=1)
        run(layer, 40)
        assert layer.lingering == 0
        open_(layer, incoming(via=VIA + "x"), now=40)

    def test_a_flow_that_ends_takes_its_lingering_ones_along(self, layer: TransactionLayer) -> None:
        transaction = open_(layer, incoming(), TCP)
        answer(layer, transaction, 200, 0)
        assert layer.lingering == 1
        layer.flow_failed(TCP, 1)
        assert (len(layer), layer.lingering) == (0, 0)


class TestLingering:
    """Over for its user, a transaction keeps what late copies of messages need, and nothing else."""

    def linger(self, layer: TransactionLayer, message: Message, status: int) -> ServerTransaction:
        transaction = open_(layer, message)
        transaction.context = object()
        answer(layer, transaction, status, 0)
        assert transaction.request is message, "its user may still look at it"
        layer.advance(0.1)
        assert transaction.request.items() == []
        assert (transaction.request.method, transaction.request.uri) == (message.method, message.uri)
        assert transaction.context is None
        return transaction

    def test_a_late_request_gets_its_response_again(self, layer: TransactionLayer) -> None:
        self.linger(layer, incoming("BYE", to_tag="b"), 481)
        (effect,) = layer.receive(incoming("BYE", to_tag="b"), UDP, 1)
        assert isinstance(effect, Send)
        assert (effect.message.status, effect.message.get("Call-ID")) == (481, "call-1")

    def test_a_refusal_is_repeated_until_its_ack(self, layer: TransactionLayer) -> None:
        transaction = self.linger(layer, incoming(), 486)
        (effect,) = layer.receive(incoming(), UDP, 0.2)
        assert isinstance(effect, Send)
        assert (effect.message.status, effect.message.get("Via")) == (486, VIA)
        assert layer.receive(incoming("ACK", to_tag="b"), UDP, 0.3) == []
        assert transaction.state == "Confirmed"

    def test_an_accepted_invite_is_absorbed_and_its_cancel_answered_with_its_tag(self, layer: TransactionLayer) -> None:
        self.linger(layer, incoming(), 200)
        assert layer.receive(incoming(), UDP, 1) == []
        assert kinds(layer.receive(incoming("ACK", to_tag="b"), UDP, 1)) == [AckReceived]
        (effect,) = layer.receive(incoming("CANCEL"), UDP, 1)
        assert isinstance(effect, Send)
        assert (effect.message.status, effect.message.to_tag) == (200, "b")

    def test_a_copy_by_another_path_is_still_known(self, layer: TransactionLayer) -> None:
        self.linger(layer, incoming(), 200)
        copy = incoming(via=VIA + "other")
        open_(layer, copy)
        assert layer.is_merged(copy)
