"""The fixtures of the pytest plugin, as a plugin's author uses them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import trio

CONNECTION = """
[[connection]]
name = "office"
type = "outbound_registration"
[connection.settings]
server = "127.0.0.1"
port = {port}
username = "200"
password = "two-hundred"
"""


async def test_a_call_through_a_gateway_with_one_plugin(pbx: Any, gateway: Any, softphone: Any) -> None:
    with trio.fail_after(60):
        office = await pbx(accounts={"200": "two-hundred"})
        gw = await gateway(
            CONNECTION.format(port=office.local[1]), plugins=["connection_outbound_reg", "transcoder_opus_g722"]
        )
        loaded = {info.name for info in gw.plugins.infos if info.state == "loaded"}
        assert loaded == {"defaults", "connection_outbound_reg", "transcoder_opus_g722"}
        alice = await softphone(gw, "alice")
        call = await alice.call("601")
        await call.answered()
        await call.hears(1000)
        await call.hangup()


async def test_a_plugin_that_is_not_there_is_named(gateway: Any) -> None:
    with pytest.raises(LookupError, match="no plugin connection_of_nobody is installed"):
        await gateway(plugins=["connection_of_nobody"])


async def test_the_entry_lives_on_virtual_time(entry: Any, autojump_clock: Any) -> None:
    before = entry.now()
    await trio.sleep(3600)
    assert entry.now() == before + 3600


def test_the_plugin_is_cheap_to_load() -> None:
    """It is imported in every pytest run of everybody who has the core."""
    script = (
        "import sys, siperb_core.testing.pytest_plugin; print(*[n for n in sys.modules if n.startswith('siperb_')])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert sorted(loaded) == ["siperb_core", "siperb_core.testing", "siperb_core.testing.pytest_plugin"]
