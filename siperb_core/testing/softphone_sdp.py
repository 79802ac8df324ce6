"""A softphone's descriptions, written as a browser would (RFC 8829), and the gateway's, read."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import attrs

from siperb_core.sdp.description import Media, SdpError, parse_sdp
from siperb_core.testing import codecs as rtp_codecs
from siperb_core.testing.softphone_peer import Peer, RemotePeer

_DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
_MIRRORED: Final = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}
_FORMATS: Final = {
    "opus": (111, "opus/48000/2"),
    "G722": (9, "G722/8000"),
    "PCMA": (8, "PCMA/8000"),
    "L16": (96, "L16/16000"),
}
_STATIC: Final = {"0": ("PCMU", 8000), "8": ("PCMA", 8000), "9": ("G722", 8000)}
_EVENTS: Final = {48000: 110, 8000: 126}  # telephone-event by its clock, as Chromium has it
_SPELLING: Final = {"OPUS": "opus", "G722": "G722", "PCMA": "PCMA", "PCMU": "PCMU", "L16": "L16"}


@attrs.frozen
class RemoteAudio:
    """The other side's audio section."""

    index: int
    sections: tuple[Media, ...]
    mid: str
    codecs: Mapping[str, int]  # payload types, in the other side's order
    events: Mapping[int, int]  # payload types of telephone-event, by clock
    direction: str
    setup: str
    peer: RemotePeer

    def choose(self, ours: Sequence[str]) -> str:
        """The first of its codecs that is ours. Raises SdpError."""
        for name in self.codecs:
            if name in ours:
                return name
        raise SdpError(f"no common codec: offered are {', '.join(self.codecs) or 'none known'}", warning_code=305)


def read(data: bytes) -> RemoteAudio:
    """Read a description of the gateway's. Raises SdpError on what a browser would not take either."""
    description = parse_sdp(data)
    usable = [media.kind == "audio" and not media.disabled for media in description.media]
    if True not in usable:
        raise SdpError("no audio")
    index = usable.index(True)
    media = description.media[index]
    if "SAVPF" not in media.proto or media.get("rtcp-mux") is None:
        raise SdpError(f"not for a browser: {media.proto}, or no rtcp-mux")

    def first(name: str) -> str:
        value = media.get(name)
        return value if value is not None else description.get(name) or ""

    fingerprints = media.get_all("fingerprint") or description.get_all("fingerprint")
    if not (first("ice-ufrag") and first("ice-pwd") and fingerprints):
        raise SdpError("no ICE credentials or no fingerprint")
    known: dict[str, int] = {}
    events: dict[int, int] = {}
    encodings = dict(value.partition(" ")[::2] for value in media.get_all("rtpmap"))
    for payload_type in media.formats:
        name, clock = _STATIC.get(payload_type, ("", 0))
        if payload_type in encodings:
            name, _, rest = encodings[payload_type].partition("/")
            clock = int(rest.partition("/")[0] or 0)
        if name.lower() == "telephone-event":
            events.setdefault(clock, int(payload_type))
        elif name.upper() in _SPELLING and clock == rtp_codecs.clock_rate(_SPELLING[name.upper()]):
            known.setdefault(_SPELLING[name.upper()], int(payload_type))
    direction = next((d for d in _DIRECTIONS if media.get(d) is not None), None)
    return RemoteAudio(
        index=index,
        sections=description.media,
        mid=media.mid,
        codecs=known,
        events=events,
        direction=direction or next((d for d in _DIRECTIONS if description.get(d) is not None), "sendrecv"),
        setup=first("setup").lower(),
        peer=RemotePeer(
            ufrag=first("ice-ufrag"),
            password=first("ice-pwd"),
            lite=description.get("ice-lite") is not None,
            candidates=tuple(media.get_all("candidate")),
            fingerprints=tuple((v.split()[0], v.split()[1]) for v in fingerprints if len(v.split()) == 2),
        ),
    )


def allowed(theirs: str, *, held: bool) -> str:
    """What we may do where the other side says `theirs` and we have it on hold, or not."""
    direction = _MIRRORED[theirs]
    return {"sendrecv": "sendonly", "recvonly": "inactive"}.get(direction, direction) if held else direction


class Writer:
    """Writes one call's descriptions; each says it is newer than the one before."""

    def __init__(self, peer: Peer, address: str) -> None:
        self._peer = peer
        self._address = address
        self._id = secrets.randbits(62)
        self._version = 1
        self._track = secrets.token_hex(16)

    def offer(self, codecs: Sequence[str], direction: str, mid: str) -> bytes:
        """An offer of these codecs and telephone-event at both clocks."""
        formats = {name: _FORMATS.get(name, (0, "PCMU/8000")) for name in codecs}
        clocks = {rtp_codecs.clock_rate(name) for name in codecs}
        clocks = clocks & _EVENTS.keys() or {8000}
        events = {clock: _EVENTS[clock] for clock in sorted(clocks, reverse=True)}
        return self._write([self._audio(dict(formats.values()), events, direction, "actpass", mid)], mid)

    def answer(self, offer: RemoteAudio, codec: str, direction: str, setup: Literal["active", "passive"]) -> bytes:
        """An answer with one codec, and telephone-event where it is offered at that codec's clock or at 8000 Hz."""
        clock = rtp_codecs.clock_rate(codec)
        number = offer.codecs[codec]
        formats = {number: _FORMATS.get(codec, (0, "PCMU/8000"))[1]}
        events = {c: offer.events[c] for c in (clock, 8000) if c in offer.events}
        sections = [
            [f"m={m.kind} 0 {m.proto} {' '.join(m.formats)}", *([f"a=mid:{m.mid}"] if m.mid else [])]
            for m in offer.sections
        ]
        sections[offer.index] = self._audio(formats, events, direction, setup, offer.mid)
        return self._write(sections, offer.mid)

    def _audio(
        self, formats: Mapping[int, str], events: Mapping[int, int], direction: str, setup: str, mid: str
    ) -> list[str]:
        peer = self._peer
        numbers = [*formats, *events.values()]
        lines = [
            f"m=audio {peer.port} UDP/TLS/RTP/SAVPF {' '.join(map(str, numbers))}",
            f"c=IN IP4 {self._address}",
            "a=rtcp:9 IN IP4 0.0.0.0",
            *(f"a=candidate:{value}" for value in peer.candidates),
            "a=end-of-candidates",
            f"a=ice-ufrag:{peer.ufrag}",
            f"a=ice-pwd:{peer.password}",
            *(f"a=fingerprint:{name} {value}" for name, value in peer.fingerprints if name == "sha-256"),
            f"a=setup:{setup}",
            *([f"a=mid:{mid}"] if mid else []),
            f"a={direction}",
            f"a=msid:- {self._track}",
            "a=rtcp-mux",
            "a=rtcp-rsize",
            *(f"a=rtpmap:{number} {encoding}" for number, encoding in formats.items()),
        ]
        if 111 in formats:
            lines.append("a=fmtp:111 minptime=10;useinbandfec=1")
        lines += [f"a=rtpmap:{number} telephone-event/{clock}" for clock, number in events.items()]
        return [*lines, f"a=ssrc:{peer.ssrc} cname:{self._track}"]

    def _write(self, sections: Sequence[Sequence[str]], mid: str) -> bytes:
        self._version += 1
        lines = ["v=0", f"o=- {self._id} {self._version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
        lines += [f"a=group:BUNDLE {mid}"] if mid else []  # an offer without one is answered without one
        lines += ["a=msid-semantic: WMS *", *(line for section in sections for line in section)]
        return ("\r\n".join(lines) + "\r\n").encode()
