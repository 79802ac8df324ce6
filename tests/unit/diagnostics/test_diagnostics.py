"""Planted secrets never come out: not in diagnostics, nor in what a configuration's mistakes are told as."""

from __future__ import annotations

import json
import os
import string
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.cli import main
from siperb_core.entries.contract import Credentials
from siperb_core.entries.diagnostics import (
    HIDDEN,
    MAX_SIP,
    Exchange,
    describe,
    redacted,
    redacted_sip,
    secrets_of,
    without,
)
from siperb_core.entries.model import Device, Entry, Secret
from siperb_core.entries.peer import PeerSettings
from siperb_core.entries.source import load_text
from siperb_core.plugins import load_plugins
from siperb_core.sip import Message
from siperb_core.sip.digest import DigestServer, answer_challenge

TYPES = load_plugins(only=("siperb_connection_types",)).connection_types

SECRET = st.text(string.ascii_letters + string.digits, min_size=8, max_size=40).map(lambda text: f"S3{text}")
"""What is planted: nothing else in the text looks like it."""


@attrs.frozen
class OddSettings:
    """A plugin's own: secrets in tables and lists, under names of its own."""

    server: str
    api_token: str
    nested: dict[str, Any]
    keys: tuple[Secret, ...]


@given(SECRET, SECRET, SECRET)
def test_configuration(password: str, token: str, inner: str) -> None:
    entries = [
        Entry("a", "t", settings=PeerSettings(server="pbx", username="200", password=Secret(password))),
        Entry("b", "t", settings={"password": password, "list": [{"secret": inner}], "note": f"it is {password}!"}),
        Entry(
            "c", "t", settings=OddSettings("s", token, {"pin": inner, "x": {"y": Secret(password)}}, (Secret(inner),))
        ),
        Entry("d", "t", settings={"url": f"sip:200:{inner}@pbx.example.com"}, problem=f"bad {token}"),
    ]
    for entry in entries[:3]:
        text = json.dumps(describe(entry))
        assert password not in text
        assert token not in text
        assert inner not in text
        assert HIDDEN in text
    assert inner not in json.dumps(describe(entries[3], [token]))
    known = secrets_of([entries, Device("d", "d", Secret(token))])
    assert {password, token, inner} <= set(known)
    assert token not in without(entries[3].problem, known)


def test_what_is_no_secret_is_shown_with_its_type() -> None:
    shown = describe(
        Entry("a", "outbound_trunk", settings=PeerSettings(server="pbx", port=5070, password=Secret("x" * 9)))
    )
    assert shown["name"] == {"type": "text", "value": "a"}
    assert shown["weight"] == {"type": "number", "value": 0}
    assert shown["settings"]["server"] == {"type": "text", "value": "pbx"}
    assert shown["settings"]["port"] == {"type": "number", "value": 5070}
    assert shown["settings"]["password"] == {"type": "secret", "value": HIDDEN}


HEADERS = st.sampled_from(
    [
        'Authorization: Digest username="200", realm="pbx", response="{}", uri="sip:x"',
        "authorization : Bearer {}",
        "Authorization: Basic {}",
        'Proxy-Authorization: Digest username="200",response={},cnonce="{}"',
        'Proxy-Authorization:\r\n Digest username="200",\r\n\tresponse="{}"',
        'Authentication-Info: rspauth="{}"',
        "Cookie: session={}",
        "X-Siperb-Token: {}",
        "X-Auth: {}",
        "Contact: <sip:200:{}@192.0.2.1>",
        "Contact: <sip:200@192.0.2.1;access-token={}>",
        "Refer-To: <sip:1@x?password={}>",
    ]
)
BODIES = st.sampled_from(
    [
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{}",
        "a=crypto:2 AES_256_CM_HMAC_SHA1_80 inline:{}|2^20|1:4",
        "a=ice-pwd:{}",
        "k=base64:{}",
        "a=key-mgmt:mikey {}",
    ]
)


@given(SECRET, st.lists(HEADERS, max_size=4), st.lists(BODIES, max_size=3), st.sampled_from(["\r\n", "\n"]))
def test_sip_text(secret: str, headers: list[str], bodies: list[str], end: str) -> None:
    lines = [
        "INVITE sip:600@pbx SIP/2.0",
        "Via: SIP/2.0/UDP a;branch=z9hG4bK1",
        *headers,
        "Call-ID: 1",
        "",
        *bodies,
        "",
    ]
    text = redacted_sip(end.join(lines).replace("{}", secret).encode())
    assert secret not in text
    assert "INVITE sip:600@pbx SIP/2.0" in text
    assert "Call-ID: 1" in text, "what follows a secret stays"


@given(SECRET, st.sampled_from(["MD5", "SHA-256"]))
def test_a_digest_answer_keeps_what_helps_and_loses_what_can_be_tried(password: str, algorithm: str) -> None:
    challenges = DigestServer("pbx.example.com", b"k" * 16, algorithms=(algorithm,)).challenge(0.0)  # type: ignore[arg-type]
    answer = answer_challenge(
        challenges, method="REGISTER", uri="sip:pbx", username="200", password=password, cnonce="c0ffee"
    )
    assert answer is not None
    request = Message.request("REGISTER", "sip:pbx", [("From", "<sip:200@pbx>"), ("Authorization", answer)])
    text = redacted_sip(bytes(request), [password])
    response = answer.partition('response="')[2].partition('"')[0]
    assert len(response) >= 32
    assert response not in text
    assert "c0ffee" not in text
    assert 'username="200"' in text
    assert 'realm="pbx.example.com"' in text


@given(SECRET, st.binary(max_size=300))
def test_an_exchange_with_a_secret_anywhere(secret: str, around: bytes) -> None:
    exchange = Exchange(1.0, around + secret.encode() + around, b"SIP/2.0 401 " + secret.encode(), f"no {secret}")
    shown = json.dumps(exchange.as_json([secret]))
    assert secret not in shown
    assert secret not in repr(exchange)[: repr(exchange).find("error=")]


@given(
    SECRET,
    st.recursive(
        st.none() | st.integers() | st.text(max_size=9), lambda x: st.lists(x) | st.dictionaries(st.text(max_size=9), x)
    ),
)
def test_any_json(secret: str, rest: Any) -> None:
    value = {"a": [rest, {"password": secret}], "b": f"x{secret}y", secret: rest, "token": {"deep": secret}}
    assert secret not in json.dumps(redacted(value, [secret]))


def test_the_size_is_bounded() -> None:
    assert len(redacted_sip(b"x" * 100_000)) == MAX_SIP
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert len(json.dumps(redacted(deep))) < 1000
    assert len(redacted(list(range(100_000)))) == 1000


@pytest.mark.parametrize("header", ["Authorization: ", "X-Token:", "a=crypto:", "Contact: <sip:a:", ";token="])
def test_long_lines_cost_little(header: str) -> None:
    for filler in ("a", " ", ";token", "sip:a:", "\r\n "):
        redacted_sip((header + filler * 8000).encode())


TEMPLATE = """
[gateway]
domain = "x.example"
[[device]]
name = "d"
password = {password}
{extra}
[[connection]]
name = "c"
type = "{kind}"
allow_from = ["192.0.2.1"]
[connection.settings]
{settings}
"""
BROKEN = st.sampled_from(
    [
        ('"{}"', "mode = 7", "outbound_registration", 'server = "a b"\npassword = "{}"'),
        ('"{}\\u0007"', "", "outbound_trunk", 'server = "x"\npassword = "{}"'),
        ('["{}"]', "", "inbound_registration", 'username = "x y"\npassword = "{}"'),
        ('{{ key = "{}" }}', "", "inbound_registration", 'username = "u"\npassword = {{ envv = "{}" }}'),
        ('"{}"', 'passwrod = "{}"', "nothing_installed", 'password = ["{}"]'),
        ('"{}"', "", "outbound_registration", 'server = "x"\nusername = "u"\npassword = "{}"\nsecret = "{}"'),
    ]
)


@given(SECRET, BROKEN)
def test_mistakes_in_a_configuration_do_not_tell_its_secrets(secret: str, broken: tuple[str, str, str, str]) -> None:
    password, extra, kind, settings = (
        part.replace("{}", secret).replace("{{", "{").replace("}}", "}") for part in broken
    )
    text = TEMPLATE.format(password=password, extra=extra, kind=kind, settings=settings)
    result = load_text(text.encode(), Path("siperb.toml"), TYPES)
    told = [str(problem) for problem in (*result.problems, *result.warnings)]
    assert told
    assert not any(secret in line for line in told)
    assert secret not in repr(result)


def test_a_secret_s_file_and_variable_are_named_and_not_read_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "S3planted\x01control"
    (tmp_path / "pw").write_text(secret)
    monkeypatch.setitem(os.environ, "PLANTED", secret)
    for source in ('{ file = "pw" }', '{ env = "PLANTED" }'):
        text = TEMPLATE.format(password=source, extra="", kind="outbound_trunk", settings='server = "x"')
        result = load_text(text.encode(), tmp_path / "siperb.toml", TYPES)
        assert result.problems
        assert "S3planted" not in "".join(map(str, result.problems))


def test_the_command_needs_a_gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "siperb.toml"
    path.write_text('[gateway]\ndomain = "x.example"\n')
    assert main(["diagnostics", "office", "--config", str(path)]) == 1
    assert "no gateway is running" in capsys.readouterr().err


def test_what_holds_secrets_does_not_print_them() -> None:
    for holder in (
        Secret("S3planted-secret"),
        Credentials("200", "S3planted-secret"),
        Device("d", "d", Secret("S3planted-secret")),
        PeerSettings(server="x", password=Secret("S3planted-secret")),
    ):
        assert "S3planted" not in f"{holder!r} {holder}"
