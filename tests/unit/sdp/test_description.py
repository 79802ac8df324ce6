"""The parser: strict, bounded, and SdpError is all that ever comes out."""

from __future__ import annotations

import pytest

from siperb_core.sdp import SdpError, describe, parse_sdp

HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
AUDIO = "m=audio 4000 RTP/AVP 0\r\n"


def refused(text: str | bytes) -> SdpError:
    with pytest.raises(SdpError) as caught:
        parse_sdp(text if isinstance(text, bytes) else text.encode())
    assert caught.value.status == 400
    assert caught.value.reason == "Bad Request"
    return caught.value


def test_a_description_in_parts() -> None:
    parsed = parse_sdp(
        (
            HEAD
            + "a=group:BUNDLE x y\r\n"
            + AUDIO
            + "c=IN IP4 192.0.2.2\r\na=mid:x\r\na=rtcp-mux\r\nm=video 0/2 RTP/AVP 99 98\r\n"
        ).encode()
    )
    audio, video = parsed.media
    assert (audio.kind, audio.port, audio.proto, audio.formats, audio.mid) == ("audio", 4000, "RTP/AVP", ("0",), "x")
    assert (parsed.connection_of(audio), parsed.connection_of(video)) == ("192.0.2.2", "192.0.2.1")
    assert (audio.get("rtcp-mux"), audio.get("nothing"), video.formats) == ("", None, ("99", "98"))
    assert (parsed.bundle_of(audio), parsed.bundle_of(video)) == (("x", "y"), ())
    assert (audio.disabled, video.disabled) == (False, True)


@pytest.mark.parametrize(
    "text",
    [
        (HEAD + AUDIO).replace("\r\n", "\n"),
        HEAD + AUDIO + "\r\n\r\n",
        (HEAD + AUDIO).replace("s=-", "s="),
        (HEAD + AUDIO).replace("s=-\r\n", "").replace("t=0 0\r\n", ""),
        HEAD + AUDIO + "a=x-unheard-of thing: yes\r\na=\r\nb=AS:64\r\nk=clear:1\r\n",
        HEAD + AUDIO.rstrip(),
    ],
)
def test_carelessness_that_is_let_pass(text: str) -> None:
    assert parse_sdp(text.encode()).media[0].port == 4000


def test_a_session_name_in_an_old_character_set() -> None:
    assert parse_sdp((HEAD + AUDIO).replace("s=-", "s=B\xfcro").encode("latin-1")).media


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\r\n",
        "hello",
        "v=1\r\n",
        "v=0\r\n" + AUDIO,
        HEAD.replace("o=- 1", "o=-"),
        HEAD + "o=- 1 1 IN IP4 192.0.2.1\r\n" + AUDIO,
        HEAD + "m=audio\r\n",
        HEAD + "m=audio 4000 RTP/AVP\r\n",
        HEAD + "m=audio -1 RTP/AVP 0\r\n",
        HEAD + "m=audio 65536 RTP/AVP 0\r\n",
        HEAD + "m=audio \u0664\u0664 RTP/AVP 0\r\n",
        HEAD + "m=audio 4000/0 RTP/AVP 0\r\n",
        HEAD + "m=audio " + "9" * 5000 + " RTP/AVP 0\r\n",
        HEAD + 'm=audio 4000 RTP/"AVP" 0\r\n',
        HEAD + AUDIO + "a=mid:x y\r\n",
        HEAD + AUDIO + "a=mid:\r\n",
        HEAD + AUDIO + "a=sendrecv\x00\r\n",
        HEAD + AUDIO + "a=foo\ra=bar\r\n",
        HEAD + AUDIO + "c=IN IP4\r\n",
        HEAD + AUDIO + "c=IN IP5 192.0.2.1\r\n",
        HEAD + AUDIO + "c=IN IP4 " + "a" * 300 + "\r\n",
        HEAD + AUDIO + "\r\na=sendrecv\r\n",
        HEAD + AUDIO + "a: sendrecv\r\n",
        HEAD + AUDIO + "=sendrecv\r\n",
    ],
)
def test_what_is_no_description(text: str) -> None:
    assert refused(text).warning.startswith("bad SDP: ")


def test_bounds() -> None:
    assert len(parse_sdp((HEAD + AUDIO * 64).encode()).media) == 64
    assert "64 media" in refused(HEAD + AUDIO * 65).warning
    assert "64 media" in refused(HEAD + AUDIO * 1000).warning
    parse_sdp((HEAD + AUDIO + "a=x\r\n" * 512).encode())
    assert "512 attributes" in refused(HEAD + AUDIO + "a=x\r\n" * 513).warning
    assert "512 attributes" in refused(HEAD + "a=x\r\n" * 513).warning
    assert "512 attributes" in refused(HEAD + AUDIO + "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n" * 1000).warning
    assert "128 formats" in refused(HEAD + "m=audio 1 RTP/AVP" + " 0" * 129 + "\r\n").warning
    assert "65536 octets" in refused(HEAD + AUDIO + "a=" + "x" * 65536).warning
    assert "65536 octets" in refused(b"\xff" * 262144).warning


def test_a_warning_fits_into_a_quoted_string() -> None:
    warning = refused(HEAD + 'x"\\\u20ac\r\n').warning
    assert not set('"\\\u20ac') & set(warning)
    assert len(refused(HEAD + "x" * 5000).warning) <= 400


@pytest.mark.parametrize(
    ("text", "codecs"),
    [
        (HEAD + "m=audio 4000 RTP/AVP 18 0 101 13\r\na=rtpmap:101 telephone-event/8000\r\n", ("G729", "PCMU")),
        (HEAD + "m=audio 0 RTP/AVP 0\r\nm=audio 9 RTP/AVP 96\r\na=rtpmap:96 speex/16000\r\n", ("speex",)),
        (HEAD + "m=video 4000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n", ()),
        (HEAD + 'm=audio 4000 RTP/AVP 96 97 98 300 x\r\na=rtpmap:96 "/8000\r\na=rtpmap:97 a/b\r\n', ()),
        ("nonsense", ()),
    ],
)
def test_describe(text: str, codecs: tuple[str, ...]) -> None:
    assert describe(text.encode()) == codecs
