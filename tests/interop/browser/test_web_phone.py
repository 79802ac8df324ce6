"""The web phone by itself: two of them on an exchange, sound and all, without a gateway."""

from __future__ import annotations

import pytest
from browser_tabs import TONE_DBFS, TONE_HZ, WebPhone


@pytest.fixture
def pair(phone_at):
    """Two phones in a call: who called, who answered."""
    alice, bob = phone_at("alice"), phone_at("bob")
    alice.dial("bob")
    bob.wait(call="incoming", peer="alice")
    alice.wait(call="ringing")
    bob.tab.click("answer")
    alice.wait(call="active")
    bob.wait(call="active")
    return alice, bob


def test_both_hear_each_other_at_the_right_level(pair) -> None:
    for phone in pair:
        assert phone.ears.tone(TONE_HZ) == pytest.approx(TONE_DBFS, abs=0.5)


def test_hanging_up_ends_it_for_both_and_is_remembered(pair) -> None:
    alice, bob = pair
    alice.hang_up()
    bob.wait(call="ended")
    assert "bob" in alice.tab.text("history")
    assert "Outgoing" in alice.tab.text("history")
    assert "Incoming" in bob.tab.text("history")


def test_hold_silences_both_ways_and_resume_brings_the_sound_back(pair) -> None:
    alice, bob = pair
    bob.ears.tone(TONE_HZ)
    alice.tab.click("hold")
    alice.wait(held=True)
    bob.ears.silence()
    alice.ears.silence()
    assert alice.tab.text("call-state") == "On hold"
    assert bob.tab.text("call-state") == "The other side put you on hold"
    alice.tab.click("hold")
    alice.wait(held=False)
    bob.ears.tone(TONE_HZ)
    alice.ears.tone(TONE_HZ)


def test_muting_silences_only_ones_own_side(pair) -> None:
    alice, bob = pair
    bob.ears.tone(TONE_HZ)
    alice.tab.click("mute")
    bob.ears.silence()
    alice.ears.tone(TONE_HZ)
    alice.tab.click("mute")
    bob.ears.tone(TONE_HZ)


def test_another_microphone_in_mid_call_keeps_the_sound(pair) -> None:
    alice, bob = pair
    alice.tab.click("settings-open")
    names = alice.tab.js("() => [...document.getElementById('microphone').options].map(o => o.value)")
    assert names[0] == ""
    alice.tab.js(
        "v => { const m = document.getElementById('microphone'); m.value = v; m.dispatchEvent(new Event('change')); }",
        names[-1],
    )
    alice.tab.click("settings-close")
    bob.ears.tone(TONE_HZ)


def test_the_keyboard_is_enough(phone_at) -> None:
    alice, bob = phone_at("alice"), phone_at("42")
    alice.tab.js("() => document.activeElement.blur()")
    for key in ("4", "2", "Enter"):
        alice.tab.press(key)
    bob.wait(call="incoming")
    bob.tab.js("() => document.activeElement.blur()")
    bob.tab.press("Enter")
    alice.wait(call="active")
    alice.tab.press("7")
    alice.tab.press("#")
    assert alice.tab.text("dtmf-sent") == "7#"
    alice.tab.press("Escape")
    bob.wait(call="ended")


def test_declining_is_told_to_the_caller(phone_at) -> None:
    alice, bob = phone_at("alice"), phone_at("bob")
    alice.dial("bob")
    bob.wait(call="incoming")
    bob.tab.click("reject")
    alice.wait(call="ended", error="Call declined.")
    assert bob.state["error"] == ""


def test_cancelling_leaves_a_missed_call(phone_at) -> None:
    alice, bob = phone_at("alice"), phone_at("bob")
    alice.dial("bob")
    bob.wait(call="incoming")
    alice.hang_up()
    bob.wait(call="ended")
    assert "Missed" in bob.tab.text("history")
    assert alice.state["error"] == ""


@pytest.mark.parametrize(
    ("number", "said", "detail"),
    [
        ("busy", "Busy.", ""),
        ("nobody", "Nobody can be reached at this number.", ""),
        ("away", "Not available right now.", ""),
        (
            "codec",
            "The two phones have no way of talking in common.",
            "no common codec: the PBX offers only G729; this gateway bridges G722, PCMA, PCMU",
        ),
    ],
)
def test_what_went_wrong_is_said_in_plain_words(phone_at, number: str, said: str, detail: str) -> None:
    alice = phone_at("alice")
    alice.dial(number)
    alice.wait(call="ended", error=said, detail=detail)
    assert said in alice.tab.text("error")


def test_a_second_caller_finds_the_phone_busy(pair, phone_at) -> None:
    carol = phone_at("carol")
    carol.dial("bob")
    carol.wait(call="ended", error="Busy.")
    assert pair[1].state["call"] == "active"


def test_a_wrong_password_is_said_and_not_tried_again(phone_at, office) -> None:
    before = len(office.exchange.seen)
    mallory = phone_at("mallory", "wrong", ready=False)
    mallory.wait(registration="refused")
    assert "password is wrong" in mallory.tab.text("error")
    assert office.exchange.seen[before:].count("REGISTER sip:example.test SIP/2.0") == 2
    mallory.tab.fill("signin-password", "secret")
    mallory.tab.click("signin-submit")
    mallory.ready()


def test_it_registers_again_after_the_connection_was_lost_and_the_call_lives_on(pair, office) -> None:
    alice, bob = pair
    office.drop_all()
    alice.wait(registration="retrying")
    alice.ready()
    bob.ready()
    alice.ears.tone(TONE_HZ)
    assert alice.state["call"] == "active"


def test_a_reload_replaces_the_registration_and_asks_who_it_is_unless_told_to_remember(phone_at) -> None:
    alice = phone_at("alice")
    contact = "() => sessionStorage.getItem('siperb.phone.instance')"
    before = alice.tab.js(contact)
    alice.tab.run(alice.tab.page.reload())
    alice.wait(registration="offline")
    assert alice.tab.js(contact) == before
    assert "secret" not in alice.tab.js("() => JSON.stringify({...localStorage})")
    alice.tab.fill("signin-device", "alice")
    alice.tab.fill("signin-password", "secret")
    alice.tab.check("signin-remember")
    alice.tab.click("signin-submit")
    alice.ready()
    alice.tab.run(alice.tab.page.reload())
    alice.ready()
    alice.tab.click("signout")
    alice.tab.run(alice.tab.page.reload())
    alice.wait(registration="offline")


def test_the_account_in_the_address_signs_in_and_leaves_the_address(tabs, office) -> None:
    phone = WebPhone(tabs(), office.page)
    phone.tab.open(f"{office.page}#device=alice&password=secret")
    phone.ready()
    assert phone.tab.page.url == office.page


@pytest.mark.parametrize("mode", ["proxy", "websocket"])
def test_a_provisioning_link_signs_in(tabs, office, mode: str) -> None:
    phone = WebPhone(tabs(), office.page)
    phone.tab.open(f"{office.page}#provision=dora-{mode}")
    phone.ready()
    assert phone.tab.text("account") == f"dora-{mode}"


def test_a_call_goes_with_turn_servers_whose_credentials_are_fresh(tabs, phone_at, office) -> None:
    phone_at("erin")
    phone = WebPhone(tabs(), office.page)
    watch = (
        "window.used = []; const Real = RTCPeerConnection; window.RTCPeerConnection = class extends Real {"
        "constructor(config) { super(config); window.used.push(config.iceServers); } };"
    )
    phone.tab.run(phone.tab.page.add_init_script(watch))
    before = office.provisioned
    phone.tab.open(f"{office.page}#provision=dora-proxy")
    phone.ready()
    phone.dial("erin")
    phone.tab.until("() => window.used.length > 0")
    (server,) = phone.tab.js("() => window.used[0]")
    assert server["urls"] == ["turn:127.0.0.1:9"]
    assert server["username"] == f"{before + 2}:dora", "those of the sign-in have run out"


def test_a_refused_microphone_is_explained(deaf_browser, office) -> None:
    phone = WebPhone(deaf_browser.tab(), office.page)
    phone.sign_in("alice", "secret")
    phone.ready()
    phone.dial("bob")
    phone.wait(call="ended")
    assert "microphone" in phone.state["error"].lower()


def test_nothing_is_fetched_from_elsewhere(tabs, office) -> None:
    tab = tabs()
    phone = WebPhone(tab, office.page)
    phone.sign_in("alice", "secret")
    phone.ready()
    assert tab.asked
    assert all(url.startswith(office.console.url) for url in tab.asked)
    assert not [line for line in tab.log if "Content Security Policy" in line]


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_cut_off_at_any_width(phone_at, width: int) -> None:
    alice = phone_at("alice", viewport={"width": width, "height": 700})
    bob = phone_at("bob", viewport={"width": width, "height": 700})
    overflow = "() => document.documentElement.scrollWidth - innerWidth"
    assert alice.tab.js(overflow) <= 0
    alice.dial("bob")
    bob.wait(call="incoming")
    assert bob.tab.js(overflow) <= 0
    bob.tab.click("answer")
    alice.wait(call="active")
    assert alice.tab.js(overflow) <= 0


def test_every_control_has_a_name(phone_at) -> None:
    alice = phone_at("alice")
    nameless = alice.tab.js(
        """() => [...document.querySelectorAll('button, input, select')].filter(e =>
            !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"""
    )
    assert nameless == []
