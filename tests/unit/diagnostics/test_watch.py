"""What the gateway notices by itself: raised, told once, gone when mended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from siperb_core.entries.issues import Issues
from siperb_core.entries.model import Entry, GatewayConfig, GatewaySettings, Listen, PluginsConfig
from siperb_core.events import CallEvent
from siperb_core.plugins import PluginInfo
from siperb_core.sip import Message
from siperb_core.transport.certificates import read_der, read_file
from siperb_core.watch import Watch, clock_off

NOW = datetime(2030, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def certificate(path: Path, ends: timedelta, begins: timedelta = -DAY) -> bytes:
    """A certificate on disk, as PEM; its DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW + begins)
        .not_valid_after(NOW + ends)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("gw.example"), x509.IPAddress(ip_address("192.0.2.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return made.public_bytes(serialization.Encoding.DER)


class FakeEntries:
    def __init__(self) -> None:
        self.issues = Issues()

    def entries(self) -> list[Entry]:
        return []


@attrs.define
class FakePlugins:
    infos: list[PluginInfo] = attrs.field(factory=list)


class Host:
    """The gateway, as far as the watch sees it."""

    def __init__(self) -> None:
        self.config = GatewayConfig(GatewaySettings("gw.example", Path("var")), connections=(Entry("office", "t"),))
        self.plugins: Any = FakePlugins()
        self.entries: Any = FakeEntries()
        self.targets: Any = None

    def now(self) -> float:
        return NOW.timestamp()

    @property
    def ids(self) -> list[str]:
        return [issue.id for issue in self.entries.issues.all()]


def test_an_issue_is_told_once_and_once_when_it_is_mended() -> None:
    issues = Issues()
    with capture_logs() as logs:
        for now in (1.0, 2.0, 3.0):
            issues.raise_issue("office", "x", f"words {now}", "mend", now)
        issues.clear("office", "x")
        issues.clear("office", "x")
    assert [line["event"] for line in logs] == ["issue.raised", "issue.mended"]
    assert issues.all() == []


@pytest.mark.parametrize(
    ("ends", "says"), [(13 * DAY, "in 13 days"), (-0.5 * DAY, "has expired"), (0.2 * DAY, "in 0 days"), (15 * DAY, "")]
)
def test_a_certificate_of_ours_that_runs_out(tmp_path: Path, ends: timedelta, says: str) -> None:
    host = Host()
    path = tmp_path / "cert.pem"
    certificate(path, ends, -30 * DAY)
    host.config = attrs.evolve(host.config, listen=(Listen("tls", ("0.0.0.0", 5061), certificate=path),) * 2)
    watch = Watch(host)
    watch.look()
    assert host.ids == ([f"certificate:{path}"] if says else [])
    if says:
        assert says in host.entries.issues.all()[0].text
        certificate(path, 90 * DAY)
        watch.look()
        assert host.ids == []


def test_a_certificate_that_is_none() -> None:
    host = Host()
    host.config = attrs.evolve(host.config, listen=(Listen("tls", ("::", 5061), certificate=Path(__file__)),))
    Watch(host).look()
    assert "is no certificate in PEM" in host.entries.issues.all()[0].text


def test_what_a_certificate_says(tmp_path: Path) -> None:
    der = certificate(tmp_path / "c.pem", 5 * DAY, 2 * DAY)
    found = read_file(tmp_path / "c.pem")
    assert found == read_der(der)
    assert (found.names, found.self_signed) == (("gw.example", "192.0.2.1"), True)
    assert "one of the clocks is wrong" in found.wrong(NOW.timestamp())


def test_a_plugin_set_aside_until_it_is_switched_off() -> None:
    host = Host()
    host.plugins = FakePlugins(
        [
            PluginInfo("good", "siperb-good", "1", "loaded"),
            PluginInfo("bad", "siperb-bad", "1", "set_aside", "no wheel"),
        ]
    )
    watch = Watch(host)
    watch.look()
    (issue,) = host.entries.issues.all()
    assert issue.id == "plugin_set_aside:bad"
    assert "no wheel" in issue.text
    host.config = attrs.evolve(host.config, plugins=PluginsConfig(disable=("bad",)))
    watch.look()
    assert host.ids == []


def dated(when: datetime) -> Message:
    return Message.response(200, "OK", [("Date", format_datetime(when, usegmt=True))])


def test_a_clock_that_is_off_until_it_is_right() -> None:
    host = Host()
    watch = Watch(host)
    watch.answered("pbx", Message.response(200, "OK", []))
    watch.answered("pbx", dated(NOW + timedelta(seconds=20)))
    assert host.ids == []
    watch.answered("pbx", dated(NOW - timedelta(seconds=90)))
    assert host.entries.issues.all()[0].text == "the clock of pbx is 90 s behind that of this machine"
    watch.answered("pbx", Message.response(200, "OK", []))
    assert host.ids == ["clock_off:pbx"]
    watch.answered("pbx", dated(NOW))
    assert host.ids == []


@given(st.text(max_size=80))
def test_any_date_is_read_or_left(text: str) -> None:
    message = Message.response(200, "OK", [("Date", "".join(c for c in text if c.isprintable()))])
    off = clock_off(message, 0.0)
    assert off is None or isinstance(off, float)


def event(what: Any, cause: str = "") -> CallEvent:
    return CallEvent(what, 1.0, "id", "outbound", "office", "alice", "web", "a", "sip:600@pbx", cause)


def test_no_common_codec_until_a_call_finds_one() -> None:
    host = Host()
    watch = Watch(host)
    watch.call_event(event("ended", "486 Busy Here"))
    assert host.ids == []
    watch.call_event(event("ended", "488 Not Acceptable Here"))
    (issue,) = host.entries.issues.all()
    assert (issue.connection, issue.id) == ("office", "no_common_codec")
    assert "G722, PCMA, PCMU" in issue.text
    watch.call_event(event("answered"))
    assert host.ids == []
