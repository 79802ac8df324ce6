"""The client machines of RFC 3261 sections 17.1.1 and 17.1.2, second by second."""

from __future__ import annotations

import itertools

import attrs
import pytest

from siperb_core.sip import Message, parse
from siperb_core.sip.transaction import (
    ClientTransaction,
    Effect,
    ResponseReceived,
    Send,
    StrayResponse,
    TimedOut,
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


@pytest.fixture
def layer() -> TransactionLayer:
    tokens = itertools.count(1)
    return TransactionLayer(lambda: f"t{next(tokens)}")


def make_request(method: str = "INVITE", *headers: tuple[str, str]) -> Message:
    return Message.request(
        method,
        "sip:200@pbx.example.com",
        [
            ("Max-Forwards", "70"),
            *headers,
            ("From", "<sip:100@pbx.example.com>;tag=a"),
            ("To", "<sip:200@pbx.example.com>"),
            ("Call-ID", "call-1"),
            ("CSeq", f"7 {method}"),
        ],
    )


def answer(transaction: ClientTransaction, status: int, *, tag: str = "b", method: str = "") -> Message:
    """What the peer sends: parsed from octets, as it would be."""
    request = transaction.request
    lines = [f"SIP/2.0 {status} Whatever", *(f"Via: {via}" for via in request.get_all("Via"))]
    lines += [f"From: {request.get('From')}", f"To: {request.get('To')};tag={tag}", "Call-ID: call-1"]
    lines += [f"CSeq: 7 {method or transaction.method}", "Content-Length: 0", "", ""]
    return parse("\r\n".join(lines).encode())


def sends(effects: list[Effect]) -> list[str]:
    return [effect.message.method or str(effect.message.status) for effect in effects if isinstance(effect, Send)]


def kinds(effects: list[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


def run(layer: TransactionLayer, until: float) -> list[tuple[float, Effect]]:
    """All that happens by itself up to that moment, with the time at which it does."""
    seen: list[tuple[float, Effect]] = []
    while (deadline := layer.next_deadline) is not None and deadline <= until:
        seen += [(deadline, effect) for effect in layer.advance(deadline)]
    return seen


def test_the_request_goes_out_with_our_via_on_top(layer: TransactionLayer) -> None:
    transaction, effects = layer.request(
        make_request("OPTIONS", ("Via", "SIP/2.0/WS x.invalid;branch=z9hG4bKx")), UDP, 0
    )
    assert sends(effects) == ["OPTIONS"]
    assert transaction.request.get_all("Via") == [
        "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKt1;rport",
        "SIP/2.0/WS x.invalid;branch=z9hG4bKx",
    ]
    assert transaction.state == "Trying"


@pytest.mark.parametrize("method", ["ACK", "CANCEL"])
def test_ack_and_cancel_are_no_requests_of_their_own(layer: TransactionLayer, method: str) -> None:
    with pytest.raises(ValueError, match=method):
        layer.request(make_request(method), UDP, 0)
    assert len(layer) == 0


class TestInvite:
    def test_nobody_answers_over_udp(self, layer: TransactionLayer) -> None:
        """Timer A: 0.5 s, doubling without end; timer B: 32 s (section 17.1.1.2)."""
        transaction, _ = layer.request(make_request(), UDP, 0)
        seen = run(layer, 1000)
        assert [when for when, effect in seen if isinstance(effect, Send)] == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
        assert [(when, type(effect)) for when, effect in seen[-2:]] == [(32, TimedOut), (32, TransactionEnded)]
        assert transaction.final
        assert len(layer) == 0
        assert layer.next_deadline is None

    def test_nobody_answers_over_tcp(self, layer: TransactionLayer) -> None:
        layer.request(make_request(), TCP, 0)
        assert [(when, type(effect)) for when, effect in run(layer, 1000)] == [(32, TimedOut), (32, TransactionEnded)]

    def test_a_provisional_response_ends_retransmission(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), UDP, 0)
        effects = layer.receive(answer(transaction, 100), UDP, 0.1)
        assert kinds(effects) == [ResponseReceived]
        assert run(layer, 170) == []
        assert transaction.state == "Proceeding"

    def test_our_via_is_taken_off_what_is_passed_up(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request("INVITE", ("Via", "SIP/2.0/WS x.invalid;branch=z9hG4bKx")), UDP, 0)
        (effect,) = layer.receive(answer(transaction, 180), UDP, 0.1)
        assert isinstance(effect, ResponseReceived)
        assert effect.message.get_all("Via") == ["SIP/2.0/WS x.invalid;branch=z9hG4bKx"]

    def test_refused_over_udp(self, layer: TransactionLayer) -> None:
        """The ACK of section 17.1.1.3; timer D: 32 s in which the refusal may come again."""
        transaction, _ = layer.request(
            make_request("INVITE", ("Route", "<sip:p1;lr>"), ("Route", "<sip:p2;lr>")), UDP, 0
        )
        ack, received = layer.receive(answer(transaction, 486), UDP, 1)
        assert isinstance(ack, Send)
        assert isinstance(received, ResponseReceived)
        assert ack.message.method == "ACK"
        assert ack.message.uri == "sip:200@pbx.example.com"
        assert ack.message.get_all("Via") == ["SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKt1;rport"]
        assert ack.message.get_all("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
        assert ack.message.get("To") == "<sip:200@pbx.example.com>;tag=b"
        assert ack.message.get("From") == "<sip:100@pbx.example.com>;tag=a"
        assert ack.message.get("CSeq") == "7 ACK"
        assert sends(layer.receive(answer(transaction, 486), UDP, 2)) == ["ACK"]
        assert layer.receive(answer(transaction, 180), UDP, 2) == []
        assert [(when, type(effect)) for when, effect in run(layer, 100)] == [(33, TransactionEnded)]
        assert layer.receive(answer(transaction, 486), UDP, 101) == []

    def test_refused_over_tcp(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), TCP, 0)
        assert kinds(layer.receive(answer(transaction, 486), TCP, 1)) == [Send, ResponseReceived, TransactionEnded]
        assert len(layer) == 0

    def test_every_2xx_is_passed_up_until_timer_m(self, layer: TransactionLayer) -> None:
        """RFC 6026 section 8.4."""
        transaction, _ = layer.request(make_request(), UDP, 0)
        assert kinds(layer.receive(answer(transaction, 200), UDP, 1)) == [ResponseReceived]
        assert transaction.state == "Accepted"
        assert kinds(layer.receive(answer(transaction, 200), UDP, 1.5)) == [ResponseReceived]
        assert kinds(layer.receive(answer(transaction, 200, tag="c"), UDP, 20)) == [ResponseReceived]
        assert layer.receive(answer(transaction, 486), UDP, 21) == []
        assert [(when, type(effect)) for when, effect in run(layer, 100)] == [(33, TransactionEnded)]
        assert kinds(layer.receive(answer(transaction, 200), UDP, 100)) == [StrayResponse]

    def test_timer_c_starts_with_the_request_and_again_with_every_ringing(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), UDP, 0)
        layer.receive(answer(transaction, 180), UDP, 10)
        layer.receive(answer(transaction, 100), UDP, 20)
        layer.receive(answer(transaction, 183), UDP, 50)
        assert run(layer, 229.9) == []
        seen = run(layer, 230)
        assert [(when, type(effect)) for when, effect in seen] == [(230, Send), (230, TimedOut)]
        assert sends([seen[0][1]]) == ["CANCEL"]

    def test_a_100_does_not_prolong_timer_c(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), UDP, 0)
        layer.receive(answer(transaction, 100), UDP, 10)
        assert run(layer, 200)[0][0] == 180

    def test_the_answer_after_timer_c(self, layer: TransactionLayer) -> None:
        """The 487 is acknowledged and kept; a 200 has to be known, for somebody has answered."""
        first, _ = layer.request(make_request(), UDP, 0)
        second, _ = layer.request(make_request(), UDP, 0)
        for transaction in (first, second):
            layer.receive(answer(transaction, 180), UDP, 0)
        layer.advance(180)
        assert sends(layer.receive(answer(first, 200, method="CANCEL"), UDP, 180.1)) == []
        effects = layer.receive(answer(first, 487), UDP, 180.1)
        assert kinds(effects) == [Send]
        assert sends(effects) == ["ACK"]
        assert layer.receive(answer(second, 183), UDP, 180.1) == []
        assert kinds(layer.receive(answer(second, 200), UDP, 180.1)) == [ResponseReceived]

    def test_transport_failure(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), TCP, 0)
        assert kinds(layer.send_failed(transaction, 0)) == [TransportFailed, TransactionEnded]
        assert layer.send_failed(transaction, 0) == []
        assert layer.next_deadline is None


class TestCancel:
    def test_waits_for_a_provisional_response(self, layer: TransactionLayer) -> None:
        """Section 9.1."""
        transaction, _ = layer.request(make_request("INVITE", ("Route", "<sip:p1;lr>")), UDP, 0)
        assert layer.cancel(transaction, 0.2, reason="SIP ;cause=200") == []
        received, cancel = layer.receive(answer(transaction, 100), UDP, 0.3)
        assert isinstance(received, ResponseReceived)
        assert isinstance(cancel, Send)
        assert cancel.message.method == "CANCEL"
        assert cancel.message.uri == transaction.request.uri
        assert cancel.message.get_all("Via") == ["SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKt1;rport"]
        assert cancel.message.get("To") == "<sip:200@pbx.example.com>"
        assert cancel.message.get("CSeq") == "7 CANCEL"
        assert cancel.message.get("Route") == "<sip:p1;lr>"
        assert cancel.message.get("Reason") == "SIP ;cause=200"

    def test_goes_out_once_and_is_retransmitted_by_timer_e(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), UDP, 0)
        layer.receive(answer(transaction, 180), UDP, 1)
        assert sends(layer.cancel(transaction, 2)) == ["CANCEL"]
        assert layer.cancel(transaction, 2) == []
        assert [when for when, effect in run(layer, 8) if isinstance(effect, Send)] == [2.5, 3.5, 5.5]
        assert layer.receive(answer(transaction, 200, method="CANCEL"), UDP, 8) == []
        assert run(layer, 30) == []

    def test_the_487_ends_it(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), TCP, 0)
        layer.receive(answer(transaction, 180), TCP, 1)
        layer.cancel(transaction, 2)
        layer.receive(answer(transaction, 200, method="CANCEL"), TCP, 2.1)
        assert kinds(layer.receive(answer(transaction, 487), TCP, 2.1)) == [Send, ResponseReceived, TransactionEnded]
        assert len(layer) == 0
        assert layer.next_deadline is None

    def test_no_final_response_within_64_t1_of_it(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), TCP, 0)
        layer.receive(answer(transaction, 180), TCP, 1)
        layer.cancel(transaction, 2)
        layer.receive(answer(transaction, 200, method="CANCEL"), TCP, 2.1)
        assert [(when, type(effect)) for when, effect in run(layer, 100)] == [(34, TimedOut), (34, TransactionEnded)]

    def test_the_200_was_faster(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), UDP, 0)
        layer.receive(answer(transaction, 180), UDP, 1)
        layer.cancel(transaction, 2)
        assert kinds(layer.receive(answer(transaction, 200), UDP, 2.1)) == [ResponseReceived]
        assert layer.cancel(transaction, 2.2) == []
        layer.receive(answer(transaction, 481, method="CANCEL"), UDP, 2.3)
        assert {type(effect) for _, effect in run(layer, 100)} == {TransactionEnded}
        assert len(layer) == 0

    def test_a_200_after_the_487_is_passed_up(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), UDP, 0)
        layer.receive(answer(transaction, 180), UDP, 1)
        layer.cancel(transaction, 2)
        layer.receive(answer(transaction, 487), UDP, 2.1)
        assert kinds(layer.receive(answer(transaction, 200, tag="c"), UDP, 2.2)) == [ResponseReceived]

    def test_nothing_to_cancel(self, layer: TransactionLayer) -> None:
        options, _ = layer.request(make_request("OPTIONS"), UDP, 0)
        assert layer.cancel(options, 0) == []
        invite, _ = layer.request(make_request(), UDP, 0)
        layer.receive(answer(invite, 486), UDP, 1)
        assert layer.cancel(invite, 1) == []

    def test_no_provisional_ever(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), UDP, 0)
        layer.cancel(transaction, 0)
        seen = run(layer, 100)
        assert {"INVITE"} == set(sends([effect for _, effect in seen]))
        assert [type(effect) for _, effect in seen[-2:]] == [TimedOut, TransactionEnded]


class TestNonInvite:
    def test_nobody_answers_over_udp(self, layer: TransactionLayer) -> None:
        """Timer E: 0.5, 1, 2, then every 4 s; timer F: 32 s (section 17.1.2.2)."""
        layer.request(make_request("OPTIONS"), UDP, 0)
        seen = run(layer, 1000)
        retransmitted = [when for when, effect in seen if isinstance(effect, Send)]
        assert retransmitted == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
        assert [(when, type(effect)) for when, effect in seen[-2:]] == [(32, TimedOut), (32, TransactionEnded)]

    def test_a_provisional_response_slows_retransmission_down(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request("OPTIONS"), UDP, 0)
        assert kinds(layer.receive(answer(transaction, 100), UDP, 0.1)) == [ResponseReceived]
        retransmitted = [when for when, effect in run(layer, 1000) if isinstance(effect, Send)]
        assert retransmitted == [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]

    def test_answered_over_udp(self, layer: TransactionLayer) -> None:
        """Timer K: 5 s in which the answer may come again."""
        transaction, _ = layer.request(make_request("OPTIONS"), UDP, 0)
        assert kinds(layer.receive(answer(transaction, 200), UDP, 1)) == [ResponseReceived]
        assert transaction.final
        assert layer.receive(answer(transaction, 200), UDP, 2) == []
        assert [(when, type(effect)) for when, effect in run(layer, 100)] == [(6, TransactionEnded)]
        assert layer.receive(answer(transaction, 200), UDP, 7) == []

    def test_answered_over_tcp(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request("OPTIONS"), TCP, 0)
        assert kinds(layer.receive(answer(transaction, 404), TCP, 1)) == [ResponseReceived, TransactionEnded]
        assert layer.next_deadline is None

    def test_the_flow_closes(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request("OPTIONS"), TCP, 0)
        other, _ = layer.request(make_request("OPTIONS"), UDP, 0)
        effects = layer.flow_failed(TCP, 1)
        assert kinds(effects) == [TransportFailed, TransactionEnded]
        assert transaction.ended
        assert not other.ended
        assert layer.flow_failed(TCP, 1) == []


class TestMatching:
    def test_branch_and_method_both_count(self, layer: TransactionLayer) -> None:
        """Section 17.1.3."""
        transaction, _ = layer.request(make_request(), UDP, 0)
        assert layer.receive(answer(transaction, 200, method="BYE"), UDP, 0) == []
        wrong = answer(transaction, 486)
        wrong.set("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKother")
        assert layer.receive(wrong, UDP, 0) == []
        assert transaction.state == "Calling"

    def test_a_2xx_of_unknown_branch_is_a_stray(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), UDP, 0)
        stray = answer(transaction, 200)
        stray.set("Via", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKother")
        (effect,) = layer.receive(stray, UDP, 0)
        assert isinstance(effect, StrayResponse)
        assert effect.message is stray
        assert effect.flow is UDP

    @pytest.mark.parametrize("drop", ["Via", "CSeq"])
    def test_what_cannot_be_matched_is_dropped(self, layer: TransactionLayer, drop: str) -> None:
        transaction, _ = layer.request(make_request(), UDP, 0)
        response = answer(transaction, 200)
        response.remove(drop)
        assert layer.receive(response, UDP, 0) == []


REPEATED = {"Via", "From", "To", "Call-ID", "CSeq"}
"""Of an INVITE: what its responses repeat, and who gets another 2xx goes by."""


class TestLingering:
    """Over but for late copies, a transaction keeps what those need, and nothing else."""

    def test_another_2xx_is_passed_up_to_its_user(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), UDP, 0)
        transaction.context = user = object()
        again = answer(transaction, 200, tag="c")
        layer.receive(answer(transaction, 200), UDP, 1)
        assert transaction.request.get("Call-ID") == "call-1", "its user may still look at it"
        layer.advance(1.1)
        assert transaction.context is user
        assert {name for name, _ in transaction.request.items()} == REPEATED
        (effect,) = layer.receive(again, UDP, 2)
        assert isinstance(effect, ResponseReceived)
        assert (effect.transaction, effect.message.to_tag) == (transaction, "c")

    def test_a_late_refusal_gets_its_ack_again(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request(), UDP, 0)
        refusal = answer(transaction, 486)
        (ack, _) = layer.receive(answer(transaction, 486), UDP, 1)
        layer.advance(1.1)
        assert {name for name, _ in transaction.request.items()} == REPEATED
        assert layer.lingering == len(layer) == 1
        (again,) = layer.receive(refusal, UDP, 2)
        assert isinstance(ack, Send)
        assert isinstance(again, Send)
        assert bytes(again.message) == bytes(ack.message)
        run(layer, 100)
        assert layer.lingering == len(layer) == 0

    def test_a_late_response_is_absorbed_and_a_loop_still_seen(self, layer: TransactionLayer) -> None:
        transaction, _ = layer.request(make_request("MESSAGE"), UDP, 0)
        transaction.context = object()
        again = answer(transaction, 200)
        via = transaction.request.get("Via")
        layer.receive(answer(transaction, 200), UDP, 1)
        layer.advance(1.1)
        assert (transaction.request.items(), transaction.context) == ([], None)
        assert layer.receive(again, UDP, 2) == []
        returned = make_request("MESSAGE", ("Via", "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKx"), ("Via", via or ""))
        assert layer.is_looped(returned)
