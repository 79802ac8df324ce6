"""Issues and diagnostics of a whole gateway: raised and gone again; planted secrets nowhere in what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from siperb_core.control import ControlError
from siperb_core.gateway import Gateway
from siperb_core.testing.gateway import open_gateway, websocket_url
from siperb_core.testing.pbx import PbxSettings, open_pbx
from siperb_core.testing.session import CallFailed
from siperb_core.testing.softphone import open_softphone

SHOWS = ("connections", "registrations", "calls", "devices", "plugins", "issues")

HEAD = """\
[gateway]
domain = "gw.example"
data_dir = "data"
[[listen]]
transport = "udp"
bind = "127.0.0.1:0"
[[listen]]
transport = "ws"
bind = "127.0.0.1:0"
[media]
workers = 1
[plugins]
disable = ["console"]
[[device]]
name = "alice-web"
user = "alice"
password = "planted-device-9b1f"
"""

REGISTRATION = """
[[connection]]
name = "{name}"
type = "outbound_registration"
users = ["alice"]
weight = {weight}
[connection.settings]
server = "127.0.0.1"
port = {port}
username = "{username}"
password = "{password}"
"""

TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
codecs = [{codecs}]
allow_from = [{allowed}]
[connection.settings]
server = "127.0.0.1"
port = {port}
"""


async def issues(gateway: Gateway) -> list[tuple[str, str]]:
    rows: list[dict[str, Any]] = await gateway.operations.call("show.issues")
    return [(row["connection"], row["id"]) for row in rows]


async def all_that_comes_out(gateway: Gateway) -> str:
    parts = [await gateway.operations.call(f"show.{what}") for what in SHOWS]
    parts += [await gateway.operations.call("diagnostics", {"name": name}) for name in gateway.entries.names()]
    parts.append(await gateway.operations.call("reload"))
    parts.append(await gateway.operations.call("gateway.status"))
    return json.dumps(parts, default=str)


async def test_planted_secrets_come_out_nowhere(tmp_path: Path) -> None:
    planted = ["planted-device-9b1f", "planted-right-77aa", "planted-wrong-55cc", "planted-inbound-33dd"]
    with capture_logs() as logs:
        async with open_pbx(PbxSettings(accounts={"200": planted[1], "201": "another"})) as pbx:
            port = pbx.local[1]
            text = REGISTRATION.format(name="right", weight=1, port=port, username="200", password=planted[1])
            text += REGISTRATION.format(name="wrong", weight=2, port=port, username="201", password=planted[2])
            text += '[[connection]]\nname = "in"\ntype = "inbound_registration"\nweight = 9\n[connection.settings]\n'
            text += f'username = "in"\npassword = "{planted[3]}"\n'
            async with open_gateway(tmp_path, text, head=HEAD) as gateway:
                with trio.fail_after(60):
                    async with open_softphone(websocket_url(gateway), "alice-web", "gw.example", planted[0]) as phone:
                        call = await phone.call("601")
                        await call.answered()
                        out = await all_that_comes_out(gateway)
                        await call.hangup()
                    out += await all_that_comes_out(gateway)
                assert ("wrong", "auth_failed") in await issues(gateway)
                dump = await gateway.operations.call("diagnostics", {"name": "right"})
                link = await gateway.operations.call("device.link", {"name": "alice-web"})
                tokens = [link["provision"].rpartition("/")[2], *map(gateway.errands.token, ("right", "wrong", "in"))]
                answers = [
                    value
                    for message in pbx.agent.received_messages
                    for name in ("Authorization", "Proxy-Authorization")
                    for value in message.get_all(name)
                ]
    digests = [value.partition('response="')[2].partition('"')[0] for value in answers]
    assert len(digests) >= 3
    logged = json.dumps(logs, default=repr)
    assert all(len(token) >= 16 for token in tokens)
    for secret in (*planted, *digests, *tokens):
        assert secret not in out
        assert secret not in logged
    assert dump["config"]["settings"]["password"] == {"type": "secret", "value": "***"}
    assert dump["state"]["registration"]["state"] == "registered"
    register = [message for message in dump["messages"] if message["request"].startswith("REGISTER sip:")][-1]
    assert "response=***" in register["request"]
    assert register["response"].startswith("SIP/2.0 200 OK")
    assert {"python", "siperb-core"} <= set(dump["versions"])


async def test_no_common_codec_is_an_issue_until_a_call_finds_one(tmp_path: Path) -> None:
    async with open_pbx(PbxSettings(codecs=("PCMU",))) as pbx:

        def text(codecs: str) -> str:
            return TRUNK.format(port=pbx.local[1], codecs=codecs, allowed='"127.0.0.1"')

        async with (
            open_gateway(tmp_path, text('"PCMA"'), head=HEAD) as gateway,
            open_softphone(websocket_url(gateway), "alice-web", "gw.example", "planted-device-9b1f") as phone,
        ):
            with trio.fail_after(60):
                call = await phone.call("601")
                with pytest.raises(CallFailed):
                    await call.answered()
                while ("office", "no_common_codec") not in await issues(gateway):
                    await trio.testing.wait_all_tasks_blocked(0.01)
                gateway.config_path.write_text(HEAD + text('"PCMU"'))
                await gateway.operations.call("reload")
                call = await phone.call("601")
                await call.answered()
                assert await issues(gateway) == []
                await call.hangup()


async def test_an_empty_allow_from_is_an_issue_until_it_is_filled(tmp_path: Path) -> None:
    async with open_pbx() as pbx:

        def text(allowed: str) -> str:
            return TRUNK.format(port=pbx.local[1], codecs='"PCMA"', allowed=allowed)

        async with open_gateway(tmp_path, text(""), head=HEAD) as gateway:
            assert await issues(gateway) == [("office", "allow_from_empty")]
            gateway.config_path.write_text(HEAD + text('"127.0.0.1"'))
            await gateway.operations.call("reload")
            await gateway.wait_settled()
            assert await issues(gateway) == []


async def test_diagnostics_of_what_is_not_there(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, "", head=HEAD) as gateway:
        with pytest.raises(ControlError, match="there is no connection x"):
            await gateway.operations.call("diagnostics", {"name": "x"})
