"""Serving the console: hypercorn's trio worker inside the gateway's own event loop."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio
from hypercorn.config import Config, Sockets
from hypercorn.trio.run import worker_serve
from hypercorn.utils import wrap_app

from siperb_console.app import ConsoleApp
from siperb_console.config import TABLE, ConsoleConfig

if TYPE_CHECKING:
    from siperb_core import GatewayView


class ConsoleService:
    """A `siperb_core.Service`: HTTP on `[plugins.console] bind`."""

    name = "console"

    def __init__(self) -> None:
        self.url = ""
        """Where the running console is reached, `http://127.0.0.1:8080`; empty while it is not running."""

    async def run(self, gateway: GatewayView, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled.

        Raises `OSError` with the address named when it cannot be listened on.
        """
        config: ConsoleConfig = gateway.settings or ConsoleConfig()
        listener = listen(config)
        # An IPv6 address gives four values, an IPv4 address two.
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        app = wrap_app(ConsoleApp(config, gateway).asgi(), 0, "asgi")  # type: ignore[arg-type]
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(_serve, app, listener)
                task_status.started()
        finally:
            self.url = ""
            listener.close()


async def _serve(app: object, listener: socket.socket, *, task_status: trio.TaskStatus[object]) -> None:
    await worker_serve(app, hypercorn_config(), sockets=Sockets([], [listener], []), task_status=task_status)  # type: ignore[arg-type]


def hypercorn_config() -> Config:
    """Hypercorn's settings: silent (the gateway logs what matters) and with small bounds, as everybody may connect."""
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = 16 * 1024
    config.keep_alive_timeout = 30
    config.read_timeout = 30
    config.graceful_timeout = 1
    return config


def listen(config: ConsoleConfig) -> socket.socket:
    """The listening TCP socket; `OSError` says which address and how to mend it."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((config.host, config.port))
        sock.listen(128)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        mend = f"change {TABLE}.bind, or stop what uses that address"
        raise OSError(error.errno, f"the console cannot listen on {config.bind}: {error.strerror}: {mend}") from error
    return sock
