"""Calls over IPv6: either leg, both, plain and transcoded; asserted on sound and on where the packets went."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from siperb_core.testing.gateway import address, head_with, open_gateway
from siperb_core.testing.pbx import PbxSettings, open_pbx
from siperb_core.testing.softphone import open_softphone

V4, V6 = "127.0.0.1", "::1"
TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["{there}"]
media = "{media}"
[connection.settings]
server = "{there}"
port = {port}
"""


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((V6, 0))
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@pytest.mark.parametrize(("here", "there"), [(V6, V6), (V4, V6), (V6, V4)])
@pytest.mark.parametrize(("media", "codec"), [("auto", "opus"), ("relay", "PCMA")])
async def test_both_ends_hear_each_other(tmp_path: Path, here: str, there: str, media: str, codec: str) -> None:
    udp, ws = bracketed(there), bracketed(here)
    head = head_with(None).replace(f'"udp"\nbind = "{V4}', f'"udp"\nbind = "{udp}')
    head = head.replace(f'"ws"\nbind = "{V4}', f'"ws"\nbind = "{ws}')
    with trio.fail_after(60):
        async with open_pbx(PbxSettings(address=there, tone_dbfs=-10.0)) as pbx:
            text = TRUNK.format(there=there, port=pbx.local[1], media=media)
            async with open_gateway(tmp_path, text, head=head) as gateway:
                url = f"ws://{ws}:{address(gateway, 'ws')[1]}/ws"
                async with open_softphone(
                    url, "alice-web", gateway.domain, "alice-secret", addresses=(here,), codecs=(codec,)
                ) as phone:
                    call = await phone.call("601")
                    await call.answered()
                    call.play(700, -10.0)
                    await call.hears(1000)
                    await pbx.calls[0].hears(700)
                    for heard, hertz in ((await call.listen(), 1000), (await pbx.calls[0].listen(), 700)):
                        assert heard.is_tone(hertz, within=1), heard
                        assert heard.dbfs == pytest.approx(-10, abs=0.5)
                    agreed = pbx.calls[0].media.agreed
                    assert agreed is not None
                    assert agreed.remote[0] == there
                    assert f" {here} ".encode() in call.media.answers[-1]
                    await call.hangup()
                    incoming = await pbx.call(f"sip:100@{udp}:{address(gateway, 'udp')[1]}")
                    back = await phone.next_call()
                    await back.accept()
                    await incoming.answered()
                    incoming.play(1000)
                    await back.hears(1000)
                    await incoming.hears(440)
                    await incoming.hangup()
                    rows = await gateway.operations.call("show.calls")
                    assert {row["diagnosis"] for row in rows} == {""}
