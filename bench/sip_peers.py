"""Processes the signalling benchmarks start: the gateway, Kamailio, SIPp, and the load; and what they cost.

CPU is user and system time out of /proc.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from siperb_core.media.certificate import make_certificate
from siperb_core.sip import parse
from siperb_core.sip.digest import answer_challenge

HERE = Path(__file__).parent
PEERS = HERE / "peers"
HOST = "127.0.0.1"
DOMAIN = "gw.example"
NUMBER = "trunk"
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int, *, children: bool = False) -> float:
    """CPU a process has used; with `children` its living children too: Kamailio's work is done by them, the gateway's
    only carry media.
    """
    processes = [pid]
    if children:
        processes += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    total = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory_kib(pid: int) -> int:
    """Resident memory of one process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port nobody has now."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def kamailio_version() -> str | None:
    """The version of the Kamailio that is installed; None where none is."""
    program = shutil.which("kamailio") or shutil.which("/usr/sbin/kamailio")
    if program is None:
        return None
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stdout
    return said.split()[2]


@contextmanager
def _process(command: list[Any], log: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    with log.open("w") as errors:
        process = subprocess.Popen(list(map(str, command)), stderr=errors, text=True, **more)
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        else:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


_CONFIG = f"""\
[gateway]
domain = "{DOMAIN}"
data_dir = "data"

[[listen]]
transport = "udp"
bind = "{HOST}:0"

[[listen]]
transport = "ws"
bind = "{HOST}:0"

[[listen]]
transport = "wss"
bind = "{HOST}:0"
certificate = "certificate.pem"
key = "certificate.pem"

[media]
workers = 1
ports = "41000-44999"
"""

TRUNK = f"""
[[connection]]
name = "pbx"
type = "outbound_trunk"
users = ["*"]
allow_from = ["192.0.2.0/24"]
[connection.settings]
server = "{HOST}"
port = {{pbx}}
transport = "udp"
"""


_REGISTRATION = """
[[connection]]
name = "pbx-{number}"
type = "outbound_registration"
users = ["phone"]
dial_pattern = "{number}X."
[connection.settings]
server = "{host}"
port = {port}
transport = "udp"
username = "user-{number}"
password = "secret"
"""


class Talking:
    """A process that speaks in JSON lines, and goes on at a line of ours."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def hear(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._log.stem} stopped: {self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def go(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()


def gateway_config(work: Path, *, devices: list[str], connections: Iterable[str]) -> Path:
    """The gateway's configuration, with these devices and these tables of connections."""
    tables = [f'[[device]]\nname = "{name}"\nuser = "{name}"\npassword = "secret"\n' for name in devices]
    config = work / "siperb.toml"
    config.write_text(_CONFIG + "\n".join(tables) + "".join(connections))
    config.chmod(0o600)
    certificate = work / "certificate.pem"
    certificate.write_text(make_certificate().pem)
    certificate.chmod(0o600)
    return config


@contextmanager
def gateway(work: Path, *, devices: int, pbx: int = 9, media: bool = False) -> Iterator[dict[str, int]]:
    """The gateway with so many devices; its pid and its ports, with `phones` the UDP port for softphones."""
    names = ["sipp", *(f"phone-{number}" for number in range(devices))]
    config = gateway_config(work, devices=names, connections=[TRUNK.format(pbx=pbx)])
    command = [sys.executable, HERE / "sip_gateway.py", config, *(["--media"] if media else [])]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with _process(command, work / "gateway.log", **pipes) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"the gateway did not start: {(work / 'gateway.log').read_text()[-2000:]}")
        yield json.loads(line)


@contextmanager
def registering_gateway(work: Path, *, connections: int, port: int, rest: float) -> Iterator[Talking]:
    """A gateway with so many outbound registrations at one registrar; it measures itself (bench/sip_connections.py)."""
    work.mkdir()
    tables = (_REGISTRATION.format(number=number, host=HOST, port=port) for number in range(connections))
    config = gateway_config(work, devices=["phone"], connections=tables)
    command = [sys.executable, HERE / "sip_connections.py", config, rest]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with _process(command, work / "gateway.log", **pipes) as process:
        yield Talking(process, work / "gateway.log")


@contextmanager
def registrar(work: Path) -> Iterator[Talking]:
    """A registrar on UDP (bench/sip_registrar.py); its first word is its port."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with _process([sys.executable, HERE / "sip_registrar.py"], work / "registrar.log", **pipes) as process:
        yield Talking(process, work / "registrar.log")


@contextmanager
def kamailio(work: Path, *, pbx: int, websocket: bool = False) -> Iterator[dict[str, int]]:
    """Kamailio with one child for each transport; its pid and its port."""
    port, control = free_port(socket.SOCK_STREAM), work / "kamailio.sock"
    control.unlink(missing_ok=True)
    program = shutil.which("kamailio") or "/usr/sbin/kamailio"
    defines = [f"SIP={port}", f"PBX={pbx}", f'CONTROL="unix:{control}"', *(["WEBSOCKET"] if websocket else [])]
    options = [part for define in defines for part in ("-A", define)]
    command = [program, "-DD", "-E", "-f", PEERS / "kamailio.cfg", "-m", "512", "-M", "16", "-Y", work, *options]
    with _process(command, work / "kamailio.log", stdout=subprocess.DEVNULL) as process:
        for _ in range(100):
            if control.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        else:
            raise SystemExit(f"Kamailio did not start: {(work / 'kamailio.log').read_text()[-2000:]}")
        time.sleep(0.5)
        yield {"pid": process.pid, "phones": port, "ws": port}


@contextmanager
def floor(work: Path, *, pbx: int) -> Iterator[dict[str, int]]:
    """What passes datagrams on and knows no SIP (bench/sip_floor.py); its pid and its port."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with _process([sys.executable, HERE / "sip_floor.py", pbx], work / "floor.log", **pipes) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())


@contextmanager
def answering_pbx(work: Path) -> Iterator[int]:
    """SIPp answering calls on a UDP port, which is given."""
    port = free_port()
    command = [
        *("sipp", "-sf", PEERS / "uas.xml", "-i", HOST, "-p", port, "-mi", HOST, "-mp", free_port()),
        *("-buff_size", 4_000_000, "-nostdin"),
    ]
    with _process(command, work / "pbx.log", stdout=subprocess.DEVNULL):
        yield port


def register_caller(gateway_port: int, port: int) -> None:
    """Register the device `sipp` from a UDP port: what comes from there afterwards is that device's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, port))
        sock.connect((HOST, gateway_port))
        sock.settimeout(5)
        uri, credentials = f"sip:{DOMAIN}", ""
        for number in (1, 2):
            sock.send(
                f"REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {HOST}:{port};branch=z9hG4bKr{number};rport\r\n"
                f"From: <sip:sipp@{DOMAIN}>;tag=r\r\nTo: <sip:sipp@{DOMAIN}>\r\nCall-ID: r{port}\r\n"
                f"CSeq: {number} REGISTER\r\nContact: <sip:sipp@{HOST}:{port}>\r\nMax-Forwards: 70\r\n"
                f"Expires: 600\r\n{credentials}Content-Length: 0\r\n\r\n".encode()
            )
            response = parse(sock.recv(65_536))
            if response.status == 200:
                return
            value = answer_challenge(
                response.get_all("WWW-Authenticate"),
                method="REGISTER",
                uri=uri,
                username="sipp",
                password="secret",
                cnonce="c0ffee",
            )
            credentials = f"Authorization: {value}\r\n"
    raise SystemExit(f"REGISTER over UDP: {response.status} {response.reason}")


def call_by_sipp(work: Path, port: int, source: int, count: int, rate: int) -> int:
    """Let SIPp make so many calls from a UDP port; how many went through. Raises SystemExit when fewer than 99 %."""
    figures = work / "calls.csv"
    figures.unlink(missing_ok=True)
    command = [
        *("sipp", "-sf", PEERS / "uac.xml", "-s", NUMBER, f"{HOST}:{port}", "-i", HOST, "-p", source),
        *("-mp", free_port(), "-d", 50, "-r", rate, "-m", count, "-l", 20_000, "-nostdin", "-buff_size", 4_000_000),
        *("-timeout", count // rate + 25, "-trace_stat", "-fd", 1, "-stf", figures),
    ]
    subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    with figures.open() as file:
        header, *_, last = csv.reader(file, delimiter=";")
    row = dict(zip(header, last, strict=False))
    done = int(row["SuccessfulCall(C)"])
    if done < 0.99 * count:
        raise SystemExit(f"only {done} of {count} calls went through")
    return done


@contextmanager
def load(work: Path, **job: Any) -> Iterator[Talking]:
    """Softphones on WebSockets."""
    job = {"host": HOST, "domain": DOMAIN, "number": NUMBER, "tls": False, "media": False, "warm": 100} | job
    log = work / "load.log"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with ExitStack() as stack:
        command = [sys.executable, HERE / "sip_load.py", json.dumps(job)]
        yield Talking(stack.enter_context(_process(command, log, **pipes)), log)
