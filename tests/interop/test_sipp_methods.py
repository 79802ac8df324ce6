"""SIPp as the PBX of a softphone that does one thing after the other: what the methods and their races look like there.

Without media: the INVITEs have no offer, and what is looked at is dialogs and transactions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from sipp_peer import Sipp, open_sipp
from test_sipp_trunk import trunk
from watching import LIMIT, all_ended

from siperb_core.gateway import Gateway
from siperb_core.sip import Message, parse, response_to
from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.user_agent import Credentials
from siperb_core.testing.wire import Wire, open_wire, request

ALICE = "sip:alice-web@gw.example"


class Phone:
    """A softphone on a WebSocket that knows one call."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.contact = f"<sip:phone@{wire.sent_by};transport=ws>"
        self.invite = request("INVITE", "sip:4711@gw.example", caller=ALICE, contact=self.contact)
        self.peer: Message
        """The response that has made the dialog."""
        self._cseq = 1

    async def call(self, *headers: tuple[str, str]) -> None:
        for name, value in headers:
            self.invite.add(name, value)
        self.invite.prepend("Via", self.wire.via())
        await self.wire.send(self.invite)

    async def hears(self, status: int) -> Message:
        """The next response to the INVITE that is not 100."""
        self.peer = await self.wire.response(self.invite.call_id, cseq=1, at_least=101)
        assert self.peer.status == status
        return self.peer

    def within(self, method: str, *headers: tuple[str, str], cseq: int | None = None) -> Message:
        if cseq is None:
            self._cseq += 1
        fields = [
            ("Max-Forwards", "70"),
            ("From", self.invite.get("From") or ""),
            ("To", self.peer.get("To") or ""),
            ("Call-ID", self.invite.call_id),
            ("CSeq", f"{cseq or self._cseq} {method}"),
            *headers,
        ]
        return Message.request(method, self.peer.contacts[0].uri, fields)

    async def acknowledge(self) -> None:
        ack = self.within("ACK", cseq=1)
        ack.prepend("Via", self.wire.via())
        await self.wire.send(ack)

    async def asks(self, method: str, *headers: tuple[str, str]) -> Message:
        """A request in the dialog; its final response."""
        return await self.wire.request(self.within(method, ("Contact", self.contact), *headers))

    async def answers(self, method: str, status: int = 200) -> Message:
        """Take a request of the other side's."""
        arrived = await self.wire.arrival(method)
        await self.wire.send(response_to(arrived, status, headers=[("Contact", self.contact)]))
        return arrived

    async def cancels(self) -> None:
        fields = [(name, self.invite.get(name) or "") for name in ("Via", "Max-Forwards", "From", "To", "Call-ID")]
        await self.wire.send(Message.request("CANCEL", self.invite.uri, [*fields, ("CSeq", "1 CANCEL")]))

    async def refused(self, status: int) -> None:
        """The call comes to nothing."""
        while True:
            response = await self.wire.response(self.invite.call_id, cseq=1)
            if response.cseq.method == "INVITE":
                break
        assert response.status == status
        ack = Message.request(
            "ACK",
            self.invite.uri,
            [(name, self.invite.get(name) or "") for name in ("Via", "Max-Forwards", "From", "Call-ID")],
        )
        ack.add("To", response.get("To") or "")
        ack.add("CSeq", "1 ACK")
        await self.wire.send(ack)


@asynccontextmanager
async def office(folder: Path, scenario: str, **keys: str) -> AsyncIterator[tuple[Gateway, Sipp, Phone]]:
    """SIPp behind a trunk, and a softphone that has registered."""
    with trio.fail_after(LIMIT):
        async with (
            open_sipp(folder, scenario, keys=keys) as pbx,
            open_gateway(folder, trunk(pbx.address)) as gateway,
            open_wire("ws", address(gateway, "ws")) as wire,
        ):
            phone = Phone(wire)
            register = request("REGISTER", "sip:gw.example", caller=ALICE, callee=ALICE, contact=phone.contact)
            assert (await wire.request(register, Credentials("alice-web", "alice-secret"))).status == 200
            yield gateway, pbx, phone
            await pbx.succeeds()
            await all_ended(gateway, "office", 1)
            assert gateway.signalling.rejected["bug"] == 0


async def test_prack_and_update_in_an_early_dialog(tmp_path: Path) -> None:
    async with office(tmp_path, "uas_prack") as (_, pbx, phone):
        await phone.call(("Supported", "100rel"))
        ringing = await phone.hears(180)
        assert "100rel" in ringing.values("Require")
        assert (await phone.asks("PRACK", ("RAck", f"{ringing.get('RSeq')} 1 INVITE"))).status == 200
        assert (await phone.asks("UPDATE")).status == 200
        await phone.answers("UPDATE")
        await phone.hears(200)
        await phone.acknowledge()
        assert (await phone.asks("BYE")).status == 200
        assert "100rel" in parse_of(pbx.received("INVITE")[0]).values("Supported")


async def test_the_pbx_forks(tmp_path: Path) -> None:
    """Both ends ring at the softphone, one has the call; the other one's answer is acknowledged and hung up."""
    async with office(tmp_path, "uas_forks") as (_, pbx, phone):
        await phone.call()
        rang = {(await phone.hears(180)).to_tag for _ in range(2)}
        success = await phone.hears(200)
        assert len(rang) == 2
        assert success.to_tag in rang
        await phone.acknowledge()
        while len(pbx.received("BYE")) < 1:  # noqa: ASYNC110 - of another process
            await trio.sleep(0.02)
        assert (await phone.asks("BYE")).status == 200
        lost, own = (parse_of(message).to_tag for message in pbx.received("BYE"))
        assert (own, {lost, own}) == (success.to_tag, rang)


async def test_a_transfer_by_the_softphone(tmp_path: Path) -> None:
    async with office(tmp_path, "uas_refer") as (_, __, phone):
        await phone.call()
        await phone.hears(200)
        await phone.acknowledge()
        assert (await phone.asks("REFER", ("Refer-To", "<sip:9@gw.example>"))).status == 202
        report = await phone.answers("NOTIFY")
        assert report.body.strip() == b"SIP/2.0 200 OK"
        assert (await phone.asks("BYE")).status == 200


async def test_a_transfer_by_the_pbx(tmp_path: Path) -> None:
    async with office(tmp_path, "uas_refers") as (_, __, phone):
        await phone.call()
        await phone.hears(200)
        await phone.acknowledge()
        refer = await phone.answers("REFER", 202)
        assert "sip:9@" in (refer.get("Refer-To") or "")
        told = (("Event", "refer"), ("Subscription-State", "terminated;reason=noresource"))
        assert (await phone.asks("NOTIFY", *told)).status == 200
        assert (await phone.asks("BYE")).status == 200


@pytest.mark.parametrize("router", ["loose", "strict"])
async def test_routes(tmp_path: Path, router: str) -> None:
    """RFC 3261 section 16.12.1: a strict router finds itself in the Request-URI, and the PBX's Contact behind it."""
    parameter = ";lr" if router == "loose" else ""
    near, far = f"sip:near.example{parameter}", "sip:far.example;lr"
    header = f"Record-Route: <{far}>, <{near}>"
    async with office(tmp_path, "uas_routes", record_route=header) as (_, pbx, phone):
        await phone.call()
        await phone.hears(200)
        await phone.acknowledge()
        assert (await phone.asks("BYE")).status == 200
    contact = f"sip:pbx@{pbx.address}:5060"
    for method in ("ACK", "BYE"):
        message = parse_of(pbx.received(method)[0])
        routes = [value.strip().strip("<>") for value in message.values("Route")]
        assert (message.uri, routes) == ((contact, [near, far]) if router == "loose" else (near, [far, contact]))


async def test_given_up_before_anything_was_heard(tmp_path: Path) -> None:
    async with office(tmp_path, "uas_cancelled_unheard") as (_, pbx, phone):
        await phone.call()
        await phone.wire.response(phone.invite.call_id, at_least=100)
        await phone.cancels()
        await phone.refused(487)
        await pbx.succeeds()
    assert len(pbx.received("CANCEL")) == 1


async def test_answered_against_a_cancel(tmp_path: Path) -> None:
    """The call is there, whoever wanted it or not: it is the caller's to hang up (RFC 3261 section 9.1)."""
    async with office(tmp_path, "uas_cancelled_answered") as (_, __, phone):
        await phone.call()
        await phone.hears(180)
        await phone.cancels()
        while True:
            final = await phone.wire.response(phone.invite.call_id, cseq=1)
            if final.cseq.method == "INVITE":
                break
        assert final.status == 200
        phone.peer = final
        await phone.acknowledge()
        assert (await phone.asks("BYE")).status == 200


async def test_what_is_not_answered_comes_again(tmp_path: Path) -> None:
    """INVITE and BYE by timers A and E, and its 200 from SIPp until it has the ACK."""
    async with office(tmp_path, "uas_slow") as (_, pbx, phone):
        await phone.call()
        first = await phone.hears(200)
        second = await phone.hears(200)
        assert second.to_tag == first.to_tag
        await phone.acknowledge()
        assert (await phone.asks("BYE")).status == 200
    assert len(pbx.received("INVITE")) > 1
    assert len(pbx.received("BYE")) > 1
    for method in ("INVITE", "BYE"):
        assert len({parse_of(message).via.branch for message in pbx.received(method)}) == 1


def parse_of(text: str) -> Message:
    """A message out of SIPp's log."""
    return parse(text.strip().replace("\n", "\r\n").encode() + b"\r\n\r\n")
