"""What strangers send as if they were in a dialog: with guessed tags, and with the right ones."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.sip import Message
from siperb_core.sip.dialog import Dialog
from siperb_core.sip.digest import answer_challenge
from siperb_core.testing.gateway import address, open_gateway, websocket_url
from siperb_core.testing.pbx import open_pbx
from siperb_core.testing.softphone import open_softphone
from siperb_core.testing.user_agent import Credentials

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
    asked = one_dialog(gateway, token).callee.invites[-1][0]
    message = forged(stranger, "ACK", token, gateway, side)
    message.set("CSeq", f"{asked} ACK")
    return message


def one_dialog(gateway: Gateway, token: str) -> Dialog:
    call = gateway.calls.by_token(token)
    assert call is not None
    (dialog,) = call.dialogs.values()
    return dialog


def forged(stranger: Stranger, method: str, token: str, gateway: Gateway, side: str = "callee") -> Message:
    """A request with everything right that a party of the call would have right."""
    dialog = one_dialog(gateway, token)
    tags = (dialog.caller_tag, dialog.callee_tag)
    own, other = tags if side == "caller" else reversed(tags)
    made = stranger.make(method, "x")
    fields = [("Via", made.get("Via") or ""), ("Max-Forwards", "70"), ("From", f"<sip:x@y>;tag={own}")]
    fields += [("To", f"<sip:y@z>;tag={other}"), ("Call-ID", dialog.call_id), ("CSeq", f"900 {method}")]
    if method not in ("BYE", "ACK"):
        fields.append(("Contact", made.get("Contact") or ""))
    return Message.request(method, f"sip:{token}@gw.example", fields)


IN_DIALOG = ("BYE", "INVITE", "INFO", "UPDATE", "REFER", "NOTIFY", "MESSAGE", "OPTIONS", "PRACK")


async def test_a_stranger_has_no_say_in_a_call_though_its_tags_are_right(tmp_path: Path) -> None:
    """Overheard somehow: from another address than the PBX's it hangs up nothing and moves nothing."""
    async with open_pbx() as pbx:
        config = OFFICE.format(allowed="127.0.0.1", port=pbx.local[1])
        async with open_gateway(tmp_path, config) as gateway, Stranger(gateway, "127.0.0.3") as stranger:
            async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone:
                with trio.fail_after(60):
                    call = await phone.call("601")
                    await call.answered()
                    (live,) = gateway.calls.active()
                    dialog = one_dialog(gateway, live.token)
                    before = dialog.callee.target, dialog.callee.flow
                    for method in IN_DIALOG:
                        assert (await stranger.ask(forged(stranger, method, live.token, gateway))).status == 403, method
                    silent(gateway)
                    async with Stranger(gateway, "127.0.0.4") as another:
                        for method in IN_DIALOG:
                            await another.send(forged(another, method, live.token, gateway))
                        assert await another.is_ignored(forged(another, "BYE", live.token, gateway))
                    assert (dialog.callee.target, dialog.callee.flow) == before
                    assert gateway.calls.active() == [live]
                    assert not call.ended.is_set()
                    await call.hears(1000)  # and the PBX is there still
                    await call.hangup()
        assert pbx.agent.received_messages[-1].method == "BYE"


@pytest.mark.parametrize("known_by", ["list", "name", "contact"])
async def test_another_machine_of_the_pbx_hangs_up(tmp_path: Path, known_by: str) -> None:
    """Nodes of a cluster take turns: in `allow_from`, behind the server's name, or named by the PBX in its Contact."""
    async with open_pbx() as pbx:
        listed = '127.0.0.1", "127.0.0.3' if known_by == "list" else "127.0.0.1"
        config = OFFICE.format(allowed=listed, port=pbx.local[1])
        if known_by == "name":
            config = config.replace('server = "127.0.0.1"', 'server = "pbx.example.com"\nqualify = 0')
        async with open_gateway(tmp_path, config) as gateway, Stranger(gateway, "127.0.0.3") as other:

            async def resolve(*_: object) -> list[tuple[str, int, str]]:
                return [(*pbx.local, "udp"), ("127.0.0.3", 5060, "udp")]

            gateway.resolver.resolve = resolve  # type: ignore[method-assign]
            async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone:
                with trio.fail_after(60):
                    call = await phone.call("601")
                    await call.answered()
                    (live,) = gateway.calls.active()
                    if known_by == "contact":
                        bye = forged(other, "BYE", live.token, gateway)
                        assert (await other.ask(bye)).status == 403, "nobody has named it yet"
                        one_dialog(gateway, live.token).callee.target = "sip:node@127.0.0.3:5999"
                    assert (await other.ask(forged(other, "BYE", live.token, gateway))).status == 200
                    await call.ended.wait()
                    assert call.ended_by == "them"
                    assert gateway.calls.active() == []


async def test_a_pbx_of_another_connection_is_a_stranger_to_a_call(tmp_path: Path) -> None:
    async with open_pbx() as pbx:
        config = OFFICE.format(allowed="127.0.0.1", port=pbx.local[1])
        config += OFFICE.format(allowed="127.0.0.3", port=9).replace("office", "shop").replace('"alice"', '"bob"')
        async with open_gateway(tmp_path, config) as gateway, Stranger(gateway, "127.0.0.3") as shop:
            silent(gateway)
            async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone:
                with trio.fail_after(60):
                    call = await phone.call("601")
                    await call.answered()
                    (live,) = gateway.calls.active()
                    # It is on a list, so it is told, though strangers are not.
                    assert (await shop.ask(forged(shop, "BYE", live.token, gateway))).status == 403
                    assert gateway.calls.active() == [live]
                    await call.hangup()


async def test_a_pbx_whose_address_has_changed_proves_itself_or_registers_anew(tmp_path: Path) -> None:
    """One that registers with the gateway, behind a line that gets another address every day."""
    config = """
[[connection]]
name = "branch"
type = "inbound_registration"
users = ["alice"]
[connection.settings]
username = "branch"
password = "branch-secret-0123456789"
qualify = 0
"""
    account = Credentials("branch", "branch-secret-0123456789")
    async with open_pbx() as pbx, open_gateway(tmp_path, config) as gateway, Stranger(gateway, "127.0.0.3") as moved:
        async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as phone:
            with trio.fail_after(60):
                assert (await pbx.register(address(gateway, "udp"), account, domain=gateway.domain)).status == 200
                for again in (False, True):
                    call = await phone.call("601")
                    await call.answered()
                    (live,) = gateway.calls.active()
                    assert (await moved.ask(forged(moved, "BYE", live.token, gateway))).status == 403
                    if again:
                        registered = await moved.log_in(account.username, account.password)
                        assert registered.status == 200
                        bye = forged(moved, "BYE", live.token, gateway)
                    else:
                        bye = forged(moved, "BYE", live.token, gateway)
                        bye.set("Authorization", 'Digest username="branch"')
                        challenged = await moved.ask(bye)
                        assert challenged.status == 401
                        bye = forged(moved, "BYE", live.token, gateway)
                        proof = answer_challenge(
                            challenged.get_all("WWW-Authenticate"),
                            method="BYE",
                            uri=bye.uri,
                            username=account.username,
                            password=account.password,
                            cnonce="c",
                        )
                        bye.set("Authorization", proof or "")
                    assert (await moved.ask(bye)).status == 200
                    await call.ended.wait()
