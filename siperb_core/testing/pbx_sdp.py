"""The demo PBX's side of offer and answer: RTP, plain or with SDES keys, its codecs, telephone-event (RFC 3264, RFC
4568, RFC 4733).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import attrs

from siperb_core.sdp.crypto import Crypto, accepted, chosen, new_keys, read_crypto
from siperb_core.sdp.description import Media, SdpError, SessionDescription, parse_sdp
from siperb_core.sdp.plan import PeerKeys
from siperb_core.testing.codecs import PAYLOAD_TYPES, clock_rate, numbers

_STATIC = {str(number): name for name, number in PAYLOAD_TYPES.items()}
_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_MIRRORED = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}
OWN_EVENTS = 101  # the payload type of telephone-event in our offers


@attrs.frozen
class Agreed:
    """What offer and answer came to, from our side."""

    codec: str
    payload_type: int
    events: int | None  # payload type of telephone-event; None where the other side has none
    remote: tuple[str, int]
    direction: str  # what we may do
    keys: PeerKeys | None = None  # None: plain RTP


@attrs.frozen
class _Described:
    """The audio section of a description."""

    codecs: dict[str, int]  # of ours, in its order
    names: tuple[str, ...]  # all it has, for the reason of a refusal
    events: int | None
    remote: tuple[str, int]
    direction: str
    index: int
    crypto: tuple[Crypto, ...] = ()


def _payload_name(media: Media, payload_type: str) -> tuple[str, str]:
    """Name and clock of a payload type; the static ones need no rtpmap."""
    for value in media.get_all("rtpmap"):
        number, _, encoding = value.partition(" ")
        if number == payload_type:
            name, _, clock = encoding.strip().partition("/")
            return name.upper(), clock.partition("/")[0]
    return _STATIC.get(payload_type, ""), "8000"


def _read(description: SessionDescription, secure: bool) -> _Described:
    profiles = ("RTP/SAVP", "RTP/SAVPF") if secure else ("RTP/AVP", "RTP/AVPF")
    usable = [m.kind == "audio" and m.port > 0 and m.proto in profiles for m in description.media]
    if True not in usable:
        raise SdpError(f"no audio over {profiles[0]} is offered", warning_code=304)
    index = usable.index(True)
    media = description.media[index]
    codecs: dict[str, int] = {}
    names: list[str] = []
    events = None
    spelled = {name.upper(): name for name in numbers()}
    for payload_type in media.formats:
        if not payload_type.isdigit() or int(payload_type) > 127:
            raise SdpError(f"no payload type: {payload_type}", status=400)
        name, clock = _payload_name(media, payload_type)
        if name in spelled and clock == str(clock_rate(spelled[name])):
            codecs.setdefault(spelled[name], int(payload_type))
        elif name == "TELEPHONE-EVENT" and clock == "8000" and events is None:
            events = int(payload_type)
            continue
        names.append(name or payload_type)
    address = description.connection_of(media)
    if address is None:
        raise SdpError("no c= line", status=400)
    direction = next((d for d in _DIRECTIONS if media.get(d) is not None), None)
    if direction is None:
        direction = next((d for d in _DIRECTIONS if description.get(d) is not None), "sendrecv")
    if address == "0.0.0.0":
        direction = "sendonly" if direction == "sendrecv" else "inactive"  # on hold as RFC 2543 had it
    crypto = read_crypto(media) if secure else ()
    return _Described(codecs, tuple(names), events, (address, media.port), direction, index, crypto)


class PbxNegotiation:
    """The descriptions of one call. `codecs` is our order; with `own_order` it decides in answers, else the offer's.

    `srtp`: SRTP with keys in the SDP (RFC 4568), and nothing else.
    """

    def __init__(
        self, address: str, codecs: Sequence[str], *, own_order: bool = False, events: bool = True, srtp: bool = False
    ) -> None:
        self._address = address
        self._codecs = tuple(codecs)
        self._own_order = own_order
        self._events = events
        self._keys = new_keys(os.urandom) if srtp else ()
        self._version = 0
        self._last: Agreed | None = None
        self.held = False
        """Whether our offers put the other side on hold."""

    def offer(self, port: int) -> bytes:
        """Our offer. In a running call the codec agreed on comes first."""
        known = numbers()
        formats = {name: known[name] for name in self._codecs}
        if self._last is not None:
            formats = {self._last.codec: self._last.payload_type} | formats
        events = OWN_EVENTS if self._last is None else self._last.events
        direction = "sendonly" if self.held else "sendrecv"
        return self._write(port, formats, events if self._events else None, direction, [], crypto=self._keys)

    def answer(self, offer: bytes, port: int) -> tuple[bytes, Agreed]:
        """Our answer and what it settles. Raises SdpError where nothing fits."""
        description = parse_sdp(offer)
        theirs = _read(description, bool(self._keys))
        order = self._codecs if self._own_order else tuple(theirs.codecs)
        codec = next((name for name in order if name in theirs.codecs and name in self._codecs), None)
        if codec is None:
            offered, ours = ", ".join(theirs.names), ", ".join(self._codecs)
            raise SdpError(f"no common codec: offered are {offered}, here are {ours}", warning_code=305)
        direction = _MIRRORED[theirs.direction]
        if self.held:
            direction = {"sendrecv": "sendonly", "recvonly": "inactive"}.get(direction, direction)
        events = theirs.events if self._events else None
        shown: tuple[Crypto, ...] = ()
        keys = None
        if self._keys:
            line, own = chosen(theirs.crypto, self._keys, "the offer")
            shown, keys = (own,), PeerKeys(line.suite, own.key, line.key)
        agreed = self._last = Agreed(codec, theirs.codecs[codec], events, theirs.remote, direction, keys)
        refused = [m for i, m in enumerate(description.media) if i != theirs.index]
        before = theirs.index
        formats = {codec: agreed.payload_type}
        return self._write(port, formats, events, direction, refused, before, crypto=shown), agreed

    def accept(self, answer: bytes) -> Agreed:
        """What their answer to our offer settles. Raises SdpError where it is no answer to it."""
        theirs = _read(parse_sdp(answer), bool(self._keys))
        codec = next((name for name in theirs.codecs if name in self._codecs), None)
        if codec is None:
            raise SdpError(f"no common codec in the answer: {', '.join(theirs.names)}", warning_code=305)
        direction = _MIRRORED[theirs.direction]
        if self.held:
            direction = {"sendrecv": "sendonly", "recvonly": "inactive"}.get(direction, direction)
        events = theirs.events if self._events else None
        keys = None
        if self._keys:
            line, own = accepted(theirs.crypto, self._keys, "the answer")
            keys = PeerKeys(line.suite, own.key, line.key)
        self._last = Agreed(codec, theirs.codecs[codec], events, theirs.remote, direction, keys)
        return self._last

    def _write(
        self,
        port: int,
        codecs: dict[str, int],
        events: int | None,
        direction: str,
        refused: Sequence[Media],
        before: int = 0,
        crypto: Sequence[Crypto] = (),
    ) -> bytes:
        self._version += 1
        family = "IP6" if ":" in self._address else "IP4"
        formats = [*codecs.values(), *([] if events is None else [events])]
        profile = "RTP/SAVP" if self._keys else "RTP/AVP"
        audio = [f"m=audio {port} {profile} {' '.join(map(str, formats))}"]
        audio += [f"a=crypto:{line}" for line in crypto]
        audio += [f"a=rtpmap:{number} {name}/{clock_rate(name)}" for name, number in codecs.items()]
        if events is not None:
            audio += [f"a=rtpmap:{events} telephone-event/8000", f"a=fmtp:{events} 0-15"]
        audio += ["a=ptime:20", f"a={direction}"]
        sections = [[f"m={m.kind} 0 {m.proto} {' '.join(m.formats)}"] for m in refused]
        sections.insert(before, audio)
        lines = [
            "v=0",
            f"o=pbx {port} {self._version} IN {family} {self._address}",
            "s=-",
            f"c=IN {family} {self._address}",
            "t=0 0",
            *(line for section in sections for line in section),
        ]
        return ("\r\n".join(lines) + "\r\n").encode()
