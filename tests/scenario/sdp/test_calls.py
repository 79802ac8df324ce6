"""Whole calls, SDP text in and SDP text out, with what real devices send (texts/*.sdp, one file a description)."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from aiortc.sdp import SessionDescription as AiortcDescription

from siperb_core.sdp import Bridge, BridgeSettings, LegIdentity, SdpError, parse_sdp

HOUSE = frozenset(pair for codec in ("G722", "PCMA", "PCMU") for pair in (("opus", codec), (codec, "opus")))
SETTINGS = BridgeSettings(
    address="203.0.113.5",
    peer_address="192.0.2.5",
    peer_port=10000,
    peer_ssrc=0x1234,
    fingerprint=("sha-256", ":".join(["AB"] * 32)),
    session_id=42,
    transcodable=HOUSE,
)
FIRST = LegIdentity("uFrA", "p" * 22, 10010, 0x99)
SECOND = LegIdentity("uFrB", "q" * 22, 10012, 0x98)
CHROME_PRINT = "4A:3D:CA:18:25:30:BB:1D:6D:13:2C:DE:D6:23:7B:2E:D9:1E:3F:72:1F:CB:19:71:17:44:94:D6:49:3C:9D:5C"


def text(name: str, **changes: str) -> bytes:
    """A device's description, with CRLF; keyword arguments replace text."""
    content = (Path(__file__).parent / "texts" / f"{name}.sdp").read_text()
    for old, new in changes.items():
        assert old in content
        content = content.replace(old, new)
    return content.replace("\n", "\r\n").encode()


def replaced(data: bytes, *pairs: tuple[str, str]) -> bytes:
    for old, new in pairs:
        assert old.encode() in data, old
        data = data.replace(old.encode(), new.encode())
    return data


def lines(data: bytes) -> list[str]:
    written = data.decode()
    assert written.endswith("\r\n")
    return written.split("\r\n")[:-1]


def version(data: bytes) -> int:
    return int(lines(data)[1].split()[2])


def for_browser(data: bytes) -> AiortcDescription:
    """What a browser would insist on, by a parser that is not ours."""
    parsed = AiortcDescription.parse(data.decode())
    for media in parsed.media:
        if media.port:
            assert media.dtls is not None
            assert media.dtls.fingerprints
            assert media.ice.usernameFragment
            assert media.rtcp_mux
    return parsed


def outgoing(
    offer: str = "chrome_offer", answer: str = "asterisk_answer", settings: BridgeSettings = SETTINGS
) -> Bridge:
    bridge = Bridge(settings)
    bridge.offer_from_client(text(offer), "a", FIRST)
    for_browser(bridge.answer_from_peer(text(answer)))
    return bridge


def incoming(
    offer: str = "asterisk_offer", answer: str = "chrome_answer", settings: BridgeSettings = SETTINGS
) -> Bridge:
    bridge = Bridge(settings)
    for_browser(bridge.offer_from_peer(text(offer), "a", FIRST))
    bridge.answer_from_client(text(answer), "a")
    return bridge


def streams(bridge: Bridge):
    plan = bridge.plan
    assert plan.active is not None
    assert plan.peer is not None
    client, peer = plan.clients[plan.active].stream, plan.peer.stream
    assert client is not None
    assert peer is not None
    return client, peer


def test_chrome_calls_asterisk() -> None:
    bridge = Bridge(SETTINGS)
    assert lines(bridge.offer_from_client(text("chrome_offer"), "a", FIRST)) == [
        "v=0",
        "o=- 42 1 IN IP4 192.0.2.5",
        "s=-",
        "c=IN IP4 192.0.2.5",
        "t=0 0",
        "m=audio 10000 RTP/AVP 9 8 0 101",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=ptime:20",
        "a=sendrecv",
    ]
    assert bridge.mode is None
    waiting = bridge.plan.clients["a"]
    assert waiting.stream is None
    assert (waiting.dtls, waiting.controlling) == ("client", False)
    assert waiting.remote_candidates == (
        "3859917557 1 udp 2122260223 192.168.1.35 54609 typ host",
        "1967593091 1 udp 2122129151 2001:db8:85a3::8a2e:370:7334 60112 typ host",
        "842163049 1 udp 1686052607 203.0.113.77 54609 typ srflx",
    )
    assert waiting.remote_fingerprints == (("sha-256", CHROME_PRINT),)

    assert lines(bridge.answer_from_peer(text("asterisk_answer"))) == [
        "v=0",
        "o=- 42 1 IN IP4 203.0.113.5",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "a=msid-semantic: WMS siperb",
        "m=audio 10010 UDP/TLS/RTP/SAVPF 111 110",
        "c=IN IP4 203.0.113.5",
        "a=rtcp:10010 IN IP4 203.0.113.5",
        "a=ice-ufrag:uFrA",
        "a=ice-pwd:" + "p" * 22,
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "a=setup:active",
        "a=mid:0",
        "a=sendrecv",
        "a=rtcp-mux",
        "a=msid:siperb audio",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtpmap:110 telephone-event/48000",
        "a=fmtp:110 0-16",
        "a=ptime:20",
        "a=ssrc:153 cname:s00000099",
        "a=ssrc:153 msid:siperb audio",
        "a=candidate:1 1 udp 2130706431 203.0.113.5 10010 typ host",
        "a=end-of-candidates",
    ]
    assert (bridge.mode, bridge.client_codec, bridge.peer_codec) == ("transcode", "opus", "G722")
    assert bridge.why == "opus-first: the phone's opus is transcoded to and from the PBX's G722"
    client, peer = streams(bridge)
    assert (client.send, client.receive, client.dtmf_send, client.dtmf_receive, client.dtmf_clock) == (
        111, 111, 110, 110, 48000,
    )  # fmt: skip
    assert (peer.send, peer.receive, peer.dtmf_send, peer.dtmf_receive, peer.dtmf_clock) == (9, 9, 101, 101, 8000)
    assert bridge.plan.peer is not None
    assert (bridge.plan.peer.remote, bridge.plan.peer.remote_rtcp) == (("198.51.100.9", 12184), ("198.51.100.9", 12185))


def test_asterisk_calls_chrome() -> None:
    bridge = Bridge(SETTINGS)
    offer = bridge.offer_from_peer(text("asterisk_offer"), "a", FIRST)
    assert "m=audio 10010 UDP/TLS/RTP/SAVPF 111 9 8 0 110 101" in lines(offer)
    assert "a=setup:actpass" in lines(offer)
    assert "a=ice-lite" not in lines(offer)
    assert for_browser(offer).group[0].items == ["0"]
    ringing = bridge.plan
    assert (ringing.active, ringing.clients["a"].controlling, ringing.clients["a"].remote_ufrag) == (None, True, "")
    assert lines(bridge.answer_from_client(text("chrome_answer"), "a"))[5:] == [
        "m=audio 10000 RTP/AVP 9 101",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=ptime:20",
        "a=sendrecv",
    ]
    assert bridge.plan.clients["a"].dtls == "server"
    assert bridge.plan.active == "a"


@pytest.mark.parametrize(
    "offer", ["chrome_offer", "firefox_offer", "safari_offer", "sipjs_offer", "chrome_video_offer"]
)
@pytest.mark.parametrize("answer", ["asterisk_answer", "freeswitch_answer", "rtpengine_answer", "old_phone_answer"])
def test_every_browser_calls_every_pbx(offer: str, answer: str) -> None:
    bridge = outgoing(offer, answer)
    client, peer = streams(bridge)
    assert client.codec.name == "opus"
    assert peer.codec.name == {"asterisk": "G722", "rtpengine": "G722"}.get(answer.split("_")[0], "PCMA")
    assert peer.dtmf_send == 101
    assert bridge.plan.clients["a"].dtls == "client"


@pytest.mark.parametrize("offer", ["asterisk_offer", "freeswitch_offer", "baresip_offer", "yealink_offer"])
@pytest.mark.parametrize("answer", ["chrome_answer", "firefox_answer", "safari_answer"])
def test_every_pbx_calls_every_browser(offer: str, answer: str) -> None:
    bridge = incoming(offer, answer)
    client, peer = streams(bridge)
    assert client.codec.name == "opus"
    assert peer.codec.name == ("PCMU" if offer == "yealink_offer" else "G722")
    assert peer.dtmf_send == 101
    assert bridge.plan.clients["a"].dtls == ("client" if answer == "safari_answer" else "server")


def test_the_browsers_video_and_data_are_refused_in_their_places() -> None:
    bridge = Bridge(SETTINGS)
    to_peer = bridge.offer_from_client(text("chrome_video_offer"), "a", FIRST)
    assert len(parse_sdp(to_peer).media) == 1
    parsed = for_browser(bridge.answer_from_peer(text("asterisk_answer")))
    assert [(media.kind, media.port, media.rtp.muxId) for media in parsed.media] == [
        ("audio", 10010, "0"),
        ("video", 0, "1"),
        ("application", 0, "2"),
    ]
    assert parsed.media[2].profile == "UDP/DTLS/SCTP"
    assert [group.items for group in parsed.group] == [["0"]]
    again = for_browser(bridge.offer_from_peer(text("asterisk_hold"), "a"))  # they keep their places when we offer
    assert [(media.kind, media.port) for media in again.media] == [("audio", 10010), ("video", 0), ("application", 0)]


def test_a_desk_phones_srtp_section_is_refused_and_its_rtp_section_taken() -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_peer(text("yealink_offer"), "a", FIRST)
    answer = lines(bridge.answer_from_client(text("chrome_answer"), "a"))
    assert answer[5:7] == ["m=audio 0 RTP/SAVP 9", "m=audio 10000 RTP/AVP 0 101"]


def test_hold_and_resume_by_the_phone() -> None:
    bridge = outgoing()
    before = bridge.plan
    offer = bridge.offer_from_client(text("jssip_hold"), "a")
    assert lines(offer)[-1] == "a=sendonly"
    assert version(offer) == 2
    assert bridge.plan == before  # nothing changes before it is answered
    answer = bridge.answer_from_peer(replaced(text("asterisk_answer"), ("sendrecv", "recvonly")))
    assert "a=recvonly" in lines(answer)
    assert "a=setup:active" in lines(answer)
    client, peer = streams(bridge)
    assert (client.direction, peer.direction) == ("recvonly", "sendonly")
    offer = bridge.offer_from_client(text("chrome_offer"), "a")
    assert (lines(offer)[-1], version(offer)) == ("a=sendrecv", 3)
    answer = bridge.answer_from_peer(text("asterisk_answer"))
    assert ("a=sendrecv" in lines(answer), version(answer)) == (True, 3)
    assert bridge.plan == before


@pytest.mark.parametrize(
    ("direction", "answered"), [("sendonly", "recvonly"), ("inactive", "inactive"), ("recvonly", "sendonly")]
)
@pytest.mark.parametrize("level", ["media", "session"])
def test_hold_and_resume_by_the_pbx(direction: str, answered: str, level: str) -> None:
    bridge = incoming()
    before = bridge.plan
    if level == "media":
        held = replaced(text("asterisk_offer"), ("sendrecv", direction))
    else:
        held = replaced(text("asterisk_offer"), ("a=sendrecv\r\n", ""), ("t=0 0", f"t=0 0\r\na={direction}"))
    offer = bridge.offer_from_peer(held, "a")
    assert f"a={direction}" in lines(offer)
    assert "a=setup:actpass" in lines(offer)
    answer = bridge.answer_from_client(replaced(text("chrome_answer"), ("a=sendrecv", f"a={answered}")), "a")
    assert lines(answer)[-1] == f"a={answered}"
    client, peer = streams(bridge)
    assert (client.direction, peer.direction) == (direction, answered)
    bridge.offer_from_peer(text("asterisk_offer"), "a")
    answer = bridge.answer_from_client(text("chrome_answer"), "a")
    assert (lines(answer)[-1], version(answer)) == ("a=sendrecv", 3)
    assert bridge.plan == before


def test_hold_in_the_old_way_with_address_zero() -> None:
    bridge = outgoing(answer="old_phone_answer")
    before = bridge.plan
    offer = bridge.offer_from_peer(text("old_phone_hold"), "a")
    assert "a=sendonly" in lines(offer)
    answer = bridge.answer_from_client(replaced(text("chrome_answer"), ("a=sendrecv", "a=recvonly")), "a")
    assert lines(answer)[-1] == "a=recvonly"
    client, peer = streams(bridge)
    assert (client.direction, peer.direction) == ("sendonly", "recvonly")
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.remote == ("198.51.100.60", 5004)  # where it was, for RTCP and for the time after
    bridge.offer_from_peer(text("old_phone_answer"), "a")
    bridge.answer_from_client(text("chrome_answer"), "a")
    after = bridge.plan
    assert after.peer == before.peer
    assert after.clients["a"].dtls == before.clients["a"].dtls == "client"


def test_an_answer_that_allows_too_much_is_cut_down() -> None:
    bridge = outgoing()
    bridge.offer_from_client(text("jssip_hold"), "a")
    assert "a=recvonly" in lines(bridge.answer_from_peer(text("asterisk_answer")))


def test_both_sides_hold() -> None:
    bridge = outgoing()
    bridge.offer_from_client(text("jssip_hold"), "a")
    bridge.answer_from_peer(replaced(text("asterisk_answer"), ("sendrecv", "recvonly")))
    bridge.offer_from_peer(text("asterisk_hold"), "a")
    bridge.answer_from_client(replaced(text("chrome_answer"), ("a=sendrecv", "a=inactive")), "a")
    client, peer = streams(bridge)
    assert (client.direction, peer.direction) == ("inactive", "inactive")


def test_the_phone_restarts_ice() -> None:
    bridge = outgoing()
    assert not bridge.restarts_ice(text("jssip_hold"), "a")
    assert bridge.restarts_ice(text("chrome_restart"), "a")
    offer = bridge.offer_from_client(text("chrome_restart"), "a", attrs.evolve(SECOND, port=1, ssrc=1))
    assert version(offer) == 1  # nothing the PBX could notice
    assert bridge.plan.clients["a"].ufrag == "uFrA"
    answer = lines(bridge.answer_from_peer(text("asterisk_answer")))
    assert "a=ice-ufrag:uFrB" in answer
    assert "a=setup:active" in answer
    leg = bridge.plan.clients["a"]
    assert (leg.ufrag, leg.password, leg.remote_ufrag, leg.remote_password) == (
        "uFrB", "q" * 22, "Zz9q", "newpasswordnewpassword01",
    )  # fmt: skip
    assert (leg.ssrc, leg.controlling, leg.dtls) == (0x99, False, "client")
    assert "m=audio 10010 UDP/TLS/RTP/SAVPF 111 110" in answer


def test_a_refused_restart_keeps_the_old_generation() -> None:
    bridge = outgoing()
    before = bridge.plan
    bridge.offer_from_client(text("chrome_restart"), "a", SECOND)
    bridge.reject()
    assert bridge.plan == before
    answer = bridge.offer_from_peer(text("asterisk_hold"), "a")
    assert "a=ice-ufrag:uFrA" in lines(answer)


def test_an_identity_without_restart_is_ignored() -> None:
    bridge = outgoing()
    bridge.offer_from_client(text("jssip_hold"), "a", SECOND)
    assert "a=ice-ufrag:uFrA" in lines(bridge.answer_from_peer(text("asterisk_answer")))


def test_the_pbx_changes_the_codec() -> None:
    bridge = outgoing()
    pcma_only = replaced(text("asterisk_offer"), (" 9 8 0 101", " 8 101"), ("a=rtpmap:9 G722/8000\r\n", ""))
    offer = bridge.offer_from_peer(pcma_only, "a")
    assert "m=audio 10010 UDP/TLS/RTP/SAVPF 111 8 110 126" in lines(offer)  # the numbers Chrome gave them
    bridge.answer_from_client(text("chrome_answer"), "a")
    assert (bridge.client_codec, bridge.peer_codec, bridge.mode) == ("opus", "PCMA", "transcode")
    client, peer = streams(bridge)
    assert (client.codec.name, peer.codec.name, peer.send, peer.receive) == ("opus", "PCMA", 8, 8)


def test_the_pbx_changes_payload_types() -> None:
    bridge = incoming()
    moved = replaced(
        text("asterisk_offer"), ("RTP/AVP 9 8 0 101", "RTP/AVP 97 8 0 96"), (":101", ":96"), (":9 ", ":97 ")
    )
    bridge.offer_from_peer(moved, "a")
    answer = lines(bridge.answer_from_client(text("chrome_answer"), "a"))
    assert "m=audio 10000 RTP/AVP 97 96" in answer
    client, peer = streams(bridge)
    assert (peer.send, peer.receive, peer.dtmf_send, peer.dtmf_receive) == (97, 97, 96, 96)
    assert (client.send, client.receive) == (111, 111)


def test_each_end_may_use_its_own_payload_types() -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_client(text("chrome_offer"), "a", FIRST)
    bridge.answer_from_peer(replaced(text("asterisk_answer"), ("9 101", "9 96"), (":101", ":96")))
    _, peer = streams(bridge)
    assert (peer.dtmf_send, peer.dtmf_receive) == (96, 101)
    offer = bridge.offer_from_client(text("jssip_hold"), "a")
    assert "a=rtpmap:101 telephone-event/8000" in lines(offer)  # ours stays ours


def test_early_media_then_another_answer() -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_client(text("chrome_offer"), "a", FIRST)
    early = bridge.answer_from_peer(text("asterisk_answer"))
    assert bridge.answer_from_peer(text("asterisk_answer")) == early
    moved = bridge.answer_from_peer(text("freeswitch_answer"))  # the call went on to another machine
    assert moved == early  # which is nothing to the phone
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.remote == ("198.51.100.20", 24906)
    assert bridge.peer_codec == "PCMA"


def test_a_fork_has_an_offer_for_each_branch_and_the_last_answer_is_heard() -> None:
    bridge = Bridge(SETTINGS)
    one = bridge.offer_from_peer(text("asterisk_offer"), "a", FIRST)
    two = bridge.offer_from_peer(text("asterisk_offer"), "b", SECOND)
    assert "a=ice-ufrag:uFrA" in lines(one)
    assert "a=ice-ufrag:uFrB" in lines(two)
    bridge.answer_from_client(text("firefox_answer"), "a")  # in a 183
    assert bridge.plan.active == "a"
    bridge.answer_from_client(text("safari_answer"), "b")
    assert bridge.plan.active == "b"
    bridge.drop_branch("a")
    assert list(bridge.plan.clients) == ["b"]
    held = bridge.offer_from_peer(text("asterisk_hold"), "b")
    assert "a=ice-ufrag:uFrB" in lines(held)
    with pytest.raises(SdpError) as caught:
        bridge.answer_from_client(text("firefox_answer"), "a")
    assert caught.value.status == 400


def test_a_late_branch_gets_the_same_offer() -> None:
    bridge = incoming()
    late = bridge.offer_from_peer(text("asterisk_offer"), "late", SECOND)
    assert "a=ice-ufrag:uFrB" in lines(late)
    bridge.answer_from_client(text("safari_answer"), "late")
    assert bridge.plan.active == "late"


def test_a_delayed_offer() -> None:
    """The PBX's INVITE has no SDP: the phone offers in its 200, the PBX answers in the ACK."""
    bridge = Bridge(SETTINGS)
    bridge.offer_from_client(text("chrome_offer"), "a", FIRST)
    bridge.answer_from_peer(text("freeswitch_answer"))
    assert bridge.peer_codec == "PCMA"
    again = bridge.offer_from_client(text("chrome_offer"), "a")  # a re-INVITE without SDP, answered with the same offer
    assert "m=audio 10000 RTP/AVP 8 9 0 101" in lines(again)  # the codec in use first


def test_glare() -> None:
    bridge = outgoing()
    before = bridge.plan
    bridge.offer_from_client(text("jssip_hold"), "a")
    with pytest.raises(SdpError) as caught:
        bridge.offer_from_peer(text("asterisk_hold"), "a")
    assert (caught.value.status, caught.value.reason) == (491, "Request Pending")
    bridge.reject()
    assert bridge.plan == before
    bridge.offer_from_peer(text("asterisk_hold"), "a")


def test_a_reoffer_with_the_same_text_keeps_its_version() -> None:
    bridge = outgoing()
    offer = bridge.offer_from_client(text("chrome_offer"), "a")
    assert version(offer) == 1
    assert version(bridge.answer_from_peer(text("asterisk_answer"))) == 1


def test_relay_first_shares_a_codec() -> None:
    bridge = outgoing(settings=attrs.evolve(SETTINGS, codec_policy="relay-first"))
    assert (bridge.mode, bridge.client_codec, bridge.peer_codec) == ("relay", "G722", "G722")
    assert bridge.why == "relay-first: both ends have G722, so packets are relayed as they are"
    bridge = Bridge(attrs.evolve(SETTINGS, codec_policy="relay-first"))
    offer = lines(bridge.offer_from_peer(text("asterisk_offer"), "a", FIRST))
    assert "m=audio 10010 UDP/TLS/RTP/SAVPF 9 8 0 111 101 110" in offer


def test_without_a_transcoder_a_shared_codec_is_relayed() -> None:
    bridge = outgoing(settings=attrs.evolve(SETTINGS, transcodable=frozenset()))
    assert (bridge.mode, bridge.client_codec) == ("relay", "G722")
    assert bridge.why.startswith("no transcoder between opus and G722")
    one_way = attrs.evolve(SETTINGS, transcodable=frozenset({("opus", "G722")}))
    assert outgoing(settings=one_way).mode == "relay"


def test_opus_is_relayed_to_a_pbx_that_may_have_it() -> None:
    bridge = incoming("freeswitch_offer", settings=attrs.evolve(SETTINGS, peer_codecs=("opus", "G722")))
    assert (bridge.mode, bridge.client_codec) == ("relay", "opus")
    client, peer = streams(bridge)
    assert (client.send, peer.send, peer.dtmf_send, peer.dtmf_clock) == (111, 102, 103, 48000)


def test_a_phone_without_opus() -> None:
    bridge = Bridge(SETTINGS)
    plain = replaced(
        text("firefox_offer"), ("SAVPF 109 9 0 8 101", "SAVPF 9 0 8 101"), ("a=rtpmap:109 opus/48000/2\r\n", "")
    )
    bridge.offer_from_client(plain, "a", FIRST)
    bridge.answer_from_peer(text("freeswitch_answer"))
    assert (bridge.mode, bridge.client_codec) == ("relay", "PCMA")
    assert bridge.why.startswith("the phone does not use opus")


def test_no_common_codec_says_what_each_side_has() -> None:
    bridge = Bridge(SETTINGS)
    with pytest.raises(SdpError) as caught:
        bridge.offer_from_peer(text("g729_offer"), "a", FIRST)
    error = caught.value
    assert (error.status, error.reason, error.warning_code) == (488, "Not Acceptable Here", 305)
    assert error.warning == "no common codec: the PBX offers only G729; this gateway bridges G722, PCMA, PCMU"
    bridge.offer_from_client(text("chrome_offer"), "a", FIRST)
    with pytest.raises(SdpError) as caught:
        bridge.answer_from_peer(text("g729_offer"))
    assert caught.value.warning == "no common codec: the PBX answers with G729, but was offered G722, PCMA, PCMU"
    bridge.answer_from_peer(text("asterisk_answer"))  # a right answer is still welcome


def test_a_resumed_session_never_tells_the_pbxs_source_to_the_browser() -> None:
    bridge = Bridge(SETTINGS)
    offer = bridge.offer_from_peer(text("baresip_offer"), "a", FIRST)
    assert b"1264374152" not in offer
    assert [entry.ssrc for entry in for_browser(offer).media[0].ssrc] == [0x99]
