"""`siperb demo`: gateway, demo PBX and web phone on loopback, from one port number, without internet."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import attrs
import trio

from siperb_core.gateway import Gateway
from siperb_core.log import configure_log
from siperb_core.plugins import GROUP
from siperb_core.testing.pbx import PbxSettings, open_pbx

HOST = "127.0.0.1"
DOMAIN = "siperb.demo"
DEVICE = "demo"
SECOND = "second"
"""A device, and user, to call and be called by the first."""
NUMBERS = {
    "600": "echo: you hear yourself",
    "601": "a tone of 1 kHz",
    "602": "reads back the digits you press",
    "603": "busy",
    "604": "rings and never answers",
    "605": "calls you back after you hang up",
}
INSIDE = {"1001": DEVICE, "1002": SECOND}
"""Who can be called without the PBX, where the plugin for that is installed."""

_CONFIG = """\
# Written by `siperb demo` at every start; see docs/reference/configuration.md for a file of your own.
[gateway]
domain = "{domain}"
data_dir = "."

[[listen]]
transport = "udp"
bind = "{host}:{sip}"

[[listen]]
transport = "ws"
bind = "{host}:{ws}"
path = "/ws"
origins = ["http://{host}:{console}", "http://localhost:{console}"]

[media]
ports = "{rtp_first}-{rtp_last}"

[plugins.console]
bind = "{host}:{console}"
ws = "ws://{host}:{ws}/ws"

[[device]]
name = "{device}"
user = "{device}"
password = "{password}"

[[device]]
name = "{second}"
user = "{second}"
password = "{second_password}"

[[connection]]
name = "demo-pbx"
type = "outbound_registration"
users = ["{device}", "{second}"]
[connection.settings]
server = "{host}"
port = {pbx}
transport = "udp"
username = "200"
password = "{pbx_password}"
"""

_INSIDE = """
[[connection]]
name = "house"
type = "direct"
dial_pattern = '^1\\d{3}$'
weight = -1
[connection.settings]
names = false
[connection.settings.numbers]
"""


@attrs.frozen
class DemoPorts:
    """Every port of the demo, derived from one base so that two demos can run side by side."""

    base: int

    @property
    def console(self) -> int:
        """HTTP."""
        return self.base + 80

    @property
    def ws(self) -> int:
        """SIP over WebSocket."""
        return self.base + 88

    @property
    def sip(self) -> int:
        """SIP over UDP, towards the PBX."""
        return self.base + 60

    @property
    def pbx(self) -> int:
        """The demo PBX's SIP port."""
        return self.base + 62

    @property
    def gateway_rtp(self) -> tuple[int, int]:
        """First and last media port of the gateway."""
        return self.base + 100, self.base + 299

    @property
    def pbx_rtp(self) -> range:
        """Media ports of the demo PBX."""
        return range(self.base + 300, self.base + 500)


async def demo(port_base: int = 8000, *, as_json: bool = False, directory: Path | None = None) -> int:
    """Run until SIGINT or SIGTERM. Raises OSError with the port in its text where one is taken."""
    configure_log(logging.WARNING)
    ports = DemoPorts(port_base)
    folder = directory or Path("var") / f"demo-{port_base}"
    folder.mkdir(parents=True, exist_ok=True)
    password, second, pbx_password = (secrets.token_urlsafe(9) for _ in range(3))
    config = folder / "siperb.toml"
    _write_private(config, _config_text(ports, password, second, pbx_password))
    settings = PbxSettings(
        address=HOST, port=ports.pbx, accounts={"200": pbx_password}, rtp_ports=ports.pbx_rtp, realm="demo-pbx"
    )
    async with open_pbx(settings), trio.open_nursery() as nursery:
        gateway = Gateway(config)
        await nursery.start(gateway.run)
        await gateway.wait_settled()
        _announce(_facts(ports, password, second, config), as_json)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                break
        gateway.stop(drain_seconds=0)
        await gateway.stopped.wait()
        nursery.cancel_scope.cancel()
    return 0


def _calls_inside() -> bool:
    """Whether the plugin for calls without a PBX is installed."""
    return bool(entry_points(group=GROUP, name="connection_direct"))


def _config_text(ports: DemoPorts, password: str, second_password: str, pbx_password: str) -> str:
    text = _CONFIG.format(
        domain=DOMAIN,
        host=HOST,
        device=DEVICE,
        password=password,
        second=SECOND,
        second_password=second_password,
        pbx_password=pbx_password,
        sip=ports.sip,
        ws=ports.ws,
        console=ports.console,
        pbx=ports.pbx,
        rtp_first=ports.gateway_rtp[0],
        rtp_last=ports.gateway_rtp[1],
    )
    if _calls_inside():
        text += _INSIDE + "".join(f'{number} = "{user}"\n' for number, user in INSIDE.items())
    return text


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)


def _facts(ports: DemoPorts, password: str, second_password: str, config: Path) -> dict[str, Any]:
    console = f"http://{HOST}:{ports.console}"
    fragment = urlencode({"device": DEVICE, "password": password})
    second = urlencode({"device": SECOND, "password": second_password})
    return {
        "console": f"{console}/",
        "phone": f"{console}/phone#{fragment}",
        "ws": f"ws://{HOST}:{ports.ws}/ws",
        "domain": DOMAIN,
        "device": DEVICE,
        "password": password,
        "sip": f"{HOST}:{ports.sip}",
        "pbx": f"{HOST}:{ports.pbx}",
        "numbers": NUMBERS,
        "config": str(config.resolve()),
        "pid": os.getpid(),
        "second": {"phone": f"{console}/phone#{second}", "device": SECOND, "password": second_password},
        "inside": INSIDE if _calls_inside() else {},
    }


def _announce(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts), flush=True)
        return
    lines = [
        "",
        "  The demo is running: gateway, demo PBX and web phone, all on this machine.",
        "",
        f"  Open    {facts['phone']}",
        "",
        "  Dial",
        *(f"    {number}   {what}" for number, what in NUMBERS.items()),
        "",
        *_second_phone(facts),
        f"  Softphone of your own: WebSocket {facts['ws']}, domain {facts['domain']},",
        f"  user {facts['device']}, password {facts['password']}",
        f"  Configuration: {facts['config']}",
        "  Ctrl-C stops it.",
        "",
    ]
    print("\n".join(lines), file=sys.stdout, flush=True)


def _second_phone(facts: dict[str, Any]) -> list[str]:
    if not facts["inside"]:
        return []
    one, two = facts["inside"]
    return [
        f"  A second phone, for a private window; the two call each other as {one} and {two}:",
        f"          {facts['second']['phone']}",
        "",
    ]
