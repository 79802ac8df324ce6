"""What becomes of a call's SDP: by the connection's keys, the transport to the PBX, and what the PBX offers."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from siperb_core.calls.policy import media_policy
from siperb_core.entries.model import Entry
from siperb_core.sdp import SdpError

from .fake_media import SDP, FakeMedia
from .world import EndPoint, FakeFlow, World

ENTRY = Entry("office", "fake")
WEBRTC = (
    b"v=0\r\no=- 1 1 IN IP4 198.51.100.9\r\ns=-\r\nt=0 0\r\nm=audio 12000 UDP/TLS/RTP/SAVPF 9\r\n"
    b"c=IN IP4 198.51.100.9\r\na=ice-ufrag:abcd\r\na=fingerprint:sha-256 AB\r\n"
)
ODD = (
    b"v=0\r\no=x 1 1 IN IP4 h\r\ns= \r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\nm=video 9 X 1\r\n"
    b"a=odd:\xff\x00 \r\n\r\n"
)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("media", ["auto", "passthrough", "relay", "transcode"])
def test_over_udp_and_tcp_media_are_always_bridged(transport: str, media: str) -> None:
    policy = media_policy(attrs.evolve(ENTRY, media=media), transport, WEBRTC)
    assert not policy.passthrough
    assert policy.transcodes is (media != "relay")
    assert media in policy.why


def test_passthrough_over_udp_says_why_it_is_not() -> None:
    assert "needs TLS" in media_policy(attrs.evolve(ENTRY, media="passthrough"), "udp").why


def test_auto_passes_a_webrtc_offer_by_and_bridges_everything_else() -> None:
    assert media_policy(ENTRY, "tls", WEBRTC).passthrough
    assert not media_policy(ENTRY, "tls", WEBRTC.replace(b"UDP/TLS/RTP/SAVPF", b"RTP/AVP")).passthrough
    assert not media_policy(ENTRY, "tls", WEBRTC.replace(b"a=ice-ufrag:abcd\r\n", b"")).passthrough
    assert not media_policy(ENTRY, "tls", b"nonsense").passthrough
    assert not media_policy(ENTRY, "tls").passthrough, "nothing is known of what the PBX would answer"


def test_transcode_goes_before_a_policy_that_would_relay() -> None:
    entry = attrs.evolve(ENTRY, media="transcode", codec_policy="relay-first")
    assert media_policy(entry, "tls").codec_policy == "opus-first"
    assert media_policy(attrs.evolve(entry, media="auto"), "tls").codec_policy == "relay-first"


def test_sdes_keys_go_over_tls_or_not_at_all() -> None:
    entry = attrs.evolve(ENTRY, srtp="sdes")
    assert media_policy(entry, "tls").srtp
    with pytest.raises(SdpError, match="needs a TLS connection") as refused:
        media_policy(entry, "udp")
    assert refused.value.status == 488


def configured(world: World, **keys: Any) -> None:
    """Other keys for the connection that was made last."""
    loaded = world.candidates.pop()
    world.candidates.append(attrs.evolve(loaded, entry=attrs.evolve(loaded.entry, **keys)))


@pytest.fixture
def secure_pbx(world: World) -> EndPoint:
    return EndPoint(world, FakeFlow("tls", ("192.0.2.99", 5061)), "pbx")


async def test_passthrough_leaves_the_sdp_as_it_is_byte_for_byte(
    world: World, phone: EndPoint, secure_pbx: EndPoint
) -> None:
    world.media = lambda *_: FakeMedia()  # type: ignore[assignment,return-value]
    world.connect("office", secure_pbx.flow)
    configured(world, media="passthrough")
    phone.invite("600", SDP, body=ODD)
    invite = secure_pbx.flow.next_of("INVITE")
    assert invite.body == ODD
    secure_pbx.respond(invite, 183, SDP, body=ODD[::-1])
    assert phone.flow.next_of(183).body == ODD[::-1]
    secure_pbx.respond(invite, 200, SDP, body=ODD + b"more")
    assert phone.learn(phone.flow.next_of(200)).body == ODD + b"more"
    phone.request("ACK", cseq=phone.cseq)
    phone.request("INVITE", SDP, body=b"re-offer, whatever it is")
    assert secure_pbx.flow.next_of("INVITE").body == b"re-offer, whatever it is"
    (row,) = world.calls.as_json()
    assert row["media"]["mode"] == "passthrough"
    assert 'media = "passthrough"' in row["media"]["why"]


async def test_a_connection_with_sdes_over_udp_refuses_with_the_reason(
    world: World, phone: EndPoint, pbx: EndPoint
) -> None:
    world.connect("office", pbx.flow)
    configured(world, srtp="sdes")
    phone.invite("600", SDP, body=b"offer")
    refused = phone.flow.next_of(488)
    assert "needs a TLS connection" in (refused.get("Warning") or "")
    assert not [message for message in pbx.flow.sent if message.method == "INVITE"]
    assert "needs a TLS connection" in world.calls.as_json()[0]["diagnosis"]
