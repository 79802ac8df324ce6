"""The command line: exit codes, sentences, and what edits leave in the file."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from siperb_core.cli import main
from siperb_core.cli.output import table
from siperb_core.control import ControlServer
from siperb_core.entries.source import load

from .terminal import ANSWERS, TEXT, FakeGateway, Terminal


def test_check(siperb: Terminal, config: Path) -> None:
    assert siperb("check") == 0
    assert siperb("check", "--json") == 0
    assert json.loads(siperb.out) == {"ok": True, "problems": [], "warnings": []}
    config.write_text(TEXT.replace("weight = 10", "weight = 10\nport = 1").replace("username", "user_name"))
    assert siperb("check") == 2
    lines = siperb.out.splitlines()
    assert {line.partition(": ")[0] for line in lines} == {
        "connection.office.port",
        "connection.office.settings.user_name",
        "connection.office.settings.username",
    }
    assert siperb("check", "--json") == 2
    assert {"path", "wrong", "mend"} == set(json.loads(siperb.out)["problems"][0])


def test_a_missing_file_is_one_sentence(siperb: Terminal, config: Path) -> None:
    config.unlink()
    for words in (["check"], ["route", "600"], ["show", "calls"], ["connection", "remove", "x"], ["run"]):
        assert siperb(*words) == 2, words
        assert "cannot be read" in siperb.out + siperb.err
        assert "Traceback" not in siperb.err


def test_plugins(siperb: Terminal) -> None:
    assert siperb("plugins", "--json") == 0
    found = {info["name"]: info for info in json.loads(siperb.out)}
    assert found["connection_trunk"]["state"] == "loaded"
    assert siperb("plugins") == 0
    assert "connection type outbound_trunk" in siperb.out


@pytest.mark.parametrize(
    "words", [("--help",), ("nonsense",), ("plugins",), ("plugins", "check", "loud"), ("route", "234"), ("check",)]
)
@pytest.mark.parametrize("broken", ["", "port = 1\n"], ids=["fine", "with a mistake"])
def test_a_disabled_plugin_is_not_imported(
    siperb: Terminal,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    install_plugin: Callable[..., None],
    words: tuple[str, ...],
    broken: str,
) -> None:
    """Whatever the command, and whatever else is in the file; the same plugin is imported where it is not disabled."""
    mark = tmp_path / "imported"
    install_plugin(
        "loud",
        f"from pathlib import Path\nPath({str(mark)!r}).touch()\nfrom siperb_core import hookimpl\n"
        "@hookimpl\ndef siperb_commands(): return []\n@hookimpl\ndef siperb_connection_types(): return []\n",
    )
    config.write_text(f'{broken}{TEXT}\n[plugins]\ndisable = ["loud"]\n')
    siperb(*words)
    assert not mark.exists()
    monkeypatch.setenv("SIPERB_CONFIG", str(config))
    main(words)
    assert not mark.exists()
    config.write_text(broken + TEXT)
    monkeypatch.delitem(sys.modules, "siperb_loud_plugin", raising=False)
    siperb(*words)
    assert mark.exists()


def test_a_line_that_is_no_command_is_bad_usage(siperb: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["nonsense"], ["route"], ["show"], ["check", "--colour"], ["connection", "add", "x"]):
        code = main(words)
        out, err = capsys.readouterr()
        if words == ["show"]:  # lists what can be shown
            assert "connections" in out
            continue
        assert code == 2, words
        assert err.startswith("siperb: ")
        assert len(err.splitlines()) == 1


def test_editing_keeps_comments_and_order(siperb: Terminal, config: Path) -> None:
    assert siperb("connection", "edit", "office", "--weight", "5", "--port", "5070", "--users", "alice,bob") == 0
    expected = TEXT.replace("weight = 10", "weight = 5")
    for line in expected.splitlines():
        assert line in config.read_text()
    result = load(config)
    assert result.config is not None
    (entry,) = result.config.connections
    assert (entry.weight, entry.users, entry.settings["port"]) == (5, ("alice", "bob"), 5070)


DID = """\
[connection.did]   # who rings for what
'^4930111$' = "alice"   # the boss
"^4930222$" = ["alice", "bob"]
"""


def did_of(config: Path) -> dict[str, tuple[str, ...]]:
    result = load(config)
    assert result.config is not None
    return dict(result.config.connections[0].did)


def test_the_did_table_is_edited_and_its_comments_stay(siperb: Terminal, config: Path) -> None:
    edit = ["connection", "edit", "office"]
    assert siperb(*edit, "--did-add", r"^4930(11|12)\d{1,3}$=alice,bob;^4931=alice") == 0
    assert did_of(config) == {r"^4930(11|12)\d{1,3}$": ("alice", "bob"), "^4931": ("alice",)}
    assert r"""'^4930(11|12)\d{1,3}$' = ["alice", "bob"]""" in config.read_text()
    config.write_text(TEXT.replace("[[device]]", f"{DID}\n[[device]]"))
    assert siperb(*edit, "--did-add", "^4930333$=bob;^4930222$=bob", "--weight", "3") == 0
    assert did_of(config) == {"^4930111$": ("alice",), "^4930222$": ("bob",), "^4930333$": ("bob",)}
    for line in ("[connection.did]   # who rings for what", "'^4930111$' = \"alice\"   # the boss", "# the house"):
        assert line in config.read_text().splitlines()
    assert siperb(*edit, "--did-remove", "^4930222$;^4930333$") == 0
    assert siperb(*edit, "--did-remove", "^4930222$") == 2
    assert "there is no row ^4930222$ in its did table: there are ^4930111$" in siperb.err
    assert siperb(*edit, "--did", "^1$=alice") == 0
    assert did_of(config) == {"^1$": ("alice",)}
    assert siperb(*edit, "--did", "") == 0
    assert did_of(config) == {}
    assert siperb("check") == 0


def test_add_with_a_did_table_and_a_replacement(siperb: Terminal, config: Path) -> None:
    words = ["--server", "192.0.2.1", "--allow-from", "192.0.2.1", "--users", "alice", "--did", "^12$=alice"]
    words += ["--replace", r"^0(\d{2,3}),+49\1"]
    assert siperb("connection", "add", "carrier", "--type", "outbound_trunk", *words) == 0
    result = load(config)
    assert result.config is not None
    carrier = result.config.connection("carrier")
    assert carrier is not None
    assert dict(carrier.did) == {"^12$": ("alice",)}
    assert carrier.route.dials("0301") == "+49301"
    assert siperb("connection", "edit", "carrier", "--replace", "^0,") == 0
    assert siperb("route", "0301", "--user", "alice") == 0
    assert "as 301" in siperb.out
    assert siperb("connection", "edit", "carrier", "--replace", "") == 0
    assert "replace = []" in config.read_text()


@pytest.mark.parametrize(
    "words", [["--did", "alice"], ["--did", "^1$="], ["--did-add", "=alice"], ["--did", "(=alice"]]
)
def test_a_row_that_is_none_changes_nothing(siperb: Terminal, config: Path, words: list[str]) -> None:
    assert siperb("connection", "edit", "office", *words) == 2
    assert siperb.err.startswith(("siperb: --did", "connection.office.did"))
    assert config.read_text() == TEXT


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["edit", "office", "--name", "cellar"], "the name of a connection does not change"),
        (["edit", "office", "--type", "outbound_trunk"], "the type of a connection does not change"),
        (["edit", "ofice", "--weight", "1"], "there is no connection ofice in {config}: did you mean office?"),
        (["edit", "office", "--users", "alice", "bob"], '"bob" is more than connection edit takes: part the items'),
        (["enable", "cellar"], "there is no connection cellar in {config}: there are office"),
        (["remove", "cellar"], "there is no connection cellar in {config}: there are office"),
        (["test", "cellar"], "there is no connection cellar in {config}: there are office"),
        (["reload", "cellar"], "there is no connection cellar in {config}: there are office"),
        (["add", "x", "--type", "outbound_trnk"], "did you mean outbound_trunk?"),
    ],
)
def test_what_is_meant_is_said(siperb: Terminal, config: Path, words: list[str], says: str) -> None:
    assert siperb("connection", *words) == 2
    assert says.format(config=config) in siperb.err
    assert len(siperb.err.splitlines()) == 1
    assert config.read_text() == TEXT


def test_help_says_what_each_command_does(siperb: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connection", "--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("add", "edit", "enable", "disable", "remove", "reload", "test"):
        (line,) = [line for line in shown.splitlines() if line.strip("│ ").startswith(f"{word} ")]
        assert len(line.strip("│ ").split()) > 3, line


def test_switched_already(siperb: Terminal, config: Path) -> None:
    assert siperb("connection", "enable", "office") == 0
    assert siperb.err == "connection office is enabled already\n"
    assert config.read_text() == TEXT


def test_the_first_connection_of_a_file_stands_apart(siperb: Terminal, config: Path) -> None:
    config.write_text('[gateway]\ndomain = "x.example"\n')
    words = ["--server", "192.0.2.1", "--allow-from", "192.0.2.1"]
    assert siperb("connection", "add", "carrier", "--type", "outbound_trunk", *words) == 0
    assert '"x.example"\n\n[[connection]]\n' in config.read_text()


def test_a_slip_of_the_pen_is_guessed_at(siperb: Terminal) -> None:
    assert siperb("connection", "edit", "office", "--wieght", "3") == 2
    assert "did you mean --weight?" in siperb.err


def test_enable_and_disable(siperb: Terminal, config: Path) -> None:
    assert siperb("connection", "disable", "office") == 0
    assert "no gateway is running" in siperb.err
    assert siperb("route", "234") == 1
    assert siperb("connection", "enable", "office") == 0
    assert siperb("route", "234") == 0


def test_remove(siperb: Terminal, config: Path) -> None:
    assert siperb("connection", "remove", "office") == 0
    result = load(config)
    assert result.config is not None
    assert result.config.connections == ()
    assert "# the house" in config.read_text()
    assert siperb("connection", "remove", "office") == 2
    assert "there is no connection office" in siperb.err


def test_an_edit_that_would_be_a_mistake_changes_nothing(siperb: Terminal, config: Path) -> None:
    for words in (
        ["connection", "edit", "office", "--port", "70000"],
        ["connection", "edit", "office", "--port", "many"],
        ["connection", "edit", "office", "--colour", "red"],
        ["connection", "edit", "office"],
        ["connection", "add", "office", "--type", "outbound_trunk", "--server", "a", "--allow-from", "192.0.2.1"],
        ["connection", "add", "t", "--type", "outbound_trunk", "--server", "a"],
        ["connection", "add", "t", "--type", "carrier_x"],
        ["device", "add", "laptop"],
        ["device", "add", "x y"],
    ):
        assert siperb(*words) == 2, words
        assert siperb.err
        assert config.read_text() == TEXT
        assert list(config.parent.iterdir()) == [config]


def test_add_a_trunk(siperb: Terminal, config: Path) -> None:
    words = ["--server", "192.0.2.1", "--allow-from", "192.0.2.1,192.0.2.2", "--dial-pattern", r"^0\d+$"]
    assert siperb("connection", "add", "carrier", "--type", "outbound_trunk", *words) == 0
    assert r"dial_pattern = '^0\d+$'" in config.read_text()
    assert siperb("check") == 0
    assert siperb("route", "0301234") == 0
    assert "goes to carrier" in siperb.out


def test_a_secret_from_the_gateway_s_environment_need_not_be_in_ours(siperb: Terminal, config: Path) -> None:
    words = ["--server", "192.0.2.1", "--allow-from", "192.0.2.1", "--username", "u", "--password-env", "NOT_SET_HERE"]
    assert siperb("connection", "add", "carrier", "--type", "outbound_trunk", *words) == 0
    assert 'password = {env = "NOT_SET_HERE"}' in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o644


def test_add_an_inbound_registration_shows_what_it_made_up(siperb: Terminal, config: Path) -> None:
    assert siperb("connection", "add", "branch", "--type", "inbound_registration") == 0
    lines = siperb.out.splitlines()
    username, password = (line.partition("=")[2] for line in lines[:2])
    assert lines[0] == f"username={username}"
    assert lines[1] == f"password={password}"
    assert len(password) >= 20
    assert "[branch]" in siperb.out
    assert "<gateway" in siperb.out
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert siperb("check") == 0
    assert password in config.read_text()


def test_devices(siperb: Terminal, config: Path) -> None:
    assert siperb("device", "add", "phone", "--user", "alice") == 0
    password = siperb.out.strip().removeprefix("password=")
    result = load(config)
    assert result.config is not None
    device = result.config.device("phone")
    assert device is not None
    assert device.password.reveal() == password
    assert device.user == "alice"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert siperb("device", "remove", "phone") == 0
    assert siperb("device", "remove", "phone") == 2


def test_what_needs_a_gateway_says_so(siperb: Terminal) -> None:
    for words in (["show", "calls"], ["reload"], ["connection", "test", "office"], ["device", "link", "laptop"]):
        assert siperb(*words) == 1
        assert siperb.err == "siperb: no gateway is running with this configuration: start it with siperb run\n"


async def test_with_a_running_gateway(siperb: Terminal, config: Path, nursery: trio.Nursery) -> None:
    (config.parent / "var").mkdir()
    gateway = FakeGateway(ANSWERS)
    await nursery.start(ControlServer(config.parent / "var" / "control.sock", gateway.methods()).run)

    async def run(*words: str) -> int:
        return await trio.to_thread.run_sync(lambda: siperb(*words))

    assert await run("show", "connections") == 0
    assert "registered" in siperb.out
    assert await run("show", "connections", "--json") == 0
    assert json.loads(siperb.out) == ANSWERS["show.connections"]
    assert await run("show", "issues") == 0
    assert siperb.out == "Nothing to mend.\n"
    assert await run("show", "calls") == 0
    assert "\x1b" not in siperb.out
    assert await run("connection", "test", "office") == 1
    assert siperb.out == "office: 403 Forbidden: siperb doctor office looks step by step\n"
    assert await run("connection", "reload", "office") == 1
    assert siperb.err == "siperb: there is no connection office: siperb show connections lists them\n"
    assert await run("device", "link", "laptop") == 0
    assert siperb.out.startswith("http://127.0.0.1:8080/phone#provision=abc\n")
    gateway.asked.clear()
    assert await run("connection", "disable", "office") == 0
    assert gateway.asked == [("reload", {})]
    assert "no gateway" not in siperb.err


def test_tables_are_aligned() -> None:
    rows = [{"a": 1, "b": ["x", "y"]}, {"a": None, "b": True}]
    assert table(rows, {"a": "A", "b": "LONG"}) == "A  LONG\n1  x,y\n-  yes"
