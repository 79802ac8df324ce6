"""siperb.toml: keys and defaults of the contract, every mistake at once, each with its path and its mend."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest

from siperb_core.entries import fields
from siperb_core.entries.model import Secret, routes_of
from siperb_core.entries.networks import allowed, is_everything, parse_network
from siperb_core.entries.peer import PeerSettings
from siperb_core.entries.source import MAX_FILE, LoadResult, load, load_text

BASE = """
[gateway]
domain = "sip.example.net"
"""


@attrs.frozen(kw_only=True)
class Settings(PeerSettings):
    expires: int = attrs.field(default=300, validator=fields.between(30, 86400, "seconds"))


class Registering:
    kind: ClassVar[str] = "outbound_registration"
    title: ClassVar[str] = "R"
    version: ClassVar[int] = 2
    config_class: ClassVar[type[Any]] = Settings
    allow_from_required: ClassVar[bool] = False

    def unique_id(self, config: Any) -> str | None:
        return f"{config.username}@{config.server}" if config.username else None

    def migrate(self, data: Any, old: int) -> Any:
        return {("server" if key == "host" else key): value for key, value in data.items()}

    async def probe(self, ctx: Any, config: Any) -> None: ...

    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None: ...


class Trunk(Registering):
    kind: ClassVar[str] = "outbound_trunk"
    allow_from_required: ClassVar[bool] = True


TYPES = {"outbound_registration": Registering(), "outbound_trunk": Trunk()}


def read(text: str, path: Path = Path("siperb.toml"), **options: Any) -> LoadResult:
    return load_text(text.encode(), path, TYPES, **{"private": True, **options})


def problems(text: str) -> list[str]:
    return [str(problem) for problem in read(text).problems]


def connection(settings: str = 'server = "pbx.example.com"', keys: str = "", name: str = "office") -> str:
    return (
        f'[[connection]]\nname = "{name}"\ntype = "outbound_registration"\nversion = 2\n{keys}\n'
        f"[connection.settings]\n{settings}\n"
    )


def test_defaults_are_those_of_the_reference() -> None:
    result = read(BASE + connection() + '[[device]]\nname = "alice-laptop"\npassword = "x"\n')
    assert result.problems == ()
    config = result.config
    assert config is not None
    assert config.gateway.drain_seconds == 30
    assert config.gateway.external_address == "auto"
    assert config.media.ports == (10000, 10199)
    assert (config.media.workers, config.media.rtp_timeout, config.media.opus_effort) == (None, 60, "auto")
    (entry,) = config.connections
    assert (entry.enabled, entry.weight, entry.dial_pattern, entry.failover) == (True, 0, ".", False)
    assert (entry.media, entry.codecs, entry.codec_policy) == ("auto", ("G722", "PCMA", "PCMU"), "opus-first")
    assert (entry.settings.port, entry.settings.transport, entry.settings.verify) == (None, "auto", True)
    (device,) = config.devices
    assert (device.user, device.mode) == ("alice-laptop", "proxy")
    assert config.devices_of(entry) == (device,)


def test_the_example_of_the_reference_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALICE_LAPTOP", "s3cret")
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("")
    (tmp_path / "office").write_text("pbx-secret\n")
    file = tmp_path / "siperb.toml"
    file.write_text(
        """
[gateway]
domain = "sip.example.net"
data_dir = "var"
[[listen]]
transport = "udp"
bind = "0.0.0.0:5060"
[[listen]]
transport = "wss"
bind = "[::]:8089"
path = "/ws"
certificate = "cert.pem"
key = "key.pem"
origins = ["https://phone.example.net"]
[media]
ports = "10000-10099"
workers = 2
[plugins]
disable = ["console"]
[plugins.console]
bind = "127.0.0.1:8080"
[[device]]
name = "alice-laptop"
user = "alice"
password = { env = "ALICE_LAPTOP" }
[[connection]]
name = "office"
type = "outbound_registration"
users = ["alice"]
dial_pattern = '^2\\d{2}$'
weight = 10
methods = ["INVITE", "MESSAGE"]
allow_from = ["192.168.0.1/24", "2001:db8::1"]
failover = true
[connection.settings]
host = "pbx.example.com"
port = 5060
username = "200"
password = { file = "office" }
ca = ""
outbound_proxy = ""
"""
    )
    result = load(file, TYPES)
    assert result.problems == ()
    assert result.warnings == ()
    config = result.config
    assert config is not None
    assert config.gateway.data_dir == tmp_path / "var"
    assert [listener.bind for listener in config.listen] == [("0.0.0.0", 5060), ("::", 8089)]
    assert config.listen[1].certificate == tmp_path / "cert.pem"
    assert config.plugins.disable == ("console",)
    assert config.plugins.tables == {"console": {"bind": "127.0.0.1:8080"}}
    assert config.devices[0].password.reveal() == "s3cret"
    (entry,) = config.connections
    assert entry.settings.password.reveal() == "pbx-secret"
    assert entry.settings.server == "pbx.example.com", "settings of version 1 are migrated"
    assert entry.settings.ca is None
    assert entry.allow_from == (ip_network("192.168.0.0/24"), ip_network("2001:db8::1"))
    assert routes_of(config)[0].failover


def test_all_mistakes_are_told_at_once_each_with_its_path_and_mend() -> None:
    text = (
        '[gateway]\ndomain = "sip.example.net"\ncolour = "red"\n'
        '[[listen]]\ntransport = "sctp"\nbind = "5060"\n'
        '[media]\nports = "20000-10000"\n'
        "[[device]]\npassword = 3\n"
        + connection('server = "pbx example"\nport = 70000\npaswort = "x"', 'weight = "10"\nusers = "alice"')
        + "[nonsense]\n"
    )
    told = problems(text)
    assert "connection.office.settings.port: 70000 is not a port: use 1 to 65535" in told
    paths = {line.partition(": ")[0] for line in told}
    assert paths == {
        "nonsense",
        "gateway.colour",
        "listen[0].transport",
        "listen[0].bind",
        "media.ports",
        "device[0].name",
        "device[0].password",
        "connection.office.weight",
        "connection.office.users",
        "connection.office.settings.server",
        "connection.office.settings.port",
        "connection.office.settings.paswort",
    }
    assert all(len(line.split(": ")) >= 3 for line in told)
    assert read(text).config is None


def test_a_mistake_in_one_connection_does_not_stop_the_others() -> None:
    result = read(BASE + connection("port = 1") + connection(name="home"))
    assert result.config is not None
    broken, fine = result.config.connections
    assert "connection.office.settings.server: is missing" in broken.problem
    assert fine.problem == ""
    assert [route.unusable != "" for route in routes_of(result.config)] == [True, False]


def test_a_device_with_a_mistake_is_left_out() -> None:
    result = read(
        BASE
        + '[[device]]\nname = "a"\npassword = { env = "SIPERB_TEST_UNSET" }\n[[device]]\nname = "b"\npassword = "x"\n'
    )
    assert result.config is not None
    assert [device.name for device in result.config.devices] == ["b"]
    assert [problem.environment for problem in result.problems] == [True]


@pytest.mark.parametrize("kind", ["connection", "device"])
def test_a_name_twice_is_refused(kind: str) -> None:
    table = connection() if kind == "connection" else '[[device]]\nname = "office"\npassword = "x"\n'
    result = read(BASE + table + table)
    assert [problem.path for problem in result.problems] == [f"{kind}[1].name"]
    assert result.config is not None
    assert len(result.config.connections) + len(result.config.devices) == 1


def test_the_same_account_twice_is_refused() -> None:
    settings = 'server = "pbx.example.com"\nusername = "200"'
    result = read(BASE + connection(settings) + connection(settings, name="again"))
    assert [problem.path == "connection.again.settings" for problem in result.problems] == [True]
    off = connection(settings, "enabled = false", "again")
    assert problems(BASE + connection(settings) + off) == []


def test_an_unknown_type_is_told_but_is_no_mistake_of_the_entry() -> None:
    result = read(BASE + '[[connection]]\nname = "x"\ntype = "carrier_x"\n')
    assert "install it with pip" in str(result.problems[0])
    assert result.config is not None
    assert result.config.connections[0].problem == ""


def test_patterns_are_compiled_and_lost_backslashes_noticed() -> None:
    assert "look-around" in problems(BASE + connection(keys="dial_pattern = '(?=2)'"))[0]
    (warning,) = read(BASE + connection(keys="dial_pattern = '^2d{2}$'")).warnings
    assert r"^2\d{2}$" in str(warning)


@pytest.mark.parametrize(
    ("replace", "wrong", "mend"),
    [
        (r"['(?=0)', '+']", "RE2", "look-around"),
        (r"['^0', '\x']", r"has a replacement with \x", r"groups as \1"),
        (r"['^0', '\1']", r"asks for \1", r"groups as \1"),
        ("['^0', 'é']", '"é" cannot be dialled', r"groups as \1"),
        ("['^0']", "has 1 items", "what comes in its place"),
    ],
)
def test_a_replacement_that_cannot_be_used_is_told_with_what_to_write(replace: str, wrong: str, mend: str) -> None:
    (problem,) = problems(BASE + connection(keys=f"replace = {replace}"))
    assert wrong in problem
    assert mend in problem


EVERYTHING = [
    ["0.0.0.0/0"],
    ["::/0"],
    ["0.0.0.0/1", "128.0.0.0/1"],
    ["128.0.0.0/1", "64.0.0.0/2", "0.0.0.0/2"],
    ["::ffff:0:0/96"],
    ["::ffff:0.0.0.0/97", "::ffff:128.0.0.0/97"],
    ["2000::/3"],
    ["::/1", "8000::/1"],
    ["10.0.0.0/8", "0.0.0.0/0"],
    ["1.2.3.4/0"],
]


@pytest.mark.parametrize("networks", EVERYTHING)
def test_everything_is_seen_through_its_disguises(networks: list[str]) -> None:
    assert is_everything([parse_network(text) for text in networks])
    text = connection(keys=f"allow_from = {networks}").replace("outbound_registration", "outbound_trunk")
    assert "lets everyone in" in problems(BASE + text)[0]


def test_a_trunk_must_say_who_may_send() -> None:
    text = connection().replace("outbound_registration", "outbound_trunk")
    assert "connection.office.allow_from: is missing" in problems(BASE + text)[0]
    assert not is_everything([parse_network(text) for text in ("10.0.0.0/8", "2001:db8::/32", "192.0.2.1")])


def test_sources_are_checked_in_either_family() -> None:
    networks = [parse_network("192.168.0.1/24"), parse_network("2001:db8::/32")]
    assert allowed(networks, "192.168.0.77")
    assert allowed(networks, "::ffff:192.168.0.77")
    assert allowed(networks, "2001:db8::1")
    assert not allowed(networks, "192.168.1.1")
    assert not allowed(networks, "nonsense")


def test_secrets_are_shown_nowhere() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    result = read(BASE + connection('server = "a"\npassword = "hunter2"\nport = 0\nfrom_user = "x y"'))
    assert "hunter2" not in repr(result)


def test_a_secret_in_a_file_others_can_read_is_warned_about(tmp_path: Path) -> None:
    file = tmp_path / "siperb.toml"
    file.write_text(BASE + '[[device]]\nname = "a"\npassword = "x"\n')
    file.chmod(0o644)
    assert [warning.path for warning in load(file, TYPES).warnings] == ["device.a.password"]
    file.chmod(0o600)
    assert load(file, TYPES).warnings == ()


@pytest.mark.parametrize(
    ("secret", "wrong"),
    [
        ('{ file = "missing" }', "cannot be read"),
        ('{ file = "empty" }', "is empty"),
        ('{ file = "large" }', "larger than"),
        ('{ file = "binary" }', "not UTF-8"),
        ('{ file = "lines" }', "control character"),
        ('{ vault = "x" }', "is not a secret"),
        ('{ env = "A", file = "B" }', "is not a secret"),
        ("7", "is not a secret"),
    ],
)
def test_secrets_that_cannot_be_had(tmp_path: Path, secret: str, wrong: str) -> None:
    for name, data in {"empty": b"", "large": b"x" * 5000, "binary": b"\xff\xfe", "lines": b"a\nb"}.items():
        (tmp_path / name).write_bytes(data)
    result = read(BASE + f'[[device]]\nname = "a"\npassword = {secret}\n', tmp_path / "siperb.toml")
    assert wrong in str(result.problems[0])


def test_certificates_that_are_not_checked_are_warned_about() -> None:
    result = read(BASE + connection('server = "a"\nverify = false'))
    assert [warning.path for warning in result.warnings] == ["connection.office.settings.verify"]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"[gateway",
        b"x = " + b"[" * 50_000,
        b"#" * (MAX_FILE + 1),
        b"gateway = 1\nlisten = 2\nmedia = 3\nplugins = 4\ndevice = 5\nconnection = 6",
        b"device = [1]\nconnection = [2]\nlisten = [3]",
        b'[gateway]\ndomain = "a"\ndrain_seconds = nan\n[[connection]]\nname = "x"\ntype = 1979-05-27\nsettings = 1',
        b'[gateway]\ndomain = "a"\n[[connection]]\nname = "../x"\ntype = "outbound_trunk"\nweight = 99999999999999',
        b'[gateway]\ndomain = "a\\u0000b"',
    ],
)
def test_whatever_the_file_holds_there_is_a_problem_and_no_exception(data: bytes) -> None:
    result = load_text(data, Path("siperb.toml"), TYPES)
    assert result.problems
    assert all(problem.wrong and problem.mend for problem in result.problems)


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    assert "cannot be read" in str(load(tmp_path / "siperb.toml").problems[0])


def test_two_listeners_on_one_port_are_refused() -> None:
    udp, tcp = (f'[[listen]]\ntransport = "{name}"\nbind = "127.0.0.1:5060"\n' for name in ("udp", "tcp"))
    assert problems(BASE + udp + tcp) == []
    assert "is taken by listen[0]" in problems(BASE + udp + udp)[0]
    assert "is taken by listen[0]" in problems(BASE + tcp + tcp.replace("tcp", "ws"))[0]
