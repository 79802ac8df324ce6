"""What strangers send as if they were in a dialog: with guessed tags, and with the right ones."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.sip import Message
from siperb_core.testing.gateway import open_gateway, websocket_url
from siperb_core.testing.pbx import open_pbx
from siperb_core.testing.softphone import open_softphone

from .test_strangers import TRUNK, Stranger

OFFICE = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["{allowed}"]
[connection.settings]
server = "127.0.0.1"
port = {port}
"""


def silent(gateway: Gateway) -> None:
    """`strangers = "drop"`."""
    settings = gateway.config.gateway
    gateway.config = attrs.evolve(gateway.config, gateway=attrs.evolve(settings, strangers="drop"))


def in_dialog(message: Message) -> Message:
    message.set("To", f"{message.get('To')};tag=guessed")
    return message


@pytest.mark.parametrize("method", ["BYE", "INVITE", "INFO", "NOTIFY", "OPTIONS", "UPDATE"])
async def test_guessed_tags_get_the_answer_that_strangers_get(tmp_path: Path, method: str) -> None:
    async with open_gateway(tmp_path, TRUNK) as gateway, Stranger(gateway) as stranger:
        with trio.fail_after(60):
            assert (await stranger.ask(in_dialog(stranger.make(method, "x")))).status == 481
            silent(gateway)
            assert await stranger.is_ignored(in_dialog(stranger.make(method, "x")))
            assert gateway.signalling.transactions <= 1, "that of the 481"


async def test_a_pbx_is_told_that_a_dialog_is_lost(tmp_path: Path) -> None:
    """By its address on the list, though strangers are told nothing."""
    config = OFFICE.format(allowed="127.0.0.2", port=9)
    async with open_gateway(tmp_path, config) as gateway, Stranger(gateway, "127.0.0.2") as pbx:
        silent(gateway)
        with trio.fail_after(60):
            assert (await pbx.ask(in_dialog(pbx.make("BYE", "x")))).status == 481


async def test_a_stranger_s_ack_goes_nowhere(tmp_path: Path) -> None:
    """Not even with the token and the tags of a call, overheard somehow."""
    async with open_pbx() as pbx:
        config = OFFICE.format(allowed="127.0.0.1", port=pbx.local[1])
        async with open_gateway(tmp_path, config) as gateway, Stranger(gateway, "127.0.0.3") as stranger:
            async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone:
                with trio.fail_after(60):
                    call = await phone.call("601")
                    await call.answered()
                    (live,) = gateway.calls.active()
                    (dialog,) = live.dialogs.values()
                    for side in ("caller", "callee"):
                        await stranger.send(forged_ack(stranger, live.token, dialog.call_id, side, gateway))
                    await stranger.ask(stranger.make("OPTIONS", "x"))  # both ACKs have been looked at
                    await call.hangup()
        received = [message.method for message in pbx.agent.received_messages if message.call_id == dialog.call_id]
        assert received.count("ACK") == 1
        assert received[-1] == "BYE"


def forged_ack(stranger: Stranger, token: str, call_id: str, side: str, gateway: Gateway) -> Message:
    call = gateway.calls.by_token(token)
    assert call is not None
    (dialog,) = call.dialogs.values()
    tags = (dialog.caller_tag, dialog.callee_tag)
    own, other = tags if side == "caller" else reversed(tags)
    message = stranger.make("INFO", "x")
    asked = dialog.callee.invites[-1][0]
    fields = [("Via", message.get("Via") or ""), ("Max-Forwards", "70"), ("From", f"<sip:x@y>;tag={own}")]
    fields += [("To", f"<sip:y@z>;tag={other}"), ("Call-ID", call_id), ("CSeq", f"{asked} ACK")]
    return Message.request("ACK", f"sip:{token}@gw.example", fields)
