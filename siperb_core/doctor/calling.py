"""A test call to a number of the user's choice: who answers, with which codec, and whether audio comes and arrives."""

from __future__ import annotations

from typing import Any

import trio

from siperb_core.doctor.finding import Notes
from siperb_core.doctor.our_end import OurEnd
from siperb_core.doctor.peer import codecs_of
from siperb_core.entries.contract import ConnectionNotReady, OutboundCall, OutboundLeg
from siperb_core.entries.model import Entry
from siperb_core.entries.peer import PeerSettings
from siperb_core.rtp.packet import RtpError
from siperb_core.rtp.rtcp import Report, ReportBlock, parse_rtcp
from siperb_core.sdp import SdpError
from siperb_core.sip import Flow, Message, NameAddr, ParseError
from siperb_core.testing.codecs import PAYLOAD_TYPES
from siperb_core.testing.pbx_media import PbxMedia, PortsExhausted
from siperb_core.testing.pbx_sdp import PbxNegotiation
from siperb_core.testing.session import Call, CallFailed
from siperb_core.testing.user_agent import Credentials, token

RING_SECONDS = 30.0
LISTEN_SECONDS = 3.0
"""How long audio is waited for."""
REPORT_SECONDS = 7.0
"""How long the PBX has to say by RTCP what it has received: most do every 5 s."""
TONE_HZ = 1450
"""Of no ringing, busy or test tone: what sounds like it is ours."""

_MENDS = {
    401: "compare username, auth_username and password with the PBX",
    403: "the PBX does not let this account dial that number: look at its context and routes",
    404: "the PBX does not know the number: look at its dialplan, or dial another",
    407: "compare username, auth_username and password with the PBX",
    408: "nobody answered: dial a number that does, an echo test say",
    480: "nobody is there: dial a number that answers, an echo test say",
    486: "the way is free, the person is not: dial a number that answers, an echo test say",
    487: "nobody answered in time: dial a number that does, an echo test say",
    488: "allow G.722, A-law or µ-law on the PBX, and plain RTP",
}


async def check_call(
    notes: Notes, end: OurEnd, entry: Entry, settings: PeerSettings, number: str, *, media: range
) -> None:
    """Call, play a tone, listen, hang up; the findings are `call`, `rtp in` and `rtp out`."""
    if entry.srtp != "off" or entry.media == "passthrough":
        text = "the test call speaks plain RTP, which this connection does not"
        notes.skipped("call", text, "call from a softphone: siperb show calls has the counters")
        return
    try:
        leg = _leg(entry, settings, number)
        flow = await end.targets.first(leg.target)
    except (ConnectionNotReady, ParseError, ValueError) as error:
        notes.wrong("call", f"{number} cannot be called: {error}", "look at the lines above")
        return
    any_address = "::" if ":" in flow.local[0] else "0.0.0.0"
    codecs = tuple(codec for codec in entry.codecs if codec in PAYLOAD_TYPES)
    try:
        sound = PbxMedia(end.agent.nursery, PbxNegotiation(_sdp_address(end, flow), codecs), any_address, media)
    except PortsExhausted:
        notes.wrong("call", "no pair of media ports is free", "set ports in [media] to a range nobody else uses")
        return
    call = Call(
        end.agent,
        sound,
        direction="outgoing",
        flow=flow,
        contact=f"<{await end.contact_uri(entry.name, leg.target)}>",
        local=NameAddr(leg.from_display, leg.from_uri),
        remote=NameAddr("", leg.to_uri),
        call_id=token(),
        credentials=_credentials(settings),
    )
    begin = trio.current_time()
    headers = [*(("Route", route) for route in leg.route), *leg.headers]
    await call.begin_outgoing(leg.request_uri, headers)
    with trio.move_on_after(RING_SECONDS) as ringing:
        try:
            await call.answered()
        except CallFailed as failed:
            _explain(notes, number, failed)
            return
        except SdpError as error:
            notes.wrong("call", f"the PBX's answer cannot be used: {error.warning}", "allow plain RTP on the PBX")
            return
    if ringing.cancelled_caught:
        call.cancel()
        await call.ended.wait()
        notes.wrong("call", f"{number} rang for {RING_SECONDS:g} s and nobody answered", _MENDS[408])
        return
    try:
        codec = sound.agreed.codec if sound.agreed is not None else "none"
        notes.ok("call", f"{number} answered in {trio.current_time() - begin:.1f} s, with {codec}")
        answered = codecs_of(call.responses[-1].body) if call.responses else ()
        notes.ok("codecs", f"offered {', '.join(codecs)}; the PBX took {', '.join(answered) or codec}")
        await _check_audio(notes, sound, media)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await call.hangup()


def _leg(entry: Entry, settings: PeerSettings, number: str) -> OutboundLeg:
    user = next((user for user in entry.users if user != "*"), settings.username or "siperb")
    request = Message.request(
        "INVITE",
        f"sip:{token()}@doctor.invalid",
        [("From", f"<sip:{user}@doctor.invalid>;tag=1"), ("Call-ID", token())],
    )
    return settings.outbound_leg(OutboundCall(number, "INVITE", user, "doctor", request))


def _credentials(settings: PeerSettings) -> Credentials | None:
    known = settings.credentials
    return None if known is None else Credentials(known.username, known.password)


def _sdp_address(end: OurEnd, flow: Flow) -> str:
    return end.external or flow.local[0]


def _explain(notes: Notes, number: str, failed: CallFailed) -> None:
    warning = failed.response.get("Warning") if failed.response is not None else None
    text = f"{number} was refused: {failed.status} {failed.reason}" + (f" ({warning[:200]})" if warning else "")
    notes.wrong("call", text, _MENDS.get(failed.status, "look at the PBX's log for this call"))


async def _check_audio(notes: Notes, sound: PbxMedia, media: range) -> None:
    sound.play(TONE_HZ)
    echo = False
    with trio.move_on_after(LISTEN_SECONDS):
        await sound.ear.hears(TONE_HZ)
        echo = True
    heard = sound.ear.packets
    if heard:
        notes.ok("rtp in", f"{heard} packets came in" + (f", at {sound.ear.heard.dbfs:.0f} dB" if heard > 10 else ""))
    else:
        mend = (
            f"let UDP {media.start}-{media.stop - 1} in through the firewall, and set external_address in [gateway] "
            "where the PBX is on the other side of a NAT"
        )
        notes.wrong("rtp in", f"the PBX sent no RTP within {LISTEN_SECONDS:g} s", mend)
    if echo:
        notes.ok("rtp out", "the tone we sent came back: audio goes both ways")
        return
    block = await _report(sound)
    sent = sound.packets_out
    if block is None:
        text = f"{sent} packets sent; the PBX does not say what it got (no RTCP)"
        notes.skipped("rtp out", text, "call an echo test: what comes back has arrived")
    elif block.fraction_lost > 25:
        text = f"the PBX lost {block.fraction_lost * 100 / 256:.0f} % of what we sent"
        notes.wrong("rtp out", text, "look at the network between here and the PBX")
    else:
        notes.ok("rtp out", f"{sent} packets sent, and by its RTCP the PBX got them")


async def _report(sound: PbxMedia) -> ReportBlock | None:
    """What the PBX says of our RTP; None where it says nothing in time."""
    with trio.move_on_after(REPORT_SECONDS):
        while True:
            block = _block_of(sound.last_rtcp, sound.ssrc)
            if block is not None:
                return block
            await trio.sleep(0.1)
    return None


def _block_of(data: bytes, ssrc: int) -> ReportBlock | None:
    try:
        packets: list[Any] = list(parse_rtcp(data)) if data else []
    except RtpError:
        return None
    reports = [packet for packet in packets if isinstance(packet, Report)]
    return next((block for report in reports for block in report.blocks if block.ssrc == ssrc), None)
