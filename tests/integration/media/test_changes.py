"""What changes in the middle of a call: hold, codec, ports, and what a PBX may do to its stream. Whole gateway, heard
at both ends.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.testing.gateway import open_gateway, trunk_to, websocket_url
from siperb_core.testing.pbx import PbxCall, PbxSettings, open_pbx
from siperb_core.testing.softphone import PhoneCall, open_softphone


@asynccontextmanager
async def calling(
    directory: Path, *, keys: str = "", codecs: tuple[str, ...] = ("opus",), **pbx: Any
) -> AsyncIterator[tuple[PhoneCall, PbxCall, Gateway]]:
    """A call of the softphone, 700 Hz said by it and 1000 Hz by the PBX."""
    async with open_pbx(PbxSettings(tone_dbfs=-10.0, **pbx)) as peer:
        text = trunk_to(peer.local[1], keys)
        async with (
            open_gateway(directory, text) as gateway,
            open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret", codecs=codecs) as phone,
        ):
            with trio.fail_after(120):
                call = await phone.call("601")
                await call.answered()
                call.play(700, -10.0)
                await both_hear(call, peer.calls[0])
                yield call, peer.calls[0], gateway
                await call.hangup()


async def both_hear(call: PhoneCall, peer: PbxCall, seconds: float = 0.4) -> None:
    """Frequency and level at both ends, of what is said from now on."""
    for end, hertz in ((call, 1000), (peer, 700)):
        await end.listen(0.1)
        await end.hears(hertz)
        heard = await end.listen(seconds)
        assert heard.is_tone(hertz, within=4), heard
        assert heard.dbfs == pytest.approx(-10, abs=0.7), heard


async def figures(gateway: Gateway) -> dict[str, Any]:
    (row,) = await gateway.operations.call("show.calls")
    media: dict[str, Any] = row["media"]
    return media


@pytest.mark.parametrize("by", ["phone", "pbx"])
@pytest.mark.parametrize("mode", ["transcode", "relay"])
async def test_ten_times_held_and_resumed_and_heard_after_each(tmp_path: Path, by: str, mode: str) -> None:
    keys, codecs = ('media = "relay"', ("PCMA",)) if mode == "relay" else ("", ("opus",))
    async with calling(tmp_path, keys=keys, codecs=codecs) as (call, peer, gateway):
        side = call if by == "phone" else peer
        for _ in range(10):
            await side.hold()
            before = side.media.ear.packets
            await trio.sleep(0.2)
            assert side.media.ear.packets - before <= 3, "sendonly: the other one hears the music, and says nothing"
            await side.resume()
            await both_hear(call, peer)
        media = await figures(gateway)
        assert media["mode"] == mode
        assert media["client"]["lost"] == media["peer"]["lost"] == 0


async def test_the_pbx_changes_codec_and_port_in_mid_call_and_changes_back(tmp_path: Path) -> None:
    async with calling(tmp_path) as (call, peer, gateway):
        media: Any = peer.media
        for codec in ("PCMA", "PCMU", "G722"):
            media._negotiation._codecs, media._negotiation._last = (codec,), None
            port = media.port
            media.move()
            assert media.port != port
            await peer.reinvite()
            await both_hear(call, peer)
            assert media.agreed.codec == codec
            assert (await figures(gateway))["peer_codec"] == codec


async def test_a_port_change_by_update_is_followed(tmp_path: Path) -> None:
    async with calling(tmp_path) as (call, peer, _):
        peer.media.move()
        await peer.update()
        await both_hear(call, peer)


def another_source(media: Any) -> None:
    media.ssrc = (media.ssrc + 12345) & 0xFFFFFFFF
    media._sequence, media._timestamp = 77, 99


def sequence_near_its_wrap(media: Any) -> None:
    media._sequence = 0xFFFF - 10


def timestamps_near_their_wrap(media: Any) -> None:
    media._timestamp = 0xFFFFFFFF - 1000


def timestamps_leap(media: Any) -> None:
    media._timestamp = (media._timestamp + 0x40000000) & 0xFFFFFFFF


def timestamps_leap_back(media: Any) -> None:
    media._timestamp = (media._timestamp - 0x10000000) & 0xFFFFFFFF


@pytest.mark.parametrize("codecs", [("opus",), ("PCMA",)], ids=["transcode", "relay"])
async def test_whatever_the_pbx_does_to_its_stream_the_phone_hears_it_on(
    tmp_path: Path, codecs: tuple[str, ...]
) -> None:
    keys = 'media = "relay"' if codecs == ("PCMA",) else ""
    async with calling(tmp_path, keys=keys, codecs=codecs) as (call, peer, gateway):
        changes: list[Callable[[Any], None]] = [
            another_source,
            sequence_near_its_wrap,
            timestamps_near_their_wrap,
            timestamps_leap,
            timestamps_leap_back,
            another_source,
        ]
        for change in changes:
            change(peer.media)
            await both_hear(call, peer)
        lost = (await figures(gateway))["peer"]["lost"]
        assert lost <= len(changes), "a new beginning is no loss, but for the packet that was not believed at once"


async def test_a_pbx_behind_nat_is_learned_once_and_then_nobody_else_is_heard(tmp_path: Path) -> None:
    async with open_pbx() as pbx:
        text = trunk_to(pbx.local[1])
        async with (
            open_gateway(tmp_path, text) as gateway,
            open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone,
        ):
            with trio.fail_after(60):
                call = await phone.call("601")
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as translated:
                    translated.bind(("127.0.0.1", 0))
                    while not pbx.calls:  # noqa: ASYNC110
                        await trio.sleep(0.005)
                    peer: Any = pbx.calls[0].media
                    told = peer._rtp
                    while peer.agreed is None:
                        await trio.lowlevel.checkpoint()
                    translated.setblocking(False)

                    class Moved:
                        """Sends from another port than SDP says, as behind a NAT, and listens there."""

                        def __init__(self, sock: socket.socket) -> None:
                            self._sock = sock

                        def sendto(self, data: bytes, to: tuple[str, int]) -> int:
                            return self._sock.sendto(data, to)

                        def __getattr__(self, name: str) -> Any:
                            return getattr(told, name)

                    peer._rtp = Moved(translated)
                    await call.answered()
                    pbx.calls[0].play(1000, -10.0)
                    await call.hears(1000)
                    for _ in range(20):
                        await trio.lowlevel.wait_readable(translated)
                        assert len(translated.recv(2048)) > 12
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as third:
                        third.bind(("127.0.0.1", 0))
                        peer._rtp = Moved(third)
                        await trio.sleep(0.5)
                        before = call.media.ear.packets
                        await trio.sleep(0.5)
                        assert call.media.ear.packets - before <= 1, "a third port is a stranger's"
                    peer._rtp = Moved(translated)
                    assert (await call.listen(0.5)).is_tone(1000, within=4)
                    peer._rtp = told
                    await call.hangup()
