"""A call whose media move: ICE restarts, forks, late offers. Whole gateway, asserted on what is heard."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aioice
import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.testing.gateway import address, open_gateway, trunk_to, websocket_url
from siperb_core.testing.pbx import Pbx, open_pbx
from siperb_core.testing.softphone import PhoneCall, Softphone, open_softphone
from siperb_core.testing.softphone_sdp import read


@asynccontextmanager
async def trunk(directory: Path) -> AsyncIterator[tuple[Gateway, Pbx]]:
    async with open_pbx() as pbx, open_gateway(directory, trunk_to(pbx.local[1])) as gateway:
        with trio.fail_after(60):
            yield gateway, pbx


async def test_a_softphone_on_another_address_of_the_machine_is_heard_every_time(tmp_path: Path) -> None:
    """It asks at 127.0.0.1, and would be answered from its own address: three calls in ten came to nothing."""
    here = machines_address()
    if not here:
        pytest.skip("this machine has no address but loopback")
    async with trunk(tmp_path) as (gateway, pbx):
        url = websocket_url(gateway)
        async with open_softphone(url, "alice-web", gateway.domain, "alice-secret", addresses=(here,)) as phone:
            for _ in range(6):
                incoming = await pbx.call("sip:4711@{}:{}".format(*address(gateway, "udp")))
                called = await phone.next_call()
                await called.accept()
                await called.connected()
                await called.hears(1000)
                await incoming.hears(440)
                await incoming.hangup()
                await called.ended.wait()
            rows = await gateway.operations.call("show.calls")
            assert [row["diagnosis"] for row in rows] == [""] * 6


async def test_a_softphone_with_several_addresses_is_heard_while_its_pairs_change(tmp_path: Path) -> None:
    """It nominates each pair that works, so the address DTLS goes to changes while it runs."""
    several = ("127.0.0.1", "127.0.0.2", "127.9.0.3")
    async with trunk(tmp_path) as (gateway, pbx):
        url = websocket_url(gateway)
        async with open_softphone(url, "alice-web", gateway.domain, "alice-secret", addresses=several) as phone:
            for _ in range(3):
                incoming = await pbx.call("sip:4711@{}:{}".format(*address(gateway, "udp")))
                called = await phone.next_call()
                await called.accept()
                await called.hears(1000)
                await incoming.hears(440)
                await incoming.hangup()
                await called.ended.wait()
                call = await phone.call("601")
                await call.answered()
                await call.hears(1000)
                await pbx.calls[-1].hears(440)
                await call.hangup()
            rows = await gateway.operations.call("show.calls")
            assert [row["diagnosis"] for row in rows] == [""] * 6


def machines_address() -> str:
    """That of the interface that leads out; "" where there is none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        found = str(probe.getsockname()[0])
        return "" if found.startswith("127.") else found


@asynccontextmanager
async def alice(gateway: Gateway) -> AsyncIterator[Softphone]:
    async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone:
        yield phone


async def restart_ice(call: PhoneCall) -> None:
    """Offer a new ICE generation on a new socket; DTLS goes on over it (RFC 8842 section 4)."""
    media: Any = call.media
    peer = media._peer

    async def gather() -> aioice.Connection:
        new: Any = aioice.Connection(ice_controlling=True)
        new._local_candidates += await new.get_component_candidates(1, ["127.0.0.1"])
        new._local_candidates_start = new._local_candidates_end = True
        return new

    old, new = peer._connection, await media._thread.run(gather())
    peer._connection = new
    await call.reinvite()
    remote = read(media.answers[-1]).peer
    assert remote.ufrag != old.remote_username

    async def move() -> None:
        for value in remote.candidates:
            await new.add_remote_candidate(aioice.Candidate.from_sdp(value))
        await new.add_remote_candidate(None)
        new.remote_username, new.remote_password = remote.ufrag, remote.password
        await new.connect()
        peer._ice._connection, peer._ice._recv, peer._ice._send = new, new.recv, new.send
        old._queue.put_nowait((bytes(2), 1))  # wakes the reader, which looks at the new one next
        old._query_consent_task.cancel()
        for protocol in old._protocols:  # not `old.close`: that would end the transport above it
            await protocol.close()

    await media._thread.run(move())


async def test_an_ice_restart_of_the_browser_moves_the_call_to_its_new_address(tmp_path: Path) -> None:
    async with trunk(tmp_path) as (gateway, pbx), alice(gateway) as phone:
        call = await phone.call("601")
        await call.answered()
        await call.hears(1000)
        for _ in range(2):
            await restart_ice(call)
            assert (await call.listen()).is_tone(1000, within=2)
            assert (await pbx.calls[0].listen()).is_tone(440, within=2)
        await call.hangup()


async def test_media_follow_from_the_browser_that_answered_early_to_the_one_that_answers(tmp_path: Path) -> None:
    async with trunk(tmp_path) as (gateway, pbx), alice(gateway) as first, alice(gateway) as second:
        incoming = await pbx.call("sip:4711@{}:{}".format(*address(gateway, "udp")))
        incoming.play(1000)
        early = await first.next_call()
        while not second.calls:  # noqa: ASYNC110
            await trio.sleep(0.02)
        late = second.calls[0]
        early.play(600)
        late.play(700)
        await early.progress()
        await incoming.hears(600)
        await early.hears(1000)
        await late.accept()
        await incoming.answered()
        await incoming.hears(700)
        await late.hears(1000)
        assert (await incoming.listen()).is_tone(700, within=2)
        await early.ended.wait()
        await incoming.hangup()
        for session in gateway.media.sessions:
            await session.closed.wait()
        assert gateway.media.ports.taken == 0


async def test_a_late_offer_of_the_pbx_is_answered_in_the_ack(tmp_path: Path) -> None:
    async with trunk(tmp_path) as (gateway, pbx), alice(gateway) as phone:
        incoming = await pbx.call("sip:4711@{}:{}".format(*address(gateway, "udp")), late_offer=True)
        incoming.play(1000)
        call = await phone.next_call()
        await call.accept()
        await incoming.answered()
        await call.hears(1000)
        await incoming.hears(440)
        await incoming.hangup()
