"""Kamailio as the registrar the gateway registers with, pjsua2 behind it: each transport, called and calling."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import trio
from watching import LIMIT, all_ended, connection, phone_at, wait_registered

from siperb_core.testing.gateway import open_gateway
from siperb_core.testing.gateway_process import own_address

from ...integration.transport.certificates import write_certificate
from .kamailio_peer import PORTS, PROGRAM, has_tls, open_kamailio
from .pjsua_peer import open_pjsua

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        importlib.util.find_spec("pjsua2") is None, reason="pjsua2 is not installed (pip install pjsua2-python)"
    ),
    pytest.mark.skipif(PROGRAM is None, reason="not installed: kamailio (apt-get install kamailio)"),
]
NO_TLS = pytest.mark.skipif(
    not has_tls(), reason="not installed: Kamailio's TLS (apt-get install kamailio-tls-modules)"
)
TONE = 1000  # pjsua's
HUM = 700  # the softphone's

OFFICE = """
[[connection]]
name = "office"
type = "outbound_registration"
[connection.settings]
server = "{server}"
port = {port}
transport = "{transport}"
username = "siperb"
password = "pbx-secret"
{more}
"""


@pytest.mark.parametrize("transport", ["udp", "tcp", pytest.param("tls", marks=NO_TLS)])
async def test_registers_and_calls_both_ways(tmp_path: Path, transport: str) -> None:
    """No listener for TCP or TLS is configured: calls come in over the connection that the gateway registered by."""
    there, behind = own_address(), own_address()
    tls = write_certificate(tmp_path, there) if transport == "tls" else None
    more = f'ca = "{tls[0]}"' if tls else ""
    office = OFFICE.format(server=there, port=PORTS[transport], transport=transport, more=more)
    with trio.fail_after(LIMIT):
        async with (
            open_kamailio(tmp_path, there, behind, tls) as registrar,
            open_pjsua(tmp_path, behind) as pbx,
        ):
            async with (
                open_gateway(tmp_path, office) as gateway,
                phone_at(gateway, tone_hz=HUM) as phone,
            ):
                await wait_registered(gateway, "office")
                await registrar.said(f"SEEN REGISTER {transport}")

                call = await phone.call("4711")
                await call.answered()
                await pbx.event("call", state="CONFIRMED")
                await call.hears(TONE)
                await pbx.hears(HUM)
                await registrar.said(f"SEEN INVITE {transport}")
                await call.hangup()
                await registrar.said(f"SEEN BYE {transport}")
                await pbx.event("call", state="DISCONNECTED")

                await pbx.order("call", uri=f"sip:siperb@{there}")
                incoming = await phone.next_call()
                found = await registrar.said("SEEN FOUND")
                assert transport == "udp" or f"transport={transport}" in found
                await incoming.accept()
                await pbx.event("call", state="CONFIRMED")
                await incoming.hears(TONE)
                await pbx.hears(HUM)
                await pbx.order("hangup")
                await incoming.ended.wait()
                assert incoming.ended_by == "them"
                await pbx.event("call", state="DISCONNECTED")

                rows = await all_ended(gateway, "office", 2)
                assert [row["direction"] for row in rows] == ["outbound", "inbound"]
                assert [row["diagnosis"] for row in rows] == ["", ""]
                assert (await connection(gateway, "office"))["calls"] == 0
            await registrar.said(f"SEEN REGISTER {transport} expires=0")
