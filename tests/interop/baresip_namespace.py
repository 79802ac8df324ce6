"""A network namespace: loopback, and one end of a veth with an address, for what refuses loopback addresses."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

INTERFACE = "d0"
ADDRESS = "10.99.0.1"
SECOND_ADDRESS = "10.99.0.2"


class NamespaceMissing(Exception):
    """This system gives us no network namespace; the text says why."""


@contextmanager
def open_namespace() -> Iterator[str]:
    """A namespace of our own, removed afterwards; gives its name. Raises NamespaceMissing."""
    name = f"siperb-{secrets.token_hex(4)}"
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        # veth: a dummy interface needs a driver that some kernels do not have
        _ip("-n", name, "link", "add", INTERFACE, "type", "veth", "peer", "name", "d1")
        for address in (ADDRESS, SECOND_ADDRESS):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", INTERFACE)
        for interface in (INTERFACE, "d1"):
            _ip("-n", name, "link", "set", interface, "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    try:
        done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True, timeout=10)
    except OSError as error:
        raise NamespaceMissing(str(error)) from error
    if done.returncode:
        raise NamespaceMissing(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
