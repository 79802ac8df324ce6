"""What the tests of the command line share: a file, a terminal, and a gateway that answers at the control socket."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from siperb_core.cli import main
from siperb_core.control import ControlError

TEXT = """\
# the house
[gateway]
domain = "sip.example.net"   # ours

[[listen]]
transport = "udp"
bind = "127.0.0.1:5070"

# the office, do not touch
[[connection]]
name = "office"   # first
type = "outbound_registration"
weight = 10
dial_pattern = '^2\\d{2}$'
[connection.settings]
server = "pbx.example.com"   # in the cellar
username = "200"

[[device]]
name = "laptop"
user = "alice"
password = { env = "LAPTOP" }
"""


class Terminal:
    """Runs commands and keeps what they print."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._config = config
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *words: str) -> int:
        code = main([*words, "--config", str(self._config)])
        self.out, self.err = self._capsys.readouterr()
        return code


class FakeGateway:
    """Answers at the control socket, and remembers what it was asked."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def methods(self) -> dict[str, Any]:
        def handler(name: str) -> Any:
            async def answer(params: Mapping[str, Any]) -> Any:
                self.asked.append((name, dict(params)))
                result = self.answers[name]
                if isinstance(result, Exception):
                    raise result
                return result

            return answer

        return {name: handler(name) for name in self.answers}


ANSWERS = {
    "show.connections": [
        {
            "name": "office",
            "type": "outbound_registration",
            "state": "loaded",
            "reason": "",
            "enabled": True,
            "weight": 10,
            "dial_pattern": ".",
            "users": ["alice"],
            "registration": {"state": "registered", "expires_at": 1.0, "status": 200, "reason": "OK"},
            "calls": 0,
            "since": 1.0,
            "next_attempt": None,
        }
    ],
    "show.issues": [],
    "show.calls": [{"call_id": "x", "from": "evil\x1b[2Jname", "media": None}],
    "reload": {"applied": True, "problems": [], "warnings": []},
    "connection.test": {"ok": False, "reason": "403 Forbidden"},
    "connection.reload": ControlError("there is no connection office: siperb show connections lists them"),
    "device.link": {"url": "http://127.0.0.1:8080/phone#provision=abc"},
}
