"""The doctor at real sockets: what it finds where all is well, and where one thing is not."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from siperb_core.cli import main
from siperb_core.cli.doctor import as_text, ask_gateway
from siperb_core.cli.setup import load_all
from siperb_core.doctor import Examination, Finding, calling, our_end
from siperb_core.doctor.finding import Notes
from siperb_core.doctor.peer import check_connection
from siperb_core.entries.contract import Target
from siperb_core.testing.gateway import open_gateway
from siperb_core.testing.pbx import Pbx, PbxCall, PbxSettings, open_pbx
from siperb_core.transport.resolver import Resolver

HEAD = """\
[gateway]
domain = "gw.example"
data_dir = "data"
{gateway}
[[listen]]
transport = "udp"
bind = "127.0.0.1:0"
[[listen]]
transport = "ws"
bind = "127.0.0.1:0"
[media]
workers = 1
ports = "21000-21999"
[plugins]
disable = ["console"]
"""

REGISTRATION = """
[[connection]]
name = "office"
type = "outbound_registration"
[connection.settings]
server = "127.0.0.1"
port = {port}
username = "200"
password = "{password}"
"""

TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
codecs = [{codecs}]
allow_from = ["127.0.0.1"]
[connection.settings]
server = "{server}"
port = {port}
"""


def write(folder: Path, connections: str, gateway: str = "") -> Path:
    path = folder / "siperb.toml"
    path.write_text(HEAD.format(gateway=gateway) + connections)
    path.chmod(0o600)
    return path


async def examine(
    path: Path, *, connection: str | None = None, number: str | None = None, resolver: Resolver | None = None
) -> dict[str, Finding]:
    """The findings about connection `office`, by check."""
    result, plugins = load_all(path)
    assert result.config is not None
    with trio.fail_after(60):
        examination = Examination(result, result.config, path, plugins, await ask_gateway(path), resolver)
        findings = await examination.examine(connection, number)
    assert as_text(findings)
    return {finding.check: finding for finding in findings if finding.connection == "office"}


def verdicts(findings: dict[str, Finding]) -> dict[str, str]:
    return {check: finding.verdict for check, finding in findings.items()}


@asynccontextmanager
async def pbx_of(**settings: object) -> AsyncIterator[Pbx]:
    async with open_pbx(PbxSettings(accounts={"200": "two-hundred"}, **settings)) as pbx:  # type: ignore[arg-type]
        yield pbx


async def test_all_is_well_with_a_gateway_running(tmp_path: Path) -> None:
    async with pbx_of() as pbx:
        text = REGISTRATION.format(port=pbx.local[1], password="two-hundred")
        async with open_gateway(tmp_path, text, head=HEAD.format(gateway="")) as gateway:
            found = await examine(gateway.config_path, number="600")
            assert verdicts(found) == {
                "state": "ok",
                "dns": "ok",
                "options": "ok",
                "authentication": "ok",
                "nat": "ok",
                "clock": "skipped",
                "call": "ok",
                "codecs": "ok",
                "rtp in": "ok",
                "rtp out": "ok",
            }, found
            assert "the tone we sent came back" in found["rtp out"].text
            assert "G722" in found["call"].text
            assert found["state"].text == "loaded, registered"
        assert not pbx.agent.calls, "the doctor has hung up"
        (bindings,) = [pbx.registrar.bindings("200")]
        assert not any("doctor" in binding.contact for binding in bindings)


async def test_without_a_gateway_it_says_what_needs_one(tmp_path: Path) -> None:
    async with pbx_of() as pbx:
        path = write(tmp_path, REGISTRATION.format(port=pbx.local[1], password="two-hundred"))
        found = await examine(path)
        assert found["state"].verdict == "skipped"
        assert found["state"].mend == "siperb run"
        assert found["authentication"].verdict == "ok"
        assert found["codecs"].mend == "siperb doctor office --call NUMBER"
        assert not pbx.registrar.bindings("200"), "nothing was registered"


async def test_a_wrong_password(tmp_path: Path) -> None:
    async with pbx_of() as pbx:
        found = await examine(write(tmp_path, REGISTRATION.format(port=pbx.local[1], password="wrong")), number="600")
        assert found["options"].verdict == "ok"
        assert found["authentication"].verdict == "wrong"
        assert "siperb connection edit office" in found["authentication"].mend
        assert "407" in found["call"].text
        assert len(pbx.agent.received_messages) < 12, "it does not hammer"


async def test_a_number_there_is_not_and_one_that_is_busy(tmp_path: Path) -> None:
    async with open_pbx() as pbx:
        path = write(tmp_path, TRUNK.format(server="127.0.0.1", port=pbx.local[1], codecs='"PCMA"'))
        assert "does not know the number" in (await examine(path, number="699"))["call"].mend
        busy = (await examine(path, number="603"))["call"]
        assert (busy.verdict, "486" in busy.text) == ("wrong", True)


async def test_no_common_codec(tmp_path: Path) -> None:
    async with open_pbx(PbxSettings(codecs=("PCMU",))) as pbx:
        path = write(tmp_path, TRUNK.format(server="127.0.0.1", port=pbx.local[1], codecs='"PCMA"'))
        call = (await examine(path, number="600"))["call"]
        assert call.verdict == "wrong"
        assert "no common codec: offered are PCMA, here are PCMU" in call.text


async def test_one_way_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf_and_dumb(call: PbxCall) -> None:
        call.media._send = lambda *args: None  # type: ignore[method-assign]
        await call.accept()

    monkeypatch.setattr(calling, "LISTEN_SECONDS", 0.5)
    monkeypatch.setattr(calling, "REPORT_SECONDS", 0.5)
    async with open_pbx(PbxSettings(numbers={"700": deaf_and_dumb})) as pbx:
        found = await examine(
            write(tmp_path, TRUNK.format(server="127.0.0.1", port=pbx.local[1], codecs='"PCMA"')), number="700"
        )
        assert (found["call"].verdict, found["rtp in"].verdict, found["rtp out"].verdict) == ("ok", "wrong", "skipped")
        assert "let UDP 21000-21999 in through the firewall" in found["rtp in"].mend
        assert "call an echo test" in found["rtp out"].mend


async def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(our_end, "ANSWER_SECONDS", 0.3)
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        found = await examine(
            write(tmp_path, TRUNK.format(server="127.0.0.1", port=silent.getsockname()[1], codecs='"PCMA"')), number="1"
        )
    assert found["options"].verdict == "wrong"
    assert "firewall" in found["options"].mend
    assert "call" not in found, "what comes after needs an answer"


async def test_a_name_that_leads_nowhere(tmp_path: Path) -> None:
    async def nobody(name: str) -> list[str]:
        raise OSError(-2, "Name or service not known")

    path = write(tmp_path, TRUNK.format(server="pbx", port=5060, codecs='"PCMA"'))
    found = await examine(path, resolver=Resolver(addresses=nobody))
    assert found["dns"].verdict == "wrong"
    assert "Name or service not known" in found["dns"].text
    assert "options" not in found


async def test_a_listener_at_an_address_that_is_not_ours_does_not_end_the_examination(tmp_path: Path) -> None:
    async with open_pbx() as pbx:
        path = write(tmp_path, TRUNK.format(server="127.0.0.1", port=pbx.local[1], codecs='"PCMA"'))
        path.write_text(path.read_text().replace('bind = "127.0.0.1:0"', 'bind = "192.0.2.77:0"', 1))
        assert (await examine(path))["options"].verdict == "ok"


async def test_behind_a_nat(tmp_path: Path) -> None:
    async with open_pbx() as pbx:
        text = TRUNK.format(server="127.0.0.1", port=pbx.local[1], codecs='"PCMA"')
        found = await examine(write(tmp_path, text, 'external_address = "203.0.113.9"'))
        assert found["nat"].verdict == "wrong"
        assert "the PBX sees us as 127.0.0.1, but SIP and SDP say 203.0.113.9" in found["nat"].text


async def test_what_is_disabled_or_has_a_mistake_is_not_called(tmp_path: Path) -> None:
    text = TRUNK.format(server="127.0.0.1", port=9, codecs='"PCMA"')
    found = await examine(write(tmp_path, text.replace("codecs", "enabled = false\ncodecs")))
    assert verdicts(found) == {"state": "skipped"}
    found = await examine(write(tmp_path, text.replace("port = 9", "port = 99999")))
    assert verdicts(found) == {"configuration": "wrong"}


async def test_a_pbx_that_should_register(tmp_path: Path) -> None:
    text = '[[connection]]\nname = "office"\ntype = "inbound_registration"\n[connection.settings]\n'
    text += 'username = "in"\npassword = "long-enough-secret"\n'
    async with open_gateway(tmp_path, text, head=HEAD.format(gateway="")) as gateway:
        found = await examine(gateway.config_path, number="600")
        assert found["state"].verdict == "wrong"
        assert (found["call"].verdict, found["call"].mend) == ("wrong", "let the PBX register")
    path = write(tmp_path, text)
    found = await examine(path, number="600")
    assert (found["call"].verdict, found["call"].mend[:10]) == ("skipped", "siperb run")


# ---- TLS


class Authority:
    """Makes certificates that are trusted by `file`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._sign(self.name, self.key, [], 90, ca=True))

    def server(self, name: str, days: float) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.write(name, days))
        return context

    def write(self, name: str, days: float) -> Path:
        """Certificate and key in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        pem = self._sign(subject, key, [name], days)
        file = self.folder / f"{name}{days}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(pem + private)
        return file

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, names: list[str], days: float, *, ca: bool = False
    ) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=30))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            kinds = [x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(kinds), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


async def look(target: Target, context: ssl.SSLContext | None) -> tuple[bool, list[Finding]]:
    """What is found at a server with that certificate; without one it speaks no TLS."""
    notes = Notes("office")

    async def serve(stream: trio.abc.Stream) -> None:
        try:
            if context is not None:
                await trio.SSLStream(stream, context, server_side=True).do_handshake()
                await stream.receive_some(1)
            else:
                await stream.send_all(b"220 not TLS\r\n")
                await stream.receive_some(100)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            now = datetime.datetime.now().timestamp()
            fine = await check_connection(notes, target, [("127.0.0.1", port, target.transport)], now)
            nursery.cancel_scope.cancel()
    return fine, notes.findings


@pytest.mark.parametrize(
    ("certificate", "trusted", "checks", "says"),
    [
        (("pbx.example.com", 90), True, {"tls": "ok", "certificate": "ok"}, "holds for"),
        (("pbx.example.com", 5), True, {"tls": "ok", "certificate": "wrong"}, "expires on"),
        (("pbx.example.com", -3), True, {"tls": "wrong"}, "has expired on"),
        (("other.example.com", 90), True, {"tls": "wrong"}, "is for other.example.com, not for pbx.example.com"),
        (("pbx.example.com", 90), False, {"tls": "wrong"}, "not trusted"),
        (None, True, {"tls": "wrong"}, "no TLS with 127.0.0.1"),
    ],
    ids=["well", "expiring", "expired", "name", "chain", "no-tls"],
)
async def test_certificates(
    tmp_path: Path, certificate: tuple[str, float] | None, trusted: bool, checks: dict[str, str], says: str
) -> None:
    authority = Authority(tmp_path)
    context = authority.server(*certificate) if certificate else None
    target = Target("pbx.example.com", None, "tls", ca=str(authority.file) if trusted else "")
    fine, findings = await look(target, context)
    assert {finding.check: finding.verdict for finding in findings} == checks, findings
    assert any(says in finding.text for finding in findings), findings
    assert fine == (checks["tls"] == "ok")


async def test_a_certificate_nobody_checks_is_wrong(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    fine, findings = await look(Target("x", None, "tls", verify=False), authority.server("y", 90))
    assert fine
    assert findings[0].verdict == "wrong"
    assert "verify is false" in findings[0].text


async def test_a_pbx_over_tls_whose_certificate_runs_out(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    file = authority.write("127.0.0.1", 5)
    async with pbx_of(transports=("tls",), certificate=file, key=file) as pbx:
        text = REGISTRATION.format(port=pbx.local[1], password="two-hundred")
        text += f'transport = "tls"\nca = "{authority.file}"\n'
        async with open_gateway(tmp_path, text, head=HEAD.format(gateway="")) as gateway:
            gateway.watch.look()
            (issue,) = await gateway.operations.call("show.issues")
            assert (issue["connection"], issue["id"]) == ("office", "peer_certificate")
            found = await examine(gateway.config_path, number="600")
            wrong = {check for check, finding in found.items() if finding.verdict == "wrong"}
            assert wrong == {"certificate", "issue"}, found
            assert found["tls"].text.startswith("TLSv1.")
            assert found["rtp out"].verdict == "ok"


async def test_tcp_that_is_refused() -> None:
    notes = Notes("office")
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_STREAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        place = sock.getsockname()
        assert not await check_connection(notes, Target("x", None, "tcp"), [(*place, "tcp")], 0.0)
    (finding,) = notes.findings
    assert finding.text.endswith("cannot be connected to: Connection refused")


# ---- the command


async def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_pbx() as pbx:
        path = write(tmp_path, TRUNK.format(server="127.0.0.1", port=pbx.local[1], codecs='"PCMA"'))
        command = ["doctor", "--config", str(path)]
        with trio.fail_after(60):
            assert await trio.to_thread.run_sync(main, command) == 0
            out, err = capsys.readouterr()
            assert err == ""
            assert "\noffice\n" in out
            assert out.splitlines()[-1].startswith("0 wrong, ")
            os.chmod(path, 0o644)
            path.write_text(path.read_text() + 'username = "u"\npassword = "planted-secret-in-file"\n')
            assert await trio.to_thread.run_sync(main, [*command, "office", "--json"]) == 1
            out, err = capsys.readouterr()
            assert "planted-secret" not in out + err
            report = json.loads(out)
            assert report["ok"] is False
            wrong = [finding for finding in report["findings"] if finding["verdict"] == "wrong"]
            assert [(finding["check"], finding["mend"]) for finding in wrong] == [("files", f"chmod 600 {path}")]
            assert await trio.to_thread.run_sync(main, [*command, "nobody"]) == 2
