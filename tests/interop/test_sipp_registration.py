"""SIPp as a PBX the gateway registers with, and as one that registers with the gateway."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from sipp_peer import G722, open_sipp, own_address
from watching import (
    LIMIT,
    all_ended,
    connection,
    nth_call,
    phone_at,
    wait_registered,
    wait_unregistered,
)

from siperb_core.testing.gateway import address, open_gateway

REGISTRAR = {**G722, "header": "Server: SIPp"}


async def test_registers_refreshes_and_calls_both_ways(tmp_path: Path) -> None:
    """The PBX grants 6 s of the 300 asked for; every refresh has to come before they are over, or SIPp fails."""
    with trio.fail_after(LIMIT):
        async with open_sipp(tmp_path, "pbx", "-rtp_echo", keys=REGISTRAR, calls=3) as pbx:  # OPTIONS, too
            async with (
                open_gateway(tmp_path, outbound_registration(pbx.address)) as gateway,
                phone_at(gateway, answers=True, tone_hz=700) as phone,
            ):
                first = await wait_registered(gateway, "office")
                assert (await connection(gateway, "office"))["state"] == "loaded"

                call = await phone.call("4711")
                await call.answered()
                heard = await call.hears_steadily(700, within=2)
                assert heard.dbfs == pytest.approx(-6, abs=0.5)
                await call.hangup()

                to, contact = address(gateway, "udp"), gateway.errands.token("office")
                async with open_sipp(tmp_path, "uac", "-rtp_echo", "-s", contact, keys=G722, to=to) as caller:
                    call = await nth_call(phone, 2)
                    await call.answered()
                    heard = await call.hears_steadily(700, within=2)
                    assert heard.dbfs == pytest.approx(-6, abs=0.5)
                    await call.hangup()
                    await caller.succeeds()

                second = await wait_registered(gateway, "office", later_than=first)
                await wait_registered(gateway, "office", later_than=second)
                out, back = await all_ended(gateway, "office", 2)
                assert [out["direction"], back["direction"]] == ["outbound", "inbound"]
                assert [out["diagnosis"], back["diagnosis"]] == ["", ""]
            await pbx.succeeds()  # the gateway is gone, and has un-registered

        registers = pbx.received("REGISTER")
        assert len({header(register, "Call-ID") for register in registers}) == 1
        numbers = [int(header(register, "CSeq").split()[0]) for register in registers]
        assert numbers == sorted(numbers)
        assert "expires=0" in header(registers[-1], "Contact")


async def test_a_wrong_password_is_shown_once(tmp_path: Path) -> None:
    with trio.fail_after(LIMIT):
        async with (
            open_sipp(tmp_path, "pbx", keys=REGISTRAR) as pbx,
            open_gateway(tmp_path, outbound_registration(pbx.address, password="wrong")) as gateway,
        ):
            row = await connection(gateway, "office")
            assert row["state"] == "auth_failed"
            assert row["registration"]["state"] == "rejected"
            shown = [register for register in pbx.received("REGISTER") if "Authorization:" in register]
            assert len(shown) == 1


async def test_a_pbx_registers_and_calls(tmp_path: Path) -> None:
    account = ("pbx-abc123", "generated-password")
    options = ("-rtp_echo", "-s", "100", "-au", account[0], "-ap", account[1])
    keys = {**G722, "aor": f"{account[0]}@gw.example", "expires": "120"}
    with trio.fail_after(LIMIT):
        async with (
            open_gateway(tmp_path, inbound_registration(*account)) as gateway,
            phone_at(gateway, answers=True, tone_hz=700) as phone,
        ):
            to = address(gateway, "udp")
            async with open_sipp(tmp_path, "register_and_call", *options, to=to, keys=keys) as pbx:
                call = await nth_call(phone, 1)
                assert await wait_registered(gateway, "branch") == pytest.approx(gateway.now() + 120, abs=30)
                await call.answered()
                heard = await call.hears_steadily(700, within=2)
                assert heard.dbfs == pytest.approx(-6, abs=0.5)
                await call.hangup()
                await pbx.succeeds()
            await wait_unregistered(gateway, "branch")
            (row,) = await all_ended(gateway, "branch", 1)
            assert (row["direction"], row["diagnosis"]) == ("inbound", "")


async def test_a_pbx_with_a_wrong_password_stays_outside(tmp_path: Path) -> None:
    keys = {**G722, "aor": "pbx-abc123@gw.example", "expires": "120"}
    with trio.fail_after(LIMIT):
        async with (
            open_gateway(tmp_path, inbound_registration("pbx-abc123", "generated-password")) as gateway,
            phone_at(gateway) as phone,
        ):
            to = address(gateway, "udp")
            options = ("-s", "100", "-au", "pbx-abc123", "-ap", "wrong")
            async with open_sipp(tmp_path, "register_refused", *options, to=to, keys=keys) as pbx:
                await pbx.succeeds()
            async with open_sipp(tmp_path, "uac_challenged", "-s", "100", to=to, address=own_address()) as caller:
                await caller.succeeds()
            assert (await connection(gateway, "branch"))["registration"]["state"] == "unregistered"
            assert not phone.calls


def outbound_registration(pbx: str, password: str = "pbx-secret") -> str:
    return f"""
[[connection]]
name = "office"
type = "outbound_registration"
allow_from = ["127.0.0.0/8"]
[connection.settings]
server = "{pbx}"
port = 5060
username = "siperb"
password = "{password}"
"""


def inbound_registration(username: str, password: str) -> str:
    return f"""
[[connection]]
name = "branch"
type = "inbound_registration"
[connection.settings]
username = "{username}"
password = "{password}"
qualify = 0  # a scenario of SIPp knows of calls only, not of an OPTIONS
"""


def header(message: str, name: str) -> str:
    """A header's value in a message as text."""
    return next(line.partition(":")[2].strip() for line in message.splitlines() if line.startswith(f"{name}:"))
