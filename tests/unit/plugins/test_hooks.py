"""What the gateway makes of the answers of several plugins to one hook; each hook has a test of its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from siperb_core import (
    CallAttempt,
    Codec,
    Command,
    ConnectionEvent,
    Device,
    Entry,
    Histogram,
    HttpResponse,
    HttpRoute,
    MediaPolicy,
    Metric,
    Refusal,
    Route,
    hookimpl,
)
from siperb_core.additions import HttpRequest
from siperb_core.calls.policy import media_policy
from siperb_core.defaults import ConfiguredDevices
from siperb_core.entries.model import Secret
from siperb_core.gates import Gates
from siperb_core.media.engine import MediaSettings
from siperb_core.plugins import Plugins, load_plugins
from siperb_core.sdp.codecs import codec_named
from siperb_core.sip import Message

REQUEST = Message.request("INVITE", "sip:600@gw.example", [])
CALL = CallAttempt("id", "inbound", "INVITE", "600", "sip:bob@pbx", REQUEST, users=("alice",), devices=("web",))
WEB, DESK = (Device(name, "alice", Secret("x")) for name in ("web", "desk"))


class Gives:
    """A plugin whose hook gives what it is told; made by `giving`."""


def giving(hook: str, body: Callable[..., Any]) -> object:
    def call(self: object, *arguments: Any) -> Any:
        return body(*arguments)

    import inspect

    from siperb_core import hookspecs

    names = ["self", *inspect.signature(getattr(hookspecs, hook)).parameters]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    call.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
    source = f"def {hook}({', '.join(names)}): return body({', '.join(names[1:])})"
    scope: dict[str, Any] = {"body": body}
    exec(source, scope)
    return type("Plugin", (Gives,), {hook: hookimpl(scope[hook])})()


def boom(*_: object) -> Any:
    raise ZeroDivisionError


def plugins_of(hook: str, **bodies: Callable[..., Any]) -> Plugins:
    plugins = Plugins()
    for name, body in bodies.items():
        plugins.register(name, giving(hook, body))
    return plugins


def test_siperb_codecs() -> None:
    speex = Codec("speex", 16000)
    plugins = plugins_of("siperb_codecs", a=lambda: [speex], b=lambda: [Codec("PCMA", 8000)])
    assert codec_named("SPEEX") == speex
    for wrong in ([Codec("speex", 8000)], [Codec("opus", 8000)], [Codec("telephone-event", 8000)], ["G723"]):
        with pytest.raises(ValueError, match=r"codec"):
            plugins.register("c", giving("siperb_codecs", lambda wrong=wrong: wrong))
    assert codec_named("opus").clock == 48000


def test_siperb_settings() -> None:
    @attrs.frozen
    class Settings:
        token: Secret

    plugins = plugins_of("siperb_settings", a=lambda: Settings)
    assert plugins.settings == {"a": Settings}
    for wrong in (5, Settings(Secret("x")), str, None):
        with pytest.raises(ValueError, match="gives no attrs class"):
            plugins.register("b", giving("siperb_settings", lambda wrong=wrong: wrong))
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        plugins.register("c", giving("siperb_settings", boom))
    assert plugins.settings == {"a": Settings}


def test_siperb_routes() -> None:
    """Each is given what those before it have left; who adds, drops or swaps connections has done wrong."""
    first, second = Route("codes", -1), Route("office")

    def no(routes: Sequence[Route], *_: object) -> Sequence[Route]:
        return [attrs.evolve(route, unusable="no") if route.connection == "codes" else route for route in routes]

    def note(routes: Sequence[Route], *_: object) -> Sequence[Route]:
        assert routes[0].unusable == "no"
        return [attrs.evolve(route, note="hello") for route in routes]

    plugins = plugins_of(
        "siperb_routes", a=boom, b=no, c=lambda routes, *_: routes[1:], d=lambda *_: None, e=lambda *_: 5, f=note
    )
    found = plugins.route([first, second], "600", "alice", "INVITE")
    assert found.order == ("office",)
    assert [candidate.why.rpartition("; ")[2] for candidate in found.candidates] == ["no", "hello"]
    assert plugins.errors == {"a": 1, "c": 1, "e": 1}
    assert plugins.route([first, second], "112", "alice", "INVITE", emergency=["112"]).order == ("codes", "office")


def test_siperb_ring() -> None:
    plugins = Plugins()
    plugins.register("quiet", giving("siperb_ring", lambda call, devices: [d for d in devices if d.name != "desk"]))
    plugins.register("nothing", giving("siperb_ring", lambda call, devices: None))
    plugins.register("bad", giving("siperb_ring", boom))
    plugins.register("misfit", giving("siperb_ring", lambda call, devices: ["web"]))
    plugins.add_own("devices", ConfiguredDevices([WEB, DESK, Device("bobs", "bob", Secret("x"))]))
    assert plugins.ring(CALL) == [WEB], "the core's own comes first, whatever the order they are loaded in"
    assert plugins.errors == {"bad": 1, "misfit": 1}
    assert [device.name for device in plugins.ring(attrs.evolve(CALL, users=("*",)))] == ["web", "bobs"]
    plugins.register("z", giving("siperb_ring", lambda call, devices: Refusal(486, "Busy Here")))
    assert plugins.ring(CALL) == Refusal(486, "Busy Here")


@attrs.define
class Gate:
    name: str
    answer: Any = None
    seconds: float = 1.0
    admits_when_failing: bool = True
    asked: int = 0

    def concerns(self, call: CallAttempt) -> bool:
        return self.answer != "unconcerned"

    async def admit(self, call: CallAttempt) -> Any:
        self.asked += 1
        await trio.sleep(0.5)
        if self.answer == "hangs":
            await trio.sleep_forever()
        if self.answer == "raises":
            raise ZeroDivisionError
        return self.answer


@pytest.mark.parametrize(
    ("answers", "verdict", "asked", "faults"),
    [
        ([None, None], None, [1, 1], []),
        (["unconcerned", "unconcerned"], None, [0, 0], []),
        ([Refusal(403, "No"), None], Refusal(403, "No"), [1, 0], []),
        (["raises", None], None, [1, 1], ["g0"]),
        (["hangs", Refusal(403, "No")], Refusal(403, "No"), [1, 1], ["g0"]),
        (["nonsense", None], None, [1, 1], ["g0"]),
    ],
)
async def test_siperb_call_gates(
    autojump_clock: trio.testing.MockClock, answers: list[Any], verdict: Any, asked: list[int], faults: list[str]
) -> None:
    gates = [Gate(f"gate{number}", answer) for number, answer in enumerate(answers)]
    plugins = Plugins()
    for number, gate in enumerate(gates):
        plugins.register(f"g{number}", giving("siperb_call_gates", lambda gate=gate: [gate]))
    found: list[Any] = []
    async with trio.open_nursery() as nursery:
        Gates(plugins.gates(), plugins.fault, nursery.start_soon).admit(CALL, found.append)
        assert bool(found) == (answers == ["unconcerned", "unconcerned"]), "who is not concerned is not waited for"
    assert found == [verdict]
    assert [gate.asked for gate in gates] == asked
    assert list(plugins.errors) == faults


async def test_a_gate_may_refuse_when_it_fails(autojump_clock: trio.testing.MockClock) -> None:
    found: list[Any] = []
    async with trio.open_nursery() as nursery:
        gate = Gate("strict", "hangs", admits_when_failing=False)
        Gates([("p", gate)], lambda *_: None, nursery.start_soon).admit(CALL, found.append)
    assert found == [Refusal(503, "Call Could Not Be Checked")]
    assert trio.current_time() == pytest.approx(gate.seconds)


def test_what_is_no_gate_is_a_fault() -> None:
    plugins = plugins_of("siperb_call_gates", a=lambda: [5], b=lambda: 5)
    assert plugins.gates() == []
    assert plugins.errors == {"a": 1, "b": 1}


def test_siperb_media_policy() -> None:
    entry = Entry("office", "fake")
    mine = MediaPolicy(True, False, "opus-first", False, "mine")
    plugins = plugins_of("siperb_media_policy", a=boom, b=lambda *_: None, c=lambda *_: mine)
    assert plugins.media_policy(entry, "udp", b"", CALL) is mine
    assert plugins.errors == {"a": 1}
    for wrong in (5, attrs.evolve(mine, codecs="PCMA"), Refusal(200, "OK")):
        bad = plugins_of("siperb_media_policy", a=lambda *_, wrong=wrong: wrong, b=lambda *_: Refusal(403, "No"))
        assert bad.media_policy(entry, "udp", b"", CALL) == Refusal(403, "No")
        assert bad.errors == {"a": 1}
    assert Plugins().media_policy(entry, "udp", b"", CALL) is None
    assert load_plugins().media_policy(entry, "tls", b"", CALL) == media_policy(entry, "tls"), (
        "the core's own, by the hook"
    )


def test_siperb_media_engine() -> None:
    settings = MediaSettings((10000, 10001), 1, 60.0, ())
    seen: list[Any] = []

    class Engine:
        fingerprint = ("sha-256", "AA")
        open = __aenter__ = __aexit__ = None

    plugins = plugins_of(
        "siperb_media_engine", a=boom, b=seen.append, c=lambda _: 5, d=lambda _: Engine(), e=seen.append
    )
    assert plugins.media_engine(settings).fingerprint == Engine.fingerprint
    assert seen == [settings]
    assert plugins.errors == {"a": 1, "c": 1}
    with pytest.raises(LookupError):
        Plugins().media_engine(settings)


def test_siperb_location_store() -> None:
    own: Any = object()
    plugins = plugins_of("siperb_location_store", a=boom, b=lambda own: None, c=lambda own: 5)
    assert plugins.location_store(own) is own

    deleted: list[Any] = []

    class Around:
        put_binding = load_bindings = None

        def __init__(self, own: object) -> None:
            self.own = own

        def delete_binding(self, aor: str, key: str, **_: Any) -> None:
            deleted.append((self.own, aor))

    plugins.register("d", giving("siperb_location_store", Around))
    plugins.location_store(own).delete_binding("alice", "key")
    assert deleted == [(own, "alice")]
    assert plugins.errors == {"a": 2, "c": 2}


def test_siperb_call_record() -> None:
    kept: list[Mapping[str, Any]] = []
    plugins = plugins_of("siperb_call_record", a=boom, b=kept.append, c=kept.append)
    plugins.call_record({"call_id": "x"})
    assert kept == [{"call_id": "x"}] * 2
    assert plugins.errors == {"a": 1}


def test_siperb_connection_event() -> None:
    heard: list[ConnectionEvent] = []
    plugins = plugins_of("siperb_connection_event", a=boom, b=heard.append, c=heard.append)
    event = ConnectionEvent("state_changed", 1.0, "office", "loaded", was="setting_up")
    plugins.connection_event(event)
    assert heard == [event] * 2
    assert plugins.errors == {"a": 1}


def test_siperb_diagnostics() -> None:
    plugins = plugins_of("siperb_diagnostics", a=boom, b=lambda name: None, c=lambda name: {"of": name}, d=lambda _: 5)
    assert plugins.diagnostics("office") == {"c": {"of": "office"}}
    assert plugins.errors == {"a": 1, "d": 1}


def gauge(name: str, value: Any = 1, **fields: Any) -> Metric:
    return Metric(name, fields.pop("kind", "gauge"), "Help.", {(): value}, **fields)


def test_siperb_metrics() -> None:
    plugins = plugins_of(
        "siperb_metrics",
        a=boom,
        b=lambda: [gauge("queue", 5), gauge("queue", 6), gauge("sizes", Histogram([1]), kind="histogram")],
        c=lambda: [gauge("b_queue")],
        **{"with-dash": lambda: [gauge("x")]},
    )
    plugins.add_own("own", giving("siperb_metrics", lambda: [gauge("calls", 7), gauge("b_sizes", 1)]))
    rows = plugins.metrics("siperb_")
    assert [(row["name"], row["samples"][0].get("value")) for row in rows] == [
        ("siperb_calls", 7),
        ("siperb_b_sizes", 1),
        ("siperb_b_queue", 5),
        ("siperb_c_b_queue", 1),
        ("siperb_with_dash_x", 1),
    ], "the gateway's own first, and without a name before them"
    assert plugins.errors == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "wrong",
    [
        *(5, None, "calls", gauge("Upper"), gauge("a-b"), gauge(""), gauge("x" * 101), gauge("calls_total")),
        *(gauge("calls", kind="counter"), gauge("calls", kind="summary"), gauge("x_bucket"), gauge("x_sum")),
        *(gauge("x", "5"), gauge("x", float("nan")), gauge("x_total", -1, kind="counter"), gauge("x", Histogram([]))),
        *(gauge("x", 5, kind="histogram"), gauge("x", labels=("a",)), gauge("x", labels="a")),
        Metric("x", "gauge", "Help.", {("a",): 1}, labels=("le",)),
        Metric("x", "gauge", "Help.", {("a", "b"): 1}, labels=("y", "y")),
        Metric("x", "gauge", "Help.", {(5,): 1}, labels=("y",)),  # type: ignore[dict-item]
        Metric("x", "gauge", "Help.", {("v" * 201,): 1}, labels=("y",)),
        Metric("x", "gauge", "Help.", {(f"{n}",): 1 for n in range(1001)}, labels=("y",)),
        Metric("x", "gauge", None, {(): 1}),  # type: ignore[arg-type]
        Metric("x", "gauge", "Help.", None),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_metric_is_left_out_and_costs_only_itself(wrong: Any) -> None:
    plugins = plugins_of("siperb_metrics", a=lambda: [wrong, gauge("right")])
    assert [row["name"] for row in plugins.metrics("siperb_")] == ["siperb_a_right"]
    assert plugins.errors == {"a": 1}


async def test_siperb_control_methods() -> None:
    async def method(params: Mapping[str, Any]) -> Any:
        return params["x"]

    plugins = plugins_of("siperb_control_methods", a=boom, b=lambda view: {"see": method}, c=lambda _: {"see": 5})
    plugins.add_own("operations", giving("siperb_control_methods", lambda view: {"show.calls": method}))
    seen: list[str] = []
    found = plugins.control_methods(seen.append)  # type: ignore[arg-type]
    assert set(found) == {"b.see", "show.calls"}
    assert await found["b.see"]({"x": 1}) == 1
    assert seen == ["a", "b", "c", "operations"], "each sees the gateway by its own name"
    assert plugins.errors == {"a": 1, "c": 1}


async def test_siperb_http_routes() -> None:
    async def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.path)

    def route(path: str) -> Callable[[Any], Sequence[Any]]:
        return lambda view: [HttpRoute(path, answer)]

    plugins = plugins_of("siperb_http_routes", a=route("/a"), b=route("/a"), c=route("c"), d=lambda _: [5])
    assert [item.path for item in plugins.http_routes(lambda plugin: None)] == ["/a"]  # type: ignore[arg-type, return-value]
    assert plugins.errors == {"b": 1, "c": 1, "d": 1}


def test_siperb_commands(tmp_path: Path) -> None:
    first, second = Command("x", "m:f"), Command("x", "m:g")
    plugins = plugins_of("siperb_commands", a=boom, b=lambda: [first], c=lambda: [second], d=lambda: [5])
    assert plugins.commands() == [first]
    assert plugins.errors == {"a": 1, "c": 1, "d": 1}
    assert {"new", "import"} <= {command.name for command in load_plugins(only=["siperb_commands"]).commands()}


def test_a_class_is_one_object_for_every_gateway() -> None:
    from importlib.metadata import EntryPoint

    from siperb_core.plugins import GROUP

    point = EntryPoint("counts", f"{__name__}:Counts", GROUP)
    import sys

    sys.modules.setdefault(__name__, sys.modules[Counts.__module__])
    first, second = (load_plugins(found=lambda: [point]) for _ in range(2))
    for plugins, times in ((first, 2), (second, 1)):
        for _ in range(times):
            plugins.call_record({})
        assert plugins.diagnostics("x") == {"counts": {"calls": times}}


class Counts:
    """Hooks that share state."""

    def __init__(self) -> None:
        self.calls = 0

    @hookimpl
    def siperb_call_record(self) -> None:
        self.calls += 1

    @hookimpl
    def siperb_diagnostics(self) -> Mapping[str, Any]:
        return {"calls": self.calls}
