"""One device in two tabs of a browser, and kill -9 in the call of one: the other tab is left alone."""

from __future__ import annotations

import secrets
from pathlib import Path

import trio

from siperb_core.testing.gateway_process import gateway_process, own_address
from siperb_core.testing.pbx import PbxSettings, open_pbx
from siperb_core.testing.softphone import open_softphone

from .test_kill import GATEWAY

TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["127.0.0.0/8"]
[connection.settings]
server = "127.0.0.1"
port = {port}
qualify = 0
"""


async def test_the_first_tab_back_does_not_get_the_other_s_bye(tmp_path: Path) -> None:
    here = own_address()
    first = 20_000 + 100 * secrets.randbelow(100)
    url = f"ws://{here}:8088/ws"
    async with open_pbx(PbxSettings()) as pbx:
        config = GATEWAY.format(address=here, first=first, last=first + 99) + TRUNK.format(port=pbx.local[1])
        with trio.fail_after(120):
            async with (
                gateway_process(tmp_path, config) as gateway,
                open_softphone(url, "alice-web", "gw.example", "alice-secret") as talking,
                open_softphone(url, "alice-web", "gw.example", "alice-secret") as idle,
            ):
                assert talking.settings.instance != idle.settings.instance
                call = await talking.call("601")
                await call.answered()
                await gateway.kill()
                await talking.disconnected.wait()
                await idle.disconnected.wait()
                await gateway.start()
                await pbx.calls[-1].ended.wait()
                await idle.reconnect()
                assert gateway.stored("dialogs") == 1, "its owner is still to hear of the end"
                await talking.reconnect()
                await call.ended.wait()
                assert [message.method for message in idle.agent.received_messages if message.is_request] == []
            assert "Traceback" not in gateway.log
