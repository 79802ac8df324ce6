"""SDES-SRTP towards the PBX (RFC 4568): whose key is which, what is refused, and that plain RTP never stands in."""

from __future__ import annotations

from base64 import b64encode

import attrs
import pytest

from siperb_core.sdp import Bridge, BridgeSettings, LegIdentity, SdpError, parse_sdp
from siperb_core.sdp.crypto import KEY_OCTETS, Crypto, new_keys, read_crypto

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

KEYS = new_keys(lambda octets: b"K" * octets)
SECURE = attrs.evolve(SETTINGS, peer_keys=KEYS)
THEIRS = b64encode(b"T" * 30).decode()
GCM = b64encode(b"G" * 44).decode()


def pbx(*crypto: str) -> bytes:
    return PBX.replace("RTP/AVP", "RTP/SAVP").encode() + "".join(f"a=crypto:{line}\r\n" for line in crypto).encode()


def test_the_offer_has_a_key_for_every_suite_and_the_answer_picks_one() -> None:
    bridge = Bridge(SECURE)
    offer = parse_sdp(bridge.offer_from_client(PHONE.encode(), "a", FIRST))
    assert offer.media[0].proto == "RTP/SAVP"
    assert [(line.tag, line.suite) for line in read_crypto(offer.media[0])] == [
        (str(tag), suite) for tag, suite in enumerate(KEY_OCTETS, 1)
    ]
    bridge.answer_from_peer(pbx(f"2 AEAD_AES_256_GCM inline:{GCM}"))
    assert bridge.plan.peer is not None
    keys = bridge.plan.peer.srtp
    assert keys is not None
    assert (keys.suite, keys.send, keys.receive) == ("AEAD_AES_256_GCM", KEYS[1].key, GCM)


def test_an_offer_of_the_pbx_is_answered_under_its_tag_with_a_key_of_ours() -> None:
    bridge = Bridge(SECURE)
    odd = f"1 F8_128_HMAC_SHA1_80 inline:{THEIRS}"
    bridge.offer_from_peer(pbx(odd, f"7 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS}|2^31"), "a", FIRST)
    answer = bridge.answer_from_client(PHONE.replace("actpass", "active").encode(), "a")
    media = parse_sdp(answer).media[0]
    assert media.proto == "RTP/SAVP"
    assert media.get_all("crypto") == [f"7 AES_CM_128_HMAC_SHA1_80 inline:{KEYS[0].key}"]
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.srtp is not None
    assert bridge.plan.peer.srtp.receive == THEIRS


def test_a_re_offer_keeps_our_key_and_takes_a_new_one_of_theirs() -> None:
    bridge = Bridge(SECURE)
    bridge.offer_from_client(PHONE.encode(), "a", FIRST)
    bridge.answer_from_peer(pbx(f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS}"))
    other = b64encode(b"U" * 30).decode()
    bridge.offer_from_peer(pbx(f"1 AES_CM_128_HMAC_SHA1_80 inline:{other}"), "a")
    bridge.answer_from_client(PHONE.replace("actpass", "passive").encode(), "a")
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.srtp is not None
    assert (bridge.plan.peer.srtp.send, bridge.plan.peer.srtp.receive) == (KEYS[0].key, other)


@pytest.mark.parametrize(
    "answer",
    [
        PBX.encode(),
        pbx(),
        pbx(f"1 AEAD_AES_256_GCM inline:{GCM}"),
        pbx(f"9 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS}"),
        pbx(f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS[:-4]}"),
        pbx(f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS}|2^20|1:4"),
        pbx(f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS};inline:{THEIRS}"),
        pbx(f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS} UNENCRYPTED_SRTP"),
        pbx("1 AES_CM_128_HMAC_SHA1_80 inline:!!!!"),
        pbx("1"),
    ],
)
def test_an_answer_without_a_key_that_can_be_used_is_refused(answer: bytes) -> None:
    bridge = Bridge(SECURE)
    bridge.offer_from_client(PHONE.encode(), "a", FIRST)
    with pytest.raises(SdpError) as refused:
        bridge.answer_from_peer(answer)
    assert refused.value.status == 488


def test_sdes_is_refused_where_plain_rtp_was_configured() -> None:
    bridge = Bridge(SETTINGS)
    with pytest.raises(SdpError, match="must be plain RTP"):
        bridge.offer_from_peer(pbx(f"1 AES_CM_128_HMAC_SHA1_80 inline:{THEIRS}"), "a", FIRST)


def test_keys_do_not_show() -> None:
    assert "secret" not in repr(Crypto("1", "AES_CM_128_HMAC_SHA1_80", "secret"))
