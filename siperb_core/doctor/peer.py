"""One connection's PBX: found, reached, secured, answering, letting us in, and seeing us where we say we are."""

from __future__ import annotations

import ssl

import trio

from siperb_core.doctor.finding import Notes
from siperb_core.doctor.our_end import OurEnd
from siperb_core.entries.contract import ConnectionNotReady, Target
from siperb_core.entries.failure import Failure
from siperb_core.entries.lifecycle import Entries
from siperb_core.entries.model import Entry
from siperb_core.entries.peer import PeerSettings, with_port
from siperb_core.sdp import SdpError, parse_sdp
from siperb_core.sip import Flow, Message
from siperb_core.sip.headers import Via
from siperb_core.targets import is_address, tls_options
from siperb_core.transport import certificates
from siperb_core.transport.address import host_port
from siperb_core.transport.resolver import Destination, ResolveError
from siperb_core.transport.tls import ClientContexts
from siperb_core.watch import CLOCK_SECONDS, clock_off

CONNECT_SECONDS = 5.0
_FIREWALL = "check address and port, and that the firewall lets {transport} from this machine through to the PBX"
_STATIC = {"0": "PCMU", "3": "GSM", "8": "PCMA", "9": "G722", "18": "G729"}


async def check_dns(notes: Notes, end: OurEnd, target: Target) -> list[Destination]:
    """Where the server's name leads (RFC 3263); nothing where it leads nowhere."""
    before = len(end.asked.answers)
    try:
        found = await end.resolver.resolve(target.host, target.port, target.transport)
    except ResolveError as error:
        mend = "check server, and that this machine's DNS (/etc/resolv.conf) knows the name"
        notes.wrong("dns", f"{target.host} leads nowhere: {error}", mend)
        return []
    asked = "; ".join(end.asked.answers[before:])
    places = ", ".join(f"{host_port(host, port)} by {transport}" for host, port, transport in found[:8])
    text = places if is_address(target.host) else f"{target.host} is {places}" + (f" ({asked})" if asked else "")
    notes.ok("dns", text)
    return found


async def check_connection(notes: Notes, target: Target, destinations: list[Destination], now: float) -> bool:
    """TCP and TLS to the first destination that takes the connection; True for UDP, which has none."""
    if target.transport == "udp" or all(transport == "udp" for _, _, transport in destinations):
        return True
    reason = ""
    for host, port, transport in destinations[:4]:
        try:
            with trio.fail_after(CONNECT_SECONDS):
                stream = await trio.open_tcp_stream(host, port)
        except (OSError, trio.TooSlowError) as error:
            reason = f"{host_port(host, port)} cannot be connected to: {_why(error)}"
            continue
        async with stream:
            if transport == "tcp":
                notes.ok("tcp", f"connected to {host_port(host, port)}")
                return True
            return await _check_tls(notes, target, stream, (host, port), now)
    notes.wrong("tcp", reason, _FIREWALL.format(transport="TCP"))
    return False


async def _check_tls(
    notes: Notes, target: Target, stream: trio.SocketStream, place: tuple[str, int], now: float
) -> bool:
    options = tls_options(target)
    assert options is not None
    name = options.server_name or place[0]
    try:
        context = await trio.to_thread.run_sync(ClientContexts().get, options)
    except OSError as error:
        notes.wrong("tls", str(error), "name a file of trusted certificates in PEM under ca")
        return False
    secured = trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)
    try:
        with trio.fail_after(CONNECT_SECONDS):
            await secured.do_handshake()
    except (trio.BrokenResourceError, ssl.SSLError, OSError, ValueError, trio.TooSlowError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        shown = await _shown(place, name)
        if isinstance(cause, ssl.SSLCertVerificationError):
            _explain(notes, cause, shown, name, now)
        else:
            notes.wrong("tls", f"no TLS with {host_port(*place)}: {_why(cause)}", "check that this port speaks TLS")
        return False
    version = str(secured.version())
    der: bytes = secured.getpeercert(binary_form=True)
    if not target.verify:
        notes.wrong(
            "tls", f"{version}, but anyone in between can listen: verify is false", "name the authority under ca"
        )
    else:
        notes.ok("tls", f"{version}, the certificate is for {name} and its chain is trusted")
    _check_dates(notes, der, now)
    return True


async def _shown(place: tuple[str, int], name: str) -> certificates.Certificate | None:
    """The certificate the server shows, trusted or not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with trio.fail_after(CONNECT_SECONDS):
            stream = await trio.open_tcp_stream(*place)
            async with stream:
                secured = trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)
                await secured.do_handshake()
                return certificates.read_der(secured.getpeercert(binary_form=True))
    except (trio.BrokenResourceError, trio.TooSlowError, OSError, ValueError):
        return None


def _explain(
    notes: Notes, error: ssl.SSLCertVerificationError, shown: certificates.Certificate | None, name: str, now: float
) -> None:
    names = ", ".join(shown.names) if shown and shown.names else "nobody"
    message = error.verify_message or str(error)
    text = f"the certificate is not trusted: {message}"
    mend = "give the authority's certificate under ca"
    dates = shown.wrong(now) if shown else ""
    if "mismatch" in message.lower():
        text = f"the certificate is for {names}, not for {name}"
        mend = "write the name the certificate is for as server, or have one made for this name"
    elif dates and ("expired" in message or "not yet valid" in message):
        text, mend = f"the certificate {dates}", "renew it on the PBX, and look at both clocks"
    elif shown and shown.self_signed:
        text = f"the certificate for {names} is signed by itself"
        mend = "give that certificate under ca"
    notes.wrong("tls", text, mend)


def _check_dates(notes: Notes, der: bytes, now: float) -> None:
    try:
        shown = certificates.read_der(der)
    except ValueError:
        return
    wrong = shown.wrong(now)
    text = f"holds for {shown.days_left(now):.0f} days"
    notes.judge("certificate", f"the PBX's {wrong}" if wrong else "", "renew it on the PBX", f"the PBX's {text}")


async def check_options(notes: Notes, end: OurEnd, settings: PeerSettings) -> Message | None:
    """An OPTIONS (RFC 3261 section 11): any answer shows that the PBX is there and hears us."""
    uri = f"sip:{with_port(settings.server, settings.port)}"
    user = settings.from_user or settings.username or "siperb"
    request = Message.request(
        "OPTIONS",
        uri,
        [
            *(("Route", route) for route in settings.route),
            ("From", f"<sip:{user}@{settings.domain}>;tag={end.random_token()}"),
            ("To", f"<{uri}>"),
            ("Call-ID", end.random_token()),
            ("CSeq", "1 OPTIONS"),
            ("Contact", f"<{await end.contact_uri(notes.connection, settings.target)}>"),
            ("Accept", "application/sdp"),
        ],
    )
    begin = trio.current_time()
    try:
        response = await end.request(request, settings.target)
    except ConnectionNotReady as error:
        by = "SIP" if settings.target.transport == "auto" else settings.target.transport.upper()
        notes.wrong("options", str(error), _FIREWALL.format(transport=by))
        return None
    milliseconds = (trio.current_time() - begin) * 1000
    who = response.get("Server") or response.get("User-Agent")
    text = f"answered {response.status} {response.reason} in {milliseconds:.0f} ms" + (f" by {who[:80]}" if who else "")
    unwell = response.status in (408, 480) or response.status >= 500
    notes.judge("options", text if unwell else "", "look at the PBX: it is there, but not well", text)
    return response


async def check_authentication(notes: Notes, end: OurEnd, entries: Entries, entry: Entry) -> None:
    """The connection type's own trial of the settings: for one that registers, a REGISTER that leaves all bindings
    alone.
    """
    before = len(end.heard)
    failure: Failure | None = await entries.probe(entry)
    challenged = any(response.status in (401, 407) for response, _, _ in end.heard[before:])
    if failure is None:
        notes.ok("authentication", "the credentials are accepted" if challenged else "the PBX asked for no password")
    elif failure.state == "auth_failed":
        mend = f"compare username, auth_username and password with the PBX: siperb connection edit {entry.name}"
        notes.wrong("authentication", f"refused: {failure.reason}", mend)
    else:
        mend = "siperb check" if failure.state == "config_error" else "look at the PBX, and at the lines above"
        notes.wrong("authentication", failure.reason, mend)


def check_nat(notes: Notes, end: OurEnd, flow: Flow, via: Via | None) -> None:
    """Does the PBX see the address that we write into SIP and SDP? Its Via says (RFC 3581)."""
    own = end.external or flow.local[0]
    seen = (via.param("received") or via.host.strip("[]")) if via is not None else ""
    if not is_address(seen):
        notes.skipped("nat", "the PBX does not say from where it sees us")
    elif seen == own:
        notes.ok("nat", f"the PBX sees us as {seen}, which is what we write into SIP and SDP")
    else:
        text = f"the PBX sees us as {seen}, but SIP and SDP say {own}: audio would go there"
        mend = f'set external_address = "{seen}" in [gateway], and forward the ports of [media] to this machine'
        notes.wrong("nat", text, mend)


def check_clock(notes: Notes, responses: list[Message], now: float) -> None:
    """The PBX's clock against ours, by its Date."""
    off = next((off for response in responses if (off := clock_off(response, now)) is not None), None)
    if off is None:
        notes.skipped("clock", "the PBX sends no Date")
        return
    where = "ahead of" if off > 0 else "behind"
    text = f"the PBX's is {abs(off):.0f} s {where} this machine's"
    mend = "let both follow NTP (timedatectl shows it)"
    notes.judge("clock", text if abs(off) > CLOCK_SECONDS else "", mend, "the same here and at the PBX")


def check_offered(notes: Notes, entry: Entry, response: Message | None) -> None:
    """The codecs an answer to OPTIONS names, where it names any."""
    offered = codecs_of(response.body) if response is not None and response.body else ()
    if not offered:
        mend = f"siperb doctor {entry.name} --call NUMBER"
        notes.skipped("codecs", "the PBX does not name them in its answer to OPTIONS: a call tells", mend)
        return
    shared = [codec for codec in entry.codecs if codec.upper() in offered]
    text = f"the PBX has {', '.join(offered)}; the connection {', '.join(entry.codecs)}"
    mend = "allow one of the connection's codecs on the PBX, or change its codecs"
    notes.judge("codecs", "" if shared else f"none in common: {text}", mend, text)


def codecs_of(sdp: bytes) -> tuple[str, ...]:
    """The names of the audio codecs in a description; none where it is no description."""
    try:
        description = parse_sdp(sdp)
    except SdpError:
        return ()
    names: list[str] = []
    for media in description.media:
        if media.kind != "audio":
            continue
        named = {}
        for value in media.get_all("rtpmap"):
            number, _, encoding = value.partition(" ")
            named[number] = encoding.strip().partition("/")[0].upper()
        names += [named.get(item) or _STATIC.get(item, item) for item in media.formats]
    return tuple(dict.fromkeys(name for name in names if name != "TELEPHONE-EVENT"))[:32]


def _why(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return f"nothing came back within {CONNECT_SECONDS:g} s"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    cause = error.__cause__ or error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    text = getattr(cause, "strerror", None) or str(cause)
    return text.rpartition("): ")[2] or type(cause).__name__  # trio names the place first, which we have said
