"""GRUUs over the wire: one instance is meant, and it alone is reached (RFC 5627 sections 5.3 and 5.4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.sip import Message, response_to
from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.user_agent import Credentials, token
from siperb_core.testing.wire import Wire, open_wire, request

LIMIT = 60  # seconds, if the machine is busy
TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = [{users}]
allow_from = ["127.0.0.1/32"]
[connection.settings]
server = "127.0.0.1"
"""
UUID = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6b{:02x}"


@asynccontextmanager
async def phone(gateway: Gateway, number: int, user: str = "alice") -> AsyncIterator[Wire]:
    """A softphone of this user's device that is registered; its contact is `sip:p<number>@p.invalid`."""
    async with open_wire("ws", address(gateway, "ws")) as wire:
        answer = await wire.request(
            request(
                "REGISTER",
                "sip:gw.example",
                caller=f"sip:{user}-web@gw.example",
                callee=f"sip:{user}-web@gw.example",
                contact=f'<sip:p{number}@p.invalid>;+sip.instance="<{UUID.format(number)}>"',
                headers=(("Supported", "gruu"),),
            ),
            Credentials(f"{user}-web", f"{user}-secret"),
        )
        gruus = [contact.param("pub-gruu") for contact in answer.contacts]
        assert gruus[-1] == f"sip:{user}-web@gw.example;gr={UUID.format(number)}"
        assert not any(gruus[:-1]), "its own alone"
        wire.temporary = answer.contacts[-1].param("temp-gruu")  # type: ignore[attr-defined]
        yield wire


def gruu(number: int, user: str = "alice") -> str:
    return f"sip:{user}-web@gw.example;gr={UUID.format(number)}"


async def ask(wire: Wire, uri: str, caller: str) -> Message:
    """An INVITE for this URI, sent."""
    invite = request("INVITE", uri, caller=caller, contact="<sip:caller@127.0.0.1>")
    invite.prepend("Via", wire.via())
    await wire.send(invite)
    return invite


@pytest.mark.parametrize("temporary", [False, True])
async def test_a_gruu_rings_its_instance_alone(tmp_path: Path, temporary: bool) -> None:
    with trio.fail_after(LIMIT):
        async with (
            open_gateway(tmp_path, TRUNK.format(users='"*"')) as gateway,
            phone(gateway, 1),
            phone(gateway, 2) as two,
        ):
            uri = two.temporary if temporary else gruu(2)  # type: ignore[attr-defined]
            async with open_wire("udp", address(gateway, "udp")) as wire:
                name = "sip:100@127.0.0.1"
                invite = await ask(wire, uri, name)
                received = await two.arrival("INVITE")
                assert received.uri == "sip:p2@p.invalid", "the registered contact"
                answer = response_to(received, 200, to_tag=token(), headers=[("Contact", f"<{uri}>")])
                await two.send(answer)
                accepted = await wire.response(invite.call_id)
                assert accepted.status == 200, "and no other contact was rung"
                # Its Contact is the GRUU: requests in the dialog reach it.
                bye = request("BYE", accepted.contacts[0].uri, caller=name, call_id=invite.call_id, cseq=2)
                bye.set("From", invite.get("From") or "")
                bye.set("To", accepted.get("To") or "")
                bye.prepend("Via", wire.via())
                await wire.send(bye)
                ended = await two.arrival("BYE")
                assert ended.uri == uri
                await two.send(response_to(ended, 200))
                assert (await wire.response(invite.call_id, cseq=2)).status == 200


async def test_who_is_not_there_and_who_is_not_to_be_called(tmp_path: Path) -> None:
    with trio.fail_after(LIMIT):
        async with (
            open_gateway(tmp_path, TRUNK.format(users='"alice"')) as gateway,
            phone(gateway, 1) as alice,
            phone(gateway, 2, "bob") as bob,
            open_wire("udp", address(gateway, "udp")) as pbx,
        ):
            for wire, caller, uri, status in (
                (pbx, "sip:100@127.0.0.1", gruu(9), 480),
                (pbx, "sip:100@127.0.0.1", gruu(2, "bob"), 404),
                (pbx, "sip:100@127.0.0.1", gruu(1, "carol"), 404),
                (alice, "sip:alice-web@gw.example", gruu(9), 404),
                (bob, "sip:bob-web@gw.example", gruu(1), 404),
                (alice, "sip:alice-web@gw.example", gruu(1), 404),
                (pbx, "sip:100@127.0.0.1", bob.temporary, 404),  # type: ignore[attr-defined]
                (pbx, "sip:100@127.0.0.1", "sip:tgruu.aaaa@gw.example;gr", 404),
            ):
                invite = await ask(wire, uri, caller)
                assert (await wire.response(invite.call_id)).status == status


async def answered(pbx: Wire, phone: Wire, uri: str) -> tuple[Message, Message]:
    """A call of the PBX's that this phone has answered; the INVITE as the phone has it, and the 200 the PBX has."""
    invite = await ask(pbx, uri, "sip:100@127.0.0.1")
    received = await phone.arrival("INVITE")
    await phone.send(response_to(received, 200, to_tag=token(), headers=[("Contact", "<sip:p@p.invalid>")]))
    return received, await pbx.response(invite.call_id)


@pytest.mark.parametrize("how", ["refer", "replaces", "replaces another's", "replaces made up"])
async def test_a_softphone_calls_another_as_part_of_a_transfer_alone(tmp_path: Path, how: str) -> None:
    """RFC 3515, RFC 3891: direct calls are the PBX's to allow, but for who is told to make one in a call."""
    with trio.fail_after(LIMIT):
        async with (
            open_gateway(tmp_path, TRUNK.format(users='"*"')) as gateway,
            phone(gateway, 1) as alice,
            phone(gateway, 2, "bob") as bob,
            open_wire("udp", address(gateway, "udp")) as pbx,
        ):
            headers: list[tuple[str, str]] = []
            if how == "refer":
                received, accepted = await answered(pbx, bob, gruu(2, "bob"))
                refer = request("REFER", accepted.contacts[0].uri, caller="sip:x@x", call_id=received.call_id, cseq=2)
                refer.set("From", accepted.get("From") or "")
                refer.set("To", accepted.get("To") or "")
                refer.add("Contact", "<sip:100@127.0.0.1>")
                refer.add("Refer-To", f"<{gruu(1)}>")
                refer.prepend("Via", pbx.via())
                await pbx.send(refer)
                asked = await bob.arrival("REFER")
                assert asked.get("Refer-To") == f"<{gruu(1)}>"
                await bob.send(response_to(asked, 202, headers=[("Contact", "<sip:p@p.invalid>")]))
            else:
                who = (bob, gruu(2, "bob")) if how == "replaces another's" else (alice, gruu(1))
                received, accepted = await answered(pbx, *who)
                tags = f"to-tag={accepted.to_tag};from-tag={received.from_tag}"
                if how == "replaces made up":
                    tags = f"to-tag=guess;from-tag={received.from_tag}"
                headers = [("Replaces", f"{received.call_id};{tags}")]
            invite = request(
                "INVITE", gruu(1), caller="sip:bob-web@gw.example", contact="<sip:b@b.invalid>", headers=headers
            )
            invite.prepend("Via", bob.via())
            await bob.send(invite)
            if how in ("refer", "replaces"):
                assert (await alice.arrival("INVITE")).get("Replaces") == (headers[0][1] if headers else None)
            else:
                assert (await bob.response(invite.call_id)).status == 404
