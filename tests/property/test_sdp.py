"""Offer and answer under any sequence of offers, answers and refusals, and under any octets."""

from __future__ import annotations

from pathlib import Path

import attrs
from aiortc.sdp import SessionDescription as AiortcDescription
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.sdp import Bridge, BridgeSettings, LegIdentity, SdpError, describe, parse_sdp

TEXTS = sorted((Path(__file__).parents[1] / "scenario" / "sdp" / "texts").glob("*.sdp"))
CORPUS = [path.read_bytes().replace(b"\n", b"\r\n") for path in TEXTS]
DIRECTIONS = ["sendrecv", "sendonly", "recvonly", "inactive"]
REVERSE = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}
PAIRS = [pair for codec in ("G722", "PCMA", "PCMU") for pair in (("opus", codec), (codec, "opus"))]
STATIC = {"PCMU": 0, "PCMA": 8, "G722": 9, "G729": 18}
CLOCKS = {"opus": "48000/2"}


@attrs.frozen
class Text:
    """A description as a device might write it."""

    codecs: list[str]
    direction: str
    setup: str
    event: bool
    shift: int  # of the dynamic payload types
    before: list[str]  # other sections
    after: list[str]
    zero: bool  # hold in the old way
    generation: int  # of ICE

    def _formats(self) -> tuple[str, str]:
        numbers, maps = [], []
        for place, name in enumerate(self.codecs):
            number = STATIC.get(name, 96 + (self.shift + place) % 20)
            numbers.append(str(number))
            maps.append(f"a=rtpmap:{number} {name}/{CLOCKS.get(name, '8000')}\r\n")
        if self.event:
            numbers.append(str(120 + self.shift % 7))
            maps.append(f"a=rtpmap:{numbers[-1]} telephone-event/8000\r\n")
        return " ".join(numbers) or "13", "".join(maps)

    def phone(self) -> bytes:
        numbers, maps = self._formats()
        mids = iter(range(100))
        text = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2 3 4 5\r\n"
        for kind in self.before:
            text += f"m={kind} 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{next(mids)}\r\na=rtpmap:96 x/90000\r\n"
        text += (
            f"m=audio 9 UDP/TLS/RTP/SAVPF {numbers}\r\nc=IN IP4 0.0.0.0\r\n{maps}a=mid:{next(mids)}\r\na=rtcp-mux\r\n"
            f"a=setup:{self.setup}\r\na={self.direction}\r\n"
            f"a=ice-ufrag:abcd{self.generation}\r\na=ice-pwd:{'w' * 24}\r\n"
            f"a=fingerprint:sha-256 {':'.join(['4A'] * 32)}\r\n"
        )
        for kind in self.after:
            text += f"m={kind} 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:{next(mids)}\r\na=rtpmap:96 x/90000\r\n"
        return text.encode()

    def pbx(self) -> bytes:
        numbers, maps = self._formats()
        address = "0.0.0.0" if self.zero else "198.51.100.9"
        text = f"v=0\r\no=- 1 1 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
        text += "".join(f"m={kind} 4000 RTP/AVP 96\r\n" for kind in self.before if kind != "audio")
        text += f"m=audio 12000 RTP/AVP {numbers}\r\n{maps}a={self.direction}\r\n"
        return (text + "".join(f"m={kind} 4000 RTP/AVP 96\r\n" for kind in self.after)).encode()


others = st.lists(st.sampled_from(["video", "image"]), max_size=2)
descriptions = st.builds(
    Text,
    codecs=st.lists(st.sampled_from(["opus", "G722", "PCMA", "PCMU", "G729"]), max_size=5, unique=True),
    direction=st.sampled_from(DIRECTIONS),
    setup=st.sampled_from(["actpass", "active", "passive"]),
    event=st.booleans(),
    shift=st.integers(0, 30),
    before=others,
    after=others,
    zero=st.booleans(),
    generation=st.integers(0, 2),
)
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["offer_from_client", "offer_from_peer"] * 4
            + ["answer"] * 8
            + ["answer_from_peer", "answer_from_client", "reject", "drop"]
        ),
        st.sampled_from(["a", "a", "a", "b"]),
        descriptions,
    ),
    max_size=16,
)
bridge_settings = st.builds(
    BridgeSettings,
    address=st.just("203.0.113.5"),
    peer_address=st.just("192.0.2.5"),
    peer_port=st.just(10000),
    peer_ssrc=st.just(1),
    fingerprint=st.just(("sha-256", ":".join(["AB"] * 32))),
    session_id=st.just(7),
    codec_policy=st.sampled_from(["opus-first", "relay-first"]),
    transcodable=st.sampled_from([frozenset(PAIRS), frozenset(PAIRS[:2]), frozenset(PAIRS[::2]), frozenset()]),
)
IDENTITIES = {"a": LegIdentity("uFrA", "p" * 22, 10010, 153), "b": LegIdentity("uFrB", "q" * 22, 10012, 152)}


def codecs_of(sdp: bytes) -> set[str]:
    return set(describe(sdp))


def version(sdp: bytes) -> int:
    return int(sdp.split(b"\r\n")[1].split()[2])


@given(settings=bridge_settings, sequence=steps)
def test_invariants_of_any_sequence(settings: BridgeSettings, sequence: list[tuple[str, str, Text]]) -> None:
    bridge = Bridge(settings)
    offered = b""  # what came in
    passed_on = b""  # and what it became
    offerer = ""
    roles: dict[str, str] = {}
    last: dict[str, bytes] = {}
    for name, branch, written in sequence:
        before = bridge.plan, bridge.pending, bridge.mode, bridge.why
        if name == "drop":
            bridge.drop_branch(branch)
            roles.pop(branch, None)
            last.pop(branch, None)
            assert branch not in bridge.plan.clients
            continue
        if name == "reject":
            bridge.reject()
            assert not bridge.pending
            roles = {key: role for key, role in roles.items() if key in bridge.plan.clients}
            continue
        if name == "answer":
            name = "answer_from_client" if offerer == "pbx" else "answer_from_peer"
        data = written.phone() if name.endswith("client") else written.pbx()
        try:
            if name == "answer_from_peer":
                result, to = bridge.answer_from_peer(data), bridge.active or ""
            elif name == "answer_from_client":
                result, to = bridge.answer_from_client(data, branch), "pbx"
            elif name == "offer_from_client":
                result, to = bridge.offer_from_client(data, branch, IDENTITIES[branch]), "pbx"
            else:
                result, to = bridge.offer_from_peer(data, branch, IDENTITIES[branch]), branch
            problem = None
        except SdpError as error:
            problem = error
        if problem is not None:
            assert problem.status in (400, 488, 491)
            assert problem.warning
            assert (bridge.plan, bridge.pending, bridge.mode, bridge.why) == before
            continue

        parsed = parse_sdp(result)
        alive = [media for media in parsed.media if media.port]
        assert [media.kind for media in alive] == ["audio"]
        if to != "pbx":
            AiortcDescription.parse(result.decode())
            assert alive[0].proto == "UDP/TLS/RTP/SAVPF"
        numbers = [*alive[0].formats]
        assert len(numbers) == len(set(numbers))

        if to in last:  # the version counts changes, one by one
            same = last[to].split(b"\r\n")[2:] == result.split(b"\r\n")[2:]
            assert version(result) == version(last[to]) + (not same)
        last[to] = result

        plan = bridge.plan
        if name.startswith("offer"):
            late = (
                data == offered and branch not in before[0].clients
            )  # of a fork that another branch may have answered
            assert bridge.pending or late
            offered, passed_on, offerer = data, result, "phone" if to == "pbx" else "pbx"
            running = before[0].peer is not None and before[0].peer.stream is not None and branch in before[0].clients
            if running:
                assert plan == before[0]
            continue

        assert not bridge.pending
        assert len(parsed.media) == len(parse_sdp(offered).media)
        assert [media.mid for media in parsed.media] == [media.mid for media in parse_sdp(offered).media] or to == "pbx"
        assert codecs_of(result) <= codecs_of(offered)
        assert plan.active is not None
        leg, peer = plan.clients[plan.active], plan.peer
        assert peer is not None
        assert peer.stream is not None
        assert leg.stream is not None
        assert leg.stream.direction == REVERSE[peer.stream.direction]
        ours = leg.stream.direction if to != "pbx" else peer.stream.direction
        assert alive[0].get(ours) == ""
        assert {leg.stream.codec.name, peer.stream.codec.name} & codecs_of(result)
        assert (bridge.mode == "relay") == (leg.stream.codec.name == peer.stream.codec.name)
        if bridge.mode == "transcode":
            names = leg.stream.codec.name, peer.stream.codec.name
            assert {names, names[::-1]} <= settings.transcodable
        assert leg.dtls == roles.setdefault(plan.active, leg.dtls)
        assert passed_on


@given(
    source=st.sampled_from(CORPUS),
    edits=st.lists(
        st.tuples(
            st.sampled_from(["drop", "double", "swap", "cut", "byte", "word"]),
            st.integers(0, 200),
            st.binary(max_size=6),
        ),
        max_size=6,
    ),
    first=st.sampled_from(CORPUS),
)
def test_damaged_descriptions_raise_nothing_else(
    source: bytes, edits: list[tuple[str, int, bytes]], first: bytes
) -> None:
    lines = source.split(b"\r\n")
    for kind, place, octets in edits:
        index = place % len(lines)
        line = lines[index]
        if kind == "drop" and len(lines) > 1:
            del lines[index]
        elif kind == "double":
            lines.insert(index, line)
        elif kind == "swap":
            lines[index], lines[0] = lines[0], line
        elif kind == "cut":
            lines[index] = line[: place % (len(line) + 1)]
        elif kind == "byte":
            lines[index] = line[: place % (len(line) + 1)] + octets + line[place % (len(line) + 1) :]
        elif kind == "word":
            words = line.split(b" ")
            words[place % len(words)] = octets
            lines[index] = b" ".join(words)
    damaged = b"\r\n".join(lines)
    settings = BridgeSettings(
        "203.0.113.5", "192.0.2.5", 10000, 1, ("sha-256", "AB:CD"), 7, transcodable=frozenset(PAIRS)
    )
    describe(damaged)
    for operations in (("client", "peer"), ("peer", "client")):
        for texts in ((damaged, first), (first, damaged), (damaged, damaged)):
            bridge = Bridge(settings)
            for side, text in zip(operations * 2, texts * 2, strict=True):
                answering = bridge.pending
                try:
                    if answering and side == "peer":
                        written = bridge.answer_from_peer(text)
                    elif answering:
                        written = bridge.answer_from_client(text, "a")
                    elif side == "peer":
                        written = bridge.offer_from_peer(text, "a", IDENTITIES["a"])
                    else:
                        bridge.restarts_ice(text, "a")
                        written = bridge.offer_from_client(text, "a", IDENTITIES["a"])
                except SdpError:
                    bridge.reject()
                    continue
                parse_sdp(written)
                assert written.count(b"\r\n") == written.count(b"\n") == written.count(b"\r")


@given(st.binary(max_size=300))
def test_any_octets(data: bytes) -> None:
    for text in (data, b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n" + data):
        status = 400
        try:
            parse_sdp(text)
        except SdpError as error:
            status = error.status
        assert status == 400
