"""Plugins are loaded one at a time; what is broken is set aside, what raises costs its own call."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from siperb_core import hookimpl
from siperb_core.events import CallEvent, RegistrationEvent
from siperb_core.plugins import GROUP, Plugins, load_plugins
from siperb_core.routing import Explanation, Route

CALL = CallEvent("started", 0.0, "id", "outbound", "office", "alice", "laptop", "a", "b")
REGISTRATION = RegistrationEvent("added", 0.0, "laptop", "alice", "sip:x@y")


@attrs.frozen
class Settings:
    pass


class FakeKind:
    config_class = Settings

    def __init__(self, kind: str) -> None:
        self.kind = kind


class GivesKind:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    @hookimpl
    def siperb_connection_types(self) -> Sequence[Any]:
        return [FakeKind(self.kind)]


class Raises:
    @hookimpl
    def siperb_route(self, routes: Any, number: str, user: str, method: str) -> Any:
        raise ZeroDivisionError

    @hookimpl
    def siperb_device_secret(self, username: str) -> str:
        raise ZeroDivisionError

    @hookimpl
    def siperb_call_event(self, event: CallEvent) -> None:
        raise ZeroDivisionError

    @hookimpl
    def siperb_services(self) -> Any:
        raise ZeroDivisionError


class Listens:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    @hookimpl
    def siperb_call_event(self, event: CallEvent) -> None:
        self.heard.append(event)

    @hookimpl
    def siperb_registration_event(self, event: RegistrationEvent) -> None:
        self.heard.append(event)

    @hookimpl
    def siperb_services(self) -> Any:
        return ["service"]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a module from its text, and an entry point to it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, text: str) -> EntryPoint:
        monkeypatch.delitem(sys.modules, f"plugin_{name}", raising=False)
        (tmp_path / f"plugin_{name}.py").write_text("from siperb_core import hookimpl\n" + text)
        return EntryPoint(name, f"plugin_{name}", GROUP)

    return make


def test_installed_plugins_load() -> None:
    plugins = load_plugins()
    assert {info.name: info.reason for info in plugins.infos if info.state != "loaded"} == {}
    assert {"outbound_registration", "outbound_trunk", "inbound_registration"} <= set(plugins.connection_types)
    assert set(plugins.transports) >= {"udp", "tcp", "tls", "ws", "wss"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("def (", "SyntaxError"),
        ("@hookimpl\ndef siperb_rout(number): ...", "siperb_rout"),
        ("@hookimpl\ndef siperb_route(digits): ...", "digits"),
        ("@hookimpl\nasync def siperb_services(): ...", "async"),
        ("@hookimpl(wrapper=True)\ndef siperb_services():\n    return (yield)", "wrapper"),
        ("@hookimpl\ndef siperb_connection_types(): return 3", "TypeError"),
        ("@hookimpl\ndef siperb_connection_types(): return [3]", "lacks what the contract asks for"),
        ("@hookimpl\ndef siperb_transports(): raise KeyError('x')", "KeyError"),
    ],
)
def test_a_broken_plugin_is_set_aside_with_the_reason(module: Any, text: str, reason: str) -> None:
    points = [module("broken", text), module("fine", "@hookimpl\ndef siperb_device_secret(username): return 'x'")]
    plugins = load_plugins(found=lambda: points)
    states = {info.name: info.state for info in plugins.infos}
    assert states == {"broken": "set_aside", "fine": "loaded"}
    assert reason in plugins.infos[0].reason
    assert plugins.device_secret("anyone") == "x"


def test_a_disabled_plugin_is_not_imported(module: Any) -> None:
    plugins = load_plugins(["loud"], found=lambda: [module("loud", "raise SystemExit")])
    assert [(info.name, info.state) for info in plugins.infos] == [("loud", "disabled")]
    assert "plugin_loud" not in sys.modules


def test_a_name_that_is_taken_sets_the_later_plugin_aside_whole(module: Any) -> None:
    text = (
        "import attrs\nfrom types import SimpleNamespace\n@attrs.frozen\nclass S: pass\n"
        "@hookimpl\ndef siperb_connection_types(): return [SimpleNamespace(kind='carrier', config_class=S)]\n"
        "@hookimpl\ndef siperb_device_secret(username): return __name__"
    )
    plugins = load_plugins(found=lambda: [module("b", text), module("a", text)])
    assert [(info.name, info.state) for info in plugins.infos] == [("a", "loaded"), ("b", "set_aside")]
    assert "carrier is taken" in plugins.infos[1].reason
    assert plugins.device_secret("x") == "plugin_a"


def test_only_what_a_command_needs_is_imported(module: Any) -> None:
    points = [module("slow", "raise SystemExit"), module("quick", "@hookimpl\ndef siperb_route(number): ...")]
    plugins = load_plugins(only=["siperb_route"], found=lambda: points)
    assert [info.name for info in plugins.infos] == ["quick"]


def test_siperb_connection_types() -> None:
    plugins = Plugins()
    plugins.register("a", GivesKind("carrier_a"))
    plugins.register("b", GivesKind("carrier_b"))
    assert list(plugins.connection_types) == ["carrier_a", "carrier_b"]
    with pytest.raises(ValueError, match="carrier_a is taken"):
        plugins.register("c", GivesKind("carrier_a"))


def test_siperb_transports() -> None:
    class Gives:
        @hookimpl
        def siperb_transports(self) -> Any:
            return [SimpleNamespace(name="sctp")]

    plugins = Plugins()
    plugins.register("a", Gives())
    assert list(plugins.transports) == ["sctp"]
    with pytest.raises(ValueError, match="sctp is taken"):
        plugins.register("b", Gives())


def test_siperb_transcoders() -> None:
    class Gives:
        def __init__(self, name: str) -> None:
            self.name = name

        @hookimpl
        def siperb_transcoders(self) -> Any:
            return [SimpleNamespace(name=self.name, pairs=frozenset)]

    plugins = Plugins()
    plugins.register("a", Gives("first"))
    plugins.register("b", Gives("second"))
    assert [item.name for item in plugins.transcoders] == ["first", "second"]


def test_siperb_services() -> None:
    plugins = Plugins()
    plugins.register("bad", Raises())
    plugins.register("good", Listens())
    assert plugins.services() == [("good", "service")]
    assert plugins.errors == {"bad": 1}


def test_siperb_route() -> None:
    special = Explanation("600", "bob", "INVITE", "special", ())

    class Chooses:
        @hookimpl
        def siperb_route(self, number: str) -> Explanation | None:
            return special if number == "600" else None

    plugins = Plugins()
    plugins.register("bad", Raises())
    plugins.register("chooses", Chooses())
    assert plugins.route([Route("office")], "600", "bob", "INVITE") is special
    assert plugins.route([Route("office")], "601", "bob", "INVITE").taken == "office"
    assert plugins.errors["bad"] == 2


def test_siperb_device_secret() -> None:
    class Knows:
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        @hookimpl
        def siperb_device_secret(self, username: str) -> Any:
            return self.answer

    class Last:
        @hookimpl(trylast=True)
        def siperb_device_secret(self, username: str) -> str:
            return "last"

    plugins = Plugins()
    plugins.register("last", Last())
    plugins.register("bad", Raises())
    plugins.register("not me", Knows(None))
    assert plugins.device_secret("alice") == "last"
    plugins.register("misfit", Knows(42))
    plugins.register("knows", Knows("first"))
    assert plugins.device_secret("alice") == "first"
    assert plugins.errors["misfit"] == 1


def test_siperb_call_event() -> None:
    plugins, listener = Plugins(), Listens()
    plugins.register("bad", Raises())
    plugins.register("good", listener)
    plugins.call_event(CALL)
    assert listener.heard == [CALL]


def test_siperb_registration_event() -> None:
    plugins, listener = Plugins(), Listens()
    plugins.register("good", listener)
    plugins.registration_event(REGISTRATION)
    assert listener.heard == [REGISTRATION]
