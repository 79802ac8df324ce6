"""The table `[plugins.console]` of the configuration file."""

from __future__ import annotations

from typing import Any

import attrs

TABLE = "plugins.console"


def _listens(instance: Any, attribute: Any, value: str) -> None:
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'"{value[:60]}" is no address and port: write it as "127.0.0.1:8080" or "[::1]:8080"')


def _web_socket(instance: Any, attribute: Any, value: str) -> None:
    if value and not value.startswith(("ws://", "wss://")):
        raise ValueError(f'"{value[:60]}" is not a WebSocket URL: write it as "wss://sip.example.net:8089/ws"')


def _web_address(instance: Any, attribute: Any, value: str) -> None:
    if value and not value.startswith(("http://", "https://")):
        raise ValueError(f'"{value[:60]}" is no web address: write it as "https://phone.example.net"')


@attrs.frozen
class ConsoleConfig:
    """Where the console listens and what it tells the web phone.

    `bind` is `host:port`; port 0 takes a free one. `ws` is the WebSocket URL handed to the phone and `domain` the SIP
    domain; left empty, the gateway is asked for both. `url` is the console's address as people see it, for links, where
    a reverse proxy stands before it.
    """

    bind: str = attrs.field(default="127.0.0.1:8080", validator=_listens)
    ws: str = attrs.field(default="", validator=_web_socket)
    domain: str = ""
    url: str = attrs.field(default="", validator=_web_address)

    @property
    def host(self) -> str:
        """The address to listen on, an IPv6 address without its brackets."""
        return self.bind.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The TCP port to listen on; 0 for any free one."""
        return int(self.bind.rpartition(":")[2])
