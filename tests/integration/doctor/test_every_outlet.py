"""Planted secrets, whatever they look like, come out of no outlet: the control socket's methods, commands, HTTP, logs.

Methods are asked by their list, so that a new one is asked as well.
"""

from __future__ import annotations

import json
import random
import socket
import string
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from siperb_core.cli import main
from siperb_core.control import ControlError
from siperb_core.testing.gateway import open_gateway, websocket_url
from siperb_core.testing.pbx import PbxSettings, open_pbx
from siperb_core.testing.session import CallFailed
from siperb_core.testing.softphone import open_softphone

from .test_issues_and_diagnostics import HEAD, REGISTRATION

GIVES_SECRETS = {"device.link", "device.provision"}
"""What they are there for: the one gives a token, the other takes it."""
PATHS = ["/", "/phone", "/phone/settings.json", "/healthz", "/metrics", "/openapi.json", "/api/v1/openapi.json"]
PATHS += [f"/api/v1/{what}" for what in ("connections", "registrations", "calls", "devices", "plugins", "issues")]
PATHS += ["/api/v1/diagnostics/office", "/api/v1/connections/office", "/provision/none", "/nowhere"]


def planted(seed: int) -> list[str]:
    """A device's password, a right one, a wrong one, and that of a PBX that registers."""
    chance = random.Random(seed)
    letters = string.ascii_letters + string.digits + ["", "!#$%&()*+-./:;<=>?@[]^_{|}~", "äß€"][seed % 3]
    return ["S3" + "".join(chance.choice(letters) for _ in range(16 + seed)) for _ in range(4)]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def get(port: int, path: str) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        return b"".join([part async for part in stream])


def forms(secret: str) -> set[str]:
    """The secret as it may stand in JSON, in HTML or in a URI."""
    import html
    from urllib.parse import quote

    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
        quote(secret),
    }


@pytest.mark.parametrize("seed", range(3))
async def test_no_secret_comes_out_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    device, right, wrong, inbound = secrets = planted(seed)
    http = free_port()
    head = HEAD.replace("planted-device-9b1f", device)
    head = head.replace('disable = ["console"]', f'disable = []\n[plugins.console]\nbind = "127.0.0.1:{http}"')
    out: list[str] = []
    with capture_logs() as logs, trio.fail_after(120):
        async with open_pbx(PbxSettings(accounts={"200": right, "201": "another"})) as pbx:
            keys = {"port": pbx.local[1]}
            text = REGISTRATION.format(name="office", weight=1, username="200", password=right, **keys)
            text += REGISTRATION.format(name="wrong", weight=2, username="201", password=wrong, **keys)
            text += '[[connection]]\nname = "in"\ntype = "inbound_registration"\nweight = 9\n[connection.settings]\n'
            text += f'username = "in"\npassword = "{inbound}"\n'
            async with open_gateway(tmp_path, text, head=head) as gateway:
                async with open_softphone(websocket_url(gateway), "alice-web", "gw.example", device) as phone:
                    call = await phone.call("601")
                    await call.answered()
                    asked = 0
                    for method in sorted(set(gateway.operations.methods) - GIVES_SECRETS):
                        for params in ({}, {"name": "office"}, {"name": "wrong"}, {"name": "in"}, {"name": device}):
                            try:
                                out.append(json.dumps(await gateway.operations.call(method, params), default=str))
                                asked += 1
                            except ControlError as error:
                                if params != {"name": device}:  # it is told what it asked for
                                    out.append(str(error))
                    assert asked >= 30
                    for path in PATHS:
                        out.append((await get(http, path)).decode("utf-8", "replace"))
                    assert sum(answer.startswith("HTTP/1.1 200") for answer in out[-len(PATHS) :]) >= 2
                    await call.hangup()
                    with pytest.raises(CallFailed):
                        await (await phone.call("699")).answered()
                config = ["--config", str(gateway.config_path)]
                for words in (
                    *([*words, "--json"] for words in (["check"], ["route", "601"], ["plugins"], ["doctor"])),
                    *(["show", what] for what in ("connections", "registrations", "calls", "devices", "issues")),
                    ["diagnostics", "office"],
                    ["connection", "test", "wrong"],
                    ["connection", "reload", "wrong"],
                    ["route", "601", "--from", "in"],
                ):
                    await trio.to_thread.run_sync(main, [*words, *config])
                    out += capsys.readouterr()
    out.append(json.dumps(logs, default=repr, ensure_ascii=False))
    assert sum(map(len, out)) > 20_000, "something came out"
    for secret in secrets:
        for form in forms(secret):
            assert not [text[:200] for text in out if form in text], form


def test_any_secret_is_one_of_a_kind() -> None:
    everything: list[Any] = [secret for seed in range(3) for secret in planted(seed)]
    assert len(set(everything)) == 12
