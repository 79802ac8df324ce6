"""A real browser reads what we write and we read what it writes: no media, descriptions only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from browser_tabs import Tab

from siperb_core.sdp import Bridge, BridgeSettings, LegIdentity

TEXTS = Path(__file__).parents[2] / "scenario" / "sdp" / "texts"
SETTINGS = BridgeSettings(
    address="127.0.0.1",
    peer_address="192.0.2.5",
    peer_port=10000,
    peer_ssrc=1,
    fingerprint=("sha-256", ":".join(["AB"] * 32)),
    session_id=42,
    transcodable=frozenset(pair for codec in ("G722", "PCMA", "PCMU") for pair in (("opus", codec), (codec, "opus"))),
)
IDENTITY = LegIdentity("uFrA", "p" * 22, 10010, 153)
FRESH = LegIdentity("uFrB", "q" * 22, 10010, 153)

PHONE = """
async () => {
  window.pc = new RTCPeerConnection({iceServers: []});
  const context = new AudioContext();
  window.track = context.createMediaStreamDestination().stream.getTracks()[0];
  window.sender = pc.addTrack(track);
}
"""
OFFER = (
    "async (options) => { await pc.setLocalDescription(await pc.createOffer(options)); return pc.localDescription.sdp }"
)
ACCEPT = "async (sdp) => { await pc.setRemoteDescription({type: 'answer', sdp}); return pc.signalingState }"
ANSWER = """async (sdp) => {
  await pc.setRemoteDescription({type: 'offer', sdp});
  await pc.setLocalDescription(await pc.createAnswer());
  return pc.localDescription.sdp
}"""
DIRECTION = "(direction) => { pc.getTransceivers()[0].direction = direction }"
CURRENT = "() => pc.getTransceivers()[0].currentDirection"


def pbx(name: str, *pairs: tuple[str, str]) -> bytes:
    content = (TEXTS / f"{name}.sdp").read_text()
    for old, new in pairs:
        content = content.replace(old, new)
    return content.replace("\n", "\r\n").encode()


@pytest.fixture
def page(tabs: Callable[[], Tab]) -> Tab:
    tab = tabs()
    tab.js(PHONE)
    return tab


def test_the_browser_calls_holds_resumes_and_restarts(page: Tab) -> None:
    bridge = Bridge(SETTINGS)

    def exchange(answer: bytes, identity: LegIdentity | None, options: dict[str, bool] | None = None) -> None:
        offer = page.js(OFFER, options or {}).encode()
        bridge.offer_from_client(offer, "a", identity)
        assert page.js(ACCEPT, bridge.answer_from_peer(answer).decode()) == "stable"

    exchange(pbx("asterisk_answer"), IDENTITY)
    assert page.js(CURRENT) == "sendrecv"
    assert (bridge.client_codec, bridge.peer_codec) == ("opus", "G722")
    page.js(DIRECTION, "sendonly")
    exchange(pbx("asterisk_answer", ("sendrecv", "recvonly")), None)
    assert page.js(CURRENT) == "sendonly"
    page.js(DIRECTION, "sendrecv")
    exchange(pbx("asterisk_answer"), None)
    assert page.js(CURRENT) == "sendrecv"
    before = bridge.plan.clients["a"].remote_ufrag
    exchange(pbx("asterisk_answer"), FRESH, {"iceRestart": True})
    leg = bridge.plan.clients["a"]
    assert leg.remote_ufrag != before
    assert (leg.ufrag, leg.dtls, leg.controlling) == ("uFrB", "client", False)
    # and then the PBX re-offers: the browser keeps its DTLS role, and we ours
    answer = page.js(ANSWER, bridge.offer_from_peer(pbx("asterisk_hold"), "a").decode())
    assert "a=setup:passive" in answer
    assert b"a=recvonly" in bridge.answer_from_client(answer.encode(), "a")
    assert bridge.plan.clients["a"].dtls == "client"


def test_the_browser_is_called_and_held(page: Tab) -> None:
    bridge = Bridge(SETTINGS)
    for name, direction in (
        ("asterisk_offer", "sendrecv"),
        ("asterisk_hold", "recvonly"),
        ("asterisk_offer", "sendrecv"),
    ):
        identity = None if bridge.branches else IDENTITY
        answer = page.js(ANSWER, bridge.offer_from_peer(pbx(name), "a", identity).decode())
        assert f"a={direction}\r\n".encode() in bridge.answer_from_client(answer.encode(), "a")
        assert (bridge.client_codec, bridge.peer_codec, bridge.plan.clients["a"].dtls) == ("opus", "G722", "server")
    # the phone holds in its turn, in the session the PBX began
    page.js(DIRECTION, "inactive")
    bridge.offer_from_client(page.js(OFFER, {}).encode(), "a")
    answer = bridge.answer_from_peer(pbx("asterisk_answer", ("sendrecv", "inactive"))).decode()
    assert "a=setup:passive" in answer
    assert page.js(ACCEPT, answer) == "stable"


def test_the_browsers_video_and_data_are_refused(page: Tab) -> None:
    page.js("() => { pc.addTransceiver('video'); pc.createDataChannel('x') }")
    bridge = Bridge(SETTINGS)
    offer = page.js(OFFER, {}).encode()
    assert offer.count(b"\r\nm=") == 3
    bridge.offer_from_client(offer, "a", IDENTITY)
    assert page.js(ACCEPT, bridge.answer_from_peer(pbx("freeswitch_answer")).decode()) == "stable"
    answer = page.js(ANSWER, bridge.offer_from_peer(pbx("asterisk_hold"), "a").decode())
    bridge.answer_from_client(answer.encode(), "a")
    assert bridge.plan.clients["a"].dtls == "client"
