"""What is pasted into a PBX is read back by our own importer: it registers where, as whom and with what we said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from siperb_connection_inbound_reg.snippets import gateway_address, snippets
from siperb_core import GatewayConfig, GatewaySettings, Listen
from siperb_core.testing import read_foreign

PASSWORD = "NxM3PNe6ORA2Vjdm0gzhjzfA"


def gateway(transport: str, external: str, bind: str = "0.0.0.0") -> GatewayConfig:
    return GatewayConfig(
        GatewaySettings("gw.example", Path("var"), external_address=external),
        listen=(Listen("ws", ("0.0.0.0", 8088)), Listen(transport, (bind, 5062))),
    )


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("external", ["auto", "203.0.113.5", "2001:db8::1"])
def test_asterisk_and_freeswitch_read_back(transport: str, external: str) -> None:
    config = gateway(transport, external)
    text = snippets("branch", "pbx-abc", PASSWORD, config)
    host = "gw.example" if external == "auto" else external
    assert gateway_address(config) == (host, 5062, transport)
    asterisk = text[text.index("; Asterisk") : text.index("# FreePBX")]
    freeswitch = text[text.index("<include>") : text.index("</include>") + len("</include>")]
    for kind, snippet in (("pjsip.conf", asterisk), ("FreeSWITCH gateways", freeswitch)):
        reading = read_foreign(snippet.encode())
        assert reading.kind == kind
        (found,) = reading.connections
        assert (found.name, found.type) == ("branch", "outbound_registration")
        settings = found.settings
        assert (settings["server"], settings["port"]) == (host, 5062)
        assert settings.get("transport", "udp") == transport
        assert (settings["username"], settings["password"]) == ("pbx-abc", PASSWORD)
        assert settings.get("from_domain", settings["server"]) == "gw.example"
        assert settings["expires"] == 300
    (found,) = read_foreign(asterisk.encode()).connections
    assert found.keys["allow_from"] == [host], "calls of the gateway are recognised"
    assert found.keys["codecs"] == ["G722", "PCMA", "PCMU"]
    assert found.keys.get("enabled", True)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_the_fields_of_freepbx_and_3cx_say_the_same(transport: str) -> None:
    text = snippets("branch", "pbx-abc", PASSWORD, gateway(transport, "203.0.113.5"))
    freepbx = dict(
        re.findall(r"^  ([^:\n]+):\s+(\S.*)$", text[text.index("# FreePBX") : text.index("<!--")], re.MULTILINE)
    )
    assert (freepbx["SIP Server"], freepbx["SIP Server Port"]) == ("203.0.113.5", "5062")
    assert (freepbx["Username"], freepbx["Secret"]) == ("pbx-abc", PASSWORD)
    assert freepbx["Transport"] == f"0.0.0.0-{transport}"
    assert freepbx["Client URI"] == "sip:pbx-abc@gw.example"
    three = text[text.index("# 3CX") :]
    for line in ("203.0.113.5, port 5062", "pbx-abc", PASSWORD, transport.upper(), "gw.example"):
        assert line in three


def test_nothing_of_a_name_or_password_breaks_the_xml() -> None:
    text = snippets("a+b.c_d-e", "p&<x>\"'", 'p"<&>', gateway("udp", "auto"))
    (found,) = read_foreign(text[text.index("<include>") : text.index("</include>") + 10].encode()).connections
    assert (found.settings["username"], found.settings["password"]) == ("p&<x>\"'", 'p"<&>')
