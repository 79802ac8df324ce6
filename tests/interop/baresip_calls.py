"""What the tests of baresip do, run inside a network namespace: `python baresip_calls.py NAME FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio
from baresip_namespace import ADDRESS, SECOND_ADDRESS
from baresip_phone import Baresip, open_baresip
from sipp_peer import G722, open_sipp
from watching import (
    LIMIT,
    all_ended,
    connection,
    nth_call,
    phone_at,
    wait_registered,
    wait_unregistered,
)

from siperb_core.gateway import Gateway
from siperb_core.testing import tones
from siperb_core.testing.gateway import open_gateway
from siperb_core.testing.softphone import PhoneCall, Softphone

SIP = (ADDRESS, 5060)
BARESIP_PORT = 5070
BARESIP_HZ, PHONE_HZ = 1000, 700

HEAD = f"""\
[gateway]
domain = "gw.example"
data_dir = "data"

[[listen]]
transport = "udp"
bind = "{ADDRESS}:5060"

[[listen]]
transport = "ws"
bind = "{ADDRESS}:8088"

[media]
workers = 1

[plugins]
disable = ["console"]

[[device]]
name = "alice-web"
user = "alice"
password = "alice-secret"
"""


def close_to(heard: tones.Heard, hz: float) -> bool:
    """A clean tone of `hz` at -6 dBFS, give or take half a decibel."""
    return heard.is_tone(hz, within=2) and abs(heard.dbfs + 6) <= 0.5


async def talk(call: PhoneCall) -> None:
    """Hear baresip's tone on the softphone, for as long as a recording has to be."""
    heard = await call.hears_steadily(BARESIP_HZ, 1.5, within=2)
    assert close_to(heard, BARESIP_HZ), heard


async def call_out(phone: Softphone, number: str, baresip: Baresip, nth: int) -> None:
    """Softphone to baresip; the softphone hangs up."""
    call = await phone.call(number)
    await call.answered()
    await talk(call)
    await call.hangup()
    await baresip.event("CALL_CLOSED", count=nth)
    heard = await baresip.heard(nth)
    assert close_to(heard, PHONE_HZ), heard


async def call_in(
    phone: Softphone,
    target: str,
    baresip: Baresip,
    nth: int,
    answer: Callable[[PhoneCall], Awaitable[None]] = PhoneCall.answered,
) -> None:
    """baresip to softphone; baresip hangs up."""
    await baresip.tell("dial", target)
    call = await nth_call(phone, nth)
    await answer(call)
    await baresip.event("CALL_ESTABLISHED", count=nth)
    await talk(call)
    await baresip.tell("hangup")
    await call.ended.wait()
    assert call.ended_by == "them"
    heard = await baresip.heard(nth)
    assert close_to(heard, PHONE_HZ), heard


async def both_ended(gateway: Gateway, name: str) -> None:
    """A call out and one in, both over and nothing to complain of; the connection is as it was."""
    rows = await all_ended(gateway, name, 2)
    assert [row["direction"] for row in rows] == ["outbound", "inbound"], rows
    assert [row["diagnosis"] for row in rows] == ["", ""], rows
    assert {row["media"]["peer_codec"] for row in rows} == {"G722"}, rows
    row = await connection(gateway, name)
    assert (row["state"], row["calls"]) == ("loaded", 0), row


async def trunk(folder: Path) -> None:
    """baresip at a fixed address, called and calling through an outbound trunk."""
    connections = f"""
[[connection]]
name = "office"
type = "outbound_trunk"
allow_from = ["{ADDRESS}/32"]
[connection.settings]
server = "{ADDRESS}"
port = {BARESIP_PORT}
"""
    async with (
        open_gateway(folder, connections, head=HEAD) as gateway,
        phone_at(gateway, answers=True, tone_hz=PHONE_HZ, addresses=(ADDRESS,)) as phone,
        open_baresip(
            folder / "baresip", f"<sip:200@{ADDRESS}>;regint=0", address=ADDRESS, port=BARESIP_PORT, hz=BARESIP_HZ
        ) as baresip,
    ):
        await call_out(phone, "200", baresip, 1)
        await call_in(phone, f"sip:100@{ADDRESS}:5060", baresip, 2)
        await both_ended(gateway, "office")
        await baresip.quit()


def over_tls(folder: Path, media: str) -> tuple[tuple[Path, Path], str, str]:
    """Certificate and key; a trunk over TLS, with this line on its media; the gateway's listener for TLS."""
    certificate, key = folder / "cert.pem", folder / "cert.key"
    connection = f"""
[[connection]]
name = "office"
type = "outbound_trunk"
allow_from = ["{ADDRESS}/32"]
{media}
[connection.settings]
server = "{ADDRESS}"
port = {BARESIP_PORT + 1}
transport = "tls"
ca = "{certificate}"
"""
    listen = f"""
[[listen]]
transport = "tls"
bind = "{ADDRESS}:5061"
certificate = "{certificate}"
key = "{key}"
"""
    return (certificate, key), connection, listen


async def sdes_trunk(folder: Path) -> None:
    """The same over TLS, with SRTP by the keys of the SDP (RFC 4568)."""
    tls, connections, listen = over_tls(folder, 'srtp = "sdes"')
    account = f"<sip:200@{ADDRESS};transport=tls>;regint=0;mediaenc=srtp-mand"
    async with (
        open_gateway(folder, connections, head=HEAD + listen) as gateway,
        phone_at(gateway, answers=True, tone_hz=PHONE_HZ, addresses=(ADDRESS,)) as phone,
        open_baresip(
            folder / "baresip", account, address=ADDRESS, port=BARESIP_PORT, hz=BARESIP_HZ, tls=tls
        ) as baresip,
    ):
        await call_out(phone, "200", baresip, 1)
        await call_in(phone, f"sip:100@{ADDRESS}:5061;transport=tls", baresip, 2)
        await both_ended(gateway, "office")
        await baresip.quit()


async def as_dtls_server(call: PhoneCall) -> None:
    """baresip's certificate is RSA: aiortc knows ciphers with ECDSA only, so baresip has to be the client."""
    media: Any = call.media
    media._we_are = "server"
    await call.accept()


async def dtls_trunk(folder: Path) -> None:
    """baresip does ICE, DTLS-SRTP and Opus itself: the SDP goes through, and media from one end to the other."""
    tls, connections, listen = over_tls(folder, 'media = "passthrough"')
    async with (
        open_gateway(folder, connections, head=HEAD + listen) as gateway,
        phone_at(gateway, tone_hz=PHONE_HZ, addresses=(ADDRESS,)) as phone,
        open_baresip(
            folder / "baresip",
            f"<sip:200@{ADDRESS};transport=tls>;regint=0",
            address=ADDRESS,
            port=BARESIP_PORT,
            hz=BARESIP_HZ,
            tls=tls,
            webrtc=True,
        ) as baresip,
    ):
        await call_out(phone, "200", baresip, 1)
        await call_in(phone, f"sip:100@{ADDRESS}:5061;transport=tls", baresip, 2, answer=as_dtls_server)
        rows = await all_ended(gateway, "office", 2)
        assert [row["direction"] for row in rows] == ["outbound", "inbound"], rows
        assert [(row["diagnosis"], row["media"]["mode"]) for row in rows] == [("", "passthrough")] * 2, rows
        await baresip.quit()


async def inbound_registration(folder: Path) -> None:
    """baresip registers with what `siperb connection add` printed, and un-registers at its end."""
    async with (
        open_gateway(folder, head=HEAD) as gateway,
        phone_at(gateway, answers=True, tone_hz=PHONE_HZ, addresses=(ADDRESS,)) as phone,
    ):
        username, password = await add_connection(folder / "siperb.toml", "branch")
        assert (await connection(gateway, "branch"))["registration"]["state"] == "unregistered"
        account = f"<sip:{username}@{ADDRESS}:5060>;auth_user={username};auth_pass={password};regint=60"
        async with open_baresip(
            folder / "baresip", account, address=ADDRESS, port=BARESIP_PORT, hz=BARESIP_HZ
        ) as baresip:
            await wait_registered(gateway, "branch")
            await call_out(phone, username, baresip, 1)
            await call_in(phone, f"sip:100@{ADDRESS}:5060", baresip, 2)
            await both_ended(gateway, "branch")
            await baresip.quit()
            await wait_unregistered(gateway, "branch")


async def add_connection(config: Path, name: str) -> tuple[str, str]:
    """`siperb connection add` beside the running gateway; username and password as it prints them."""
    command = [str(Path(sys.executable).with_name("siperb")), "connection", "add", name]
    command += ["--type", "inbound_registration", "--config", str(config)]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    printed = dict(line.split("=", 1) for line in done.stdout.decode().splitlines()[:2])
    return printed["username"], printed["password"]


async def outbound_registration(folder: Path) -> None:
    """The registrar is SIPp's, whose Service-Route leads calls to baresip (RFC 3608); baresip calls our contact."""
    connections = f"""
[[connection]]
name = "office"
type = "outbound_registration"
allow_from = ["{ADDRESS}"]
[connection.settings]
server = "{SECOND_ADDRESS}"
port = 5060
username = "siperb"
password = "pbx-secret"
"""
    keys = {**G722, "header": f"Service-Route: <sip:{ADDRESS}:{BARESIP_PORT};lr>"}
    async with open_sipp(folder, "pbx", keys=keys, address=SECOND_ADDRESS) as registrar:
        async with (
            open_gateway(folder, connections, head=HEAD) as gateway,
            phone_at(gateway, answers=True, tone_hz=PHONE_HZ, addresses=(ADDRESS,)) as phone,
            open_baresip(
                folder / "baresip", f"<sip:200@{ADDRESS}>;regint=0", address=ADDRESS, port=BARESIP_PORT, hz=BARESIP_HZ
            ) as baresip,
        ):
            first = await wait_registered(gateway, "office")
            await call_out(phone, "200", baresip, 1)
            await call_in(phone, f"sip:{gateway.errands.token('office')}@{ADDRESS}:5060", baresip, 2)
            await both_ended(gateway, "office")
            await wait_registered(gateway, "office", later_than=first)
            await baresip.quit()
        await registrar.succeeds()


SCENARIOS = {
    work.__name__: work for work in (trunk, sdes_trunk, dtls_trunk, inbound_registration, outbound_registration)
}


async def main(name: str, folder: Path) -> None:
    """Run one scenario; whatever is wrong is raised."""
    with trio.fail_after(LIMIT):
        await SCENARIOS[name](folder)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], Path(sys.argv[2]))
