"""Paths to a PBX that change, hide, fail or are of the other family: whole calls all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.sip import Message
from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.pbx import PbxSettings, open_pbx
from siperb_core.testing.user_agent import Credentials
from siperb_core.transport.stream import StreamFlow

from .authority import Authority
from .peers import ACCOUNTS, INBOUND, REGISTRATION, TRUNK, calls_out, head, phone_of, rings_in, settings, status
from .relay import relay_to


def registers(messages: Any) -> list[Message]:
    return [message for message in messages if message.method == "REGISTER"]


async def test_behind_nat_calls_come_in_where_the_pbx_sees_us(tmp_path: Path) -> None:
    async with open_pbx(PbxSettings(accounts=ACCOUNTS)) as pbx, relay_to(pbx.local) as relay:
        text = REGISTRATION.format(server="127.0.0.1", port=relay.inside[1], transport="udp", more="keep_alive = 5")
        async with open_gateway(tmp_path, text, head=head(tmp_path)) as gateway, phone_of(gateway) as phone:
            with trio.fail_after(60):
                (binding,) = pbx.registrar.bindings("200")
                assert binding.contact.endswith("@{}:{}".format(*relay.outside))
                await calls_out(phone, pbx)
                (invite,) = [message for message in pbx.agent.received_messages if message.method == "INVITE"][-1:]
                assert "{}:{}".format(*relay.outside) in (invite.get("Contact") or "")
                await rings_in(phone, pbx, binding.contact)


class SixOnly(Gateway):
    """One whose DNS knows `pbx.example.com` by its AAAA record alone."""

    def _prepare(self) -> None:
        super()._prepare()

        async def addresses(name: str) -> list[str]:
            return {"pbx.example.com": ["::1"]}[name]

        self.resolver._addresses = addresses


@pytest.mark.parametrize(
    ("server", "transport"), [("::1", "udp"), ("::1", "tcp"), ("pbx.example.com", "udp"), ("[::1]", "tcp")]
)
async def test_ipv6_out_and_in(tmp_path: Path, server: str, transport: str) -> None:
    try:
        with trio.socket.socket(trio.socket.AF_INET6) as probe:
            await probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with open_pbx(PbxSettings(address="::1", transports=(transport,), accounts=ACCOUNTS)) as pbx:
        text = REGISTRATION.format(server=server, port=pbx.local[1], transport=transport, more="")
        async with (
            open_gateway(tmp_path, text, head=head(tmp_path, "[::]"), make=SixOnly) as gateway,
            phone_of(gateway) as phone,
        ):
            with trio.fail_after(60):
                assert (await status(gateway))["registration"]["state"] == "registered"
                await calls_out(phone, pbx)
                await rings_in(phone, pbx, "200")
                assert "[::1]" in pbx.registrar.bindings("200")[0].contact
                invite = [message for message in pbx.agent.received_messages if message.method == "INVITE"][-1]
                assert "[::1]:" in (invite.get("Via") or "")
                assert b"c=IN IP6 ::1" in invite.body


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_lost_connection_is_registered_again_at_once(tmp_path: Path, transport: str) -> None:
    authority = Authority(tmp_path)
    async with open_pbx(settings(transport, authority)) as pbx:
        text = REGISTRATION.format(
            server="127.0.0.1", port=pbx.local[1], transport=transport, more=f'ca = "{authority.ca}"'
        )
        async with open_gateway(tmp_path, text, head=head(tmp_path)) as gateway, phone_of(gateway) as phone:
            with trio.fail_after(60):
                (binding,) = pbx.registrar.bindings("200")
                lost = binding.flow
                assert isinstance(lost, StreamFlow)
                lost.end("the PBX closes it")
                while pbx.registrar.bindings("200")[0].flow is lost:
                    await trio.testing.wait_all_tasks_blocked(0.02)
                await rings_in(phone, pbx, "200")
                await calls_out(phone, pbx)


@pytest.mark.parametrize("transports", [("udp", "tcp"), ("udp",)])
async def test_an_invite_too_large_for_udp(tmp_path: Path, transports: tuple[str, ...]) -> None:
    async with open_pbx(PbxSettings(transports=transports)) as pbx:
        text = TRUNK.format(server="127.0.0.1", port=pbx.local[1], transport="udp", more="")
        async with open_gateway(tmp_path, text, head=head(tmp_path)) as gateway, phone_of(gateway) as phone:
            with trio.fail_after(60):
                for _ in range(2):
                    call = await phone.call("601", headers=[("X-Long", "x" * 1400)])
                    await call.answered()
                    await call.hears(1000)
                    assert pbx.calls[-1].source.transport == transports[-1]
                    await call.hangup()


async def test_the_next_server_takes_the_registration_and_the_call(tmp_path: Path) -> None:
    async with open_pbx(PbxSettings(accounts=ACCOUNTS)) as pbx:
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as deaf:
            await deaf.bind(("127.0.0.1", 0))
            text = REGISTRATION.format(server="pbx.example.com", port="5060", transport="udp", more="")
            text = text.replace("enabled", "").replace('name = "office"', 'name = "office"\nenabled = false')
            async with open_gateway(tmp_path, text, head=head(tmp_path)) as gateway, phone_of(gateway) as phone:
                servers = [(*deaf.getsockname(), "udp"), (*pbx.local, "udp")]

                async def resolve(host: str, port: int | None, transport: str) -> list[tuple[str, int, str]]:
                    return list(servers)

                gateway.resolver.resolve = resolve  # type: ignore[method-assign]
                gateway.config_path.write_text(
                    gateway.config_path.read_text().replace("enabled = false", "enabled = true")
                )
                with trio.fail_after(60):
                    await gateway.reload()
                    while (await status(gateway))["state"] != "loaded":
                        await trio.testing.wait_all_tasks_blocked(0.05)
                    assert len(registers(pbx.agent.received_messages)) == 2
                    await calls_out(phone, pbx)
                    await rings_in(phone, pbx, "200")


async def test_a_pbx_whose_own_connection_is_gone_is_called_at_its_contact(tmp_path: Path) -> None:
    async with (
        open_pbx(PbxSettings(transports=("tcp",))) as pbx,
        open_gateway(tmp_path, INBOUND, head=head(tmp_path)) as gateway,
        phone_of(gateway) as phone,
    ):
        with trio.fail_after(60):
            credentials = Credentials("branch", "branch-secret-0123456789")
            registration = await pbx.register(address(gateway, "tcp"), credentials, domain=gateway.domain)
            assert registration.status == 200
            await calls_out(phone, pbx)
            used = pbx.calls[-1].source
            assert isinstance(used, StreamFlow)
            used.end("the PBX closes it")
            await trio.testing.wait_all_tasks_blocked(0.05)
            await calls_out(phone, pbx)
            assert pbx.calls[-1].source is not used
