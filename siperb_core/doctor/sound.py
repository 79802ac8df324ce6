"""The audio of a test call: RTP as the gateway sends it to this connection's PBX, plain or with SDES keys; where the
connection passes a softphone's media through, ICE, DTLS-SRTP and Opus as a softphone has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from siperb_core.entries.model import Entry
from siperb_core.rtp.packet import RtpError
from siperb_core.rtp.rtcp import Report, ReportBlock, parse_rtcp
from siperb_core.sdp.codecs import codec_named
from siperb_core.sip import Flow
from siperb_core.testing.call_media import CallMedia
from siperb_core.testing.codecs import learn, numbers
from siperb_core.testing.ear import Ear
from siperb_core.testing.pbx_media import PbxMedia
from siperb_core.testing.pbx_sdp import PbxNegotiation

if TYPE_CHECKING:
    from siperb_core.doctor.our_end import OurEnd

CONNECT_SECONDS = 10.0
"""For ICE and DTLS."""
_SOFTPHONE_CODECS = ("opus", "G722", "PCMA", "PCMU")


class NoCodecError(Exception):
    """Nothing the connection offers can be spoken by the doctor."""


class Sound:
    """What the doctor plays, hears and is told. `codecs` are those it offers."""

    def __init__(self, media: CallMedia, ear: Ear, codecs: tuple[str, ...]) -> None:
        self.media = media
        self.ear = ear
        self.codecs = codecs

    @property
    def kind(self) -> str:
        """What goes over the wire, in words."""
        return "RTP"

    @property
    def codec(self) -> str:
        """What was agreed on; `none` before that."""
        raise NotImplementedError

    @property
    def unreadable(self) -> int:
        """Packets that came and could not be opened."""
        return 0

    def play(self, hz: int) -> None:
        """A tone from now on."""
        raise NotImplementedError

    async def connected(self) -> str:
        """Wait until audio may flow; what kept it from that, '' where nothing did."""
        return ""

    @property
    def packets_out(self) -> int:
        """RTP packets sent."""
        raise NotImplementedError

    def report(self) -> ReportBlock | None:
        """What the PBX last said of our RTP; None where it said nothing."""
        return None


class _Rtp(Sound):
    def __init__(self, media: PbxMedia, codecs: tuple[str, ...], *, secure: bool) -> None:
        super().__init__(media, media.ear, codecs)
        self._rtp = media
        self._secure = secure

    @property
    def kind(self) -> str:
        return "SRTP" if self._secure else "RTP"

    @property
    def codec(self) -> str:
        return self._rtp.agreed.codec if self._rtp.agreed is not None else "none"

    @property
    def unreadable(self) -> int:
        return self._rtp.unreadable

    @property
    def packets_out(self) -> int:
        return self._rtp.packets_out

    def play(self, hz: int) -> None:
        self._rtp.play(hz)

    def report(self) -> ReportBlock | None:
        data = self._rtp.last_rtcp
        try:
            packets: list[Any] = list(parse_rtcp(data)) if data else []
        except RtpError:
            return None
        reports = [packet for packet in packets if isinstance(packet, Report)]
        return next((block for report in reports for block in report.blocks if block.ssrc == self._rtp.ssrc), None)


class _Softphone(Sound):
    def __init__(self, media: Any) -> None:
        super().__init__(media, media.ear, _SOFTPHONE_CODECS)
        self._phone = media

    @property
    def kind(self) -> str:
        return "DTLS-SRTP"

    @property
    def codec(self) -> str:
        return self._phone.codec or "none"

    @property
    def packets_out(self) -> int:
        return int(self._phone.packets_out)

    def play(self, hz: int) -> None:
        self._phone.play(hz)

    async def connected(self) -> str:
        from siperb_core.testing.softphone_media import MediaFailed

        with trio.move_on_after(CONNECT_SECONDS):
            try:
                await self._phone.connected()
            except MediaFailed as error:
                return str(error)
            return ""
        return f"ICE and DTLS did not come about within {CONNECT_SECONDS:g} s"


def sound_of(entry: Entry, flow: Flow, end: OurEnd, ports: range) -> Sound:
    """What suits this connection's calls over this flow; the call that gets its `media` closes it.

    Raises `siperb_core.testing.pbx_media.PortsExhausted`, and `NoCodecError` where nothing can be spoken here.
    """
    if passes_through(entry, flow):
        return _Softphone(end.softphone_media(flow.local[0], _SOFTPHONE_CODECS))
    any_address = "::" if ":" in flow.local[0] else "0.0.0.0"
    for name in entry.codecs:
        learn(codec_named(name), end.transcoders)
    codecs = tuple(codec for codec in entry.codecs if codec in numbers())
    if not codecs:
        raise NoCodecError(f"{', '.join(entry.codecs)} cannot be spoken to a PBX by a test call")
    secure = entry.srtp == "sdes"
    negotiation = PbxNegotiation(end.external or flow.local[0], codecs, srtp=secure)
    return _Rtp(PbxMedia(end.agent.nursery, negotiation, any_address, ports), codecs, secure=secure)


def passes_through(entry: Entry, flow: Flow) -> bool:
    """Whether this connection's calls carry the softphone's own media: over TLS alone."""
    return entry.media == "passthrough" and flow.transport == "tls"
