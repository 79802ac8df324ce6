"""pjsua2 as the PBX: a user agent that nobody here wrote, on a trunk, registering, over TLS; heard at both ends."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.sip import Message
from siperb_core.testing.gateway import address, open_gateway, websocket_url
from siperb_core.testing.gateway_process import own_address
from siperb_core.testing.pbx import open_pbx
from siperb_core.testing.softphone import Softphone, open_softphone

from ...integration.transport.certificates import write_certificate
from .pjsua_peer import ACTIVE, LOCAL_HOLD, REMOTE_HOLD, open_pjsua

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(
        importlib.util.find_spec("pjsua2") is None, reason="pjsua2 is not installed (pip install pjsua2-python)"
    ),
]
LIMIT = 60  # seconds for a test, if the machine is busy
TONE = 1000  # pjsua's
HUM = 440  # the softphone's

GATEWAY = """
[gateway]
domain = "gw.example"
data_dir = "data"

[media]
workers = 1

[[listen]]
transport = "udp"
bind = "127.0.0.1:0"

[[listen]]
transport = "ws"
bind = "127.0.0.1:0"

[[device]]
name = "alice-web"
user = "alice"
password = "alice-secret"
"""

TCP_LISTENER = """
[[listen]]
transport = "tcp"
bind = "127.0.0.1:0"
"""

TLS_LISTENER = """
[[listen]]
transport = "tls"
bind = "127.0.0.1:0"
certificate = "{certificate}"
key = "{key}"
"""

TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["{there}/32"]
srtp = "{srtp}"
[connection.settings]
server = "{there}"
transport = "{transport}"
{more}
"""

BRANCH = """
[[connection]]
name = "branch"
type = "inbound_registration"
users = ["alice"]
[connection.settings]
username = "branch"
password = "branch-secret-0123456789"
"""


@asynccontextmanager
async def phone_at(gateway: Gateway) -> AsyncIterator[Softphone]:
    async with open_softphone(websocket_url(gateway), "alice-web", "gw.example", "alice-secret", tone_hz=HUM) as phone:
        yield phone


def listening(folder: Path, transport: str, there: str) -> tuple[str, dict[str, str]]:
    """The gateway's further listener for a transport, and the files both ends need for TLS."""
    if transport != "tls":
        return (TCP_LISTENER if transport == "tcp" else ""), {}
    certificate, key = map(str, write_certificate(folder, there, "127.0.0.1"))
    files = {"ca": certificate, "certificate": certificate, "key": key}
    return TLS_LISTENER.format(certificate=certificate, key=key), files


@pytest.mark.parametrize(("transport", "srtp"), [("udp", "off"), ("tcp", "off"), ("tls", "off"), ("tls", "sdes")])
async def test_called_held_and_hung_up(tmp_path: Path, transport: str, srtp: str) -> None:
    there = own_address()
    listener, files = listening(tmp_path, transport, there)
    more = f'ca = "{files["ca"]}"' if files else ""
    trunk = TRUNK.format(there=there, transport=transport, srtp=srtp, more=more)
    with trio.fail_after(LIMIT):
        async with (
            open_pjsua(tmp_path, there, transport, srtp=srtp == "sdes", **files) as pbx,
            open_gateway(tmp_path, trunk, head=GATEWAY + listener) as gateway,
            phone_at(gateway) as phone,
        ):
            call = await phone.call("4711")
            await call.answered()
            await pbx.event("call", state="CONFIRMED")
            await call.hears(TONE)
            await pbx.hears(HUM)

            await pbx.order("hold")
            await pbx.event("media", status=LOCAL_HOLD)
            await pbx.order("resume")
            await pbx.event("media", status=ACTIVE)
            await call.hears_steadily(TONE)

            await call.hold()
            await pbx.event("media", status=REMOTE_HOLD)
            await call.resume()
            await pbx.event("media", status=ACTIVE)
            await pbx.hears(HUM)
            await call.hears_steadily(TONE)

            await pbx.order("hangup")
            await call.ended.wait()
            await pbx.event("call", state="DISCONNECTED")
            await gateway.calls.wait_idle()

            host, port = address(gateway, transport)
            await pbx.order("call", uri=f"sip:100@{host}:{port};transport={transport}")
            incoming = await phone.next_call()
            await incoming.accept()
            await pbx.event("call", state="CONFIRMED")
            await incoming.hears(TONE)
            await pbx.hears(HUM)
            await incoming.hangup()
            await pbx.event("call", state="DISCONNECTED")
            await gateway.calls.wait_idle()
            rows = await gateway.operations.call("show.calls")
            assert [row["diagnosis"] for row in rows] == ["", ""]


async def test_transferred_by_the_softphone(tmp_path: Path) -> None:
    """REFER (RFC 3515) goes through to the PBX, which calls the target; its NOTIFYs come back to the softphone."""
    there = own_address()
    with trio.fail_after(LIMIT):
        async with (
            open_pbx() as elsewhere,
            open_pjsua(tmp_path, there) as pbx,
            open_gateway(tmp_path, TRUNK.format(there=there, transport="udp", srtp="off", more="")) as gateway,
            phone_at(gateway) as phone,
        ):
            call = await phone.call("4711")
            await call.answered()
            await call.hears(TONE)
            target = f"sip:601@{elsewhere.host_port}"
            response = await call.request("REFER", [("Refer-To", f"<{target}>"), ("Contact", phone.contact)])
            assert response.status == 202
            assert target in (await pbx.event("transfer"))["to"]

            def notified() -> list[bytes]:
                return [message.body for message in phone.agent.received_messages if message.method == "NOTIFY"]

            while not any(b"200" in body for body in notified()):  # noqa: ASYNC110
                await trio.sleep(0.05)
            await call.hangup()
            await pbx.hears(elsewhere.settings.tone_hz)
            await gateway.calls.wait_idle()


@pytest.mark.parametrize(
    ("algorithms", "used", "transport"),
    [
        ('["SHA-256"]', "SHA-256", "udp"),
        ('["MD5", "SHA-256"]', "SHA-256", "tcp"),
        ('["MD5", "SHA-256"]', "SHA-256", "tls"),
        ('["MD5"]', "MD5", "udp"),
    ],
)
async def test_it_registers_by_the_algorithms_of_its_entry_and_calls_both_ways(
    tmp_path: Path, algorithms: str, used: str, transport: str
) -> None:
    there = own_address()
    listener, files = listening(tmp_path, transport, there)
    seen: list[tuple[Message, str]] = []
    branch = BRANCH.replace("[connection.settings]", f"algorithms = {algorithms}\n[connection.settings]")
    with trio.fail_after(LIMIT):
        async with open_gateway(tmp_path, branch, head=GATEWAY + listener) as gateway, phone_at(gateway) as phone:
            gateway.signalling.tap = lambda message, flow, out: seen.append((message.copy(), flow.transport))
            host, port = address(gateway, transport)
            server = f"sip:{host}:{port};transport={transport}"
            account = {"username": "branch", "password": "branch-secret-0123456789"}
            settings = {"id": "sip:branch@gw.example", "registrar": server, **account, **files}
            async with open_pjsua(tmp_path, there, transport, **settings) as pbx:
                await pbx.event("registration", status=200)
                proofs = [message.get("Authorization") for message, _ in seen if message.method == "REGISTER"]
                assert any(f"algorithm={used}" in proof for proof in proofs if proof), proofs

                await pbx.order("call", uri=server.replace("sip:", "sip:100@"))
                incoming = await phone.next_call()
                await pbx.event("call", state="EARLY")
                await incoming.accept()
                await pbx.event("call", state="CONFIRMED")
                await incoming.hears(TONE)
                await pbx.hears(HUM)
                await incoming.hangup()
                await pbx.event("call", state="DISCONNECTED")

                call = await phone.call("4711")
                await call.answered()
                await pbx.event("call", state="CONFIRMED")
                await call.hears(TONE)
                await pbx.hears(HUM)
                await pbx.order("hangup")
                await call.ended.wait()
            await gateway.calls.wait_idle()
            for method in ("REGISTER", "INVITE", "BYE"):
                ways = {way for message, way in seen if message.method == method}
                assert ways - {"ws"} == {transport}, method
