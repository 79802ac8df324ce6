"""The registrar as browsers use it: tabs that come, reload, and go, over real WebSockets (RFC 3261 10.3, RFC 5626)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.sip import Message, response_to
from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.user_agent import Credentials, token
from siperb_core.testing.wire import Wire, open_wire, request

ALICE = Credentials("alice-web", "alice-secret")
AOR = "sip:alice-web@gw.example"
LIMIT = 20  # seconds, if the machine is busy
TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["127.0.0.1/32"]
[connection.settings]
server = "127.0.0.1"
"""


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path, TRUNK) as gateway:
        yield gateway


@attrs.define
class Tab:
    """One page with a phone in it."""

    wire: Wire
    instance: str = attrs.field(factory=lambda: f"<urn:uuid:{token()}>")
    call_id: str = attrs.field(factory=token)
    uri: str = attrs.field(factory=lambda: f"sip:{token()}@{token()}.invalid;transport=ws")
    cseq: int = 0

    @property
    def contact(self) -> str:
        return f'<{self.uri}>;+sip.instance="{self.instance}";reg-id=1'

    async def register(self, *contacts: str, expires: int | None = 300, cseq: int = 0, user: str = "") -> Message:
        """A REGISTER with these contacts, by default the tab's own; the challenge is answered."""
        self.cseq += 2
        aor = f"sip:{user}@gw.example" if user else AOR
        headers = [("Contact", contact) for contact in contacts or (self.contact,) if contact]
        if expires is not None:
            headers.append(("Expires", str(expires)))
        message = request(
            "REGISTER",
            "sip:gw.example",
            caller=aor,
            callee=aor,
            cseq=cseq or self.cseq,
            call_id=self.call_id,
            headers=tuple(headers),
        )
        return await self.wire.request(message, ALICE)


@asynccontextmanager
async def tabs(gateway: Gateway, count: int) -> AsyncIterator[list[Tab]]:
    async with AsyncExitStack() as stack:
        yield [Tab(await stack.enter_async_context(open_wire("ws", address(gateway, "ws")))) for _ in range(count)]


async def shown(gateway: Gateway) -> list[str]:
    """The contacts `siperb show registrations` has."""
    rows: list[dict[str, Any]] = await gateway.operations.call("show.registrations")
    return sorted(row["contact"] for row in rows)


async def rings(gateway: Gateway, *expected: Tab) -> None:
    """A call of the PBX reaches these tabs and no other: all of them decline, and the caller hears of it."""
    async with open_wire("udp", address(gateway, "udp")) as pbx:
        host, port = address(gateway, "udp")
        invite = request("INVITE", f"sip:100@{host}:{port}", caller="sip:pbx@127.0.0.1", contact="<sip:pbx@127.0.0.1>")
        invite.prepend("Via", pbx.via())
        await pbx.send(invite)
        for tab in expected:
            received = await tab.wire.arrival("INVITE")
            assert received.uri == tab.uri, "as the phone wrote it, all parameters included"
            await tab.wire.send(response_to(received, 486, to_tag=token()))
            await tab.wire.arrival("ACK")
        status = (await pbx.response(invite.call_id)).status
        assert status == (486 if expected else 480)


async def test_two_tabs_are_two_contacts_and_both_ring(gateway: Gateway) -> None:
    with trio.fail_after(LIMIT):
        async with tabs(gateway, 2) as (one, two):
            assert (await one.register()).status == 200
            answer = await two.register()
            assert [contact.uri for contact in answer.contacts] == [one.uri, two.uri], "RFC 3261 section 10.3 step 8"
            assert answer.contacts[1].param("+sip.instance") == two.instance
            assert await shown(gateway) == sorted([one.uri, two.uri])
            await rings(gateway, one, two)


async def test_a_tab_that_is_closed_takes_its_own_contact_with_it(gateway: Gateway) -> None:
    with trio.fail_after(LIMIT):
        async with tabs(gateway, 1) as (stays,):
            await stays.register()
            async with tabs(gateway, 1) as (goes,):
                await goes.register()
            while await shown(gateway) != [stays.uri]:
                await trio.testing.wait_all_tasks_blocked(0.01)
            await rings(gateway, stays)
        while await shown(gateway):
            await trio.testing.wait_all_tasks_blocked(0.01)
        await rings(gateway)


async def test_a_reload_replaces_its_instance_and_the_old_socket_takes_nothing_away(gateway: Gateway) -> None:
    with trio.fail_after(LIMIT):
        async with tabs(gateway, 1) as (after,):
            async with tabs(gateway, 1) as (before,):
                await before.register()
                after.instance = before.instance
                answer = await after.register()
                assert [contact.uri for contact in answer.contacts] == [after.uri]
                assert await shown(gateway) == [after.uri]
            # The browser closes the old page's socket only now.
            async with open_wire("ws", address(gateway, "ws")) as fence:
                await fence.request(request("OPTIONS", "sip:gw.example", caller=AOR), ALICE)
            assert await shown(gateway) == [after.uri]
            await rings(gateway, after)


async def test_a_binding_is_on_disk_before_its_200(gateway: Gateway) -> None:
    with trio.fail_after(LIMIT):
        async with tabs(gateway, 1) as (tab,):
            await tab.register()
            file = gateway.config.gateway.data_dir / "siperb.db"
            store = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
            try:
                assert store.execute("SELECT aor FROM bindings").fetchall() == [("alice-web",)]
            finally:
                store.close()


async def test_several_contacts_in_one_register(gateway: Gateway) -> None:
    with trio.fail_after(LIMIT):
        async with tabs(gateway, 1) as (tab,):
            answer = await tab.register("<sip:a@a.invalid>;expires=120", "<sip:b@b.invalid>, <sip:c@c.invalid>;q=0.5")
            assert [(contact.uri, contact.param("expires")) for contact in answer.contacts] == [
                ("sip:a@a.invalid", "120"),
                ("sip:b@b.invalid", "300"),
                ("sip:c@c.invalid", "300"),
            ]
            answer = await tab.register("<sip:b@b.invalid>;expires=0")
            assert [contact.uri for contact in answer.contacts] == ["sip:a@a.invalid", "sip:c@c.invalid"]


async def test_too_brief_binds_nothing(gateway: Gateway) -> None:
    with trio.fail_after(LIMIT):
        async with tabs(gateway, 1) as (tab,):
            answer = await tab.register(expires=10)
            assert (answer.status, answer.get("Min-Expires")) == (423, "60")
            assert await shown(gateway) == []
            assert (await tab.register(expires=60)).status == 200


async def test_a_star_takes_all_away_with_expires_0_alone(gateway: Gateway) -> None:
    with trio.fail_after(LIMIT):
        async with tabs(gateway, 2) as (one, two):
            await one.register()
            await two.register()
            for contacts, expires in ((("*",), 300), (("*",), None), (("*", one.contact), 0)):
                assert (await one.register(*contacts, expires=expires)).status == 400
                assert len(await shown(gateway)) == 2, "all or nothing"
            answer = await one.register("*", expires=0)
            assert (answer.status, answer.get("Contact")) == (200, None)
            assert await shown(gateway) == []
            await rings(gateway)


async def test_an_overtaken_register_changes_nothing(gateway: Gateway) -> None:
    with trio.fail_after(LIMIT):
        async with tabs(gateway, 1) as (tab,):
            assert (await tab.register(cseq=20)).status == 200
            assert (await tab.register(expires=0, cseq=5)).status == 500
            assert (await tab.register("*", expires=0, cseq=7)).status == 500
            assert await shown(gateway) == [tab.uri]
            tab.call_id = token()
            assert (await tab.register(expires=0, cseq=1)).status == 200, "another Call-ID counts for itself"
            assert await shown(gateway) == []


async def test_asking_changes_nothing(gateway: Gateway) -> None:
    with trio.fail_after(LIMIT):
        async with tabs(gateway, 2) as (one, two):
            await one.register()
            answer = await two.register("", expires=None)
            assert [contact.uri for contact in answer.contacts] == [one.uri]
            assert await shown(gateway) == [one.uri]


async def test_nobody_registers_for_another(gateway: Gateway) -> None:
    with trio.fail_after(LIMIT):
        async with tabs(gateway, 1) as (tab,):
            assert (await tab.register(user="bob-web")).status == 403
            assert await shown(gateway) == []
