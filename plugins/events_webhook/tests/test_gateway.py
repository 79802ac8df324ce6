"""A whole gateway, a PBX, a softphone and a receiver: what is documented is what arrives."""

from __future__ import annotations

import json
import logging
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

PLUGINS = ["connection_outbound_reg", "events_webhook", "transcoder_opus_g722"]
README = Path(__file__).resolve().parents[1] / "README.md"
SECRETS = ("a-secret-that-nobody-may-see", "url-password", "path-token", "query-key")
CONFIGURATION = """
[plugins.events_webhook]
url = "{url}"
secret = "a-secret-that-nobody-may-see"
events = {events}
{more}

[[connection]]
name = "office"
type = "outbound_registration"
[connection.settings]
server = "127.0.0.1"
port = {port}
username = "200"
password = "two-hundred"
"""


def configuration(pbx: Any, url: str, *events: str, more: str = "") -> str:
    """The tables; the URL with everything in it that nobody may see."""
    url = url.replace("http://", "http://user:url-password@").replace("/hook", "/path-token?key=query-key")
    return CONFIGURATION.format(url=url, port=pbx.local[1], events=json.dumps(events or ("*",)), more=more)


async def talk(gw: Any, alice: Any, number: str = "601") -> None:
    """A call that is answered, and over."""
    call = await alice.call(number)
    await call.answered()
    await call.hangup()
    await gw.calls.wait_idle()


def documented() -> dict[str, Any]:
    """The README's example of a call."""
    return next(example for example in examples() if example["event"] == "call.answered")


def examples() -> list[dict[str, Any]]:
    """All of the README's."""
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)]


def recipe(page: Path) -> Any:
    """The function a page gives receivers to check signatures with."""
    (block,) = re.findall(r"^ *```python\n(.*?)```", page.read_text(), re.DOTALL | re.MULTILINE)
    found: dict[str, Any] = {}
    exec(textwrap.dedent(block), found)
    return found["is_genuine"]


async def test_a_registration_and_a_call_are_told_as_documented_and_no_secret_shows(
    pbx: Any,
    gateway: Any,
    softphone: Any,
    receiver: Any,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    with trio.fail_after(90), capture_logs() as logs:
        office = await pbx(accounts={"200": "two-hundred"})
        # The first attempt is refused: errors are logged, too.
        async with receiver(500, 204).listening() as taker:
            wanted = ("call.*", "registration.*")
            gw = await gateway(configuration(office, taker.url, *wanted), plugins=PLUGINS)
            alice = await softphone(gw, "alice")
            await alice.register()
            await talk(gw, alice)
            await alice.close()
            await taker.took(7)
            names = ["registration.added", "registration.refreshed"]
            names += ["call.started", "call.answered", "call.ended", "call.record"]
            told = taker.names()
            assert sorted(told) == sorted([*names, "registration.removed"])
            assert [name for name in told if name != "registration.removed"] == names
            posts = {post.json["event"]: post for post in taker.taken}
            while (status := await gw.operations.call("events_webhook.status"))["queue"]:  # noqa: ASYNC110
                await trio.sleep(0.01)  # the last answer is on its way
            diagnostics = await gw.operations.call("diagnostics", {"name": "office"})
            issues = await gw.operations.call("show.issues")
            metrics = await gw.operations.call("show.metrics")
    assert all(post.is_genuine() for post in taker.posts)
    for page in (README, README.parents[2] / "docs" / "how-to" / "receive-events.md"):
        is_genuine = recipe(page)
        for post in taker.posts:
            header = post.headers["x-siperb-signature"]
            assert is_genuine(SECRETS[0], header, post.body)
            assert not is_genuine(SECRETS[0], header, post.body + b" ")
            assert not is_genuine("another-secret-of-somebody", header, post.body)
            assert not is_genuine(SECRETS[0], header.replace("t=1", "t=2"), post.body)
    assert {post.target for post in taker.posts} == {"/path-token?key=query-key"}
    assert [post.json["sequence"] for post in taker.taken] == list(range(1, 8))

    example = documented()
    for name, post in posts.items():
        assert post.json.keys() == example.keys()
        assert post.json["gateway"] == "gw.example"
        assert post.headers["content-type"] == "application/json"
        if name.startswith("call.") and name != "call.record":
            assert post.json["data"].keys() == example["data"].keys()
    answered, ended = posts["call.answered"].json, posts["call.ended"].json
    data = answered["data"]
    assert (data["direction"], data["connection"], data["user"], data["device"], data["number"]) == (
        *("outbound", "office", "alice"),
        *("alice-web", "601"),
    )
    assert data["from"].startswith("sip:alice-web@gw.example")
    assert data["started"] <= answered["time"] <= ended["time"]
    assert ended["data"]["cause"]
    record = posts["call.record"].json["data"]
    assert record["call_id"] == data["call_id"] == ended["data"]["call_id"]
    assert record["media"]
    added = posts["registration.added"].json["data"]
    assert added.keys() == {"device", "user", "contact", "expires_at", "user_agent", "transport", "remote"}
    assert (added["device"], added["user"], added["transport"]) == ("alice-web", "alice", "ws")

    assert (status["delivered"], status["failed"], status["queue"]) == (7, 0, 0)
    assert status["last_error"] == "HTTP 500"
    assert diagnostics["plugins"]["events_webhook"] == status
    own = [row for row in metrics if row["name"].startswith("siperb_events_webhook_")]
    assert {row["name"]: [*(sample["value"] for sample in row["samples"])] for row in own} == {
        "siperb_events_webhook_queue_length": [0],
        "siperb_events_webhook_deliveries_total": [7, 0, 1],
        "siperb_events_webhook_dropped_total": [0],
    }
    assert [sample["labels"]["outcome"] for sample in own[1]["samples"]] == ["delivered", "failed", "retried"]
    for row in own:
        assert f"`{row['name']}{{{','.join(row['labels'])}}}`".replace("{}", "") in README.read_text()
    shown = (
        json.dumps([status, diagnostics, issues, metrics], default=str)
        + repr(logs)
        + caplog.text
        + "".join(capfd.readouterr())
    )
    assert "webhook.failed" in shown
    assert [secret for secret in SECRETS if secret in shown] == []


REFUSED = """
[[connection]]
name = "refused"
type = "outbound_registration"
[connection.settings]
server = "127.0.0.1"
port = {port}
username = "201"
password = "planted-password"
"""


async def test_what_happens_to_connections_is_told_as_documented(pbx: Any, gateway: Any, receiver: Any) -> None:
    accounts = {"200": "two-hundred", "201": "another"}
    with trio.fail_after(90):
        office = await pbx(accounts=accounts)
        async with receiver().listening() as taker:
            text = configuration(office, taker.url, "connection.*") + REFUSED.format(port=office.local[1])
            gw = await gateway(text, plugins=PLUGINS)
            await taker.took(4)
            accounts["201"] = "planted-password"
            for name in ("office", "refused"):
                await gw.operations.call("connection.reload", {"name": name})
                await gw.wait_settled()
            assert await gw.operations.call("show.issues") == []
            gw.stop(drain_seconds=0)
            await gw.stopped.wait()
    documents = [post.json for post in taker.taken]
    told = [
        (data["connection"], document["event"].removeprefix("connection."), data["was"], data["state"])
        for document in documents
        for data in [document["data"]]
    ]
    again = [("state_changed", "loaded", "unloading"), ("registration_lost", "", "unloading")]
    up = [("registered", "", "setting_up"), ("state_changed", "setting_up", "loaded")]
    assert [event for name, *event in told if name == "office"] == [
        *map(list, [*up, *again, *up]),
        ["registration_lost", "", "loaded"],
    ]
    assert [event for name, *event in told if name == "refused"] == [
        ["state_changed", "setting_up", "auth_failed"],
        ["issue_raised", "", "auth_failed"],
        ["state_changed", "auth_failed", "unloading"],
        ["issue_mended", "", "unloading"],
        *map(list, up),
        ["registration_lost", "", "loaded"],
    ]
    _, moved, raised = examples()
    for document in documents:
        assert document.keys() == moved.keys() == raised.keys()
        assert document["data"].keys() == moved["data"].keys() == raised["data"].keys()
    issues = [document["data"] for document in documents if document["data"]["issue"]]
    assert [issue["issue"] for issue in issues] == ["auth_failed"] * 2
    example = raised["data"]
    assert issues[0] | {"text": "", "mend": ""} == example | {"connection": "refused", "text": "", "mend": ""}
    assert issues[0]["text"] == issues[1]["text"]
    assert issues[0]["mend"] == example["mend"].replace("office", "refused")
    assert all(post.is_genuine() for post in taker.posts)
    assert not any(b"planted-password" in post.body for post in taker.posts)


async def test_calls_go_on_while_the_receiver_is_dead_and_what_is_queued_leaves_at_the_end(
    pbx: Any, gateway: Any, softphone: Any, receiver: Any
) -> None:
    with trio.fail_after(90):
        office = await pbx(accounts={"200": "two-hundred"})
        async with receiver(0, 204).listening() as taker:
            gw = await gateway(configuration(office, taker.url, "call.ended", more="timeout = 3"), plugins=PLUGINS)
            alice = await softphone(gw, "alice")
            for number in ("601", "600", "601"):
                await talk(gw, alice, number)
            assert taker.taken == []
            assert (await gw.operations.call("events_webhook.status"))["queue"] == 3
            rows = {row["name"]: row["samples"] for row in await gw.operations.call("show.metrics")}
            assert rows["siperb_events_webhook_queue_length"][0]["value"] == 3
            gw.stop(drain_seconds=0)
            await gw.stopped.wait()
    assert [post.json["data"]["number"] for post in taker.taken] == ["601", "600", "601"]
    assert len(taker.posts) == 4
    assert taker.posts[0].json["id"] == taker.posts[1].json["id"]


async def test_a_table_with_mistakes_is_an_issue_and_calls_go_on(pbx: Any, gateway: Any, softphone: Any) -> None:
    with trio.fail_after(90):
        office = await pbx(accounts={"200": "two-hundred"})
        gw = await gateway(configuration(office, "http://192.0.2.1/hook", more="colour = 1"), plugins=PLUGINS)
        await talk(gw, await softphone(gw, "alice"))
        (issue,) = [i for i in await gw.operations.call("show.issues") if i["id"].startswith("events_webhook:")]
        assert issue["id"] == "events_webhook:settings"
        assert "plugins.events_webhook.colour: unknown key" in issue["text"]
        assert [secret for secret in SECRETS if secret in json.dumps(issue)] == []
        assert await gw.operations.call("events_webhook.status") is None


async def test_without_its_table_the_plugin_does_nothing(pbx: Any, gateway: Any, softphone: Any) -> None:
    with trio.fail_after(90):
        office = await pbx(accounts={"200": "two-hundred"})
        gw = await gateway("[[connection]]" + configuration(office, "").partition("[[connection]]")[2], plugins=PLUGINS)
        await talk(gw, await softphone(gw, "alice"))
        assert await gw.operations.call("events_webhook.status") is None
        assert "events_webhook" not in str([row["name"] for row in await gw.operations.call("show.metrics")])
        assert await gw.operations.call("show.issues") == []
        assert "events_webhook" not in (await gw.operations.call("diagnostics", {"name": "office"}))["plugins"]
