"""What the doctor sees of this machine, and how it puts it."""

from __future__ import annotations

import socket
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.cli.doctor import as_text
from siperb_core.doctor import machine
from siperb_core.doctor.finding import Finding, Notes
from siperb_core.doctor.peer import check_clock, check_offered, codecs_of
from siperb_core.entries.model import Entry, GatewayConfig, GatewaySettings, Listen, MediaConfig
from siperb_core.entries.source import LoadResult
from siperb_core.entries.structure import Problem
from siperb_core.plugins import PluginInfo
from siperb_core.sip import Message

CONFIG = GatewayConfig(GatewaySettings("gw.example", Path("var")))


def verdicts(notes: Notes) -> list[tuple[str, str]]:
    return [(finding.check, finding.verdict) for finding in notes.findings]


@pytest.fixture
def house(tmp_path: Path) -> tuple[GatewayConfig, Path]:
    """A configuration file with a secret in each of its three forms, and what belongs to it."""
    path = tmp_path / "siperb.toml"
    (tmp_path / "pw").write_text("secret")
    (tmp_path / "key.pem").write_text("key")
    (tmp_path / "var").mkdir(0o700)
    (tmp_path / "var/siperb.db").write_text("")
    path.write_text(
        '[[device]]\npassword = "literal"\n[[connection]]\n[connection.settings]\npassword = { file = "pw" }\n'
    )
    for file in (path, tmp_path / "pw", tmp_path / "key.pem", tmp_path / "var/siperb.db"):
        file.chmod(0o600)
    listen = Listen("tls", ("127.0.0.1", 0), key=tmp_path / "key.pem", certificate=tmp_path / "cert.pem")
    config = attrs.evolve(CONFIG, gateway=GatewaySettings("gw.example", tmp_path / "var"), listen=(listen,))
    return config, path


def test_files_of_their_owner(house: tuple[GatewayConfig, Path]) -> None:
    notes = Notes()
    machine.check_files(notes, *house)
    assert verdicts(notes) == [("files", "ok"), ("data_dir", "ok")]
    assert notes.findings[0].text.startswith("4 files with secrets")


@pytest.mark.parametrize("name", ["siperb.toml", "pw", "key.pem", "var/siperb.db"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_secret_others_can_read(house: tuple[GatewayConfig, Path], name: str, mode: int) -> None:
    config, path = house
    file = path.parent / name
    file.chmod(mode)
    notes = Notes()
    machine.check_files(notes, config, path)
    (wrong,) = [finding for finding in notes.findings if finding.verdict == "wrong"]
    assert wrong.mend == f"chmod 600 {file}"


def test_a_configuration_without_secrets_may_be_read(house: tuple[GatewayConfig, Path]) -> None:
    config, path = house
    path.write_text('[gateway]\ndomain = "x"\n')
    path.chmod(0o644)
    notes = Notes()
    machine.check_files(notes, config, path)
    assert verdicts(notes)[0] == ("files", "ok")


def test_a_data_dir_everybody_writes_to(house: tuple[GatewayConfig, Path]) -> None:
    config, path = house
    config.gateway.data_dir.chmod(0o777)
    notes = Notes()
    machine.check_files(notes, config, path)
    assert verdicts(notes)[-1] == ("data_dir", "wrong")


def test_a_port_that_is_taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        config = attrs.evolve(CONFIG, listen=(Listen("udp", taken.getsockname()), Listen("udp", ("127.0.0.1", 0))))
        notes = Notes()
        machine.check_ports(notes, config, None)
    assert [verdict for check, verdict in verdicts(notes) if check == "ports"] == ["wrong", "ok"]
    assert "another program has it" in notes.findings[0].mend


def test_an_address_that_is_not_ours() -> None:
    notes = Notes()
    machine.check_ports(notes, attrs.evolve(CONFIG, listen=(Listen("udp", ("192.0.2.1", 5060)),)), None)
    assert "no interface of this machine has that address" in notes.findings[0].mend


def test_listeners_of_a_running_gateway() -> None:
    config = attrs.evolve(CONFIG, listen=(Listen("udp", ("127.0.0.1", 5060)), Listen("tls", ("::", 5061))))
    notes = Notes()
    machine.check_ports(notes, config, ["udp 127.0.0.1:5060", "tcp 127.0.0.1:5060"])
    assert [verdict for check, verdict in verdicts(notes) if check == "ports"] == ["ok", "wrong"]


def test_media_ports_of_others() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
        notes = Notes()
        machine.check_ports(notes, attrs.evolve(CONFIG, media=MediaConfig((port, port))), None)
    assert verdicts(notes) == [("media ports", "wrong")]


def test_plugins_issues_and_mistakes() -> None:
    notes = Notes()
    machine.check_plugins(
        notes, [PluginInfo("a", "siperb-a", "1", "loaded"), PluginInfo("b", "siperb-b", "1", "set_aside", "no wheel")]
    )
    issues = [{"connection": "", "text": "here", "mend": "m"}, {"connection": "office", "text": "there", "mend": "m"}]
    machine.check_issues(notes, issues, "")
    problems = (Problem("gateway.x", "unknown key", "take it out"), Problem("connection.y", "w", "m", "y"))
    machine.check_configuration(notes, LoadResult(None, problems))
    assert verdicts(notes) == [("plugins", "wrong"), ("plugins", "ok"), ("issue", "wrong"), ("configuration", "wrong")]
    assert notes.findings[2].text == "here"


SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 18 8 101\r\n"
SDP += b"a=rtpmap:18 G729/8000\r\na=rtpmap:101 telephone-event/8000\r\n"


@pytest.mark.parametrize(("codecs", "verdict"), [(("PCMA", "G722"), "ok"), (("G722",), "wrong")])
def test_codecs_an_answer_to_options_names(codecs: tuple[str, ...], verdict: str) -> None:
    notes = Notes("office")
    response = Message.response(200, "OK", [("Content-Type", "application/sdp")], SDP)
    check_offered(notes, Entry("office", "t", codecs=codecs), response)
    assert verdicts(notes) == [("codecs", verdict)]
    assert "G729, PCMA" in notes.findings[0].text


@given(st.binary(max_size=300))
def test_any_body_is_codecs_or_none(data: bytes) -> None:
    assert isinstance(codecs_of(data), tuple)


@pytest.mark.parametrize(
    ("date", "verdict"),
    [("Thu, 01 Jan 1970 00:00:10 GMT", "ok"), ("Thu, 01 Jan 1970 00:05:00 GMT", "wrong"), (None, "skipped")],
)
def test_the_clock(date: str | None, verdict: str) -> None:
    notes = Notes("office")
    check_clock(notes, [Message.response(200, "OK", [("Date", date)] if date else [])], 0.0)
    assert verdicts(notes) == [("clock", verdict)]


def test_the_report() -> None:
    text = as_text(
        [
            Finding("", "files", "ok", "fine"),
            Finding("office", "call", "wrong", "evil \x1b[31m text", "mend it"),
            Finding("office", "clock", "skipped", "no Date"),
        ]
    )
    assert text.splitlines() == [
        "this machine",
        "  ok     files  fine",
        "",
        "office",
        "  WRONG  call   evil \\x1b[31m text",
        "                mend: mend it",
        "  -      clock  no Date",
        "",
        "1 wrong, 1 not looked at, 1 ok",
    ]
