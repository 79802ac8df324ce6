"""What goes on beside calls while the gateway runs: the file is watched, names in `allow_from` are looked up again,
what has run out is dropped, and what is to stop is given time.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog
import trio

from siperb_core.entries import networks
from siperb_core.entries.source import load
from siperb_core.transport.address import without_zone
from siperb_core.transport.contract import SaysGoodbye
from siperb_core.transport.resolver import ResolveError

if TYPE_CHECKING:
    from siperb_core.calls.call import Call
    from siperb_core.entries.model import Network
    from siperb_core.gateway import Gateway

log = structlog.get_logger()

WATCH_SECONDS = 2.0
EXPIRY_SECONDS = 5.0
NAMES_SECONDS = 60.0
"""How often a name in `allow_from` is looked up; the resolver may still know the answer."""
CLOSES_PER_SECOND = 200
LONGEST_SPREAD = 5.0
SERVICE_RESTART = 1012  # of WebSockets, in IANA's registry: the client is to come back, after a random delay

Signature = tuple[int, int, int]


def _networks(addresses: Iterable[str], name: str) -> tuple[Network, ...]:
    """What DNS or the hosts file gave for a name, as networks of one address each. A link-local address counts without
    its zone, as it does where a source is compared; what is no address is left out: it must not stop the gateway.
    """
    found = set()
    for address in addresses:
        try:
            found.add(networks.parse_network(without_zone(address)))
        except ValueError:
            log.warning("allow_from.no_address", name=name, address=address[:60])
    return tuple(sorted(found, key=str))


class Upkeep:
    """The gateway's housekeeping."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._looked_up: dict[str, float] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._expire)
            self._nursery.start_soon(self._look_up_names)
            self._nursery.start_soon(self._watch_file)

    async def _expire(self) -> None:
        gateway = self._gateway
        while True:
            await trio.sleep(EXPIRY_SECONDS)
            for expire in (gateway.softphones.expire, gateway.calls.expire):
                try:
                    expire()
                except Exception:  # ours; nothing would run out any more
                    log.exception("upkeep.failed")

    # ---- the configuration file

    async def _watch_file(self) -> None:
        """Take over the file when it has changed and is not being written any more."""
        seen = used = self._signature()
        while True:
            await trio.sleep(WATCH_SECONDS)
            before, seen = seen, self._signature()
            if seen is not None and seen == before and seen != used:
                used = seen
                await self._take_over()

    async def _take_over(self) -> None:
        """Reload, unless the file has a mistake that it did not have before: somebody may still be at it."""
        gateway = self._gateway
        plugins = gateway.plugins
        result = load(gateway.config_path, plugins.connection_types, plugins.transports, plugins.settings)
        fresh = [problem for problem in result.problems if str(problem) not in gateway.problems]
        for problem in fresh:
            log.error("config.not_reloaded", path=problem.path, wrong=problem.wrong, mend=problem.mend)
        if not fresh and result.config is not None:
            await gateway.reload()
            log.info("config.reloaded", applied=True, problems=len(result.problems))

    def _signature(self) -> Signature | None:
        """What changes when the file does; None while there is none."""
        try:
            found = os.stat(self._gateway.config_path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    # ---- names in allow_from

    async def _look_up_names(self) -> None:
        entries = self._gateway.entries
        while True:
            now = trio.current_time()
            wanted = entries.names_to_resolve()
            for name in self._looked_up.keys() - wanted:
                del self._looked_up[name]
                self._clear_name(name)
            for name in sorted(wanted):
                if now - self._looked_up.get(name, float("-inf")) >= NAMES_SECONDS:
                    self._looked_up[name] = now
                    await self._look_up(name)
            await trio.sleep(WATCH_SECONDS)

    async def _look_up(self, name: str) -> None:
        """A name that cannot be looked up keeps the addresses it had."""
        gateway = self._gateway
        issue = f"allow_from:{name}"
        users = [entry.name for entry in gateway.config.connections if name in entry.allow_names]
        try:
            found = await gateway.resolver.resolve(name, 5060, "udp")
        except ResolveError as error:
            log.warning("allow_from.unresolved", name=name, reason=str(error))
            for connection in users:
                text = f"{name} in allow_from cannot be looked up: {error}"
                mend = "mend the name or the DNS, or write addresses"
                gateway.entries.issues.raise_issue(connection, issue, text, mend, gateway.now())
            return
        self._clear_name(name)
        gateway.entries.resolved(name, _networks({item[0] for item in found}, name))

    def _clear_name(self, name: str) -> None:
        """It can be looked up again, or stands in no list any more."""
        for connection in self._gateway.config.connections:
            self._gateway.entries.issues.clear(connection.name, f"allow_from:{name}")

    # ---- stopping

    def drain(self, connections: Iterable[str]) -> None:
        """Let the calls of connections that were taken out or set up anew go on for `drain_seconds`; then end them."""
        gateway = self._gateway
        calls = [call for name in connections for call in gateway.calls.of_connection(name)]
        if calls and self._nursery is not None:
            self._nursery.start_soon(self._end_later, calls, gateway.config.gateway.drain_seconds)

    async def _end_later(self, calls: list[Call], seconds: float) -> None:
        await trio.sleep(seconds)
        for call in calls:
            if not call.over:
                call.end("connection was changed")

    async def send_softphones_away(self, *, at_once: bool) -> None:
        """Close their WebSockets so that they come back, a few at a time: all at once would knock at the next gateway's
        door all at once.
        """
        flows = [flow for flow in self._gateway.softphones.flows() if isinstance(flow, SaysGoodbye)]
        random.shuffle(flows)
        spread = 0.0 if at_once else min(len(flows) / CLOSES_PER_SECOND, LONGEST_SPREAD)
        begin = trio.current_time()
        for index, flow in enumerate(flows):
            await trio.sleep_until(begin + spread * (index + random.random()) / len(flows))
            flow.say_goodbye(SERVICE_RESTART, "the gateway is restarting")
