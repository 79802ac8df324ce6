"""Calls at a hundred a second over a leg that loses one datagram in ten: they are set up, and nothing is left over.

The calls have no media. A call over UDP is bridged always, and each offer would cost the media workers more than its
signalling costs the gateway; so the INVITEs come without an offer. What is measured is transactions: retransmission in
both directions, 2xx that come again, ACKs that are lost, BYEs that come twice.

The far end is a PBX of our own, which counts what it sees, and SIPp, which is not ours. `make soak` makes 1,000 calls
of it instead of 200.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from sipp_peer import PORT, open_sipp

from siperb_core.testing.gateway_process import GatewayProcess, gateway_process, own_address, until
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
LIMIT = 240 + CALLS / PER_SECOND * 4  # seconds

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
qualify = 0
"""


SIPP = bool(shutil.which("sipp"))


async def test_calls_over_a_leg_that_loses_every_tenth_datagram(tmp_path: Path) -> None:
    pbx = LightPbx()
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            await nursery.start(pbx.run)
            relay = Relay(pbx.local, Weather(), seed=1)
            await nursery.start(relay.run)
            pbx.contact = "sip:pbx@{}:{}".format(*relay.near)
            async with gateway_behind(relay, tmp_path) as (gateway, here):
                outcomes = await place_calls(gateway, (here, 8088), nursery)
                again = pbx.counts["requests again"], pbx.counts["200 to INVITE"] - len(pbx.answered)
                print(f"the network: {dict(relay.counts)}; came again: {again[0]} requests, {again[1]} 200s to INVITE")
                told = (outcomes, relay.counts, pbx.counts)
                assert relay.counts["lost"] > relay.counts["sent"] / 20, told
                assert outcomes["set up"] >= 0.995 * CALLS, told
                assert outcomes["BYE 200"] + outcomes["BYE 481"] == outcomes["set up"], told

                async def nothing_left() -> bool:
                    return not pbx.running and await is_clean(gateway)

                # Every transaction ends by its own timers, 32 s after the last of them began at the latest.
                await until(nothing_left, seconds=GIVE_UP + 30)
                assert "Traceback" not in gateway.log, gateway.log[-3000:]
                nursery.cancel_scope.cancel()  # the phones go before their gateway


@pytest.mark.skipif(not SIPP, reason="not installed: sipp (apt-get install sip-tester)")
async def test_sipp_answers_behind_that_leg(tmp_path: Path) -> None:
    """Another's transactions at the far end: what is sent again, and when, is SIPp's to say."""
    address = own_address()
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            relay = Relay((address, PORT), Weather(), seed=2)
            await nursery.start(relay.run)
            keys = {"contact": "{}:{}".format(*relay.near)}
            # It does not end by itself: one call more than there are.
            async with (
                open_sipp(tmp_path, "uas_lossy", keys=keys, calls=CALLS + 1, address=address, messages=False) as pbx,
                gateway_behind(relay, tmp_path) as (gateway, here),
            ):
                outcomes = await place_calls(gateway, (here, 8088), nursery)

                async def nothing_left() -> bool:
                    counted = pbx.statistics
                    return counted.get("CurrentCall") == "0" and await is_clean(gateway)

                await until(nothing_left, seconds=2 * GIVE_UP + 30)  # SIPp remembers a call for 32 s
                counted = pbx.statistics
                print(f"the network: {dict(relay.counts)}; SIPp sent again: {counted['Retransmissions(C)']}")
                told = (outcomes, relay.counts, counted)
                assert relay.counts["lost"] > relay.counts["sent"] / 20, told
                assert int(counted["Retransmissions(C)"]) > CALLS / 20, told
                assert outcomes["set up"] >= 0.995 * CALLS, told
                assert outcomes["BYE 200"] + outcomes["BYE 481"] == outcomes["set up"], told
                assert int(counted["SuccessfulCall(C)"]) >= 0.995 * CALLS, told
                assert "Traceback" not in gateway.log, gateway.log[-3000:]
                nursery.cancel_scope.cancel()


@asynccontextmanager
async def gateway_behind(relay: Relay, folder: Path) -> AsyncIterator[tuple[GatewayProcess, str]]:
    """A gateway whose PBX is beyond a relay, and its address. In a process of its own: what makes the calls must not
    slow down what carries them.
    """
    here = own_address()
    async with gateway_process(folder, GATEWAY.format(here=here, port=relay.near[1])) as gateway:
        yield gateway, here


async def place_calls(gateway: GatewayProcess, at: tuple[str, int], nursery: trio.Nursery) -> Counter[str]:
    """All the calls, from softphones that stay with the nursery; what became of them."""
    phones: list[LightPhone] = []
    for _ in range(PHONES):
        phones.append(LightPhone(await nursery.start(_open, at)))
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
    print(f"{CALLS} calls offered at {rate:.0f}/s, {cpu:.1f} ms CPU each: {dict(outcomes)}")
    return outcomes


async def is_clean(gateway: GatewayProcess) -> bool:
    """Whether no call, transaction or stored dialog is left."""
    status = await gateway.ask("gateway.status")
    return not (status["calls"] or status["transactions"] or gateway.stored("dialogs"))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _open(remote: tuple[str, int], *, task_status: trio.TaskStatus[object]) -> None:
    async with open_wire("ws", remote) as wire:
        task_status.started(wire)
        await trio.sleep_forever()
