"""Calls at a hundred a second over a leg that loses one datagram in ten: they are set up, and nothing is left over.

The calls have no media. A call over UDP is bridged always, and each offer would cost the media workers more than its
signalling costs the gateway; so the INVITEs come without an offer. What is measured is transactions: retransmission in
both directions, 2xx that come again, ACKs that are lost, BYEs that come twice.

`make soak` makes 1,000 calls of it instead of 200.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
import trio

from siperb_core.testing.gateway_process import gateway_process, own_address, until
from siperb_core.testing.wire import open_wire

from .ends import GIVE_UP, LightPbx, LightPhone
from .network import Relay, Weather

SOAK = bool(os.environ.get("SIPERB_SOAK"))
CALLS = 1000 if SOAK else 200
PER_SECOND = 100
AT_ONCE = 100
"""Most calls being set up: a few dozen are, unless the machine has other things to do, and then it takes longer."""
TALK = 1.0  # seconds
PHONES = 10

GATEWAY = """
[gateway]
domain = "gw.example"
data_dir = "data"

[[listen]]
transport = "udp"
bind = "{here}:5060"

[[listen]]
transport = "ws"
bind = "{here}:8088"

[media]
workers = 1
ports = "30000-39999"

[[device]]
name = "alice-web"
user = "alice"
password = "alice-secret"

[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["127.0.0.1/32"]
[connection.settings]
server = "127.0.0.1"
port = {port}
"""


@pytest.mark.parametrize("seed", [1])
async def test_calls_over_a_leg_that_loses_every_tenth_datagram(tmp_path: Path, seed: int) -> None:
    pbx = LightPbx()
    here = own_address()
    with trio.fail_after(150 + CALLS / PER_SECOND * 4):
        async with trio.open_nursery() as nursery:
            await nursery.start(pbx.run)
            relay = Relay(pbx.local, Weather(), seed)
            await nursery.start(relay.run)
            pbx.contact = "sip:pbx@{}:{}".format(*relay.near)
            # In a process of its own: what makes the calls must not slow down what carries them.
            async with gateway_process(tmp_path, GATEWAY.format(here=here, port=relay.near[1])) as gateway:
                phones: list[LightPhone] = []
                for _ in range(PHONES):
                    phones.append(LightPhone(await nursery.start(_open, (here, 8088))))
                    await phones[-1].register("alice-web", "alice-secret")
                    nursery.start_soon(phones[-1].serve)
                assert gateway.process is not None
                cpu = cpu_seconds(gateway.process.pid)
                async with trio.open_nursery() as calls:
                    start = trio.current_time()
                    setting_up = trio.Semaphore(AT_ONCE)
                    for number in range(CALLS):
                        await setting_up.acquire()
                        calls.start_soon(phones[number % PHONES].call, f"{number}", TALK, setting_up)
                        await trio.sleep_until(start + (number + 1) / PER_SECOND)
                    rate = CALLS / (trio.current_time() - start)
                outcomes = sum((phone.outcomes for phone in phones), start=Counter[str]())
                cpu = (cpu_seconds(gateway.process.pid) - cpu) / CALLS * 1000
                again = pbx.counts["requests again"], pbx.counts["200 to INVITE"] - len(pbx.answered)
                print(f"{CALLS} calls offered at {rate:.0f}/s, {cpu:.1f} ms CPU each: {dict(outcomes)}")
                print(f"the network: {dict(relay.counts)}; came again: {again[0]} requests, {again[1]} 200s to INVITE")
                told = (outcomes, relay.counts, pbx.counts)
                assert relay.counts["lost"] > relay.counts["sent"] / 20, told
                assert outcomes["set up"] >= 0.995 * CALLS, told
                assert outcomes["BYE 200"] + outcomes["BYE 481"] == outcomes["set up"], told

                async def nothing_left() -> bool:
                    status = await gateway.ask("gateway.status")
                    return not (status["calls"] or status["transactions"] or pbx.running or gateway.stored("dialogs"))

                # Every transaction ends by its own timers, 32 s after the last of them began at the latest.
                await until(nothing_left, seconds=GIVE_UP + 30)
                assert "Traceback" not in gateway.log
                nursery.cancel_scope.cancel()  # the phones go before their gateway


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _open(remote: tuple[str, int], *, task_status: trio.TaskStatus[object]) -> None:
    async with open_wire("ws", remote) as wire:
        task_status.started(wire)
        await trio.sleep_forever()
