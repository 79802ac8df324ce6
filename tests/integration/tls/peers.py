"""What the tests of TCP and TLS share: configurations, and ends that are heard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from siperb_core.gateway import Gateway
from siperb_core.testing.gateway import websocket_url
from siperb_core.testing.pbx import Pbx, PbxSettings
from siperb_core.testing.softphone import PhoneCall, Softphone, open_softphone

from .authority import Authority

TONE = 1000
ACCOUNTS = {"200": "two-hundred"}

REGISTRATION = """
[[connection]]
name = "office"
type = "outbound_registration"
users = ["alice"]
[connection.settings]
server = "{server}"
port = {port}
transport = "{transport}"
username = "200"
password = "two-hundred"
{more}
"""

TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["127.0.0.0/8"]
[connection.settings]
server = "{server}"
port = {port}
transport = "{transport}"
{more}
"""

INBOUND = """
[[connection]]
name = "office"
type = "inbound_registration"
users = ["alice"]
[connection.settings]
username = "branch"
password = "branch-secret-0123456789"
"""

HEAD = """\
[gateway]
domain = "gw.example"
data_dir = "data"

[[listen]]
transport = "udp"
bind = "{host}:0"

[[listen]]
transport = "tcp"
bind = "{host}:0"

{tls}
[[listen]]
transport = "ws"
bind = "127.0.0.1:0"

[media]
workers = 1

[[device]]
name = "alice-web"
user = "alice"
password = "alice-secret"
"""


def head(folder: Path, host: str = "127.0.0.1", *, authority: Authority | None = None) -> str:
    """A gateway that listens by UDP and TCP, and by TLS where there is an authority for its certificate."""
    tls = ""
    if authority is not None:
        certificate, key = authority.issue("gw.example", host.strip("[]"), stem="gateway")
        tls = f'[[listen]]\ntransport = "tls"\nbind = "{host}:0"\ncertificate = "{certificate}"\nkey = "{key}"\n'
    return HEAD.format(host=host, tls=tls)


def settings(
    transport: str,
    authority: Authority,
    names: tuple[str, ...] = ("127.0.0.1",),
    accounts: Mapping[str, str] = ACCOUNTS,
) -> PbxSettings:
    """A PBX that speaks nothing but this transport; without accounts it asks nobody for a password."""
    certificate, key = authority.issue(*names, stem="pbx")
    return PbxSettings(transports=(transport,), accounts=accounts, certificate=certificate, key=key)


@asynccontextmanager
async def phone_of(gateway: Gateway) -> AsyncIterator[Softphone]:
    async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone:
        yield phone


async def status(gateway: Gateway) -> dict[str, Any]:
    """The one connection."""
    (row,) = await gateway.operations.call("show.connections")
    return dict(row)


async def calls_out(phone: Softphone, pbx: Pbx) -> None:
    """A call to the tone, heard, with hold and resume from the PBX's side, and ended by the phone."""
    call = await phone.call("601")
    await call.answered()
    await call.hears(TONE)
    peer = pbx.calls[-1]
    await peer.hold()
    await peer.resume()
    call.play(440)
    await peer.hears(440)
    await call.hangup()


async def rings_in(phone: Softphone, pbx: Pbx, target: str, to: tuple[str, int] | None = None) -> PhoneCall:
    """A call of the PBX, heard on both sides, and ended by the PBX."""
    incoming = await pbx.call(target, to=to)
    back = await phone.next_call()
    await back.accept()
    await incoming.answered()
    incoming.play(TONE)
    back.play(440)
    await back.hears(TONE)
    await incoming.hears(440)
    await incoming.hangup()
    return back
