"""RTCP on the wire: reports of our own towards the PBX, and nothing of the browser's."""

from __future__ import annotations

import socket
from typing import Any

import attrs
import trio

from siperb_core.rtp.rtcp import Report, ReportBlock, build_cname, build_report, parse_rtcp

SDES = 202


async def test_the_pbx_gets_reports_of_our_own_and_its_own_are_counted(call: Any) -> None:
    rtcp = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await rtcp.bind(("127.0.0.1", 0))
    with rtcp:
        plain = call.plan
        call.plan = lambda leg, **more: attrs.evolve(
            plan := plain(leg, **more), peer=attrs.evolve(plan.peer, remote_rtcp=rtcp.getsockname())
        )
        await call.connect()
        call.nursery.start_soon(call.phone.talk, ("127.0.0.1", call.session.peer_port), 700.0)
        with trio.fail_after(20):
            reports: list[Report] = []
            while not reports or not reports[-1].blocks:
                data, source = await rtcp.recvfrom(2048)
                assert source == ("127.0.0.1", call.session.peer_port + 1)
                kinds, at = [], 0
                while at < len(data):
                    kinds.append(data[at + 1])
                    at += 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
                assert kinds in ([200, SDES], [201, SDES]), "no feedback, nothing of the browser's"
                reports += [packet for packet in parse_rtcp(data) if isinstance(packet, Report)]
        report = reports[-1]
        assert report.ssrc == 777
        assert report.sender is not None
        assert report.sender.packets > 0
        assert report.blocks[0].ssrc == 4711
        middle = report.sender.ntp >> 16 & 0xFFFFFFFF
        block = ReportBlock(777, 26, 3, 1, 40, middle, 0)
        await rtcp.sendto(
            build_report(Report(4711, None, (block,))) + build_cname(4711, "pbx"),
            ("127.0.0.1", call.session.peer_port + 1),
        )
        with trio.fail_after(10):
            while call.session.stats["peer"]["round_trip_ms"] is None:  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert call.session.stats["peer"]["loss_reported"] > 0.09


async def test_a_leg_whose_rtcp_goes_on_is_there_and_one_that_sends_nothing_is_gone(call: Any) -> None:
    """A phone that is muted without a word, a PBX that plays nothing: `rtp_timeout` is 2 s here."""
    await call.connect()
    peer = ("127.0.0.1", call.session.peer_port)
    phone, there = call.phone, ("127.0.0.1", call.session.peer_port + 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(phone.talk, peer, 700.0)
        await call.browser.hear(0.2)
        nursery.cancel_scope.cancel()
    report = build_report(Report(4711, None, ())) + build_cname(4711, "pbx")
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtcp:
        await rtcp.bind(("127.0.0.1", 0))
        for _ in range(40):  # the browser talks on: four seconds of its packets
            await rtcp.sendto(report, there)
            await phone.heard(5)
    assert [event.kind for event in call.events] == ["connected"]
    gone = await call.event("rtp_timeout")
    assert gone.leg == "peer"
    assert int(gone.detail.split()[3]) >= 5, gone.detail


async def test_a_browser_that_sends_only_rtcp_is_not_gone_until_that_ends_too(call: Any) -> None:
    await call.connect()
    call.nursery.start_soon(call.phone.talk, ("127.0.0.1", call.session.peer_port), 700.0)
    await call.phone.heard(10)
    await call.browser.stop_talking()
    for _ in range(8):
        await call.browser.hear(0.5)
    assert [event.kind for event in call.events] == ["connected"]
    call.browser.stop_reporting()
    assert (await call.event("rtp_timeout")).leg == "client"


async def test_a_call_on_hold_goes_on_though_nobody_sends_and_resumed_the_time_begins_anew(call: Any) -> None:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtcp:
        await rtcp.bind(("127.0.0.1", 0))
        plain = call.plan

        def reported(leg: Any, **more: Any) -> Any:
            plan = plain(leg, **more)
            return attrs.evolve(plan, peer=attrs.evolve(plan.peer, remote_rtcp=rtcp.getsockname()))

        call.plan = reported
        await call.connect()
        call.session.apply(call.plan(call.leg, direction="inactive"))
        with trio.fail_after(40):
            for _ in range(3):  # reports of ours are two and a half seconds apart at least, and `rtp_timeout` is 2
                await rtcp.recvfrom(2048)
        assert [event.kind for event in call.events] == ["connected"]
        call.session.apply(call.plan(call.leg))
        assert (await call.event("rtp_timeout")).leg == "peer"
