"""Registrations and the disk: whatever is in them is written down, and where the disk fails they are answered."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from siperb_core.store import writer
from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.user_agent import Credentials
from siperb_core.testing.wire import open_wire, request

LIMIT = 60  # seconds, if the machine is busy
OFFICE = """
[[connection]]
name = "office"
type = "inbound_registration"
[connection.settings]
username = "pbx-1"
password = "pbx-password"
"""


async def test_an_instance_that_is_not_utf_8_is_on_disk_before_the_answer(tmp_path: Path) -> None:
    with trio.fail_after(LIMIT):
        async with open_gateway(tmp_path) as gateway, open_wire("ws", address(gateway, "ws")) as wire:
            for expires, known in ((300, 1), (0, 0)):
                answer = await wire.request(
                    request(
                        "REGISTER",
                        "sip:gw.example",
                        caller="sip:alice-web@gw.example",
                        callee="sip:alice-web@gw.example",
                        contact=f'<sip:p@p.invalid>;+sip.instance="<urn:\udcff>";expires={expires}',
                    ),
                    Credentials("alice-web", "alice-secret"),
                )
                assert answer.status == 200
                assert len(gateway.store.load_bindings()) == known


async def test_a_pbx_is_answered_where_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(LIMIT):
        async with open_gateway(tmp_path, OFFICE) as gateway, open_wire("udp", address(gateway, "udp")) as wire:
            monkeypatch.setattr(writer, "MAX_QUEUED", 0)
            answer = await wire.request(
                request(
                    "REGISTER",
                    "sip:gw.example",
                    caller="sip:pbx-1@gw.example",
                    callee="sip:pbx-1@gw.example",
                    contact="<sip:pbx@127.0.0.1>",
                ),
                Credentials("pbx-1", "pbx-password"),
            )
            assert answer.status == 200
            assert gateway.loaded()[0].connection.asked() is not None, "it can be called"  # type: ignore[attr-defined]
