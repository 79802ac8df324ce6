"""What single devices write in their own way, text in and text out: every attribute that is theirs alone ends here."""

from __future__ import annotations

import re

import pytest

from siperb_core.sdp import Bridge

from .test_calls import FIRST, SETTINGS, for_browser, incoming, lines, outgoing, replaced, streams, text, version

AUDIO = "m=audio 10000 RTP/AVP"
OURS_TO_A_PBX = re.compile(
    r"v=0|o=- 42 \d+ IN IP4 192\.0\.2\.5|s=-|c=IN IP4 192\.0\.2\.5|t=0 0|m=.*"
    r"|a=rtpmap:\d+ (G722|PCMA|PCMU|telephone-event)/8000|a=fmtp:\d+ 0-16|a=ptime:\d+"
    r"|a=(sendrecv|sendonly|recvonly|inactive)"
)
OURS_TO_A_BROWSER = re.compile(
    r"[vost]=.*|m=.*|c=IN IP4 203\.0\.113\.5"
    r"|a=(group|msid-semantic|rtcp|ice-ufrag|ice-pwd|fingerprint|setup|mid|msid|rtpmap|fmtp|ptime|candidate):.*"
    r"|a=ssrc:153 .*|a=(rtcp-mux|end-of-candidates|sendrecv|sendonly|recvonly|inactive)"
)

DEVICES = {
    # what calls: codec of the PBX's leg, payload types of our answer, where its RTP and RTCP are, milliseconds
    "fritzbox_offer": ("G722", "9 101", ("198.51.100.1", 7078), ("198.51.100.1", 7079), 20),
    "freeswitch_cn_offer": ("PCMU", "0 101", ("198.51.100.20", 25612), ("198.51.100.20", 25613), 20),
    "yealink_plain_offer": ("G722", "9 101", ("198.51.100.50", 11784), ("198.51.100.50", 11785), 20),
    "yealink_video_offer": ("G722", "9 101", ("198.51.100.50", 11786), ("198.51.100.50", 11787), 20),
    "threecx_offer": ("PCMA", "8 101", ("198.51.100.33", 9064), ("198.51.100.33", 9065), 20),
    "cisco_offer": ("G722", "9 101", ("198.51.100.71", 24610), ("198.51.100.71", 24611), 20),
    "grandstream_offer": ("PCMU", "0 101", ("198.51.100.80", 5012), ("198.51.100.80", 5013), 20),
}


@pytest.mark.parametrize("browser", ["chrome_answer", "firefox_answer", "safari_answer"])
@pytest.mark.parametrize("device", DEVICES)
def test_every_device_calls_every_browser(device: str, browser: str) -> None:
    codec, numbers, rtp, rtcp, ptime = DEVICES[device]
    bridge = Bridge(SETTINGS)
    offer = bridge.offer_from_peer(text(device), "a", FIRST)
    for_browser(offer)
    assert [line for line in lines(offer) if not OURS_TO_A_BROWSER.fullmatch(line)] == []
    answer = lines(bridge.answer_from_client(text(browser), "a"))
    assert f"{AUDIO} {numbers}" in answer
    assert [line for line in answer if not OURS_TO_A_PBX.fullmatch(line)] == []
    assert bridge.plan.peer is not None
    assert (bridge.plan.peer.remote, bridge.plan.peer.remote_rtcp) == (rtp, rtcp)
    client, peer = streams(bridge)
    assert (client.codec.name, peer.codec.name, peer.ptime) == ("opus", codec, ptime)
    assert (peer.dtmf_send, peer.dtmf_receive, peer.dtmf_clock) == (101, 101, 8000)


@pytest.mark.parametrize(
    "offer", ["chrome_max_bundle_offer", "safari_mdns_offer", "safari_offer", "firefox_offer", "sipjs_offer"]
)
@pytest.mark.parametrize(
    ("answer", "codec", "rtp", "rtcp"),
    [
        ("fritzbox_answer", "G722", 7082, 7083),
        ("freeswitch_cn_answer", "PCMU", 25700, 25701),
        ("freeswitch_answer", "PCMA", 24906, 24907),
    ],
)
def test_every_browser_calls_every_device(offer: str, answer: str, codec: str, rtp: int, rtcp: int) -> None:
    bridge = Bridge(SETTINGS)
    to_pbx = bridge.offer_from_client(text(offer), "a", FIRST)
    assert [line for line in lines(to_pbx) if not OURS_TO_A_PBX.fullmatch(line)] == []
    to_browser = bridge.answer_from_peer(text(answer))
    for_browser(to_browser)
    assert [line for line in lines(to_browser) if not OURS_TO_A_BROWSER.fullmatch(line)] == []
    _, peer = streams(bridge)
    assert (peer.codec.name, peer.dtmf_send) == (codec, 101)
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.remote is not None
    assert bridge.plan.peer.remote_rtcp is not None
    assert (bridge.plan.peer.remote[1], bridge.plan.peer.remote_rtcp[1]) == (rtp, rtcp)


def test_the_answer_to_a_fritzbox_word_for_word() -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_peer(text("fritzbox_offer"), "a", FIRST)
    assert lines(bridge.answer_from_client(text("firefox_answer"), "a")) == [
        "v=0",
        "o=- 42 1 IN IP4 192.0.2.5",
        "s=-",
        "c=IN IP4 192.0.2.5",
        "t=0 0",
        "m=audio 10000 RTP/AVP 9 101",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=ptime:20",
        "a=sendrecv",
    ]


def test_wideband_g711_of_a_fritzbox_is_not_taken_for_g711() -> None:
    """PCMA/16000 is another codec under the same name."""
    wide = replaced(text("fritzbox_offer"), ("9 8 0 2 102 100 99 101 97 120 121", "120 121 101 8"))
    bridge = incoming_of(wide)
    assert f"{AUDIO} 8 101" in lines(bridge.answer_from_client(text("chrome_answer"), "a"))


def incoming_of(offer: bytes) -> Bridge:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_peer(offer, "a", FIRST)
    return bridge


@pytest.mark.parametrize(
    ("asked", "given"), [("10", 10), ("20", 20), ("30", 20), ("40", 40), ("60", 60), ("0", 20), ("x", 20)]
)
def test_packets_are_no_longer_than_a_yealink_wants_them(asked: str, given: int) -> None:
    bridge = incoming_of(replaced(text("yealink_plain_offer"), ("a=ptime:30", f"a=ptime:{asked}")))
    bridge.answer_from_client(text("chrome_answer"), "a")
    assert streams(bridge)[1].ptime == given


@pytest.mark.parametrize(
    ("written", "rtcp"),
    [
        ("", ("198.51.100.33", 9065)),
        ("a=rtcp:9100\r\n", ("198.51.100.33", 9100)),
        ("a=rtcp:9100 IN IP4 198.51.100.34\r\n", ("198.51.100.34", 9100)),
        ("a=rtcp:9100 IN IP4 0.0.0.0\r\n", ("198.51.100.33", 9100)),
        ("a=rtcp:0\r\n", None),
        ("a=rtcp:99999\r\n", None),
        ("a=rtcp:port\r\n", ("198.51.100.33", 9065)),
        ("a=rtcp:9100 IN IP4 pbx.example.com\r\n", None),
    ],
)
def test_where_rtcp_goes(written: str, rtcp: tuple[str, int] | None) -> None:
    bridge = incoming_of(replaced(text("threecx_offer"), ("a=rtcp:9065 IN IP4 198.51.100.33\r\n", written)))
    bridge.answer_from_client(text("chrome_answer"), "a")
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.remote_rtcp == rtcp


def test_video_and_fax_of_a_phone_are_refused_in_their_places() -> None:
    bridge = incoming_of(text("yealink_video_offer"))
    answer = lines(bridge.answer_from_client(text("chrome_answer"), "a"))
    assert [line for line in answer if line.startswith("m=")] == [
        f"{AUDIO} 9 101",
        "m=video 0 RTP/AVP 106",
        "m=image 0 udptl t38",
    ]
    offer = bridge.offer_from_client(text("chrome_offer"), "a")
    places = [line.split()[:2] for line in lines(offer) if line.startswith("m=")]
    assert places == [["m=audio", "10000"], ["m=video", "0"], ["m=image", "0"]], "and keep them when we offer"


def test_a_bundle_only_video_is_refused_and_the_audio_bundled_alone() -> None:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_client(text("chrome_max_bundle_offer"), "a", FIRST)
    answer = bridge.answer_from_peer(text("fritzbox_answer"))
    parsed = for_browser(answer)
    assert [(media.kind, media.port, media.rtp.muxId) for media in parsed.media] == [
        ("audio", 10010, "0"),
        ("video", 0, "1"),
    ]
    assert [group.items for group in parsed.group] == [["0"]]
    assert not re.search(rb"extmap|rtcp-fb|ssrc-group|rtcp-rsize|bundle-only|red/|CN/", answer)
    assert bridge.plan.clients["a"].remote_candidates == ("2774440166 1 udp 2122260223 192.168.1.35 51514 typ host",)


def test_a_safari_that_hides_its_addresses_has_no_candidates_and_calls_all_the_same() -> None:
    bridge = outgoing("safari_mdns_offer")
    leg = bridge.plan.clients["a"]
    assert (leg.remote_candidates, leg.remote_ufrag, leg.dtls) == ((), "mhXx", "client")


def test_hold_and_resume_by_safari_as_inactive() -> None:
    bridge = outgoing("safari_offer")
    before = bridge.plan
    offer = bridge.offer_from_client(text("safari_hold"), "a")
    assert (lines(offer)[-1], version(offer)) == ("a=inactive", 2)
    assert "a=inactive" in lines(bridge.answer_from_peer(replaced(text("asterisk_answer"), ("sendrecv", "inactive"))))
    assert [stream.direction for stream in streams(bridge)] == ["inactive", "inactive"]
    bridge.offer_from_client(text("safari_offer"), "a")
    bridge.answer_from_peer(text("asterisk_answer"))
    assert bridge.plan == before


def test_hold_by_an_asterisk_at_address_zero_and_resume_at_another_port() -> None:
    bridge = incoming()
    offer = bridge.offer_from_peer(text("asterisk_zero_hold"), "a")
    assert "a=inactive" in lines(offer)
    answer = bridge.answer_from_client(replaced(text("chrome_answer"), ("a=sendrecv", "a=inactive")), "a")
    assert lines(answer)[-1] == "a=inactive"
    assert [stream.direction for stream in streams(bridge)] == ["inactive", "inactive"]
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.remote == ("198.51.100.9", 15730)
    bridge.offer_from_peer(replaced(text("asterisk_offer"), ("15730", "17000")), "a")
    bridge.answer_from_client(text("chrome_answer"), "a")
    assert [stream.direction for stream in streams(bridge)] == ["sendrecv", "sendrecv"]
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.remote == ("198.51.100.9", 17000)
    assert bridge.plan.clients["a"].dtls == "server", "as it was in the first answer"


def test_a_codec_changed_in_mid_call_and_changed_back() -> None:
    """A Yealink is moved by its PBX to a party that has only PCMA, and back again."""
    wide = text("yealink_plain_offer")
    narrow = replaced(wide, ("RTP/AVP 9 0 8 18 101", "RTP/AVP 8 101"), ("11784", "11990"))
    bridge = incoming("yealink_plain_offer")
    before, seen = bridge.plan, []
    for number, (offer, codec, payload_type) in enumerate([(narrow, "PCMA", 8), (wide, "G722", 9)], 2):
        to_browser = bridge.offer_from_peer(offer, "a")
        assert "a=setup:actpass" in lines(to_browser)
        assert "a=ice-ufrag:uFrA" in lines(to_browser), "no ICE restart of ours"
        answer = bridge.answer_from_client(text("chrome_answer"), "a")
        assert (f"{AUDIO} {payload_type} 101" in lines(answer), version(answer)) == (True, number)
        client, peer = streams(bridge)
        assert (client.codec.name, peer.codec.name, peer.send, peer.receive) == (
            "opus",
            codec,
            payload_type,
            payload_type,
        )
        seen.append(bridge.plan.clients["a"].dtls)
    assert seen == ["server", "server"]
    assert bridge.plan == before


def test_comfort_noise_is_agreed_with_nobody() -> None:
    """A PBX may send it all the same, and it is understood (tests/unit/media/test_direction.py); nobody is told to."""
    bridge = Bridge(SETTINGS)
    offer = bridge.offer_from_peer(text("freeswitch_cn_offer"), "a", FIRST)
    answer = bridge.answer_from_client(text("safari_answer"), "a")
    assert b"CN" not in offer + answer
    assert all(line.split()[3:] == ["0", "101"] for line in lines(answer) if line.startswith("m=audio"))
