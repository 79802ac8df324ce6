"""Whole calls with PBXs over TCP and TLS: registered, out and in, heard at both ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from siperb_core.entries.source import load
from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.pbx import open_pbx
from siperb_core.testing.user_agent import Credentials

from .authority import Authority
from .peers import INBOUND, REGISTRATION, TRUNK, calls_out, head, phone_of, rings_in, settings, status

both = pytest.mark.parametrize("transport", ["tcp", "tls"])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@both
async def test_registered_out_and_in(tmp_path: Path, authority: Authority, transport: str) -> None:
    async with open_pbx(settings(transport, authority)) as pbx:
        text = REGISTRATION.format(
            server="127.0.0.1", port=pbx.local[1], transport=transport, more=f'ca = "{authority.ca}"'
        )
        # Without a certificate of its own the gateway accepts nobody by TLS: calls come over the connection it opened.
        async with open_gateway(tmp_path, text, head=head(tmp_path)) as gateway, phone_of(gateway) as phone:
            with trio.fail_after(60):
                assert (await status(gateway))["registration"]["state"] == "registered"
                await calls_out(phone, pbx)
                assert pbx.calls[0].account == "200"
                await rings_in(phone, pbx, "200")
                flows = {call.source for call in pbx.calls}
                assert len(flows) == 1, "one connection carries everything"
                assert {flow.transport for flow in flows} == {transport}


@both
async def test_a_trunk_out_and_in(tmp_path: Path, authority: Authority, transport: str) -> None:
    async with open_pbx(settings(transport, authority, accounts={})) as pbx:
        text = TRUNK.format(server="127.0.0.1", port=pbx.local[1], transport=transport, more=f'ca = "{authority.ca}"')
        configured = head(tmp_path, authority=authority)
        async with open_gateway(tmp_path, text, head=configured) as gateway, phone_of(gateway) as phone:
            with trio.fail_after(60):
                await calls_out(phone, pbx)
                there = "{}:{}".format(*address(gateway, transport))
                await rings_in(phone, pbx, f"sip:4711@{there};transport={transport}")


@both
async def test_a_pbx_that_registers_out_and_in(tmp_path: Path, authority: Authority, transport: str) -> None:
    configured = head(tmp_path, authority=authority)
    async with (
        open_pbx(settings(transport, authority, accounts={})) as pbx,
        open_gateway(tmp_path, INBOUND, head=configured) as gateway,
        phone_of(gateway) as phone,
    ):
        with trio.fail_after(60):
            there = address(gateway, transport)
            credentials = Credentials("branch", "branch-secret-0123456789")
            registration = await pbx.register(there, credentials, domain=gateway.domain)
            assert registration.status == 200
            await calls_out(phone, pbx)
            await rings_in(phone, pbx, "sip:4711@{}:{};transport={}".format(*there, transport))


async def test_a_certificate_that_is_not_to_be_trusted(tmp_path: Path, authority: Authority) -> None:
    stranger = Authority(tmp_path, "stranger")
    async with open_pbx(settings("tls", authority, ("pbx.example.com",))) as pbx:
        for ca, why in ((authority.ca, "mismatch"), (stranger.ca, "unable to get local issuer certificate")):
            text = REGISTRATION.format(server="127.0.0.1", port=pbx.local[1], transport="tls", more=f'ca = "{ca}"')
            folder = tmp_path / ca.stem
            folder.mkdir()
            async with open_gateway(folder, text, head=head(folder)) as gateway:
                row = await status(gateway)
                assert row["state"] == "retry"
                assert "the certificate is not accepted" in row["reason"]
                assert why in row["reason"]
                assert not pbx.agent.received_messages, "nothing was told to a stranger"


async def test_verify_false_works_and_is_warned_about(tmp_path: Path, authority: Authority) -> None:
    async with open_pbx(settings("tls", authority, ("pbx.example.com",))) as pbx:
        text = REGISTRATION.format(server="127.0.0.1", port=pbx.local[1], transport="tls", more="verify = false")
        async with open_gateway(tmp_path, text, head=head(tmp_path)) as gateway:
            assert (await status(gateway))["registration"]["state"] == "registered"
            warnings = load(gateway.config_path, gateway.plugins.connection_types).warnings
            assert any(warning.path.endswith("settings.verify") for warning in warnings)
