"""A whole gateway, calls with audio, and what /metrics has of them: every name of the contract, and right values."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from siperb_core import CallEvent, hookimpl
from siperb_core.cli import main
from siperb_core.gateway import Gateway
from siperb_core.own_metrics import OUTCOMES, OWN
from siperb_core.testing.gateway import head_with, open_gateway, websocket_url
from siperb_core.testing.pbx import PbxSettings, open_pbx
from siperb_core.testing.session import CallFailed
from siperb_core.testing.softphone import open_softphone

CONTRACT = {
    "calls_active": ("gauge", ()),
    "calls_total": ("counter", ("direction", "outcome")),
    "call_setup_seconds": ("histogram", ()),
    "registrations_active": ("gauge", ()),
    "connection_state": ("gauge", ("connection", "state")),
    "sip_messages_total": ("counter", ("transport", "direction", "method")),
    "transactions_active": ("gauge", ()),
    "media_sessions": ("gauge", ("mode",)),
    "media_packets_total": ("counter", ("leg", "direction")),
    "media_one_way_total": ("counter", ()),
    "transcode_seconds_total": ("counter", ()),
    "auth_failures_total": ("counter", ()),
    "rejected_total": ("counter", ("reason",)),
    "plugin_errors_total": ("counter", ("plugin",)),
}
"""Names, types and labels that dashboards hold on to."""
QUALITY = {
    "call_mos": ("histogram", ("leg",)),
    "call_jitter_seconds": ("histogram", ("leg",)),
    "call_packets_lost_total": ("counter", ("leg",)),
}
ORDER = {f"siperb_{own.name}": tuple(own.labels) for own in OWN}
PLUGINS = ("console", "connection_outbound_reg", "transcoder_opus_g722")
CONNECTIONS = """
[[connection]]
name = "office"
type = "outbound_registration"
users = ["alice"]
[connection.settings]
server = "127.0.0.1"
port = {port}
username = "200"
password = "two-hundred"

[[connection]]
name = "off"
type = "outbound_registration"
enabled = false
[connection.settings]
server = "127.0.0.1"
username = "201"
password = "planted-pbx-password"
"""
SECRET = ("alice", "bob", "two-hundred", "planted", "gw.example", "127.0.0.1")

Numbers = dict[tuple[str, ...], float]


class Scrape:
    """One answer of /metrics, read by Prometheus' own parser."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.types: dict[str, str] = {}
        self.samples: dict[str, Numbers] = {}
        for family in text_string_to_metric_families(text):
            # The parser calls a counter by its name without _total.
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert name not in self.types, f"{name} comes twice"
            assert family.documentation
            self.types[name] = family.type
            for sample in family.samples:
                labels = ORDER[name]  # in the text they are in that of the alphabet
                assert sample.labels.keys() - {"le"} == set(labels), name
                if "le" not in sample.labels:
                    self.samples.setdefault(sample.name, {})[tuple(map(sample.labels.__getitem__, labels))] = (
                        sample.value
                    )

    def __call__(self, name: str, *labels: str) -> float:
        return self.samples[f"siperb_{name}"][labels]

    def total(self, name: str) -> float:
        return sum(self.samples[f"siperb_{name}"].values())


class World:
    """The gateway under test, and its /metrics."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway, self.port = gateway, port

    async def scrape(self) -> Scrape:
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join([part async for part in stream])
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"content-type: text/plain; version=0.0.4; charset=utf-8" in head
        return Scrape(body.decode())

    async def until(self, done: Callable[[Scrape], bool]) -> Scrape:
        """Scrape until it is so; figures of the media are a second old."""
        while not done(found := await self.scrape()):  # noqa: ASYNC110
            await trio.sleep(0.05)
        return found


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def head(port: int) -> str:
    return f'{head_with(PLUGINS)}\n[plugins.console]\nbind = "127.0.0.1:{port}"\n'


class Raises:
    @hookimpl
    def siperb_call_event(self, event: CallEvent) -> None:
        raise ZeroDivisionError


async def test_calls_are_counted_as_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with capture_logs(), trio.fail_after(120):
        async with (
            open_pbx(PbxSettings(accounts={"200": "two-hundred"})) as pbx,
            open_gateway(tmp_path, CONNECTIONS.format(port=pbx.local[1]), head=head(port)) as gateway,
        ):
            world = World(gateway, port)
            before = await world.scrape()
            for name, (kind, labels) in {**CONTRACT, **QUALITY}.items():
                assert (before.types[f"siperb_{name}"], ORDER[f"siperb_{name}"]) == (kind, labels), name
            assert set(before.types) == {f"siperb_{own.name}" for own in OWN}
            assert {f"siperb_{own.name}": own.kind for own in OWN} == before.types
            assert set(before.samples["siperb_calls_total"]) == {
                (direction, how) for direction in ("outbound", "inbound") for how in OUTCOMES
            }
            assert {name for name in before.samples if before.samples[name] and before.total(name[7:])} <= {
                *("siperb_connection_state", "siperb_sip_messages_total", "siperb_transactions_active"),
                "siperb_media_cpu_seconds_total",
            }, "nothing has happened but a registration with the PBX"
            assert before("connection_state", "office", "loaded") == before("connection_state", "off", "disabled") == 1
            assert before.total("connection_state") == 2
            assert before("sip_messages_total", "udp", "out", "REGISTER") == 2

            with pytest.raises(CallFailed):
                async with open_softphone(websocket_url(gateway), "bob-web", gateway.domain, "planted-wrong"):
                    pass
            gateway.plugins.register("bad", Raises())
            async with open_softphone(websocket_url(gateway), "alice-web", gateway.domain, "alice-secret") as alice:
                call = await alice.call("601")
                await call.answered()
                await call.connected()
                assert (await call.listen(1.0)).is_tone(1000, within=5)
                during = await world.until(lambda found: found("media_packets_total", "client", "in") >= 40)
                assert during("calls_active") == during("media_sessions", "transcode") == 1
                assert during("registrations_active") == 1
                assert during("transactions_active") >= 1
                await call.hangup()
                for number, status in (("603", 486), ("699", 404)):
                    with pytest.raises(CallFailed) as failed:
                        await (await alice.call(number)).answered()
                    assert failed.value.status == status
                ringing = await alice.call("604")
                await world.until(lambda found: found("call_setup_seconds_count") == 2)
                await ringing.hangup()
                again = await alice.call("605")
                await again.answered()
                await again.hangup()
                back = await alice.next_call()
                await back.accept()
                await back.hears(1000)
                await back.hangup()
                await gateway.calls.wait_idle()

            carried: dict[tuple[str, str], int] = {}

            async def is_counted(found: Scrape) -> bool:
                """The totals are those of all calls together: a worker's come once a second."""
                rows = [row["media"] for row in await gateway.operations.call("show.calls") if row["media"]]
                for leg in ("client", "peer"):
                    for way in ("in", "out"):
                        carried[leg, way] = sum(media[leg][f"packets_{way}"] for media in rows)
                packets = found.samples["siperb_media_packets_total"]
                return packets == carried and not found("registrations_active") and len(rows) >= 3

            while not await is_counted(after := await world.scrape()):  # noqa: ASYNC110
                await trio.sleep(0.05)
            sent = sum(one.media.packets_out for one in (call, again, back))
            assert 0.5 * sent <= carried["client", "in"] <= sent
            assert len(set(carried.values())) > 1, "all four alike would tell nothing"
            assert after("media_sessions_opened_total") >= 5
            assert after("calls_active") == after.total("media_sessions") == 0
            calls = {key: value for key, value in after.samples["siperb_calls_total"].items() if value}
            assert calls == {
                ("outbound", "answered"): 2,
                ("outbound", "busy"): 1,
                ("outbound", "rejected"): 1,
                ("outbound", "cancelled"): 1,
                ("inbound", "answered"): 1,
            }
            assert after("call_setup_seconds_count") == 4, "two that failed never rang"
            assert 0 < after("call_setup_seconds_sum") < 60
            for leg in ("client", "peer"):
                heard = after("call_mos_count", leg)
                assert 2 <= heard <= 3
                assert 4 < after("call_mos_sum", leg) / heard <= 4.5
                assert after("call_jitter_seconds_count", leg) == heard
                assert after("call_jitter_seconds_sum", leg) < 1
                assert after("call_packets_lost_total", leg) < 20
            assert after("sip_messages_total", "ws", "in", "INVITE") >= 5
            assert after("sip_messages_total", "ws", "out", "INVITE") >= 1
            assert after("auth_failures_total") == after("rejected_total", "credentials") >= 1
            assert after("plugin_errors_total", "bad") >= 5
            assert after("transcode_seconds_total") > 0
            assert after("media_one_way_total") == 0
            for counter, kind in after.types.items():
                if kind == "counter":
                    for key, value in during.samples[counter].items():
                        assert after.samples[counter][key] >= value, f"{counter}{key} went back"

            rows: list[dict[str, Any]] = await gateway.operations.call("show.metrics")
            config = ["--config", str(gateway.config_path)]
            await trio.to_thread.run_sync(main, ["show", "metrics", "--json", *config])
            shown = json.loads(capsys.readouterr().out)
            await trio.to_thread.run_sync(main, ["show", "metrics", *config])
            table = capsys.readouterr().out
            assert [row["name"] for row in rows] == [row["name"] for row in shown] == list(after.types)
            assert "direction=outbound outcome=busy" in table
            for text in (after.text, during.text, json.dumps(shown), table):
                assert not [word for word in SECRET if word in text]
            values = {label for keys in after.samples.values() for key in keys for label in key}
            assert {"office", "client", "busy"} <= values
            assert not [value for value in values if value[0].isdigit() and not value.endswith("xx")], "no numbers"
