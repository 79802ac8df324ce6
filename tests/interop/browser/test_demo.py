"""Phones in Chromium against the whole demo: gateway, demo PBX and console, as `siperb demo` starts them."""

from __future__ import annotations

import pytest
from browser_tabs import TONE_DBFS, TONE_HZ, WebPhone

from siperb_core.testing.pbx_numbers import digit_tone


def test_the_web_phone_hears_itself_at_the_echo(web_phone) -> None:
    web_phone.dial("600")
    web_phone.wait(call="active")
    assert web_phone.ears.tone(TONE_HZ) == pytest.approx(TONE_DBFS, abs=0.5)
    web_phone.hang_up()


def test_the_tone_has_the_right_frequency(web_phone) -> None:
    web_phone.dial("601")
    web_phone.wait(call="active")
    web_phone.ears.tone(1000)
    web_phone.hang_up()


@pytest.mark.parametrize("dialect", ["rtp", "info"])
def test_keys_are_read_back_in_both_dialects(web_phone, dialect: str) -> None:
    web_phone.tab.click("settings-open")
    web_phone.tab.select("dtmf", dialect)
    web_phone.tab.click("settings-close")
    web_phone.dial("602")
    web_phone.wait(call="active")
    web_phone.ears.listen()
    for key in ("1", "9", "4", "hash"):
        web_phone.tab.click(f"key-{key}")
    assert web_phone.tab.text("dtmf-sent") == "194#"
    web_phone.ears.melody([digit_tone(digit) for digit in "194#"])
    web_phone.hang_up()


def test_a_busy_number_is_said_to_be_busy(web_phone) -> None:
    web_phone.dial("603")
    web_phone.wait(call="ended", error="Busy.")


def test_a_number_nobody_has_is_said_to_be_so(web_phone) -> None:
    web_phone.dial("699")
    web_phone.wait(call="ended", error="Nobody can be reached at this number.")


def test_ringing_can_be_cancelled(web_phone) -> None:
    web_phone.dial("604")
    web_phone.wait(call="ringing")
    web_phone.hang_up()
    assert web_phone.state["error"] == ""


def test_it_calls_back_and_is_answered(web_phone) -> None:
    web_phone.dial("605")
    web_phone.wait(call="active")
    web_phone.hang_up()
    web_phone.wait(call="incoming")
    web_phone.tab.click("answer")
    web_phone.wait(call="active")
    web_phone.tab.until("() => siperbPhone.heard().dbfs > -50")
    web_phone.hang_up()


def test_the_second_phone_is_called_and_heard_without_the_pbx(web_phone, tabs, demo) -> None:
    second = WebPhone(tabs(), demo.page)
    second.sign_in(demo.second["device"], demo.second["password"])
    second.ready()
    web_phone.dial("1002")
    second.wait(call="incoming")
    second.tab.click("answer")
    for phone in (web_phone, second):
        phone.wait(call="active")
        phone.ears.tone(TONE_HZ)
    (call,) = [call for call in demo.show("calls") if call["state"] == "answered"]
    assert (call["connection"], call["media"]["mode"]) == ("house", "passthrough")
    second.hang_up()
    web_phone.wait(call="ended")


def test_hold_and_resume_at_the_echo(web_phone) -> None:
    web_phone.dial("600")
    web_phone.wait(call="active")
    web_phone.ears.tone(TONE_HZ)
    web_phone.tab.click("hold")
    web_phone.wait(held=True)
    web_phone.ears.silence()
    web_phone.tab.click("hold")
    web_phone.wait(held=False)
    web_phone.ears.tone(TONE_HZ)
    web_phone.hang_up()


def test_reloads_leave_one_registration(web_phone, demo) -> None:
    for _ in range(3):
        web_phone.tab.run(web_phone.tab.page.reload())
        web_phone.sign_in(demo.device, demo.password)
        web_phone.ready()
    assert [line["device"] for line in demo.show("registrations")] == [demo.device]


def test_a_closed_tab_is_no_longer_registered(bare_phone, web_phone, demo) -> None:
    bare = bare_phone("jssip")
    assert len(demo.show("registrations")) == 2
    bare.tab.close()
    web_phone.dial("605")
    web_phone.wait(call="active")
    web_phone.hang_up()
    web_phone.wait(call="incoming")
    web_phone.tab.click("answer")
    web_phone.wait(call="active")
    web_phone.hang_up()


@pytest.mark.parametrize("library", ["jssip", "sipjs"])
def test_a_bare_library_registers_calls_and_hears_itself(bare_phone, library: str) -> None:
    phone = bare_phone(library)
    phone.call("600")
    phone.wait(call="active")
    assert phone.ears.tone(TONE_HZ) == pytest.approx(TONE_DBFS, abs=0.5)
    phone.hang_up()


@pytest.mark.parametrize("library", ["jssip", "sipjs"])
def test_a_bare_library_is_called_and_hears_something(bare_phone, library: str) -> None:
    phone = bare_phone(library)
    phone.call("605")
    phone.wait(call="active")
    phone.hang_up()
    phone.wait(call="active")
    phone.tab.until("() => bare.heard().dbfs > -50")
    phone.hang_up()
