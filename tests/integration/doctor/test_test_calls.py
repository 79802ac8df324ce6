"""The doctor's test call: over SRTP, with a softphone's own media, to a PBX that registers; a fault in each."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trio
from aiortc.rtcdtlstransport import RTCCertificate

from siperb_core.doctor import calling, sound
from siperb_core.rtp.rtcp import Report, ReportBlock, build_report
from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.pbx import Pbx, PbxCall, PbxSettings, open_pbx
from siperb_core.testing.pbx_media import PbxMedia
from siperb_core.testing.softphone_media import SoftphoneMedia
from siperb_core.testing.softphone_peer import AsyncioThread
from siperb_core.testing.user_agent import Credentials

from .test_doctor import HEAD, TRUNK, Authority, examine, pbx_of, verdicts, write

TLS = TRUNK + 'transport = "tls"\nca = "{ca}"\n'


def over_tls(authority: Authority, **settings: Any) -> PbxSettings:
    file = authority.write("127.0.0.1", 90)
    return PbxSettings(transports=("tls",), certificate=file, key=file, **settings)


def trunk(folder: Path, pbx: Pbx, authority: Authority, keys: str, codecs: str = '"PCMA"') -> Path:
    text = TLS.format(server="127.0.0.1", port=pbx.local[1], codecs=codecs, ca=authority.file)
    return write(folder, text.replace("codecs =", f"{keys}\ncodecs ="))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "LISTEN_SECONDS", 0.5)
    monkeypatch.setattr(calling, "REPORT_SECONDS", 0.5)


async def test_srtp_both_ways(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with open_pbx(over_tls(authority, srtp=True)) as pbx:
        found = await examine(trunk(tmp_path, pbx, authority, 'srtp = "sdes"'), number="600")
        assert {check: verdict for check, verdict in verdicts(found).items() if verdict == "wrong"} == {}, found
        assert found["call"].text.endswith("with PCMA by SRTP")
        assert "the tone we sent came back" in found["rtp out"].text
        assert pbx.calls[0].media.agreed is not None
        assert pbx.calls[0].media.agreed.keys is not None
        assert pbx.calls[0].media.unreadable == 0


async def test_srtp_is_not_to_be_had(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with open_pbx(over_tls(authority)) as pbx:
        found = await examine(trunk(tmp_path, pbx, authority, 'srtp = "sdes"'), number="600")
        assert (found["call"].verdict, "488" in found["call"].text) == ("wrong", True)
        assert found["call"].mend == "allow one of the connection's codecs on the PBX, and SRTP"


async def test_srtp_of_other_keys(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    use = PbxMedia._use

    def forget_the_keys(self: PbxMedia, agreed: Any) -> None:
        use(self, agreed)
        if self.ear is not None and pbx.calls and pbx.calls[0].media is self:
            self._protect = None  # it sends plain RTP, whatever was agreed

    monkeypatch.setattr(PbxMedia, "_use", forget_the_keys)
    async with open_pbx(over_tls(authority, srtp=True)) as pbx:
        found = await examine(trunk(tmp_path, pbx, authority, 'srtp = "sdes"'), number="601")
        assert found["rtp in"].verdict == "wrong"
        assert "packets came in that are no SRTP of the agreed keys" in found["rtp in"].text
        assert "srtp of this connection" in found["rtp in"].mend


@pytest.fixture
async def thread() -> AsyncIterator[AsyncioThread]:
    """Outlives the calls, whose media needs it to close."""
    made = AsyncioThread()
    yield made
    await made.close()


def webrtc(thread: AsyncioThread, heard: list[bool], *, broken: bool = False) -> Callable[[PbxCall], Awaitable[None]]:
    """A number that has ICE and DTLS-SRTP, as a softphone has."""

    async def answer(call: PbxCall) -> None:
        media = SoftphoneMedia(thread, RTCCertificate.generateCertificate(), ["127.0.0.1"], ("opus",))
        media.play(1000)
        own, call._media = call._media, media
        await own.close()
        if broken:
            written = media.answer

            async def other_fingerprint(offer: bytes) -> bytes:
                body = await written(offer)
                head, _, rest = body.partition(b"fingerprint:sha-256 ")
                return head + b"fingerprint:sha-256 " + b"00" + rest[2:]

            media.answer = other_fingerprint  # type: ignore[method-assign]
        await call.accept()
        with trio.move_on_after(30):
            await media.ear.hears(calling.TONE_HZ)
            heard.append(True)

    return answer


async def test_a_softphone_s_own_media(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, thread: AsyncioThread
) -> None:
    monkeypatch.setattr(calling, "LISTEN_SECONDS", 3)
    authority, heard = Authority(tmp_path), list[bool]()
    async with open_pbx(over_tls(authority, numbers={"700": webrtc(thread, heard)})) as pbx:
        found = await examine(trunk(tmp_path, pbx, authority, 'media = "passthrough"'), number="700")
        assert found["call"].text.endswith("with opus by DTLS-SRTP")
        assert (found["rtp in"].verdict, found["rtp out"].verdict) == ("ok", "skipped")
        assert heard == [True], "the PBX heard the doctor's tone"


async def test_a_softphone_s_own_media_that_finds_no_way(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, thread: AsyncioThread
) -> None:
    monkeypatch.setattr(sound, "CONNECT_SECONDS", 3.0)
    authority = Authority(tmp_path)
    async with open_pbx(over_tls(authority, numbers={"700": webrtc(thread, [], broken=True)})) as pbx:
        found = await examine(trunk(tmp_path, pbx, authority, 'media = "passthrough"'), number="700")
        assert found["rtp in"].verdict == "wrong"
        assert 'media = "auto"' in found["rtp in"].mend


async def test_a_pbx_without_webrtc_refuses_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with open_pbx(over_tls(authority)) as pbx:
        found = await examine(trunk(tmp_path, pbx, authority, 'media = "passthrough"'), number="600")
        assert (found["call"].verdict, "488" in found["call"].text) == ("wrong", True)
        assert found["call"].mend.endswith("and DTLS-SRTP")


async def test_passthrough_over_udp_is_bridged_and_called_with_rtp(tmp_path: Path) -> None:
    async with open_pbx() as pbx:
        text = TRUNK.format(server="127.0.0.1", port=pbx.local[1], codecs='"PCMA"')
        found = await examine(write(tmp_path, text.replace("codecs", 'media = "passthrough"\ncodecs')), number="600")
        assert found["call"].text.endswith("by RTP")
        assert found["rtp out"].verdict == "ok"


# ---- one way only


async def test_nothing_comes_in(tmp_path: Path, quick: None) -> None:
    async def dumb(call: PbxCall) -> None:
        call.media._send = lambda *args: None  # type: ignore[method-assign]
        await call.accept()

    async with open_pbx(PbxSettings(numbers={"700": dumb})) as pbx:
        text = TRUNK.format(server="127.0.0.1", port=pbx.local[1], codecs='"PCMA"')
        found = await examine(write(tmp_path, text), number="700")
        assert found["rtp in"].verdict == "wrong"
        assert pbx.calls[0].media.ear.packets > 10, "ours arrives"


async def test_nothing_arrives(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(call: PbxCall) -> None:
        """It sends, hears nothing, and says so by RTCP."""
        seen: list[int] = []
        call.media._take = lambda packet: seen.append(packet.ssrc)  # type: ignore[method-assign]
        await call.accept()
        while not call.ended.is_set():
            if seen and call.media.agreed is not None:
                block = ReportBlock(seen[0], 255, 1000, 0, 0, 0, 0)
                host, port = call.media.agreed.remote
                call.media._rtcp.sendto(build_report(Report(call.media.ssrc, None, (block,))), (host, port + 1))
            with trio.move_on_after(0.1):
                await call.ended.wait()

    monkeypatch.setattr(calling, "REPORT_SECONDS", 10)
    async with open_pbx(PbxSettings(numbers={"700": deaf})) as pbx:
        text = TRUNK.format(server="127.0.0.1", port=pbx.local[1], codecs='"PCMA"')
        found = await examine(write(tmp_path, text), number="700")
        assert (found["rtp in"].verdict, found["rtp out"].verdict) == ("ok", "wrong")
        assert found["rtp out"].text == "the PBX lost 100 % of what we sent"


# ---- a PBX that registers

INBOUND = '[[connection]]\nname = "office"\ntype = "inbound_registration"\n[connection.settings]\n'
INBOUND += 'username = "in"\npassword = "long-enough-secret"\n'


async def test_a_registered_pbx_is_called(tmp_path: Path) -> None:
    async with (
        open_pbx() as pbx,
        open_gateway(tmp_path, INBOUND, head=HEAD.format(gateway="")) as gateway,
    ):
        registration = await pbx.register(
            address(gateway, "udp"), Credentials("in", "long-enough-secret"), domain="gw.example"
        )
        assert registration.status == 200
        found = await examine(gateway.config_path, number="600")
        assert verdicts(found) == {
            "state": "ok",
            "call": "ok",
            "codecs": "ok",
            "rtp in": "ok",
            "rtp out": "ok",
        }, found
        assert pbx.calls[0].number == "600"
        assert not pbx.agent.calls, "the doctor has hung up"


async def test_a_registered_pbx_that_refuses_the_number(tmp_path: Path) -> None:
    async with (
        open_pbx() as pbx,
        open_gateway(tmp_path, INBOUND, head=HEAD.format(gateway="")) as gateway,
    ):
        await pbx.register(address(gateway, "udp"), Credentials("in", "long-enough-secret"), domain="gw.example")
        found = await examine(gateway.config_path, number="699")
        assert (found["call"].verdict, "404" in found["call"].text) == ("wrong", True)


async def test_a_registered_pbx_that_hears_the_gateway_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "RING_SECONDS", 0.5)
    async with (
        open_pbx() as pbx,
        open_gateway(tmp_path, INBOUND, head=HEAD.format(gateway="")) as gateway,
    ):
        await pbx.register(address(gateway, "udp"), Credentials("in", "long-enough-secret"), domain="gw.example")
        pbx.agent.swallow = lambda message: message.cseq.method == "INVITE"
        found = await examine(gateway.config_path, number="600")
        assert found["call"].verdict == "skipped"
        assert "only the gateway's own socket reaches this PBX" in found["call"].text
        assert "siperb show calls" in found["call"].mend


# ---- clocks


@pytest.mark.parametrize(("off", "verdict"), [(-3600, "wrong"), (0, "ok")])
async def test_the_pbx_s_clock(tmp_path: Path, off: int, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pbx_of() as pbx:
        respond = pbx.agent.respond

        def dated(transaction: Any, response: Any) -> None:
            response.set("Date", formatdate(time.time() + off, usegmt=True))
            respond(transaction, response)

        monkeypatch.setattr(pbx.agent, "respond", dated)
        found = await examine(write(tmp_path, TRUNK.format(server="127.0.0.1", port=pbx.local[1], codecs='"PCMA"')))
        assert found["clock"].verdict == verdict
        if verdict == "wrong":
            assert "s behind this machine's" in found["clock"].text
            assert "NTP" in found["clock"].mend
