"""The machine's edges: what is refused, in which words, and that nothing is lost by it."""

from __future__ import annotations

import attrs
import pytest

from siperb_core.sdp import Bridge, BridgeSettings, LegIdentity, SdpError

PRINT = ":".join(["4A"] * 32)
SETTINGS = BridgeSettings(
    address="203.0.113.5",
    peer_address="192.0.2.5",
    peer_port=10000,
    peer_ssrc=1,
    fingerprint=("sha-256", ":".join(["AB"] * 32)),
    session_id=7,
    transcodable=frozenset(pair for codec in ("G722", "PCMA", "PCMU") for pair in (("opus", codec), (codec, "opus"))),
)
FIRST = LegIdentity("uFrA", "p" * 22, 10010, 153)
SECOND = LegIdentity("uFrB", "q" * 22, 10012, 152)

PHONE = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 8 126\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:111 opus/48000/2\r\n"
    "a=rtpmap:126 telephone-event/8000\r\na=mid:0\r\na=rtcp-mux\r\na=setup:actpass\r\n"
    f"a=ice-ufrag:abcd\r\na=ice-pwd:{'w' * 24}\r\na=fingerprint:sha-256 {PRINT}\r\n"
)
PBX = (
    "v=0\r\no=- 1 1 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n"
    "m=audio 12000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
)


def changed(text: str, *pairs: tuple[str, str]) -> bytes:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text.encode()


def connected(settings: BridgeSettings = SETTINGS, *pairs: tuple[str, str]) -> Bridge:
    bridge = Bridge(settings)
    bridge.offer_from_client(changed(PHONE, *pairs), "a", FIRST)
    bridge.answer_from_peer(PBX.encode())
    return bridge


@pytest.mark.parametrize(
    ("pairs", "code", "words"),
    [
        ([("UDP/TLS/RTP/SAVPF", "RTP/AVP")], 302, "the phone has audio over RTP/AVP only; it must be DTLS-SRTP"),
        ([("UDP/TLS/RTP/SAVPF", "RTP/AVPF")], 302, "RTP/AVPF only"),
        ([(f"a=fingerprint:sha-256 {PRINT}\r\n", "")], 302, "no a=fingerprint"),
        ([("sha-256", "sha-1")], 302, "no a=fingerprint of sha-256 or better"),
        ([(PRINT, PRINT[:-3])], 302, "no a=fingerprint of sha-256 or better"),
        ([(PRINT, "ZZ" + PRINT[2:])], 302, "no a=fingerprint of sha-256 or better"),
        ([("a=ice-ufrag:abcd\r\n", "")], 302, "no ICE credentials"),
        ([("a=ice-pwd:", "a=x:")], 302, "no ICE credentials"),
        ([("a=ice-ufrag:abcd", "a=ice-ufrag:ab")], 302, "a=ice-ufrag that"),
        ([("w" * 24, "w" * 8)], 302, "a=ice-pwd that"),
        ([("w" * 24, "w" * 300)], 302, "a=ice-pwd that"),
        ([("a=rtcp-mux\r\n", "")], 302, "no a=rtcp-mux"),
        ([("actpass", "holdconn")], 302, "starts no DTLS"),
        ([("m=audio 9", "m=audio 0")], 304, "switched its audio off"),
        ([("m=audio", "m=video")], 304, "no audio in its SDP"),
        ([("m=audio 9 UDP/TLS/RTP/SAVPF 111 8 126\r\n", "")], 304, "no audio in its SDP"),
        (
            [("111 8 126", "18 126")],
            305,
            "no common codec: the phone offers only G729; this gateway bridges opus, G722, PCMA, PCMU",
        ),
        ([("111 8 126", "126")], 305, "the phone offers only nothing known"),
        ([("111 8 126", "111 126"), ("opus/48000/2", "PCMA/16000")], 305, "offers only PCMA"),
    ],
)
def test_phones_that_are_refused(pairs: list[tuple[str, str]], code: int, words: str) -> None:
    bridge = Bridge(SETTINGS)
    with pytest.raises(SdpError) as caught:
        bridge.offer_from_client(changed(PHONE, *pairs), "a", FIRST)
    assert (caught.value.status, caught.value.warning_code) == (488, code)
    assert words in caught.value.warning
    assert (bridge.plan.peer, bridge.branches, bridge.pending) == (None, (), False)


@pytest.mark.parametrize(
    ("pairs", "status", "code", "words"),
    [
        ([("RTP/AVP", "RTP/SAVP")], 488, 302, "the PBX has audio over RTP/SAVP only; it must be plain RTP (RTP/AVP)"),
        ([("c=IN IP4 198.51.100.9\r\n", "")], 400, 399, "no c= line"),
        ([("c=IN IP4 198.51.100.9", "c=IN IP4 pbx.example.com")], 488, 301, "pbx.example.com, which is not"),
        ([("c=IN IP4 198.51.100.9", "c=IN IP4 224.2.36.42/127")], 488, 301, "not the address of one host"),
        ([("c=IN IP4 198.51.100.9", "c=IN IP4 239.1.1.1")], 488, 301, "not the address of one host"),
        ([("c=IN IP4 198.51.100.9", "c=IN IP4 255.255.255.255")], 488, 301, "not the address of one host"),
        ([("c=IN IP4 198.51.100.9", "c=IN IP6 fe80::1%eth0")], 488, 301, "not the address of one host"),
        ([("m=audio 12000", "m=audio 0")], 488, 304, "switched its audio off"),
        ([("m=audio", "m=image")], 488, 304, "no audio"),
        ([("RTP/AVP 8 101", "RTP/AVP 18 3 101")], 488, 305, "the PBX offers only G729, GSM; this gateway bridges G722"),
    ],
)
def test_pbxs_that_are_refused(pairs: list[tuple[str, str]], status: int, code: int, words: str) -> None:
    bridge = Bridge(SETTINGS)
    with pytest.raises(SdpError) as caught:
        bridge.offer_from_peer(changed(PBX, *pairs), "a", FIRST)
    assert (caught.value.status, caught.value.warning_code) == (status, code)
    assert words in caught.value.warning
    assert (bridge.plan.peer, bridge.branches, bridge.pending) == (None, (), False)


def test_nothing_bridges_without_transcoder_or_shared_codec() -> None:
    bridge = Bridge(attrs.evolve(SETTINGS, transcodable=frozenset(), client_codecs=("opus",)))
    with pytest.raises(SdpError, match="this gateway bridges nothing"):
        bridge.offer_from_peer(PBX.encode(), "a", FIRST)


@pytest.mark.parametrize(
    ("pairs", "rtp", "rtcp"),
    [
        ([("c=IN IP4 198.51.100.9", "c=IN IP6 2001:DB8::9")], ("2001:db8::9", 12000), ("2001:db8::9", 12001)),
        ([("RTP/AVP 8", "RTP/AVPF 8")], ("198.51.100.9", 12000), ("198.51.100.9", 12001)),
        ([("8 101\r\n", "8 101\r\na=rtcp:13000\r\n")], ("198.51.100.9", 12000), ("198.51.100.9", 13000)),
        (
            [("8 101\r\n", "8 101\r\na=rtcp:13000 IN IP4 198.51.100.8\r\n")],
            ("198.51.100.9", 12000),
            ("198.51.100.8", 13000),
        ),
        ([("8 101\r\n", "8 101\r\na=rtcp:13000 IN IP4 224.0.0.1\r\n")], ("198.51.100.9", 12000), None),
        ([("8 101\r\n", "8 101\r\na=rtcp:0\r\n")], ("198.51.100.9", 12000), None),
        ([("m=audio 12000", "m=audio 65535")], ("198.51.100.9", 65535), None),
        ([("8 101\r\n", "8 101\r\nc=IN IP4 198.51.100.7\r\n")], ("198.51.100.7", 12000), ("198.51.100.7", 12001)),
        ([("c=IN IP4 198.51.100.9", "c=IN IP4 0.0.0.0")], None, None),
    ],
)
def test_where_the_pbx_is(pairs: list[tuple[str, str]], rtp: object, rtcp: object) -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_client(PHONE.encode(), "a", FIRST)
    bridge.answer_from_peer(changed(PBX, *pairs))
    assert bridge.plan.peer is not None
    assert (bridge.plan.peer.remote, bridge.plan.peer.remote_rtcp) == (rtp, rtcp)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a=ptime:20", 20),
        ("a=ptime:30", 20),
        ("a=ptime:10", 10),
        ("a=ptime:60", 60),
        ("a=ptime:1000", 60),
        ("a=ptime:0", 20),
        ("a=ptime:soon", 20),
        ("a=ptime:40\r\na=maxptime:20", 20),
        ("a=maxptime:150", 20),
    ],
)
def test_packet_times(written: str, meant: int) -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_client(PHONE.encode(), "a", FIRST)
    answer = bridge.answer_from_peer(changed(PBX, ("8 101\r\n", f"8 101\r\n{written}\r\n")))
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.stream is not None
    assert bridge.plan.peer.stream.ptime == meant
    assert f"a=ptime:{meant}\r\n".encode() in answer


@pytest.mark.parametrize(
    ("setup", "ours", "role"),
    [("actpass", "active", "client"), ("active", "passive", "server"), ("passive", "active", "client")],
)
def test_the_dtls_role_is_chosen_once(setup: str, ours: str, role: str) -> None:
    bridge = Bridge(SETTINGS)
    offer = changed(PHONE, ("actpass", setup))
    bridge.offer_from_client(offer, "a", FIRST)
    assert f"a=setup:{ours}\r\n".encode() in bridge.answer_from_peer(PBX.encode())
    assert bridge.plan.clients["a"].dtls == role
    bridge.offer_from_client(PHONE.encode(), "a")
    assert f"a=setup:{ours}\r\n".encode() in bridge.answer_from_peer(PBX.encode())
    other = {"active": "active", "passive": "passive"}[ours]
    with pytest.raises(SdpError, match="would change the DTLS roles"):
        bridge.offer_from_client(changed(PHONE, ("actpass", other)), "a")
    for setup_of_answer in ("active", "passive", "actpass"):
        bridge.offer_from_peer(PBX.encode(), "a")
        bridge.answer_from_client(changed(PHONE, ("actpass", setup_of_answer)), "a")
        assert bridge.plan.clients["a"].dtls == role


def test_a_lite_phone_leaves_the_control_to_us() -> None:
    bridge = connected(SETTINGS, ("t=0 0", "t=0 0\r\na=ice-lite"))
    assert bridge.plan.clients["a"].controlling


def test_transport_attributes_may_stand_at_the_session_or_the_tagged_section() -> None:
    moved = f"a=ice-ufrag:abcd\r\na=ice-pwd:{'w' * 24}\r\na=fingerprint:sha-256 {PRINT}\r\na=setup:active\r\n"
    bare = PHONE.replace(moved.replace("a=setup:active\r\n", ""), "").replace("a=setup:actpass\r\n", "")
    session = bare.replace("t=0 0\r\n", "t=0 0\r\n" + moved)
    tagged = (
        bare.replace("m=audio 9 ", f"m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\n{moved}m=audio 0 ")
        .replace("BUNDLE 0", "BUNDLE v 0")
        .replace("a=mid:0\r\n", "a=mid:0\r\na=bundle-only\r\n")
    )
    for text in (session, tagged):
        bridge = Bridge(SETTINGS)
        bridge.offer_from_client(text.encode(), "a", FIRST)
        leg = bridge.plan.clients["a"]
        assert (leg.remote_ufrag, leg.remote_fingerprints, leg.dtls) == ("abcd", (("sha-256", PRINT),), "server")


def test_an_offer_without_mid_is_answered_without() -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_client(changed(PHONE, ("a=mid:0\r\n", ""), ("a=group:BUNDLE 0\r\n", "")), "a", FIRST)
    answer = bridge.answer_from_peer(PBX.encode())
    assert b"a=mid" not in answer
    assert b"BUNDLE" not in answer


@pytest.mark.parametrize(
    "candidate",
    [
        "1 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active",
        "1 2 udp 1 192.0.2.7 9 typ host",
        "1 1 udp 1 5f1ee1bd-3b23-4a5a.local 9 typ host",
        "1 1 udp 1 224.0.0.1 9 typ host",
        "1 1 udp 1 0.0.0.0 9 typ host",
        "1 1 udp 1 fe80::1%eth0 9 typ host",
        "1 1 udp 99999999999 192.0.2.7 9 typ host",
        "1 1 udp 1 192.0.2.7 0 typ host",
        "1 1 udp 1 192.0.2.7 99999 typ host",
        "1 1 udp 1 192.0.2.7 9 typ magic",
        '" 1 udp 1 192.0.2.7 9 typ host',
        "1 1 udp",
        "",
    ],
)
def test_candidates_that_are_left_out(candidate: str) -> None:
    good = "a=candidate:7 1 UDP 5 192.0.2.8 4000 typ srflx raddr 10.0.0.1 rport 9\r\n"
    bridge = connected(SETTINGS, ("a=mid:0\r\n", f"a=mid:0\r\na=candidate:{candidate}\r\n{good}{good}"))
    assert bridge.plan.clients["a"].remote_candidates == ("7 1 udp 5 192.0.2.8 4000 typ srflx",)


def test_no_more_candidates_than_anybody_needs() -> None:
    many = "".join(f"a=candidate:1 1 udp 1 192.0.2.8 {port} typ host\r\n" for port in range(1, 301))
    bridge = connected(SETTINGS, ("a=mid:0\r\n", "a=mid:0\r\n" + many))
    assert len(bridge.plan.clients["a"].remote_candidates) == 32


def test_further_addresses_are_further_candidates() -> None:
    bridge = Bridge(attrs.evolve(SETTINGS, extra_addresses=("10.0.0.5", "2001:db8::5")))
    offer = bridge.offer_from_peer(PBX.encode(), "a", FIRST).decode()
    assert [line for line in offer.split("\r\n") if line.startswith("a=candidate")] == [
        "a=candidate:1 1 udp 2130706431 203.0.113.5 10010 typ host",
        "a=candidate:2 1 udp 2130706175 10.0.0.5 10010 typ host",
        "a=candidate:3 1 udp 2130705919 2001:db8::5 10010 typ host",
    ]


def test_our_ipv6_addresses() -> None:
    bridge = Bridge(attrs.evolve(SETTINGS, address="2001:db8::1", peer_address="2001:db8::2"))
    offer = bridge.offer_from_client(PHONE.encode(), "a", FIRST)
    assert b"o=- 7 1 IN IP6 2001:db8::2\r\ns=-\r\nc=IN IP6 2001:db8::2\r\n" in offer
    assert b"c=IN IP6 2001:db8::1\r\na=rtcp:10010 IN IP6 2001:db8::1" in bridge.answer_from_peer(PBX.encode())


@pytest.mark.parametrize("field", ["address", "peer_address"])
def test_settings_with_a_name_for_an_address(field: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address"):
        attrs.evolve(SETTINGS, **{field: "gateway.example.net"})


def test_a_new_branch_needs_an_identity() -> None:
    with pytest.raises(ValueError, match="identity"):
        Bridge(SETTINGS).offer_from_client(PHONE.encode(), "a")
    with pytest.raises(ValueError, match="identity"):
        Bridge(SETTINGS).offer_from_peer(PBX.encode(), "a")


def test_answers_nobody_waits_for() -> None:
    bridge = Bridge(SETTINGS)
    for answer in (
        lambda: bridge.answer_from_peer(PBX.encode()),
        lambda: bridge.answer_from_client(PHONE.encode(), "a"),
    ):
        with pytest.raises(SdpError, match="to no offer") as caught:
            answer()
        assert caught.value.status == 400
    bridge = connected()
    with pytest.raises(SdpError, match="to no offer"):
        bridge.answer_from_client(PHONE.encode(), "a")


def test_only_the_active_branch_may_offer() -> None:
    bridge = connected()
    for offer in (
        lambda: bridge.offer_from_client(PHONE.encode(), "b", SECOND),
        lambda: bridge.offer_from_peer(PBX.encode(), "b", SECOND),
    ):
        with pytest.raises(SdpError, match="another phone") as caught:
            offer()
        assert caught.value.status == 491


def test_reject_of_the_first_offer_leaves_nothing() -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_peer(PBX.encode(), "a", FIRST)
    bridge.offer_from_peer(PBX.encode(), "b", SECOND)
    bridge.reject()
    assert (bridge.plan.peer, bridge.branches, bridge.active) == (None, (), None)
    bridge.offer_from_client(PHONE.encode(), "a")  # the same branch tries again as itself
    assert bridge.plan.clients["a"].ufrag == "uFrA"
    bridge.answer_from_peer(PBX.encode())
    after = bridge.plan
    bridge.reject()  # nothing is under way
    assert bridge.plan == after


def test_a_refused_codec_change_leaves_the_codec() -> None:
    bridge = connected()
    before = (bridge.plan, bridge.mode, bridge.why)
    bridge.offer_from_peer(changed(PBX, ("8 101", "9 101")), "a")
    with pytest.raises(SdpError):
        bridge.answer_from_client(changed(PHONE, ("m=audio 9", "m=audio 0")), "a")
    assert bridge.pending
    bridge.reject()
    assert (bridge.plan, bridge.mode, bridge.why) == before


def test_dropping_branches() -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_peer(PBX.encode(), "a", FIRST)
    bridge.offer_from_peer(PBX.encode(), "b", SECOND)
    bridge.drop_branch("a")
    bridge.drop_branch("never-there")
    assert bridge.branches == ("b",)
    bridge.answer_from_client(PHONE.encode(), "b")
    bridge.drop_branch("b")
    assert (bridge.branches, bridge.active) == ((), None)

    bridge = Bridge(SETTINGS)
    bridge.offer_from_client(PHONE.encode(), "a", FIRST)
    bridge.drop_branch("a")
    assert (bridge.branches, bridge.pending) == ((), False)
    bridge.offer_from_client(PHONE.encode(), "b", SECOND)
    bridge.answer_from_peer(PBX.encode())
    assert bridge.active == "b"


def test_a_dropped_branch_does_not_come_back_with_a_rejected_offer() -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_peer(PBX.encode(), "a", FIRST)
    bridge.offer_from_peer(PBX.encode(), "b", SECOND)
    bridge.answer_from_client(PHONE.encode(), "b")
    bridge.offer_from_peer(changed(PBX, ("o=- 1 1", "o=- 1 2")), "b")
    bridge.drop_branch("a")
    bridge.reject()
    assert bridge.branches == ("b",)


def test_a_phone_that_uses_our_numbers_for_something_else() -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_client(
        changed(
            PHONE,
            ("111 8 126", "111 126"),
            (":111 ", ":110 "),
            (" 111 ", " 110 "),
            ("telephone-event/8000", "foo/8000"),
        ),
        "a",
        FIRST,
    )
    bridge.answer_from_peer(PBX.encode())
    offer = bridge.offer_from_peer(PBX.encode(), "a").decode()
    assert "m=audio 10010 UDP/TLS/RTP/SAVPF 110 8 96 101" in offer
    assert "a=rtpmap:96 telephone-event/48000" in offer


def test_a_phone_that_leaves_no_number() -> None:
    numbers = [n for n in range(35, 128) if not 64 <= n < 96]
    mapped = "".join(f"a=rtpmap:{n} c{n}/8000\r\n" for n in numbers if n != 111)
    text = changed(PHONE, ("111 8 126", " ".join(map(str, numbers))), ("a=rtpmap:126 telephone-event/8000\r\n", mapped))
    bridge = Bridge(SETTINGS)
    bridge.offer_from_client(text, "a", FIRST)
    bridge.answer_from_peer(PBX.encode())
    with pytest.raises(SdpError, match="no payload type is left"):
        bridge.offer_from_peer(PBX.encode(), "a")


def test_g722_by_its_sampling_rate_and_opus_by_half() -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_peer(changed(PBX, ("8 101\r\n", "97 101\r\na=rtpmap:97 g722/16000\r\n")), "a", FIRST)
    bridge.answer_from_client(changed(PHONE, ("opus/48000/2", "OPUS/48000")), "a")
    assert (bridge.client_codec, bridge.peer_codec) == ("opus", "G722")
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.stream is not None
    assert (bridge.plan.peer.stream.codec.clock, bridge.plan.peer.stream.send) == (8000, 97)


def test_a_re_offer_that_fails_after_a_provisional_answer_is_rolled_back() -> None:
    bridge = connected()
    before = bridge.plan
    moved = changed(PBX, ("198.51.100.9\r\nt=", "198.51.100.77\r\nt="))
    bridge.offer_from_client(changed(PHONE, ("a=mid:0", "a=sendonly\r\na=mid:0")), "a")
    bridge.answer_from_peer(moved)
    assert bridge.plan != before
    bridge.reject()
    assert bridge.plan != before, "it was answered: only its request's failure takes it back"
    bridge.withdraw()
    assert bridge.plan == before
    bridge.offer_from_client(PHONE.encode(), "a")
    bridge.answer_from_peer(PBX.encode())


def test_telephone_event_is_kept_from_a_pbx_that_gets_digits_another_way() -> None:
    bridge = Bridge(attrs.evolve(SETTINGS, peer_events=False))
    assert b"telephone-event" not in bridge.offer_from_client(PHONE.encode(), "a", FIRST)
    assert b"telephone-event" in bridge.answer_from_peer(PBX.encode()), "the phone may send them all the same"
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.stream is not None
    assert bridge.plan.peer.stream.dtmf_send is None
