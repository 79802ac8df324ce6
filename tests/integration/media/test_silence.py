"""Silence through a whole gateway: comfort noise and pauses are no loss, and what is said afterwards is heard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from siperb_core.rtp.packet import COMFORT_NOISE, RtpPacket
from siperb_core.testing import codecs
from siperb_core.testing.gateway import open_gateway, trunk_to, websocket_url
from siperb_core.testing.pbx import PbxSettings, open_pbx
from siperb_core.testing.softphone import open_softphone


@pytest.mark.parametrize(
    ("phone_codecs", "pbx_codecs"), [(("opus",), ("G722",)), (("opus",), ("PCMA",)), (("PCMU",), ("PCMU",))]
)
async def test_both_ends_fall_silent_and_speak_again(
    tmp_path: Path, phone_codecs: tuple[str, ...], pbx_codecs: tuple[str, ...]
) -> None:
    async with open_pbx(PbxSettings(codecs=pbx_codecs)) as pbx:
        text = trunk_to(pbx.local[1])
        async with (
            open_gateway(tmp_path, text) as gateway,
            open_softphone(
                websocket_url(gateway), "alice-web", gateway.domain, "alice-secret", codecs=phone_codecs
            ) as phone,
        ):
            with trio.fail_after(90):
                call = await phone.call("601")
                await call.answered()
                await call.connected()
                peer: Any = pbx.calls[0].media
                came: list[RtpPacket] = []
                take = peer._take

                def note(packet: RtpPacket) -> None:
                    came.append(packet)
                    take(packet)

                peer._take = note
                speaking: Any = call.media._peer
                for level in (40, 70):
                    call.play(700, -10.0)
                    pbx.calls[0].play(1000, -10.0)
                    await call.hears(1000)
                    await pbx.calls[0].hears(700)
                    for heard, hertz in ((await call.listen(), 1000), (await pbx.calls[0].listen(), 700)):
                        assert heard.is_tone(hertz, within=1), heard
                        assert heard.dbfs == pytest.approx(-10, abs=0.5)
                    # The PBX says how its silence sounds, then nothing; the phone says nothing: timestamps go on.
                    peer._loop = ()
                    await trio.sleep(0.1)
                    packets = call.media.ear.packets
                    peer._send(COMFORT_NOISE, bytes([level]), peer._timestamp, False, peer.agreed)
                    call.media._thread.call(speaking.use, attrs.evolve(speaking.sending, may_send=False))
                    # In real time: the worker, a process of its own, has to see more than a second without a packet,
                    # and what is waited for is that nothing comes.
                    await trio.sleep(1.5)
                    assert call.media.ear.packets - packets <= 6, "no packets are made up in a silence"
                    before = len(came)
                    call.media.ear.forget()
                    peer.ear.forget()
                    call.media._thread.call(speaking.use, attrs.evolve(speaking.sending, may_send=True))
                    pbx.calls[0].play(1000, -10.0)
                    await call.hears(1000)
                    await pbx.calls[0].hears(700)
                    spurt = came[before:]
                    assert (spurt[0].sequence - came[before - 1].sequence) & 0xFFFF == 1
                    assert (spurt[0].timestamp - came[before - 1].timestamp) & 0xFFFFFFFF >= codecs.PACKET * 50
                assert {packet.payload_type for packet in came} == {peer.agreed.payload_type}
                assert [packet.marker for packet in came].count(True) >= 2
                await call.hangup()
                for session in gateway.media.sessions:
                    await session.closed.wait()
                (row,) = await gateway.operations.call("show.calls")
                for leg in ("client", "peer"):
                    figures = row["media"][leg]
                    assert (figures["lost"], figures["concealed"]) == (0, 0), row["media"]
                    assert figures["mos"] > 4
                assert row["diagnosis"] == ""
