"""The web phone in Chromium with a relay as its only way: coturn, with the credentials of the provisioning link."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
import trio
from browser_tabs import PREFERENCES, TONE_HZ, WebPhone
from coturn_peer import MISSING, PROGRAM, open_coturn, turn_uri

from siperb_core.testing.gateway import head_with, open_gateway, trunk_to
from siperb_core.testing.gateway_process import own_address
from siperb_core.testing.pbx import open_pbx

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)
LIMIT = 90  # seconds, if the machine is busy
SECRET = "north-of-the-wall"
CONSOLE = """
[plugins.console]
bind = "127.0.0.1:{console}"
"""
RELAY_ONLY = f"""
    localStorage['siperb.phone'] ??= '{{"processing":{str(PREFERENCES["processing"]).lower()}}}';
    const Real = RTCPeerConnection;
    window.RTCPeerConnection = class extends Real {{
        constructor(config) {{ super({{...config, iceTransportPolicy: 'relay'}}); window.connection = this; }}
    }};
"""
WAY = """async () => {
    const stats = await connection.getStats();
    const pair = stats.get([...stats.values()].find(each => each.type === 'transport').selectedCandidatePairId);
    const {candidateType, address, relayProtocol} = stats.get(pair.localCandidateId);
    return {candidateType, address, relayProtocol};
}"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def talk(phone: WebPhone) -> dict[str, Any]:
    """Sign in by the link, call the tone and hear it; gives the way the media goes. The call goes on."""
    phone.tab.run(phone.tab.page.add_init_script(RELAY_ONLY))
    phone.tab.open(phone.page_url)
    phone.ready()
    phone.dial("601")
    phone.wait(call="active")
    phone.ears.tone(1000)
    way: dict[str, Any] = phone.tab.js(WAY)
    return way


async def test_a_call_goes_through_coturn_and_is_heard_at_both_ends(tmp_path: Path, tabs) -> None:
    there, console = own_address(), free_port()
    with trio.fail_after(LIMIT):
        async with open_pbx() as pbx, open_coturn(tmp_path, there, SECRET) as coturn:
            media = f'[media]\nturn = ["{turn_uri(there)}"]\nturn_secret = "{SECRET}"'
            head = head_with(None).replace('disable = ["console"]', "").replace("[media]", media)
            text = trunk_to(pbx.local[1]) + CONSOLE.format(console=console)
            async with open_gateway(tmp_path, text, head=head) as gateway:
                link = await gateway.operations.call("device.link", {"name": "alice-web"})
                phone = WebPhone(await trio.to_thread.run_sync(tabs), link["url"])
                way = await trio.to_thread.run_sync(talk, phone)
                assert way == {"candidateType": "relay", "address": there, "relayProtocol": "udp"}
                await pbx.calls[0].hears(TONE_HZ)
                await trio.to_thread.run_sync(phone.hang_up)
                await gateway.calls.wait_idle()
                (row,) = await gateway.operations.call("show.calls")
                assert row["diagnosis"] == ""
                assert re.search(r"<\d+:alice-web>.*ALLOCATE processed, success", coturn.report()), coturn.report()
