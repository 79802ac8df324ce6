"""A test call to a number of the user's choice: who answers, with which codec, and whether audio comes and arrives."""

from __future__ import annotations

import attrs
import trio

from siperb_core.doctor.finding import Notes
from siperb_core.doctor.our_end import OurEnd
from siperb_core.doctor.peer import codecs_of
from siperb_core.doctor.sound import NoCodecError, Sound, sound_of
from siperb_core.entries.contract import ConnectionNotReady, Credentials, OutboundCall, OutboundLeg
from siperb_core.entries.model import Entry
from siperb_core.rtp.rtcp import ReportBlock
from siperb_core.sdp import SdpError
from siperb_core.sip import Flow, Message, NameAddr, ParseError
from siperb_core.testing import user_agent
from siperb_core.testing.pbx_media import PortsExhausted
from siperb_core.testing.session import Call, CallFailed
from siperb_core.testing.user_agent import token

RING_SECONDS = 30.0
LISTEN_SECONDS = 3.0
"""How long audio is waited for."""
_CANCEL_SECONDS = 5.0
"""How long a call that rang in vain is given to end: one that was never answered at all has nothing to cancel."""
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
}
_ALLOW = "allow one of the connection's codecs on the PBX, and {kind}"
_SOFTPHONE = "call from a softphone: siperb show calls has the counters"


@attrs.frozen
class Way:
    """How a test call leaves, as the connection's own type says. `unheard` is what to say where nothing answers from
    there that does answer the gateway; empty where nothing is to be excused.
    """

    leg: OutboundLeg
    credentials: Credentials | None
    unheard: str = ""


def trial_call(entry: Entry, number: str, username: str = "") -> OutboundCall:
    """The call a connection type is asked about, as by a softphone of one of its users."""
    user = next((user for user in entry.users if user != "*"), username or "siperb")
    request = Message.request(
        "INVITE",
        f"sip:{token()}@doctor.invalid",
        [("From", f"<sip:{user}@doctor.invalid>;tag=1"), ("Call-ID", token())],
    )
    return OutboundCall(entry.route.dials(number), "INVITE", user, "doctor", request)


async def check_call(notes: Notes, end: OurEnd, entry: Entry, way: Way, number: str, *, media: range) -> None:
    """Call, play a tone, listen, hang up; the findings are `call`, `rtp in` and `rtp out`."""
    try:
        flow = await end.targets.first(way.leg.target)
    except (ConnectionNotReady, ParseError, ValueError) as error:
        notes.wrong("call", f"{number} cannot be called: {error}", "look at the lines above")
        return
    try:
        sound = sound_of(entry, flow, end, media)
    except NoCodecError as error:
        notes.skipped("call", str(error), _SOFTPHONE)
        return
    except PortsExhausted:
        notes.wrong("call", "no pair of media ports is free", "set ports in [media] to a range nobody else uses")
        return
    await _call(notes, end, entry, way, number, flow, sound, media)


async def _call(
    notes: Notes, end: OurEnd, entry: Entry, way: Way, number: str, flow: Flow, sound: Sound, media: range
) -> None:
    leg, known = way.leg, way.credentials
    call = Call(
        end.agent,
        sound.media,
        direction="outgoing",
        flow=flow,
        contact=f"<{await end.contact_uri(entry.name, leg.target)}>",
        local=NameAddr(entry.display_name or leg.from_display, leg.from_uri),
        remote=NameAddr("", leg.to_uri),
        call_id=token(),
        credentials=None if known is None else user_agent.Credentials(known.username, known.password),
    )
    begin = trio.current_time()
    headers = [*(("Route", route) for route in leg.route), *leg.headers]
    await call.begin_outgoing(leg.request_uri, headers)
    with trio.move_on_after(RING_SECONDS) as ringing:
        try:
            await call.answered()
        except CallFailed as failed:
            _explain(notes, number, failed, sound, way)
            return
        except SdpError as error:
            notes.wrong("call", f"the PBX's answer cannot be used: {error.warning}", _ALLOW.format(kind=sound.kind))
            return
    if ringing.cancelled_caught:
        call.cancel()
        with trio.move_on_after(_CANCEL_SECONDS):
            await call.ended.wait()
        if way.unheard and not call.responses:
            notes.skipped("call", f"no answer to our INVITE within {RING_SECONDS:g} s: {way.unheard}", _SOFTPHONE)
        else:
            notes.wrong("call", f"{number} rang for {RING_SECONDS:g} s and nobody answered", _MENDS[408])
        return
    try:
        notes.ok(
            "call", f"{number} answered in {trio.current_time() - begin:.1f} s, with {sound.codec} by {sound.kind}"
        )
        answered = codecs_of(call.responses[-1].body) if call.responses else ()
        notes.ok("codecs", f"offered {', '.join(sound.codecs)}; the PBX took {', '.join(answered) or sound.codec}")
        wrong = await sound.connected()
        if wrong:
            mend = 'allow WebRTC\'s media on the PBX (ICE, DTLS-SRTP), or let the gateway bridge: media = "auto"'
            notes.wrong("rtp in", f"no way for audio was found: {wrong}", mend)
        else:
            await _check_audio(notes, sound, media)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await call.hangup()


def _explain(notes: Notes, number: str, failed: CallFailed, sound: Sound, way: Way) -> None:
    if way.unheard and (failed.response is None or failed.response.get("Call-ID") is None):
        notes.skipped("call", f"our INVITE was not answered: {way.unheard}", _SOFTPHONE)
        return
    warning = failed.response.get("Warning") if failed.response is not None else None
    text = f"{number} was refused: {failed.status} {failed.reason}" + (f" ({warning[:200]})" if warning else "")
    mend = _MENDS.get(failed.status, "look at the PBX's log for this call")
    notes.wrong("call", text, _ALLOW.format(kind=sound.kind) if failed.status == 488 else mend)


async def _check_audio(notes: Notes, sound: Sound, media: range) -> None:
    sound.play(TONE_HZ)
    echo = False
    with trio.move_on_after(LISTEN_SECONDS):
        await sound.ear.hears(TONE_HZ)
        echo = True
    heard = sound.ear.packets
    if heard:
        notes.ok("rtp in", f"{heard} packets came in" + (f", at {sound.ear.heard.dbfs:.0f} dB" if heard > 10 else ""))
    elif sound.unreadable:
        mend = f"let the PBX send {sound.kind} as it was agreed: srtp of this connection, and its counterpart there"
        notes.wrong("rtp in", f"{sound.unreadable} packets came in that are no {sound.kind} of the agreed keys", mend)
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


async def _report(sound: Sound) -> ReportBlock | None:
    """What the PBX says of our RTP; None where it says nothing in time."""
    with trio.move_on_after(REPORT_SECONDS):
        while True:
            block = sound.report()
            if block is not None:
                return block
            await trio.sleep(0.1)
    return None
