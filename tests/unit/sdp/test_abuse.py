"""Descriptions made to hurt: refused with 400 or 488 wherever they come in; a softphone's leg is always DTLS-SRTP."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from siperb_core.sdp import Bridge, BridgeSettings, LegIdentity, SdpError

PRINT, OTHER = ":".join(["4A"] * 32), ":".join(["4B"] * 32)
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
HEAD = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
BUNDLE = "a=group:BUNDLE 0\r\n"
SHA = f"a=fingerprint:sha-256 {PRINT}\r\n"
TRANSPORT = f"a=rtcp-mux\r\na=setup:active\r\na=ice-ufrag:abcd\r\na=ice-pwd:{'w' * 24}\r\n{SHA}"
AUDIO = f"m=audio 9 UDP/TLS/RTP/SAVPF 111 8\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:111 opus/48000/2\r\na=mid:0\r\n{TRANSPORT}"
PHONE = HEAD + BUNDLE + AUDIO
PLAIN = "m=audio 4000 RTP/AVP 8\r\nc=IN IP4 198.51.100.66\r\na=mid:1\r\n"
PBX = b"v=0\r\no=- 1 1 IN IP4 198.51.100.9\r\ns=-\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\nm=audio 12000 RTP/AVP 8\r\n"

CANDIDATES = "".join(
    f"a=candidate:{n} 1 udp {n + 1} 192.0.2.{n % 250 + 1} {1024 + n} typ host\r\n" for n in range(1000)
)
DOWNGRADED = AUDIO.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP")

REFUSED: dict[str, tuple[str, int, str]] = {
    "256 KiB in one line": (PHONE + "a=x:" + "y" * 256 * 1024 + "\r\n", 400, "larger than 65536 octets"),
    "256 KiB of lines": (PHONE + "a=x\r\n" * 52_429, 400, "larger than 65536 octets"),
    "256 KiB of an m-line's formats": (PHONE.replace("111 8", "8 " * 131_072), 400, "larger than 65536 octets"),
    "as many formats as fit": (PHONE.replace("111 8", "8 " * 30_000), 400, "more than 128 formats"),
    "64 KiB of empty lines": (PHONE + "\r\n" * 32_000 + "a=x\r\n", 400, "more than 2000 lines"),
    "more lines than a phone has": (PHONE + "b=AS:64\r\n" * 2000, 400, "more than 2000 lines"),
    "a carriage return by itself": (PHONE + "a=x\ry\r\n", 400, "control characters"),
    "400 wrong fingerprints": (
        PHONE.replace(SHA, "".join(f"a=fingerprint:sha-256 {n}\r\n" for n in range(400))),
        488,
        "of sha-256 or better",
    ),
    "1,000 m-lines": (PHONE + "m=audio 9 RTP/AVP 0\r\n" * 1000, 400, "more than 64 media sections"),
    "1,000 candidates": (PHONE + CANDIDATES, 400, "more than 512 attributes"),
    "1,000 candidates of the session": (HEAD + CANDIDATES + AUDIO, 400, "more than 512 attributes"),
    "no fingerprint": (PHONE.replace(SHA, ""), 488, "no a=fingerprint"),
    "fingerprint by a broken hash": (PHONE.replace("sha-256", "md5"), 488, "of sha-256 or better"),
    "fingerprint of another length": (PHONE.replace("4A:", "", 1), 488, "of sha-256 or better"),
    "fingerprint that is none": (PHONE.replace("4A:", "ZZ:", 1), 488, "of sha-256 or better"),
    "fingerprint without its hash": (PHONE.replace("sha-256 ", ""), 488, "of sha-256 or better"),
    "the same wrong fingerprint twice": (PHONE.replace(SHA, SHA.replace("4A:", "", 1) * 2), 488, "of sha-256"),
    "plain RTP": (HEAD + BUNDLE + DOWNGRADED, 488, "RTP/AVP only; it must be DTLS-SRTP"),
    "plain RTP with everything taken away": (HEAD + PLAIN, 488, "RTP/AVP only; it must be DTLS-SRTP"),
    "SDES": (
        PHONE.replace(SHA, f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{'A' * 40}\r\n"),
        488,
        "no a=fingerprint, which DTLS-SRTP needs",
    ),
    "port 0": (PHONE.replace("m=audio 9", "m=audio 0"), 488, "switched its audio off"),
    "port 0 beside plain RTP": (PHONE.replace("m=audio 9", "m=audio 0") + PLAIN, 488, "RTP/AVP only"),
    "a bundle that lends its keys to plain RTP": (
        HEAD + "a=group:BUNDLE 2 1\r\n" + PLAIN + AUDIO.replace("mid:0", "mid:2").replace("audio", "video"),
        488,
        "RTP/AVP only",
    ),
    "a bundle of sections that are not there": (
        HEAD + "a=group:BUNDLE 8 0 9\r\n" + AUDIO.replace(TRANSPORT, ""),
        488,
        "no ICE credentials",
    ),
    "a bundle whose first is itself, and empty": (PHONE.replace(TRANSPORT, ""), 488, "no ICE credentials"),
    "a transport in a section outside of the bundle": (
        HEAD + BUNDLE + AUDIO.replace(TRANSPORT, "") + AUDIO.replace("audio", "video").replace("mid:0", "mid:1"),
        488,
        "no ICE credentials",
    ),
}


def first_offer(sdp: bytes) -> tuple[Bridge, Callable[[], bytes]]:
    bridge = Bridge(SETTINGS)
    return bridge, lambda: bridge.offer_from_client(sdp, "a", FIRST)


def later_offer(sdp: bytes) -> tuple[Bridge, Callable[[], bytes]]:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_client(PHONE.encode(), "a", FIRST)
    bridge.answer_from_peer(PBX)
    return bridge, lambda: bridge.offer_from_client(sdp, "a")


def answer(sdp: bytes) -> tuple[Bridge, Callable[[], bytes]]:
    bridge = Bridge(SETTINGS)
    bridge.offer_from_peer(PBX, "a", FIRST)
    return bridge, lambda: bridge.answer_from_client(sdp, "a")


ENTRANCES = [first_offer, later_offer, answer]


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_wherever_it_comes_in_and_the_call_is_as_it_was(
    name: str, entrance: Callable[[bytes], tuple[Bridge, Callable[[], bytes]]]
) -> None:
    text, status, words = REFUSED[name]
    bridge, give = entrance(text.encode())
    before = (bridge.plan, bridge.branches, bridge.pending, bridge.mode)
    with pytest.raises(SdpError) as caught:
        give()
    assert caught.value.status == status
    assert words in caught.value.warning
    assert len(caught.value.warning) < 200, "nothing large is sent back"
    assert (bridge.plan, bridge.branches, bridge.pending, bridge.mode) == before


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_what_is_refused_is_refused_for_what_it_says(
    entrance: Callable[[bytes], tuple[Bridge, Callable[[], bytes]]],
) -> None:
    bridge, give = entrance(PHONE.encode())
    assert give().startswith(b"v=0\r\n")
    assert bridge.branches == ("a",)


@pytest.mark.parametrize(
    ("text", "prints"),
    [
        (PHONE.replace(SHA, SHA * 2), [PRINT]),
        (PHONE.replace(SHA, SHA + SHA.lower()), [PRINT]),
        (PHONE.replace(SHA, SHA + SHA.replace(PRINT, OTHER)), [PRINT, OTHER]),  # RFC 8122 section 5 allows several
        (PHONE.replace(SHA, SHA + "a=fingerprint:md5 4A:4A\r\n"), [PRINT]),
        (PHONE.replace(SHA, SHA * 400), [PRINT]),
        (PHONE + "\r\n" * 30_000, [PRINT]),  # blank lines after the last
        (PHONE.removesuffix("\r\n"), [PRINT]),
        (PHONE + "\r", [PRINT]),
        (PHONE + PLAIN, [PRINT]),  # plain RTP beside it is refused alone
        (HEAD + "a=group:BUNDLE 1 0\r\n" + PLAIN + AUDIO, [PRINT]),  # and is no transport for the bundle
        (HEAD + "a=group:BUNDLE 8 0 9\r\n" + AUDIO, [PRINT]),
        (HEAD + "a=group:BUNDLE\r\na=group:BUNDLE 0 0 0\r\n" + AUDIO, [PRINT]),
        (HEAD + AUDIO.replace("a=mid:0", "a=bundle-only"), [PRINT]),
        (PHONE + AUDIO.replace("audio", "video").replace(PRINT, OTHER), [PRINT]),  # one mid, twice
    ],
)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_what_is_let_pass_is_dtls_srtp_with_the_phones_own_fingerprints(
    text: str, prints: list[str], entrance: Callable[[bytes], tuple[Bridge, Callable[[], bytes]]]
) -> None:
    bridge, give = entrance(text.encode())
    written = give()
    if bridge.pending:
        written = bridge.answer_from_peer(PBX)
    [leg] = bridge.plan.clients.values()
    assert leg.remote_fingerprints == tuple(("sha-256", value) for value in prints)
    assert (leg.remote_ufrag, leg.remote_password) == ("abcd", "w" * 24)
    assert bridge.plan.peer is not None
    assert bridge.plan.peer.remote == ("198.51.100.9", 12000), "the PBX is where the PBX said"
    if entrance is not answer:  # what the phone reads: one section of audio alive, and that one encrypted
        alive = [line for line in written.decode().splitlines() if line.startswith("m=") and line.split()[1] != "0"]
        assert [line.split()[2] for line in alive] == ["UDP/TLS/RTP/SAVPF"]


def test_a_re_offer_cannot_bring_other_keys_without_being_asked_for_dtls() -> None:
    bridge, give = later_offer(PHONE.replace(PRINT, OTHER).encode())
    give()
    assert bridge.plan.clients["a"].remote_fingerprints == (("sha-256", PRINT),), "as agreed, until it is answered"
    bridge.reject()
    assert bridge.plan.clients["a"].remote_fingerprints == (("sha-256", PRINT),)
