"""What is pressed in a call the gateway answers by itself: a plugin's endpoint gets each digit once, with its duration,
and the softphone gets those the endpoint presses, whatever way both have for them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.testing import open_gateway, open_softphone, websocket_url

PLUGIN = """
import attrs, trio
from siperb_core import AnswerWith, Digit, hookimpl

HEARD = []

@attrs.frozen
class Settings:
    pass

class Repeats:
    async def run(self, audio):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.echo, audio)
            while True:
                digit = await audio.receive_digit()
                HEARD.append(digit)
                await audio.send_digit(digit)

    async def echo(self, audio):
        while True:
            await audio.send(await audio.receive())

class Live:
    credentials = None
    def outbound_leg(self, call): return AnswerWith(Repeats())
    def claims(self, request, source): return None
    def answer(self, request, source): return None

class Type:
    kind, title, version, config_class, allow_from_required = "repeats", "Repeats", 1, Settings, False
    def unique_id(self, config): return None
    def migrate(self, data, old): return data
    async def probe(self, ctx, config): pass
    async def serve(self, ctx, config, *, task_status):
        task_status.started(Live())
        await trio.sleep_forever()

@hookimpl
def siperb_connection_types(): return [Type()]
"""
CONNECTION = """
[[connection]]
name = "repeats"
type = "repeats"
dtmf = "{dtmf}"
phone_dtmf = "{phone_dtmf}"
"""
KEYS = "55#"


@pytest.fixture
def heard(install_plugin: Callable[..., None]) -> list[Any]:
    """The digits the endpoint has got, when the plugin is loaded."""
    install_plugin("repeats", PLUGIN)
    import siperb_repeats_plugin  # type: ignore[import-not-found]

    found: list[Any] = siperb_repeats_plugin.HEARD
    return found


async def press(call: Any, way: str) -> None:
    if way == "event":
        await call.send_digits(KEYS)
        return
    for count, key in enumerate(KEYS, 1):
        if way == "both":
            await call.send_digits(key)
        await call.send_info(key, milliseconds=100)
        await call.media.ear.heard_digits(count)


@pytest.mark.parametrize("way", ["event", "info", "both"])
@pytest.mark.parametrize(
    ("dtmf", "phone_dtmf", "comes_by"),
    [("auto", "auto", "rtp"), ("info", "auto", "rtp"), ("inband", "auto", "rtp"), ("auto", "info", "info")],
)
async def test_each_digit_once_with_its_duration_and_back(
    tmp_path: Path, heard: list[Any], dtmf: str, phone_dtmf: str, comes_by: str, way: str
) -> None:
    with trio.fail_after(90):
        connection = CONNECTION.format(dtmf=dtmf, phone_dtmf=phone_dtmf)
        async with (
            open_gateway(tmp_path, connection) as gateway,
            open_softphone(websocket_url(gateway), "alice-web", "gw.example", "alice-secret") as phone,
        ):
            await _call(gateway, phone, heard, way, comes_by)


async def _call(gateway: Gateway, phone: Any, heard: list[Any], way: str, comes_by: str) -> None:
    call = await phone.call("600")
    await call.answered()
    call.play(700)
    await call.hears(700)  # the line is open both ways
    await press(call, way)
    ear = call.media.ear
    assert await ear.heard_digits(len(KEYS)) == KEYS
    assert {digit.way for digit in ear.digits} == {comes_by}
    await call.hears(700)  # and what is said is heard again
    assert [digit.key for digit in heard] == list(KEYS)
    # 100 ms were pressed: packets are 20 ms, and where tones are listened for, blocks are 26 ms.
    assert all(50 <= digit.milliseconds <= 160 for digit in heard), heard
    await call.hangup()
    await gateway.calls.wait_idle()
    assert [digit.key for digit in heard] == list(KEYS), "nothing came twice"
    assert await ear.heard_digits(len(KEYS)) == KEYS
