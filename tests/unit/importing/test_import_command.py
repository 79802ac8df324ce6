"""`siperb import`: printed, written, and what it says on the way."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest

from siperb_core.cli import main
from siperb_core.entries.source import load

HEAD = '# ours\n[gateway]\ndomain = "sip.example.net"\n\n[[connection]]\nname = "old"\ntype = "outbound_registration"\n'
HEAD += '[connection.settings]\nserver = "a.example.com"\nusername = "1"\n'

PJSIP = """\
[new]
type = registration
server_uri = sip:pbx.example.com
client_uri = sip:200@pbx.example.com
outbound_auth = new
[new]
type = auth
username = 200
password = top-secret
[old]
type = endpoint
aors = old
context = x
[old]
type = aor
contact = sip:192.0.2.9
[nowhere]
type = endpoint
aors = nowhere
[nowhere]
type = aor
contact = sip:pbx.example.org
[nowhere]
type = identify
endpoint = nowhere
match = 0.0.0.0/0
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    config, foreign = tmp_path / "siperb.toml", tmp_path / "pjsip.conf"
    config.write_text(HEAD)
    foreign.write_text(PJSIP)
    return str(foreign), str(config)


def test_printed_it_changes_nothing(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    foreign, config = files
    assert main(["import", foreign, "--config", config]) == 1, "one of them cannot be used as it is"
    out, err = capsys.readouterr()
    names = [table["name"] for table in tomllib.loads(out)["connection"]]
    assert names == ["new", "old", "nowhere"]
    assert f"{foreign}:13: context = x is not carried over" in err
    assert "connection.nowhere.allow_from: lets everyone in" in err
    assert "top-secret" not in err
    assert Path(config).read_text() == HEAD


def test_written_beside_what_is_there(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    foreign, config = files
    assert main(["import", foreign, "--write", "--config", config]) == 1
    err = capsys.readouterr().err
    assert "there is a connection old already" in err
    assert "not written: connection.nowhere.allow_from" in err
    text = Path(config).read_text()
    assert text.startswith(HEAD)
    result = load(Path(config))
    assert result.config is not None
    assert [entry.name for entry in result.config.connections] == ["old", "new"]
    assert stat.S_IMODE(Path(config).stat().st_mode) == 0o600
    assert main(["import", foreign, "--write", "--config", config]) == 1
    assert "there is nothing to write" in capsys.readouterr().err


def test_json(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    foreign, config = files
    assert main(["import", foreign, "--json", "--config", config]) == 1
    row = json.loads(capsys.readouterr().out)
    assert set(row) == {"kind", "connections", "remarks", "mistakes"}
    assert {"line": 13, "text": row["remarks"][0]["text"]} == row["remarks"][0]


def test_all_well(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    foreign, config = files
    Path(foreign).write_text(PJSIP.partition("[old]")[0])
    assert main(["import", foreign, "--write", "--config", config]) == 0
    assert "new added" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00nonsense", b"<gateway"])
def test_what_cannot_be_read_is_one_sentence(
    files: tuple[str, str], content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign, config = files
    if content is None:
        Path(foreign).unlink()
    else:
        Path(foreign).write_bytes(content)
    for words in ([], ["--write"]):
        assert main(["import", foreign, *words, "--config", config]) == 2
        err = capsys.readouterr().err
        assert err.startswith("siperb: ")
        assert len(err.splitlines()) == 1
