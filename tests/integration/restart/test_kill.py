"""kill -9 in the middle of a call: what was promised before it holds after it."""

from __future__ import annotations

import secrets
from pathlib import Path

import trio

from siperb_core.testing.gateway_process import gateway_process, gone, own_address, until
from siperb_core.testing.pbx import PbxSettings, open_pbx
from siperb_core.testing.softphone import open_softphone

GATEWAY = """
[gateway]
domain = "gw.example"
data_dir = "data"
drain_seconds = 0

[[listen]]
transport = "udp"
bind = "{address}:5060"

[[listen]]
transport = "ws"
bind = "{address}:8088"

[media]
workers = 2
ports = "{first}-{last}"

[[device]]
name = "alice-web"
user = "alice"
password = "alice-secret"
"""

OFFICE = """
[[connection]]
name = "office"
type = "outbound_registration"
users = ["alice"]
[connection.settings]
server = "127.0.0.1"
port = {port}
username = "200"
password = "two-hundred"
"""

KILLS = 5


async def test_killed_in_five_calls(tmp_path: Path) -> None:
    here = own_address()
    first = 20_000 + 100 * secrets.randbelow(100)
    async with open_pbx(PbxSettings(accounts={"200": "two-hundred"})) as pbx:
        config = GATEWAY.format(address=here, first=first, last=first + 99) + OFFICE.format(port=pbx.local[1])
        with trio.fail_after(120):
            async with (
                gateway_process(tmp_path, config) as gateway,
                open_softphone(f"ws://{here}:8088/ws", "alice-web", "gw.example", "alice-secret") as phone,
            ):
                await until(lambda: gateway.registered("office"))
                for kill in range(KILLS):
                    call = await phone.call("601")
                    await call.answered()
                    await call.hears(1000)
                    far = pbx.calls[-1]
                    assert gateway.stored("dialogs") == 1, "it was on disk before the 200 OK"
                    workers = gateway.workers
                    assert len(workers) == 2

                    await gateway.kill()
                    await phone.disconnected.wait()
                    await gateway.start()

                    # The PBX is told at once, by the address that the store remembers.
                    await far.ended.wait()
                    (bye,) = [
                        message
                        for message in pbx.agent.received_messages
                        if message.method == "BYE" and message.call_id == call.call_id
                    ]
                    assert "media lost in a restart of the gateway" in (bye.get("Reason") or "")
                    assert all(gone(worker) for worker in workers), "no media worker outlives its gateway"

                    # The phone comes back with the same instance: it replaces its binding, and hears that the call is
                    # over, unless it hangs up first.
                    await phone.reconnect()
                    (binding,) = await gateway.ask("show.registrations")
                    assert (binding["device"], binding["instance"]) == (
                        "alice-web",
                        f"<{phone.settings.instance}>",
                    )
                    assert gateway.stored("bindings") == 1
                    if kill % 2:
                        await call.hangup()
                    await call.ended.wait()
                    await until(lambda: gateway.registered("office"))
                    assert len(pbx.registrar.bindings("200")) == 1

                    async def nothing_left() -> bool:
                        return not await gateway.ask("show.calls", ended=False) and not gateway.stored("dialogs")

                    await until(nothing_left)

                # And it still works.
                call = await phone.call("601")
                await call.answered()
                await call.hears(1000)
                await call.hangup()
        assert "Traceback" not in gateway.log
