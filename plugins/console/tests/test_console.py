"""The console over real HTTP on loopback, with a gateway that is a dictionary."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from siperb_console import (
    ConsoleConfig,
    ConsoleService,
    app,
    siperb_http_routes,
    siperb_services,
)
from siperb_core import ControlError, HttpRequest, HttpResponse, HttpRoute
from siperb_core.testing import settings_of

DEVICE = {"SipUsername": "alice", "SipPassword": "x", "SipDomain": "sip.example.net", "RegistrationMode": "proxy"}


class FakeGateway:
    """Answers what it was given; anything else is an error, as on the control socket."""

    def __init__(self, config: dict[str, Any] | None = None, **answers: Any) -> None:
        self.settings = settings_of(ConsoleConfig, {"bind": "127.0.0.1:0"} | (config or {}))
        self.answers = {name.replace("_", "."): answer for name, answer in answers.items()}
        self.asked: list[tuple[str, Any]] = []
        self.routes: list[HttpRoute] = []

    def http_routes(self) -> list[Any]:
        return [*siperb_http_routes(self), *self.routes]

    async def call(self, method: str, params: Any = None) -> Any:
        self.asked.append((method, params))
        if method not in self.answers:
            raise ControlError(f"there is no {method}")
        return self.answers[method]


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Console:
    def __init__(self, service: ConsoleService) -> None:
        self.service = service

    async def get(
        self, path: str, method: str = "GET", host: str = "phone.example.net", body: str | None = None, **headers: str
    ) -> Answer:
        port = int(self.service.url.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            fields = {"Host": host, "Connection": "close", **headers}
            if body is not None:
                fields["Content-Length"] = f"{len(body.encode())}"
            lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
            await stream.send_all(("\r\n".join(lines) + (body or "")).encode())
            data = b"".join([chunk async for chunk in stream])
        head, _, content = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return Answer(int(first.split()[1]), headers, content)


@asynccontextmanager
async def running(gateway: FakeGateway | None = None):
    service = ConsoleService()
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run, gateway or FakeGateway())
        yield Console(service)
        nursery.cancel_scope.cancel()


def test_the_plugin_gives_the_console_as_a_service() -> None:
    assert [service.name for service in siperb_services()] == ["console"]


async def test_health_is_json() -> None:
    async with running() as console:
        answer = await console.get("/healthz")
    assert answer.status == 200
    assert answer.json == {"status": "ok"}


METRICS = [
    {
        "name": "siperb_calls_total",
        "type": "counter",
        "help": "Calls, by\nhow they came out.",
        "labels": ["direction", "outcome"],
        "samples": [{"labels": {"direction": 'a "b" \\c', "outcome": "x\ny"}, "value": 3}],
    },
    {
        "name": "siperb_queue_length",
        "type": "gauge",
        "help": "Waiting.",
        "labels": [],
        "samples": [{"labels": {}, "value": 0.25}],
    },
    {
        "name": "siperb_call_setup_seconds",
        "type": "histogram",
        "help": "Setup.",
        "labels": ["leg"],
        "samples": [{"labels": {"leg": "client"}, "buckets": {"0.5": 1, "+Inf": 2}, "sum": 3.5, "count": 2}],
    },
    {"name": "siperb_nothing", "type": "gauge", "help": "None yet.", "labels": ["x"], "samples": []},
]
EXPOSED = r"""# HELP siperb_calls_total Calls, by\nhow they came out.
# TYPE siperb_calls_total counter
siperb_calls_total{direction="a \"b\" \\c",outcome="x\ny"} 3.0
# HELP siperb_queue_length Waiting.
# TYPE siperb_queue_length gauge
siperb_queue_length 0.25
# HELP siperb_call_setup_seconds Setup.
# TYPE siperb_call_setup_seconds histogram
siperb_call_setup_seconds_bucket{le="0.5",leg="client"} 1.0
siperb_call_setup_seconds_bucket{le="+Inf",leg="client"} 2.0
siperb_call_setup_seconds_count{leg="client"} 2.0
siperb_call_setup_seconds_sum{leg="client"} 3.5
# HELP siperb_nothing None yet.
# TYPE siperb_nothing gauge
"""


async def test_metrics_are_those_of_the_gateway_as_prometheus_reads_them() -> None:
    async with running(FakeGateway(show_metrics=METRICS)) as console:
        answer = await console.get("/metrics", Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")
        again = await console.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body.decode() == again.body.decode() == EXPOSED


async def test_metrics_the_gateway_cannot_give_are_an_error_with_its_reason() -> None:
    async with running() as console:
        answer = await console.get("/metrics")
    assert answer.status == 503
    assert "show.metrics" in answer.json["error"]


async def test_routes_of_plugins_are_served_and_take_no_page_of_the_consoles_own() -> None:
    async def answer(request: HttpRequest) -> HttpResponse:
        if request.parameters["name"] == "down":
            raise ControlError("not now")
        return HttpResponse(f"{request.method} {request.parameters['name']} {request.query['x']}", 201)

    gateway = FakeGateway()
    gateway.routes = [HttpRoute("/api/v1/{name}", answer), HttpRoute("/phone", answer)]
    async with running(gateway) as console:
        made = await console.get("/api/v1/thing?x=1")
        assert (made.status, made.body) == (201, b"GET thing 1")
        assert (await console.get("/api/v1/down")).status == 503
        assert (await console.get("/api/v1/thing?x=1", method="POST")).status == 405
        assert b"GET phone" not in (await console.get("/phone")).body


async def test_the_first_page_leads_to_the_phone() -> None:
    async with running() as console:
        answer = await console.get("/")
    assert answer.status == 307
    assert answer.headers["location"] == "/phone"


@pytest.mark.parametrize(
    "path", ["/healthz", "/", "/nothing", "/static/phone.css", "/provision/x", "/phone/settings.json"]
)
async def test_every_answer_carries_the_security_headers(path: str) -> None:
    async with running() as console:
        answer = await console.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "server" not in answer.headers


async def test_the_page_has_no_inline_script_or_style_and_names_nothing_outside() -> None:
    page = (app.STATIC / "phone.html").read_text()
    assert "<script>" not in page
    assert "style=" not in page
    assert "http" not in page
    assert "url(" not in (app.STATIC / "phone.css").read_text()


async def test_the_phone_page_is_served_once_it_is_built(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(app, "BUNDLE", tmp_path / "phone.bundle.js")
    async with running() as console:
        missing = await console.get("/phone")
        (tmp_path / "phone.bundle.js").write_text("1")
        built = await console.get("/phone")
    assert missing.status == 503
    assert b"build.py" in missing.body
    assert built.status == 200
    assert built.headers["content-type"].startswith("text/html")


async def test_settings_are_the_gateways_where_the_table_says_nothing() -> None:
    listeners = [{"transport": "udp", "address": "0.0.0.0:5060"}, {"transport": "ws", "address": "0.0.0.0:8088"}]
    gateway = FakeGateway(gateway_status={"domain": "sip.example.net", "listeners": listeners, "version": "1"})
    async with running(gateway) as console:
        answer = await console.get("/phone/settings.json", host="phone.example.net:8080")
    assert answer.json == {"ws": "ws://phone.example.net:8088/ws", "domain": "sip.example.net"}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("listeners", "url"),
    [
        ([("ws", "127.0.0.1:8088"), ("wss", "127.0.0.1:8089")], "wss://127.0.0.1:8089/ws"),
        ([("ws", "::1:8088")], "ws://[::1]:8088/ws"),
        ([("udp", "127.0.0.1:5060")], ""),
    ],
)
def test_the_websocket_is_the_gateways_own_encrypted_first(listeners: list[tuple[str, str]], url: str) -> None:
    assert app.websocket_url([{"transport": name, "address": address} for name, address in listeners]) == url


async def test_settings_of_the_table_go_before_the_gateways() -> None:
    gateway = FakeGateway({"ws": "wss://a.example/ws", "domain": "a.example"})
    async with running(gateway) as console:
        answer = await console.get("/phone/settings.json")
    assert answer.json == {"ws": "wss://a.example/ws", "domain": "a.example"}
    assert gateway.asked == []


async def test_settings_the_gateway_cannot_give_are_an_error_with_its_reason() -> None:
    async with running() as console:
        answer = await console.get("/phone/settings.json")
    assert answer.status == 503
    assert "gateway.status" in answer.json["error"]


async def test_provisioning_gives_the_gateways_answer_to_a_known_token() -> None:
    gateway = FakeGateway(device_provision=DEVICE)
    async with running(gateway) as console:
        answer = await console.get("/provision/abc-_1")
    assert answer.json == DEVICE
    assert answer.headers["cache-control"] == "no-store"
    assert gateway.asked == [("device.provision", {"token": "abc-_1", "from": {"peer": "127.0.0.1"}})]


async def test_a_token_may_come_in_the_body_where_no_log_keeps_it() -> None:
    gateway = FakeGateway(device_provision=DEVICE)
    async with running(gateway) as console:
        answer = await console.get("/provision", "POST", body="abc-_1", **{"X-Forwarded-For": "192.0.2.1"})
        for bad in ("", "a" * 129, "a'b", "\xe9"):
            assert (await console.get("/provision", "POST", body=bad)).status == 404
        assert (await console.get("/provision", "POST", body="a" * 2000)).status == 413
        assert (await console.get("/provision")).status == 405
    assert answer.json == DEVICE
    assert answer.headers["cache-control"] == "no-store"
    came_from = {"peer": "127.0.0.1", "x_forwarded_for": "192.0.2.1"}
    assert gateway.asked == [("device.provision", {"token": "abc-_1", "from": came_from})]


async def test_provisioning_of_an_unknown_token_is_404() -> None:
    async with running() as console:
        assert (await console.get("/provision/abc")).status == 404


@pytest.mark.parametrize("token", ["a" * 129, "a%00b", "a%2Fb", "%F0%9F%98%80", "a'b", ".."])
async def test_what_cannot_be_a_token_is_404_without_asking_the_gateway(token: str) -> None:
    gateway = FakeGateway(device_provision=DEVICE)
    async with running(gateway) as console:
        assert (await console.get(f"/provision/{token}")).status in (404, 405)
    assert gateway.asked == []


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/..%2fapp.py"]
)
async def test_nothing_outside_the_static_files_is_served(path: str) -> None:
    async with running() as console:
        assert (await console.get(path)).status == 404


async def test_a_file_the_browser_has_is_not_sent_again() -> None:
    async with running() as console:
        first = await console.get("/static/phone.css")
        again = await console.get("/static/phone.css", **{"If-None-Match": first.headers["etag"]})
    assert first.headers["content-type"].startswith("text/css")
    assert first.headers["cache-control"] == "no-cache"
    assert (again.status, again.body) == (304, b"")


async def test_writing_is_refused() -> None:
    async with running() as console:
        assert (await console.get("/healthz", method="POST")).status == 405


async def test_a_request_that_never_ends_is_cut_off_and_the_next_one_served() -> None:
    async with running() as console:
        port = int(console.service.url.rpartition(":")[2])
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000)
        answer = b"".join([chunk async for chunk in stream])
        assert answer.startswith(b"HTTP/1.1 431 ")
        await stream.aclose()
        assert (await console.get("/healthz")).status == 200


async def test_cancelling_stops_it_quietly_and_frees_the_port(capfd) -> None:
    async with running() as console:
        port = int(console.service.url.rpartition(":")[2])
        idle = await trio.open_tcp_stream("127.0.0.1", port)
        assert (await console.get("/healthz")).status == 200
    await idle.aclose()
    assert console.service.url == ""
    with pytest.raises(OSError):
        await trio.open_tcp_stream("127.0.0.1", port)
    assert capfd.readouterr() == ("", "")


async def test_a_taken_port_is_said_with_its_mend() -> None:
    async with running() as console:
        taken = console.service.url.removeprefix("http://")
        with pytest.raises(OSError, match=f"cannot listen on {taken}: .*plugins.console.bind"):
            await ConsoleService().run(FakeGateway({"bind": taken}))


def test_loopback_is_where_it_listens_unless_told_otherwise() -> None:
    config = settings_of(ConsoleConfig, {})
    assert (config.host, config.port) == ("127.0.0.1", 8080)


def test_an_ipv6_address_is_written_in_brackets() -> None:
    config = settings_of(ConsoleConfig, {"bind": "[::1]:9"})
    assert (config.host, config.port) == ("::1", 9)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"bnd": "x", "ws": 1}, ["bnd: unknown key", "ws: is a number"]),
        (
            {"bind": "8080", "ws": "http://x", "url": "x"},
            ["bind:", "ws:", "url:"],
        ),
        ({"bind": "127.0.0.1:99999"}, ["bind:"]),
        ({"bind": "127.0.0.1:eighty"}, ["bind:"]),
    ],
)
def test_all_mistakes_of_the_table_are_named_at_once(table: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        settings_of(ConsoleConfig, table)
    lines = str(caught.value).removeprefix("settings.").split("; settings.")
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))
