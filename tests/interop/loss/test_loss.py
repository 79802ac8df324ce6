"""Calls at a hundred a second over a leg that loses one datagram in ten: they are set up, and nothing is left over.

The calls have no media. A call over UDP is bridged always, and each offer would cost the media workers more than its
signalling costs the gateway; so the INVITEs come without an offer. What is measured is transactions: retransmission in
both directions, 2xx that come again, ACKs that are lost, BYEs that come twice.

`make soak` makes 1,000 calls of it instead of 200.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.wire import open_wire

from .ends import GIVE_UP, LightPbx, LightPhone
from .network import Relay, Weather

SOAK = bool(os.environ.get("SIPERB_SOAK"))
CALLS = 1000 if SOAK else 200
PER_SECOND = 100
TALK = 1.0  # seconds
PHONES = 4

GATEWAY = """
[gateway]
domain = "gw.example"
data_dir = "data"

[[listen]]
transport = "udp"
bind = "127.0.0.1:0"

[[listen]]
transport = "ws"
bind = "127.0.0.1:0"

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
    with trio.fail_after(120 + CALLS / PER_SECOND * 4):
        async with trio.open_nursery() as nursery:
            await nursery.start(pbx.run)
            relay = Relay(pbx.local, Weather(), seed)
            await nursery.start(relay.run)
            pbx.contact = "sip:pbx@{}:{}".format(*relay.near)
            async with open_gateway(tmp_path, head=GATEWAY.format(port=relay.near[1])) as gateway:
                phones: list[LightPhone] = []
                async with trio.open_nursery() as ends:
                    for _ in range(PHONES):
                        wire = await ends.start(_open, address(gateway, "ws"))
                        phones.append(LightPhone(wire))
                        await phones[-1].register("alice-web", "alice-secret")
                        ends.start_soon(phones[-1].serve)
                    async with trio.open_nursery() as calls:
                        start = trio.current_time()
                        for number in range(CALLS):
                            calls.start_soon(phones[number % PHONES].call, f"{number}", TALK)
                            await trio.sleep_until(start + (number + 1) / PER_SECOND)
                    outcomes = sum((phone.outcomes for phone in phones), start=type(phones[0].outcomes)())
                    assert relay.counts["lost"] > relay.counts["sent"] / 20, (outcomes, relay.counts)
                    assert outcomes["set up"] >= 0.995 * CALLS, (outcomes, relay.counts, pbx.counts)
                    assert outcomes["BYE 200"] + outcomes["BYE 481"] == outcomes["set up"], outcomes
                    assert not pbx.running, "the PBX has heard that its calls are over"
                    assert not gateway.calls.active()
                    # Every transaction ends by its own timers, 32 s after the last of them began at the latest.
                    with trio.fail_after(GIVE_UP + 20):
                        while gateway.signalling.transactions:  # noqa: ASYNC110 - timers of the gateway end without an event
                            await trio.sleep(0.1)
                    assert not gateway.media.sessions
                    assert gateway.signalling.rejected["bug"] == 0
                    ends.cancel_scope.cancel()
            nursery.cancel_scope.cancel()


async def _open(remote: tuple[str, int], *, task_status: trio.TaskStatus[object]) -> None:
    async with open_wire("ws", remote) as wire:
        task_status.started(wire)
        await trio.sleep_forever()
