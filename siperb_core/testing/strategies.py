"""Hypothesis strategies: SIP's URIs, addresses, Via, whole messages well-formed and broken, and streams of them;
session descriptions, dial patterns, numbers and routing tables; what plugins are told of calls, in any order.

For plugin authors' tests as well as our own: `from siperb_core.testing import strategies`. Each strategy says which
grammar rule of RFC 3261 section 25.1 it draws from.
"""

from __future__ import annotations

import string

import attrs
from hypothesis import strategies as st

from siperb_core.events import CallEvent
from siperb_core.routing import ALL, Route

TOKEN_CHARACTERS = string.ascii_letters + string.digits + "-.!%*_+`'~"
_USER_CHARACTERS = string.ascii_letters + string.digits + "-_.!~*'()&=+$,;?/#"
_PARAM_CHARACTERS = string.ascii_letters + string.digits + "-_.!~*'()[]/:&+$"

METHODS = (
    *("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK"),
    *("SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO", "REFER", "MESSAGE", "UPDATE"),
)


def tokens(max_size: int = 12) -> st.SearchStrategy[str]:
    """token"""
    return st.text(TOKEN_CHARACTERS, min_size=1, max_size=max_size)


def methods() -> st.SearchStrategy[str]:
    """Method: the known ones, and others."""
    return st.sampled_from(METHODS) | tokens()


def display_texts() -> st.SearchStrategy[str]:
    """What a display name may say: any text without line breaks."""
    return st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)


@st.composite
def quoted_strings(draw: st.DrawFn) -> str:
    """quoted-string, with quoted-pairs in and out of need."""
    pieces = draw(st.lists(st.sampled_from(['\\"', "\\\\", "\\x", ",", ";tag=no", "<", ">"]) | tokens(), max_size=5))
    return '"' + "".join(pieces) + '"'


def hosts() -> st.SearchStrategy[str]:
    """host: names, IPv4 addresses, IPv6 references."""
    label = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
    names = st.lists(label, min_size=1, max_size=3).map(".".join)
    return names | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda address: f"[{address}]")


def ports() -> st.SearchStrategy[int]:
    """port"""
    return st.integers(1, 65535)


def _escaped(characters: str) -> st.SearchStrategy[str]:
    escape = st.integers(0, 255).map(lambda octet: f"%{octet:02X}")
    return st.lists(st.text(characters, min_size=1, max_size=6) | escape, min_size=1, max_size=3).map("".join)


@st.composite
def sip_uris(draw: st.DrawFn, *, headers: bool = True) -> str:
    """SIP-URI and SIPS-URI with everything they may carry; `headers=False` for a Request-URI."""
    text = draw(st.sampled_from(["sip:", "sips:", "SIP:"]))
    if draw(st.booleans()):
        text += draw(_escaped(_USER_CHARACTERS))
        if draw(st.booleans()):
            text += ":" + draw(_escaped(string.ascii_letters))
        text += "@"
    text += draw(hosts())
    if draw(st.booleans()):
        text += f":{draw(ports())}"
    for name in draw(st.lists(_escaped(_PARAM_CHARACTERS), max_size=3)):
        text += f";{name}" + (f"={draw(_escaped(_PARAM_CHARACTERS))}" if draw(st.booleans()) else "")
    if headers and draw(st.booleans()):
        text += f"?{draw(tokens().map(lambda t: t.replace('%', '').replace('`', '') or 'h'))}=v"
    return text


def tel_uris() -> st.SearchStrategy[str]:
    """telephone-uri (RFC 3966)"""
    return st.text("0123456789-", min_size=1, max_size=12).map("tel:+{}".format)


def other_uris() -> st.SearchStrategy[str]:
    """absoluteURI of a scheme nobody here knows"""
    return st.text(string.ascii_lowercase, min_size=2, max_size=6).map("x-{}:what//ever?".format)


def uris() -> st.SearchStrategy[str]:
    """Request-URI or addr-spec: SIP, SIPS, tel, and others."""
    return sip_uris() | tel_uris() | other_uris()


@st.composite
def blanks(draw: st.DrawFn, *, needed: bool = False) -> str:
    """LWS or SWS, folded now and then."""
    plain = ["", " ", "  ", "\t"] if not needed else [" ", "  ", "\t"]
    return draw(st.sampled_from([*plain, "\r\n ", " \r\n\t"]))


@st.composite
def params(draw: st.DrawFn) -> str:
    """*( SEMI generic-param )"""
    text = ""
    for name in draw(st.lists(tokens(), max_size=3)):
        text += f"{draw(blanks())};{draw(blanks())}{name}"
        if draw(st.booleans()):
            value = draw(tokens() | quoted_strings() | hosts())
            text += f"{draw(blanks())}={draw(blanks())}{value}"
    return text


@st.composite
def name_addrs(draw: st.DrawFn) -> str:
    """name-addr or addr-spec with header parameters, folded now and then."""
    tail = draw(params())
    if draw(st.booleans()):
        user, host = draw(tokens()), draw(hosts())
        return f"sip:{user.replace('%', '').replace('`', '')}@{host}{tail}"
    words = st.lists(tokens(), max_size=3).map(lambda parts: "".join(f"{part} " for part in parts))
    display = draw(words | quoted_strings())
    return f"{display}{draw(blanks())}<{draw(uris())}>{tail}"


@st.composite
def vias(draw: st.DrawFn) -> str:
    """via-parm"""
    port = draw(st.none() | ports())
    text = f"SIP/2.0/{draw(st.sampled_from(['UDP', 'TCP', 'TLS', 'WS', 'WSS', 'X']))}{draw(blanks(needed=True))}"
    return text + draw(hosts()) + (f":{port}" if port else "") + f";branch=z9hG4bK{draw(tokens())}" + draw(params())


def _spellings(name: str, compact: str | None = None) -> st.SearchStrategy[str]:
    forms = [name, name.lower(), name.upper()] + ([compact, compact.upper()] if compact else [])
    return st.sampled_from(forms)


@st.composite
def _header(draw: st.DrawFn, name: str, compact: str | None, value: str) -> str:
    return f"{draw(_spellings(name, compact))}{draw(st.sampled_from(['', ' ', chr(9)]))}:{draw(blanks())}{value}"


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A whole well-formed message: any order of headers, any spelling of their names, folding, several Via in one line
    or many, unknown headers, any body. `parse` takes it and `bytes` gives it back."""
    method = draw(methods())
    body = draw(st.binary(max_size=40))
    lines = [
        draw(_header("From", "f", draw(name_addrs()))),
        draw(_header("To", "t", draw(name_addrs()))),
        draw(_header("Call-ID", "i", draw(tokens()))),
        draw(_header("CSeq", None, f"{draw(st.integers(0, 2**32 - 1))}{draw(blanks(needed=True))}{method}")),
        draw(_header("Content-Length", "l", str(len(body)))),
    ]
    for _ in range(draw(st.integers(1, 3))):
        elements = draw(st.lists(vias(), min_size=1, max_size=3))
        lines.append(draw(_header("Via", "v", f"{draw(blanks())},{draw(blanks())}".join(elements))))
    if draw(st.booleans()):
        lines.append(draw(_header("Max-Forwards", None, str(draw(st.integers(0, 255))))))
    for name in draw(st.lists(tokens(), max_size=3)):
        lines.append(f"X-{name}:{draw(display_texts())}")
    for address in draw(st.lists(name_addrs(), max_size=2)):
        lines.append(draw(_header("Contact", "m", address)))
    lines = draw(st.permutations(lines))
    if draw(st.booleans()):
        start = f"{method} {draw(sip_uris(headers=False) | tel_uris() | other_uris())} SIP/2.0"
    else:
        start = f"SIP/2.0 {draw(st.integers(100, 699))} {draw(display_texts())}"
    return "\r\n".join([start, *lines, "", ""]).encode() + body


@st.composite
def broken_messages(draw: st.DrawFn) -> bytes:
    """A well-formed message with a few octets cut, doubled, or replaced by what parsers stumble over."""
    data = bytearray(draw(messages()))
    thorns = [b"\r", b"\n", b"\r\n", b'"', b"<", b">", b",", b";", b":", b"@", b"\\", b"\0", b" ", b"%", b"\xff", b"="]
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 2)):
            case 0:
                data[place:place] = draw(st.sampled_from(thorns))
            case 1:
                del data[place : place + draw(st.integers(1, 8))]
            case _:
                data[place:place] = data[place : place + draw(st.integers(1, 20))]
    return bytes(data)


@st.composite
def splits(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The octets in pieces, as a stream may deliver them."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


_AUDIO = (("opus/48000/2", 111), ("G722/8000", 9), ("PCMA/8000", 8), ("PCMU/8000", 0), ("G729/8000", 18))
_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


@st.composite
def sdps(draw: st.DrawFn, *, webrtc: bool | None = None) -> bytes:
    """session descriptions (RFC 4566, RFC 3264) with one section of audio and perhaps others: a telephone's, or with
    `webrtc` a browser's, with ICE and DTLS-SRTP (RFC 8829).
    """
    browser = draw(st.booleans()) if webrtc is None else webrtc
    host = draw(st.sampled_from(["192.0.2.1", "198.51.100.7", "2001:db8::1"]))
    family = "IP6" if ":" in host else "IP4"
    codecs = draw(st.lists(st.sampled_from(_AUDIO), min_size=1, unique=True))
    events = draw(st.booleans())
    numbers = [*(number for _, number in codecs), *([101] if events else [])]
    audio = [
        f"m=audio {draw(st.integers(1024, 65535))} {'UDP/TLS/RTP/SAVPF' if browser else 'RTP/AVP'} "
        + " ".join(map(str, numbers)),
        *(f"a=rtpmap:{number} {name}" for name, number in codecs if number >= 96 or draw(st.booleans())),
        *(["a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15"] if events else []),
        f"a={draw(st.sampled_from(_DIRECTIONS))}",
    ]
    if browser:
        letters = st.sampled_from(string.ascii_letters + string.digits)
        audio += [
            "a=ice-ufrag:" + "".join(draw(st.lists(letters, min_size=4, max_size=8))),
            "a=ice-pwd:" + "".join(draw(st.lists(letters, min_size=22, max_size=30))),
            "a=fingerprint:sha-256 " + ":".join(f"{draw(st.integers(0, 255)):02X}" for _ in range(32)),
            f"a=setup:{draw(st.sampled_from(['actpass', 'active', 'passive']))}",
            "a=mid:0",
            "a=rtcp-mux",
            *(["a=ptime:20"] if draw(st.booleans()) else []),
        ]
    others = [f"m={kind} 0 RTP/AVP 96" for kind in draw(st.lists(st.sampled_from(["video", "image"]), max_size=2))]
    lines = ["v=0", f"o=- {draw(st.integers(0, 2**48))} {draw(st.integers(0, 999))} IN {family} {host}", "s=-"]
    lines += [f"c=IN {family} {host}", "t=0 0", *audio, *others]
    return "".join(f"{line}\r\n" for line in lines).encode()


def numbers() -> st.SearchStrategy[str]:
    """What is dialled: digits, `*` and `#`, `+`; now and then a name, or text that nobody would think of."""
    international = st.text("0123456789", max_size=12).map("+{}".format)
    return st.one_of(st.text("0123456789*#", max_size=15), international, tokens())


def dial_patterns() -> st.SearchStrategy[str]:
    """dial patterns as administrators write them; now and then one that is no RE2 expression, or any text."""
    part = st.sampled_from([r"\d", "[1-9]", "[0-4]", ".", "0", "6", "00", r"\+", r"\*", "(1|2)", r"\d{2,4}", "x*"])
    inner = st.lists(part, max_size=5).map("".join)
    anchored = st.builds("{}{}{}".format, st.sampled_from(["", "^"]), inner, st.sampled_from(["", "$"]))
    return st.one_of(st.just("."), anchored, st.sampled_from(["(", "[", "(?=1)", r"(1)\1", ""]), st.text(max_size=8))


def routing_tables(max_size: int = 8) -> st.SearchStrategy[list[Route]]:
    """connections as routing sees them, each name once."""
    names = st.text("abcdef", min_size=1, max_size=3)
    everyone = st.just((ALL,))
    users = everyone | st.lists(st.sampled_from([ALL, "alice", "bob"]), max_size=2).map(tuple)
    known = everyone | st.lists(st.sampled_from([ALL, "INVITE", "MESSAGE", "SUBSCRIBE"]), max_size=2).map(tuple)
    reasons = st.sampled_from(["", "", "", "down now"])
    route = st.builds(
        Route, names, st.integers(-3, 3), dial_patterns(), st.booleans(), users, known, st.booleans(), down=reasons
    )
    return st.lists(route, max_size=max_size, unique_by=lambda item: item.connection)


@st.composite
def event_orders(draw: st.DrawFn, connection: str = "office", most_calls: int = 4) -> list[CallEvent]:
    """what a plugin hears of several calls at once (hook `siperb_call_event`), in an order that may come about: each
    call starts, perhaps rings, perhaps is answered, and ends, while others do the same. Times never go back.
    """
    waiting: list[list[CallEvent]] = []
    for index in range(draw(st.integers(1, most_calls))):
        number, inbound = draw(numbers()), draw(st.booleans())
        first = CallEvent(
            "started", 0.0, f"call-{index}", "inbound" if inbound else "outbound", connection, "alice", "alice-web",
            "sip:alice@gw.example", f"sip:{index}@gw.example", number=number,
        )  # fmt: skip
        steps = [first]
        if draw(st.booleans()):
            steps.append(attrs.evolve(first, what="ringing"))
        answered = draw(st.booleans())
        if answered:
            steps.append(attrs.evolve(first, what="answered"))
        status = None if answered else draw(st.sampled_from([404, 408, 480, 486, 487, 503, 603]))
        steps.append(attrs.evolve(first, what="ended", status=status, cause="BYE" if answered else f"{status}"))
        waiting.append(steps)
    now, told = 1_700_000_000.0, []
    started: dict[str, float] = {}
    answers: dict[str, float] = {}
    while waiting:
        steps = draw(st.sampled_from(waiting))
        event = steps.pop(0)
        now += draw(st.integers(0, 30))
        began = started.setdefault(event.call_id, now)
        if event.what == "answered":
            answers[event.call_id] = now
        told.append(attrs.evolve(event, when=now, started=began, answered=answers.get(event.call_id)))
        if not steps:
            waiting.remove(steps)
    return told
