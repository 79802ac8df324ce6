"""This machine: modes of files, ports, our own certificates, plugins, what the running gateway complains of."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from siperb_core.doctor.finding import Notes
from siperb_core.entries.model import GatewayConfig, Listen
from siperb_core.entries.source import LoadResult
from siperb_core.plugins import PluginInfo
from siperb_core.transport.address import host_port
from siperb_core.watch import certificate_wrong

_MAX_FILES = 1000
_ENOUGH_PORTS = 4
"""Free media ports: a call takes up to four, with RTCP and a port for the softphone."""


def check_configuration(notes: Notes, result: LoadResult) -> None:
    """Mistakes that belong to no connection; those of one are told there."""
    problems = [problem for problem in result.problems if problem.connection is None]
    for problem in problems:
        notes.wrong("configuration", f"{problem.path}: {problem.wrong}", problem.mend)
    if not problems:
        notes.ok("configuration", "can be used")


def check_files(notes: Notes, config: GatewayConfig, path: Path) -> None:
    """Whoever else can log in to this machine must not read secrets."""
    secret = [path] if _holds_secrets(path) else []
    secret += list(_secret_files(path))
    secret += [listen.key for listen in config.listen if listen.key is not None]
    database = config.gateway.data_dir / "siperb.db"
    secret += [file for file in (database, Path(f"{database}-wal")) if file.exists()]
    open_ones = [file for file in dict.fromkeys(secret) if _readable_by_others(file)]
    for file in open_ones:
        notes.wrong("files", f"{file} holds secrets and others can read it", f"chmod 600 {file}")
    if not open_ones:
        notes.ok("files", f"{len(set(secret))} files with secrets, readable by their owner only")
    _check_data_dir(notes, config.gateway.data_dir)


def _check_data_dir(notes: Notes, folder: Path) -> None:
    nearest = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        notes.wrong(
            "data_dir", f"{folder} cannot be written to by this user", f"chown it to the gateway's user: {nearest}"
        )
    elif folder.exists() and folder.stat().st_mode & stat.S_IWOTH and not folder.stat().st_mode & stat.S_ISVTX:
        notes.wrong("data_dir", f"everybody can write to {folder}", f"chmod 700 {folder}")
    else:
        notes.ok("data_dir", f"{folder} " + ("can be written to" if folder.exists() else "will be made"))


def check_certificates(notes: Notes, config: GatewayConfig, now: float) -> None:
    """The certificates we show to those who connect to us."""
    for path in dict.fromkeys(listen.certificate for listen in config.listen if listen.certificate):
        wrong = certificate_wrong(path, now)
        mend = "put a new one in its place: the next handshake uses it"
        notes.judge("certificate", f"{path} {wrong}" if wrong else "", mend, f"{path} holds for 14 days and more")


def check_ports(notes: Notes, config: GatewayConfig, listening: Iterable[str] | None) -> None:
    """Listeners up, or free to be had; `listening`: `transport address:port` of the gateway that runs."""
    up = None if listening is None else set(listening)
    for listen in config.listen:
        name = f"{listen.transport} {host_port(*listen.bind)}"
        if up is None:
            taken = _bind_error(listen)
            notes.judge(
                "ports", f"{name} cannot be had: {taken}" if taken else "", _mend_port(taken), f"{name} is free"
            )
        else:
            there = any(_same(listen, item) for item in up)
            text = "" if there else f"the running gateway does not listen on {name}"
            notes.judge("ports", text, "restart it: listeners are opened at the start", f"{name} is listening")
    _check_media_ports(notes, config.media.ports, running=up is not None)


def _same(listen: Listen, item: str) -> bool:
    transport, _, address = item.partition(" ")
    host, _, port = address.rpartition(":")
    wanted = "127.0.0.1" if listen.bind[0] == "localhost" else listen.bind[0]
    return transport == listen.transport and host.strip("[]") == wanted and listen.bind[1] in (0, int(port or 0))


def _check_media_ports(notes: Notes, ports: tuple[int, int], *, running: bool) -> None:
    first, last = ports
    free = sum(_free(port) for port in range(first, last + 1))
    total = last - first + 1
    text = f"{free} of {total} media ports ({first}-{last}, udp) are free"
    few = free < min(_ENOUGH_PORTS, total) if running else free < total / 2
    mend = "set ports in [media] to a range no other program uses, and let it in through the firewall"
    notes.judge("media ports", text if few else "", mend, text)


def check_plugins(notes: Notes, infos: Iterable[PluginInfo]) -> None:
    """Installed, but not usable."""
    loaded = 0
    for info in infos:
        if info.state == "set_aside":
            mend = f'mend or uninstall {info.distribution or info.name}, or add "{info.name}" to disable in [plugins]'
            notes.wrong("plugins", f"{info.name} is set aside: {info.reason}", mend)
        loaded += info.state == "loaded"
    notes.ok("plugins", f"{loaded} loaded")


def check_issues(notes: Notes, issues: Iterable[Mapping[str, Any]], connection: str) -> None:
    """What the running gateway has found itself."""
    for issue in issues:
        if issue.get("connection", "") == connection:
            notes.wrong("issue", str(issue.get("text")), str(issue.get("mend")))


def _bind_error(listen: Listen) -> str:
    kind = socket.SOCK_DGRAM if listen.transport == "udp" else socket.SOCK_STREAM
    host = "127.0.0.1" if listen.bind[0] == "localhost" else listen.bind[0]
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as sock:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, listen.bind[1]))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _mend_port(taken: str) -> str:
    if taken == os.strerror(errno.EADDRINUSE):
        return "another program has it (ss -lnp shows which): stop it, or choose another port"
    if taken == os.strerror(errno.EADDRNOTAVAIL):
        return "no interface of this machine has that address: bind to 0.0.0.0, or to one of its own"
    return "ports below 1024 need the right to (AmbientCapabilities=CAP_NET_BIND_SERVICE): or choose a higher one"


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def _readable_by_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False  # what cannot be found is the configuration's mistake, told there


def _document(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError):
        return {}


def _holds_secrets(path: Path) -> bool:
    return any(isinstance(value, str) and value for key, value in _leaves(_document(path)) if "password" in key)


def _secret_files(path: Path) -> Iterator[Path]:
    for _, (_, value) in zip(range(_MAX_FILES), _tables(_document(path)), strict=False):
        if set(value) == {"file"} and isinstance(value["file"], str) and value["file"]:
            yield path.absolute().parent / value["file"]


def _tables(value: object, key: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if depth > 12:
        return
    if isinstance(value, Mapping):
        yield key, value
        for name, item in value.items():
            yield from _tables(item, name, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _tables(item, key, depth + 1)


def _leaves(document: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for _, table in _tables(document):
        yield from table.items()
