"""The demo PBX's offers and answers."""

from __future__ import annotations

import pytest

from siperb_core.sdp.description import SdpError, parse_sdp
from siperb_core.testing.pbx_sdp import PbxNegotiation

CODECS = ("G722", "PCMA", "PCMU")


def offer(*lines: str, address: str = "192.0.2.1") -> bytes:
    head = ("v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", f"c=IN IP4 {address}", "t=0 0")
    return "\r\n".join((*head, *lines, "")).encode()


def pbx(**kwargs: bool) -> PbxNegotiation:
    return PbxNegotiation("127.0.0.1", CODECS, **kwargs)


def test_static_payload_types_need_no_rtpmap() -> None:
    _, agreed = pbx().answer(offer("m=audio 4000 RTP/AVP 8 0"), 5000)
    assert (agreed.codec, agreed.payload_type, agreed.events) == ("PCMA", 8, None)
    assert agreed.remote == ("192.0.2.1", 4000)


def test_dynamic_payload_types_are_those_of_the_offer() -> None:
    lines = ("m=audio 4000 RTP/AVP 97 98", "a=rtpmap:97 g722/8000", "a=rtpmap:98 telephone-event/8000")
    body, agreed = pbx().answer(offer(*lines), 5000)
    assert (agreed.codec, agreed.payload_type, agreed.events) == ("G722", 97, 98)
    (media,) = parse_sdp(body).media
    assert media.formats == ("97", "98")
    assert media.port == 5000


def test_other_media_are_refused_in_their_places() -> None:
    lines = ("m=video 4002 RTP/AVP 96", "m=audio 4000 RTP/AVP 0", "m=image 4004 udptl t38")
    body, _ = pbx().answer(offer(*lines), 5000)
    assert [(media.kind, media.port) for media in parse_sdp(body).media] == [
        ("video", 0),
        ("audio", 5000),
        ("image", 0),
    ]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("sendrecv", "sendrecv"), ("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive")],
)
def test_the_direction_is_mirrored(theirs: str, ours: str) -> None:
    body, agreed = pbx().answer(offer("m=audio 4000 RTP/AVP 0", f"a={theirs}"), 5000)
    assert agreed.direction == ours
    assert parse_sdp(body).media[0].get(ours) == ""


def test_hold_as_rfc_2543_had_it() -> None:
    _, agreed = pbx().answer(offer("m=audio 4000 RTP/AVP 0", address="0.0.0.0"), 5000)
    assert agreed.direction == "recvonly"


def test_the_offers_order_counts_unless_the_pbx_insists() -> None:
    audio = offer("m=audio 4000 RTP/AVP 0 8 9")
    assert pbx().answer(audio, 5000)[1].codec == "PCMU"
    assert pbx(own_order=True).answer(audio, 5000)[1].codec == "G722"


def test_an_offer_and_its_answer() -> None:
    negotiation = pbx()
    media = parse_sdp(negotiation.offer(5000)).media[0]
    assert media.formats == ("9", "8", "0", "101")
    agreed = negotiation.accept(offer("m=audio 4000 RTP/AVP 8 101", "a=rtpmap:101 telephone-event/8000"))
    assert (agreed.codec, agreed.events) == ("PCMA", 101)
    again = parse_sdp(negotiation.offer(5000)).media[0]
    assert again.formats[0] == "8"


def test_hold_shows_in_the_next_offer() -> None:
    negotiation = pbx()
    negotiation.held = True
    assert parse_sdp(negotiation.offer(5000)).media[0].get("sendonly") == ""
    assert negotiation.accept(offer("m=audio 4000 RTP/AVP 8", "a=recvonly")).direction == "sendonly"
    _, agreed = negotiation.answer(offer("m=audio 4000 RTP/AVP 8"), 5000)
    assert agreed.direction == "sendonly"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("m=audio 4000 RTP/AVP 18", "a=rtpmap:18 G729/8000"), 488),
        (("m=audio 0 RTP/AVP 8",), 488),
        (("m=video 4000 RTP/AVP 96",), 488),
        (("m=audio 4000 UDP/TLS/RTP/SAVPF 8",), 488),
        (("m=audio 4000 RTP/AVP eight",), 400),
    ],
)
def test_what_cannot_be_answered(lines: tuple[str, ...], status: int) -> None:
    with pytest.raises(SdpError) as refused:
        pbx().answer(offer(*lines), 5000)
    assert refused.value.status == status


def test_the_refusal_names_the_codecs() -> None:
    with pytest.raises(SdpError, match="offered are G729, here are G722, PCMA, PCMU"):
        pbx().answer(offer("m=audio 4000 RTP/AVP 18", "a=rtpmap:18 G729/8000"), 5000)
    with pytest.raises(SdpError, match="in the answer"):
        pbx().accept(offer("m=audio 4000 RTP/AVP 18", "a=rtpmap:18 G729/8000"))
