"""Offers and answers of both sides through a call and its real bridge, in any order SIP allows (RFC 3261, 3262, 3311,
6337): in INVITE, PRACK, UPDATE and re-INVITE, early and late, refused, crossing, asked for.

After every exchange both ends and the media have the same session in mind.
"""

from __future__ import annotations

import attrs
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.scenario.bridged import BridgedMedia, Talker, agree, offered
from tests.scenario.fake_media import SDP
from tests.scenario.world import EndPoint, FakeFlow, World

DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
MAY_ANSWER = {
    "sendrecv": DIRECTIONS,
    "sendonly": ("recvonly", "inactive"),
    "recvonly": ("sendonly", "inactive"),
    "inactive": ("inactive",),
}
"""RFC 3264 section 6.1."""
RELIABLE = (("Require", "100rel"), ("RSeq", "71"))


@attrs.frozen
class Exchange:
    """One offer, and what becomes of it."""

    how: str
    by_phone: bool
    offer: str
    answer: int  # which of those that may be


directions = st.sampled_from(DIRECTIONS)


def exchanges(*hows: str) -> st.SearchStrategy[list[Exchange]]:
    one = st.builds(Exchange, st.sampled_from(hows), st.booleans(), directions, st.integers(0, 3))
    return st.lists(one, max_size=6)


def answer_to(talker: Talker, offer: bytes, step: Exchange) -> bytes:
    """An answer that this offer allows."""
    direction = next(way for way in DIRECTIONS if f"a={way}\r\n".encode() in offer)
    allowed = MAY_ANSWER[direction]
    return talker.answers(offer, allowed[step.answer % len(allowed)])


class TwoEnds:
    """A call between a softphone and a PBX, and its media."""

    def __init__(self, phone_calls: bool) -> None:
        self.world = World()
        self.media = BridgedMedia()
        self.world.media = lambda *_: self.media
        self.phone = Talker(EndPoint(self.world, FakeFlow("ws", ("198.51.100.7", 50000)), "alice"), "phone")
        self.pbx = Talker(EndPoint(self.world, FakeFlow("udp", ("192.0.2.99", 5060)), "pbx"), "pbx", 30000)
        self.world.connect("office", self.pbx.end.flow)
        self.world.bind("alice", self.phone.end.flow)
        self.caller, self.callee = (self.phone, self.pbx) if phone_calls else (self.pbx, self.phone)
        self.number = "600" if phone_calls else "alice"

    def pair(self, step: Exchange) -> tuple[Talker, Talker]:
        """Who offers and who answers."""
        return (self.phone, self.pbx) if step.by_phone else (self.pbx, self.phone)

    def early(self, first: Exchange, in_prack: Exchange | None, updates: list[Exchange], *, delayed: bool) -> None:
        """Set a call up, with an answer (or the offer) in a reliable 183, a PRACK with an offer perhaps, UPDATEs."""
        caller, callee = self.caller, self.callee
        body = b"" if delayed else caller.offers(first.offer)
        sent = caller.end.invite(self.number, *([] if delayed else [SDP]), body=body)
        invite = callee.end.flow.next_of("INVITE")
        body = callee.offers(first.offer) if delayed else answer_to(callee, invite.body, first)
        callee.end.respond(invite, 183, SDP, *RELIABLE, body=body)
        early = caller.end.learn(caller.end.flow.next_of(183))
        rack = ("RAck", f"71 {sent.cseq.number} INVITE")
        if delayed:
            offered(caller.end, "PRACK", answer_to(caller, early.body, first), rack)
            prack = callee.end.flow.next_of("PRACK")
            callee.hears(prack.body)
            callee.end.respond(prack, 200)
            assert caller.end.flow.next_of(200).body == b""
        else:
            caller.hears(early.body)
            self.same()
            if in_prack is None:
                caller.end.request("PRACK", rack)
                callee.end.respond(callee.end.flow.next_of("PRACK"), 200)
                assert caller.end.flow.next_of(200).body == b""
            else:
                offered(caller.end, "PRACK", caller.offers(in_prack.offer), rack)
                prack = callee.end.flow.next_of("PRACK")
                callee.end.respond(prack, 200, SDP, body=answer_to(callee, prack.body, in_prack))
                caller.hears(caller.end.flow.next_of(200).body)
        self.same()
        for step in updates:
            self.exchange(step)
        callee.end.respond(invite, 200)
        success = caller.end.flow.next_of(200)
        assert success.cseq == sent.cseq
        assert success.body == b"", "all has been said"
        caller.end.request("ACK", cseq=sent.cseq.number)
        assert callee.end.flow.next_of("ACK").body == b""
        self.same()

    def exchange(self, step: Exchange) -> None:
        """One more offer in the dialog."""
        asker, answerer = self.pair(step)
        {
            "UPDATE": self.update,
            "crossing": self.crossing,
            "refused UPDATE": self.refused,
            "INVITE": self.invite,
            "refused INVITE": self.refused,
            "asked for": self.asked_for,
        }[step.how](step, asker, answerer)
        self.same()

    def update(self, step: Exchange, asker: Talker, answerer: Talker) -> None:
        offered(asker.end, "UPDATE", asker.offers(step.offer))
        request = answerer.end.flow.next_of("UPDATE")
        answerer.end.respond(request, 200, SDP, body=answer_to(answerer, request.body, step))
        asker.hears(asker.end.flow.next_of(200).body)

    def crossing(self, step: Exchange, asker: Talker, answerer: Talker) -> None:
        """Both offer at once: whose came second hears 491 (RFC 3311 section 5.2)."""
        offered(asker.end, "UPDATE", asker.offers(step.offer))
        request = answerer.end.flow.next_of("UPDATE")
        offered(answerer.end, "UPDATE", answerer.writes("inactive"))
        assert answerer.end.flow.next_of(491).cseq.method == "UPDATE"
        assert not asker.end.flow.sent
        answerer.end.respond(request, 200, SDP, body=answer_to(answerer, request.body, step))
        asker.hears(asker.end.flow.next_of(200).body)

    def refused(self, step: Exchange, asker: Talker, answerer: Talker) -> None:
        """An offer that is refused leaves the session as it was."""
        method = step.how.split()[1]
        sent = offered(asker.end, method, asker.writes(step.offer))
        answerer.end.respond(answerer.end.flow.next_of(method), 488)
        assert asker.end.flow.next_of(488).cseq == sent.cseq
        if method == "INVITE":
            answerer.end.flow.next_of("ACK")  # the gateway's; the asker's own ends there
            asker.end.flow.sent.clear()

    def invite(self, step: Exchange, asker: Talker, answerer: Talker) -> None:
        sent = offered(asker.end, "INVITE", asker.offers(step.offer))
        request = answerer.end.flow.next_of("INVITE")
        answerer.end.respond(request, 200, SDP, body=answer_to(answerer, request.body, step))
        asker.hears(asker.end.flow.next_of(200).body)
        asker.end.request("ACK", cseq=sent.cseq.number)
        assert answerer.end.flow.next_of("ACK").body == b""

    def asked_for(self, step: Exchange, asker: Talker, answerer: Talker) -> None:
        """A re-INVITE without offer is answered with one, and that in the ACK."""
        sent = asker.end.request("INVITE")
        answerer.end.respond(answerer.end.flow.next_of("INVITE"), 200, SDP, body=answerer.offers(step.offer))
        offer = asker.end.flow.next_of(200).body
        asker.end.request("ACK", SDP, cseq=sent.cseq.number, body=answer_to(asker, offer, step))
        answerer.hears(answerer.end.flow.next_of("ACK").body)

    def hang_up(self) -> None:
        self.phone.end.request("BYE")
        self.pbx.end.respond(self.pbx.end.flow.next_of("BYE"), 200)
        assert self.phone.end.flow.next_of(200).cseq.method == "BYE"
        assert self.world.calls.kept == 0
        assert self.media.session.closed

    def same(self) -> None:
        """Both ends and the media have the same session in mind, and nothing went wrong on the way."""
        agree(self.media, self.phone, self.pbx)
        assert self.world.signalling.rejected["bug"] == 0


@given(
    phone_calls=st.booleans(),
    delayed=st.booleans(),
    first=st.builds(Exchange, st.just("INVITE"), st.just(True), directions, st.integers(0, 3)),
    in_prack=st.none() | st.builds(Exchange, st.just("PRACK"), st.just(True), directions, st.integers(0, 3)),
    updates=exchanges("UPDATE", "crossing", "refused UPDATE"),
    later=exchanges("UPDATE", "crossing", "refused UPDATE", "INVITE", "refused INVITE", "asked for"),
)
def test_any_sequence_of_offers_leaves_both_ends_agreed(
    phone_calls: bool,
    delayed: bool,
    first: Exchange,
    in_prack: Exchange | None,
    updates: list[Exchange],
    later: list[Exchange],
) -> None:
    async def run() -> None:
        call = TwoEnds(phone_calls)
        call.early(first, in_prack, updates, delayed=delayed)
        for step in later:
            call.exchange(step)
        call.hang_up()

    trio.run(run, clock=trio.testing.MockClock())
