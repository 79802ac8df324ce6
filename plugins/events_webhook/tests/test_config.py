"""The table `[plugins.events_webhook]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from siperb_core.testing import settings_of
from siperb_events_webhook import WebhookConfig
from siperb_events_webhook.events import NAMES

GOOD = {"url": "https://hooks.example.net/x", "secret": "0123456789abcdef"}


def test_defaults_are_all_but_refreshes() -> None:
    config = settings_of(WebhookConfig, GOOD)
    assert config.names == frozenset(NAMES) - {"registration.refreshed"}
    assert (config.timeout, config.max_queue, config.ca, config.allow_plain_http) == (10, 1000, None, False)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:8000/x", "http://localhost/x", "http://[::1]/x", "http://127.9.9.9"),
        *("https://10.0.0.5/x", "https://user:pw@hooks.example.net:8443/x?y=z"),
    ],
)
def test_addresses_that_will_do(url: str) -> None:
    assert settings_of(WebhookConfig, GOOD | {"url": url}).url.reveal() == url


def test_plain_http_elsewhere_has_to_be_written_out() -> None:
    table = GOOD | {"url": "http://10.0.0.5/x"}
    with pytest.raises(ValueError, match="allow_plain_http"):
        settings_of(WebhookConfig, table)
    assert settings_of(WebhookConfig, table | {"allow_plain_http": True}).receiver == "http://10.0.0.5"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "ftp://hooks.example.net"}, "url: is no web address"),
        ({"url": "hooks.example.net"}, "url: is no web address"),
        ({"url": "https://"}, "url: is no web address"),
        ({"url": "https://a b/"}, "url: is no web address"),
        ({"url": "https://x:99999/"}, "url: is no web address"),
        ({"url": "http://localhost.example.net/"}, "url is http:// to another machine"),
        ({"url": "http://127.0.0.1@evil.example.net/"}, "url is http:// to another machine"),
        ({"url": 5}, "url: is not a secret"),
        ({"secret": "short"}, "secret: is shorter than 16"),
        ({"secret": "x" * 20 + "\n"}, "secret: holds a control character"),
        ({"secret": {"env": "NOT_SET"}}, "secret: environment variable NOT_SET is not set"),
        ({"secret": {"file": "relative"}}, "secret: file relative cannot be read"),
        ({"secret": {"file": "/nowhere/at/all"}}, "secret: file /nowhere/at/all cannot be read"),
        ({"secret": {"vault": "x"}}, "secret: is not a secret"),
        ({"events": "call.*"}, "events: is text"),
        ({"events": ["call.gone"]}, 'events: there is no event "call.gone"'),
        ({"events": []}, "events: is empty"),
        ({"timeout": 0}, "timeout: 0 is out of range"),
        ({"timeout": "5"}, "timeout: is text"),
        ({"timeout": float("nan")}, "timeout: is not a finite number"),
        ({"max_queue": 5}, "max_queue: 5 is out of range"),
        ({"max_queue": 50.5}, "max_queue: is a number"),
        ({"max_queue": True}, "max_queue: is true or false"),
        ({"ca": "/nowhere.pem"}, "ca: /nowhere.pem cannot be read"),
        ({"allow_plain_http": "yes"}, "allow_plain_http: is text"),
        ({"verify": False}, "verify: unknown key"),
    ],
)
def test_mistakes_are_named_with_their_path(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        settings_of(WebhookConfig, GOOD | change)
    (line,) = str(caught.value).split("; settings")
    assert line.removeprefix("settings").strip(".: ").startswith(said)


def test_all_mistakes_at_once_and_no_secret_in_them() -> None:
    with pytest.raises(ValueError) as caught:
        settings_of(WebhookConfig, {"url": "http://u:hidden-pw@example.net/hidden-path", "secret": "hidden", "x": 1})
    assert len(str(caught.value).split("; settings")) == 2
    assert "hidden" not in str(caught.value)


def test_secrets_out_of_the_environment_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "https://hooks.example.net/token")
    file = tmp_path / "secret"
    file.write_text("a-secret-out-of-a-file\n")
    config = settings_of(WebhookConfig, {"url": {"env": "HOOK"}, "secret": {"file": str(file)}})
    assert config.url.reveal() == "https://hooks.example.net/token"
    assert config.secret.reveal() == "a-secret-out-of-a-file"
    assert "a-secret" not in repr(config)
    assert "token" not in repr(config)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff" * 20, b"x" * 5000, b"x" * 20 + b"\ny"])
def test_files_that_hold_no_secret(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"settings\.secret: "):
        settings_of(WebhookConfig, GOOD | {"secret": {"file": str(file)}})


def test_what_is_shown_of_the_url() -> None:
    config = settings_of(WebhookConfig, GOOD | {"url": "https://user:pw@[2001:db8::1]:8443/token?key=x#y"})
    assert config.receiver == "https://[2001:db8::1]:8443"
