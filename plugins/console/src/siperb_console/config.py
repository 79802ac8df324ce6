"""The table `[plugins.console]` of the configuration file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLE = "plugins.console"


class ConsoleConfigError(ValueError):
    """The table is wrong. One line per mistake: `path: what is wrong: how to mend it`."""


@attrs.frozen
class ConsoleConfig:
    """Where the console listens and what it tells the web phone.

    `bind` is `host:port`; port 0 takes a free one. `ws` is the WebSocket URL handed to the phone and `domain` the SIP
    domain; left empty, the gateway is asked for both. `url` is the console's address as people see it, for links, where
    a reverse proxy stands before it.
    """

    bind: str = "127.0.0.1:8080"
    ws: str = ""
    domain: str = ""
    url: str = ""

    @property
    def host(self) -> str:
        """The address to listen on, an IPv6 address without its brackets."""
        return self.bind.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The TCP port to listen on; 0 for any free one."""
        return int(self.bind.rpartition(":")[2])

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> ConsoleConfig:
        """Check the table and give the configuration; `ConsoleConfigError` names all mistakes at once."""
        mistakes = []
        known = {field.name for field in attrs.fields(cls)}
        for name, value in table.items():
            if name not in known:
                names = ", ".join(sorted(known))
                mistakes.append(f"{TABLE}.{name}: unknown key: remove it; the keys are {names}")
            elif not isinstance(value, str):
                mistakes.append(f'{TABLE}.{name}: {type(value).__name__} where text belongs: write it in quotes, "..."')
        if mistakes:
            raise ConsoleConfigError("\n".join(mistakes))
        config = cls(**table)
        host, _, port = config.bind.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            mistakes.append(
                f'{TABLE}.bind: "{config.bind}" is no address and port: write it as "127.0.0.1:8080" or "[::1]:8080"'
            )
        if config.ws and not config.ws.startswith(("ws://", "wss://")):
            mistakes.append(
                f'{TABLE}.ws: "{config.ws}" is not a WebSocket URL: write it as "wss://sip.example.net:8089/ws"'
            )
        if config.url and not config.url.startswith(("http://", "https://")):
            mistakes.append(f'{TABLE}.url: "{config.url}" is no web address: write it as "https://phone.example.net"')
        if mistakes:
            raise ConsoleConfigError("\n".join(mistakes))
        return config
