"""Whatever a plugin does wrong on the path of calls is counted, and switches it off in the end."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import trio

from siperb_core import CallAttempt, CallEvent, Entry, Refusal, RegistrationEvent, Route, hookimpl, hookspecs
from siperb_core.faults import MOST_FAULTS
from siperb_core.gates import Gates
from siperb_core.media.engine import MediaSettings
from siperb_core.media.pool import MediaUnavailableError
from siperb_core.media.ports import PortsExhaustedError
from siperb_core.plugins import Plugins
from siperb_core.sip import Message

CALL = CallAttempt("id", "inbound", "INVITE", "600", "sip:bob@pbx", Message.request("INVITE", "sip:600@gw.example", []))
EVENT = CallEvent("started", 0.0, "id", "outbound", "office", "alice", "laptop", "a", "b")
BINDING = RegistrationEvent("added", 0.0, "laptop", "alice", "sip:x@y", 1.0, "", "udp", "192.0.2.1:5060")
SETTINGS = MediaSettings((10000, 10001), 1, 60.0, ())

HOOKS: dict[str, Callable[[Plugins], object]] = {
    "siperb_route": lambda plugins: plugins.route([Route("a")], "600", "alice", "INVITE"),
    "siperb_routes": lambda plugins: plugins.route([Route("a")], "600", "alice", "INVITE"),
    "siperb_ring": lambda plugins: plugins.ring(CALL),
    "siperb_media_policy": lambda plugins: plugins.media_policy(Entry("a", "b"), "udp", b"", CALL),
    "siperb_device_secret": lambda plugins: plugins.device_secret("alice"),
    "siperb_call_event": lambda plugins: plugins.call_event(EVENT),
    "siperb_call_record": lambda plugins: plugins.call_record({}),
    "siperb_registration_event": lambda plugins: plugins.registration_event(BINDING),
}
BESIDE = {
    *("siperb_connection_types", "siperb_transports", "siperb_codecs", "siperb_transcoders", "siperb_settings"),
    *("siperb_services", "siperb_control_methods", "siperb_http_routes", "siperb_commands", "siperb_diagnostics"),
    *("siperb_connection_event", "siperb_metrics", "siperb_media_engine", "siperb_location_store", "siperb_call_gates"),
}
"""Called when a plugin is loaded, when the gateway starts, or by a person; what the last three give is tested below."""


def boom(*_: object, **__: object) -> Any:
    raise ZeroDivisionError


def plugins_with(hook: str, body: Callable[..., Any]) -> Plugins:
    plugins = Plugins(lambda: 100.0)
    names = ", ".join(["self", *inspect.signature(getattr(hookspecs, hook)).parameters])
    scope: dict[str, Any] = {"body": body}
    exec(f"def {hook}({names}): return body()", scope)
    plugins.register("bad", type("Bad", (), {hook: hookimpl(scope[hook])})())
    return plugins


def test_every_hook_is_on_one_of_the_lists() -> None:
    known = {name for name in vars(hookspecs) if name.startswith("siperb_")}
    assert known == set(HOOKS) | BESIDE


LOOKED_AT = [hook for hook in HOOKS if not hook.endswith(("_event", "_record"))]


@pytest.mark.parametrize(
    ("hook", "nonsense"), [*((hook, False) for hook in HOOKS), *((hook, True) for hook in LOOKED_AT)]
)
def test_a_hook_that_fails_again_and_again_is_not_called_any_more(hook: str, nonsense: bool) -> None:
    asked = 0

    def body() -> Any:
        nonlocal asked
        asked += 1
        return 5 if nonsense else boom()

    plugins = plugins_with(hook, body)
    assert plugins.is_on("bad")
    for _ in range(MOST_FAULTS + 5):
        HOOKS[hook](plugins)
    assert asked == MOST_FAULTS
    assert plugins.errors == {"bad": MOST_FAULTS}
    assert not plugins.is_on("bad")


@pytest.mark.parametrize("admits", [True, False])
@pytest.mark.parametrize("wrong", ["concerns", "raises", "hangs", "nonsense"])
async def test_gates(autojump_clock: trio.testing.MockClock, wrong: str, admits: bool) -> None:
    """A gate that is no more asked refuses, or lets pass, as it does when it fails; nobody waits for it."""

    class Gate:
        name, seconds, admits_when_failing, asked = "bad", 1.0, admits, 0

        def concerns(self, call: CallAttempt) -> bool:
            self.asked += 1
            return bool(boom()) if wrong == "concerns" else True

        async def admit(self, call: CallAttempt) -> Any:
            if wrong == "hangs":
                await trio.sleep_forever()
            return 5 if wrong == "nonsense" else boom() if wrong == "raises" else None

    gate = Gate()
    plugins = plugins_with("siperb_call_gates", lambda: [gate])
    verdicts: list[Refusal | None] = []
    gates = plugins.gates()
    for _ in range(MOST_FAULTS + 3):
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            Gates(gates, plugins.fault, nursery.start_soon, plugins.is_on).admit(CALL, verdicts.append)
    assert trio.current_time() == began, "the last call waited for nobody"
    assert gate.asked == MOST_FAULTS
    assert not plugins.is_on("bad")
    off = None if admits else Refusal(503, "Call Could Not Be Checked")
    asked = 0 if wrong != "concerns" else MOST_FAULTS - 1  # who is asked after all has nothing against the call
    assert verdicts == [None] * asked + [off] * (MOST_FAULTS + 3 - asked)


class Session:
    peer_port = 10000
    stats: dict[str, Any] = {}  # noqa: RUF012
    on_event = None
    add_branch = drop_branch = apply = send_digit = close = boom


class Engine:
    fingerprint = ("sha-256", "AA")
    __aenter__ = __aexit__ = boom

    def __init__(self, opens: Callable[..., Any]) -> None:
        self.open = opens


def test_a_media_engine() -> None:
    plugins = plugins_with("siperb_media_engine", lambda: Engine(boom))
    engine = plugins.media_engine(SETTINGS)
    for _ in range(MOST_FAULTS):
        with pytest.raises(MediaUnavailableError):
            engine.open("call")
    assert not plugins.is_on("bad")


def test_the_sessions_of_a_media_engine() -> None:
    plugins = plugins_with("siperb_media_engine", lambda: Engine(lambda *_, **__: Session()))
    session = plugins.media_engine(SETTINGS).open("call")
    for lethal in (lambda: session.add_branch("0"), lambda: session.apply(None)):  # type: ignore[arg-type]
        with pytest.raises(MediaUnavailableError):
            lethal()
    session.drop_branch("0")
    session.send_digit("peer", None)  # type: ignore[arg-type]
    closed: list[bool] = []
    session.close(lambda: closed.append(True))
    assert closed == [True], "the call's record is written all the same"
    assert plugins.errors == {"bad": 5}


def test_a_media_engine_without_ports_has_done_nothing_wrong() -> None:
    def full(*_: object, **__: object) -> Any:
        raise PortsExhaustedError("no port is free")

    plugins = plugins_with("siperb_media_engine", lambda: Engine(full))
    with pytest.raises(PortsExhaustedError):
        plugins.media_engine(SETTINGS).open("call")
    assert not plugins.errors


def test_a_place_for_bindings() -> None:
    bad = type("Bad", (), {"put_binding": boom, "delete_binding": boom, "load_bindings": boom})()
    plugins = plugins_with("siperb_location_store", lambda: bad)
    store = plugins.location_store(bad)
    failed: list[Exception] = []
    store.put_binding("alice", "key", {}, 1.0, failed=failed.append)  # type: ignore[arg-type]
    store.delete_binding("alice", "key", failed=failed.append)  # type: ignore[arg-type]
    store.delete_binding("alice", "key")
    assert store.load_bindings() == []
    assert [type(error) for error in failed] == [ZeroDivisionError] * 2
    assert plugins.errors == {"bad": 4}
