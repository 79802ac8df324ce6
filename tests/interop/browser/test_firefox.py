"""The web phone in Firefox, which takes no loopback address for its media: gateway and demo PBX, and what it hears."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import trio
from browser_tabs import PREFERENCES
from firefox import COMMAND, FAKE_HZ, Firefox

from siperb_core.testing.gateway import head_with, open_gateway
from siperb_core.testing.pbx import open_pbx

pytestmark = [pytest.mark.interop, pytest.mark.skipif(COMMAND is None, reason="Firefox is not installed (firefox-esr)")]

TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["127.0.0.1", "{here}"]
[connection.settings]
server = "127.0.0.1"
port = {port}

[plugins.console]
bind = "127.0.0.1:{console}"
"""
LISTEN = """
    const Real = RTCPeerConnection;
    window.RTCPeerConnection = class extends Real { constructor(config) { super(config); window.connection = this; } };
    setInterval(async () => {
        const stats = [...(await window.connection?.getStats())?.values() ?? []];
        window.level = 20 * Math.log10(stats.find(each => each.type === 'inbound-rtp')?.audioLevel || 1e-6);
    }, 100);
"""
HEARD = "return Math.abs(window.level - arguments[0]) <= 2 && window.level"
FAKE_DBFS = -20


def machines_address() -> str:
    """That of the interface that leads out; '' where there is none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address = str(probe.getsockname()[0])
        return "" if address.startswith("127.") else address


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def talk(folder: Path, page: str) -> list[float]:
    """Call the echo, then the tone; gives the levels that were heard, in dBFS."""
    phone = Firefox(folder)
    heard = []
    try:
        phone.open(page)
        phone.js("localStorage['siperb.phone'] = arguments[0]", json.dumps(PREFERENCES))
        phone.open(f"{page}?again#device=alice-web&password=alice-secret")
        phone.until("return globalThis.siperbPhone?.state.registration === 'registered'")
        phone.js(LISTEN)
        for number, level in (("600", FAKE_DBFS), ("601", -6)):
            phone.fill("number", number)
            phone.click("call")
            phone.until("return siperbPhone.state.call === 'active'")
            heard.append(phone.until(HEARD, level))
            phone.click("hangup")
            phone.until("return siperbPhone.state.call === 'ended'")
    finally:
        phone.close()
    return heard


async def test_it_hears_itself_at_the_echo_and_the_tone_of_the_pbx(tmp_path: Path, bundles: None) -> None:
    here = machines_address()
    if not here:
        pytest.skip("this machine has no address but loopback, and Firefox takes none of these")
    console = free_port()
    head = (
        head_with(None)
        .replace('disable = ["console"]', "")
        .replace("[gateway]", f'[gateway]\nexternal_address = "{here}"')
    )
    with trio.fail_after(150):
        async with open_pbx() as pbx:
            text = TRUNK.format(here=here, port=pbx.local[1], console=console)
            async with open_gateway(tmp_path, text, head=head) as gateway:
                # A headless Firefox analyses no sound: what it hears is known by its level, what it says at the PBX.
                levels = await trio.to_thread.run_sync(talk, tmp_path, f"http://127.0.0.1:{console}/phone")
                assert levels == [pytest.approx(FAKE_DBFS, abs=2), pytest.approx(-6, abs=2)]
                assert pbx.calls[0].heard.is_tone(FAKE_HZ, within=2)
                rows = await gateway.operations.call("show.calls")
                assert [row["diagnosis"] for row in rows] == ["", ""]
                assert {(row["media"]["client_codec"], row["media"]["mode"]) for row in rows} == {("opus", "transcode")}
