"""What the gateway notices by itself and the administrator has to mend: certificates, clocks, codecs, plugins.

Each finding is an issue (`siperb_core.entries.issues`): told once, shown until it is mended, and then gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol

import trio

from siperb_core.entries.issues import Issues
from siperb_core.entries.lifecycle import Entries
from siperb_core.entries.model import GatewayConfig
from siperb_core.entries.peer import PeerSettings
from siperb_core.events import CallEvent
from siperb_core.hookspecs import hookimpl
from siperb_core.plugins import Plugins
from siperb_core.sip import Message
from siperb_core.targets import Targets
from siperb_core.transport import certificates
from siperb_core.transport.stream import StreamFlow
from siperb_core.watchdog import BLOCKED_SECONDS, Watchdog

LOOK_SECONDS = 60.0
"""Between looks at what nobody reports: certificates on disk and on open connections."""
CLOCK_SECONDS = 30.0
"""Clocks that differ by more are off: digest nonces, certificates and logs go by them."""
MOST_CLOCKS = 1000

Wrong = tuple[str, str, str, str]
"""Connection, issue, text, mend."""


class WatchHost(Protocol):
    """What is looked at."""

    config: GatewayConfig
    plugins: Plugins
    entries: Entries
    targets: Targets

    def now(self) -> float:
        """Seconds since the epoch."""


class Watch:
    """Raises issues of the gateway's own, and clears them."""

    def __init__(self, host: WatchHost) -> None:
        self._host = host
        self._raised: set[tuple[str, str]] = set()  # by `look`
        self._clocks: set[str] = set()
        self._blocking: set[str] = set()

    @property
    def _issues(self) -> Issues:
        return self._host.entries.issues

    async def run(self) -> None:
        """Look every minute, and have an eye on who blocks the event loop, until cancelled."""
        plugins = self._host.plugins
        plugins.changed = self.look
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Watchdog(plugins.packages, self.blocked).run)
            while True:
                self.look()
                await trio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Compare what is wrong now with what was, and say so."""
        host = self._host
        now = host.now()
        found = {
            (connection, issue): (text, mend)
            for connection, issue, text, mend in (*self._plugins(), *self._own(now), *self._peers(now))
        }
        for connection, issue in self._raised - set(found):
            self._issues.clear(connection, issue)
        for plugin in self._blocking & set(host.config.plugins.disable):
            self._blocking.discard(plugin)
            self._issues.clear("", f"plugin_blocks:{plugin}")
        for (connection, issue), (text, mend) in found.items():
            self._issues.raise_issue(connection, issue, text, mend, now)
        self._raised = set(found)

    def _plugins(self) -> Iterator[Wrong]:
        off = self._host.config.plugins.disable
        for info in self._host.plugins.infos:
            if info.state == "set_aside" and info.name not in off and info.distribution not in off:
                mend = (
                    f'mend or uninstall {info.distribution or info.name} and restart, or add "{info.name}" to disable'
                )
                yield "", f"plugin_set_aside:{info.name}", f"plugin {info.name} is set aside: {info.reason}", mend

    def _own(self, now: float) -> Iterator[Wrong]:
        for path in dict.fromkeys(listen.certificate for listen in self._host.config.listen if listen.certificate):
            wrong = certificate_wrong(path, now)
            if wrong:
                mend = "put a new one in its place: the next handshake uses it"
                yield "", f"certificate:{path}", f"certificate {path} {wrong}", mend

    def _peers(self, now: float) -> Iterator[Wrong]:
        for entry in self._host.entries.entries():
            if not entry.enabled or not isinstance(entry.settings, PeerSettings):
                continue
            flow = self._host.targets.answered_by(entry.settings.target)
            der = flow.peer_certificate if isinstance(flow, StreamFlow) else None
            wrong = _shown_wrong(der, now) if der else ""
            if wrong:
                text = f"the certificate of {entry.settings.server} {wrong}"
                yield entry.name, "peer_certificate", text, "renew it on the PBX: calls stop when it has expired"

    # ---- what others report

    def blocked(self, plugin: str, where: str) -> None:
        """A plugin has held up every call: an issue, and a fault that counts towards switching it off."""
        text = f"plugin {plugin} blocked the gateway for more than {BLOCKED_SECONDS:g} s at {where}: no call went on"
        mend = f'report it to the plugin\'s author, or add "{plugin}" to disable'
        self._blocking.add(plugin)
        self._issues.raise_issue("", f"plugin_blocks:{plugin}", text, mend, self._host.now())
        self._host.plugins.fault(plugin, f"blocked the event loop at {where}")

    def answered(self, host: str, response: Message) -> None:
        """A PBX answered a request of ours: its Date header tells its clock (RFC 3261 section 20.17)."""
        off = clock_off(response, self._host.now())
        if off is None:
            return
        issue = f"clock_off:{host}"
        if abs(off) <= CLOCK_SECONDS:
            if issue in self._clocks:
                self._clocks.discard(issue)
                self._issues.clear("", issue)
        elif issue in self._clocks or len(self._clocks) < MOST_CLOCKS:
            self._clocks.add(issue)
            where = "ahead of" if off > 0 else "behind"
            text = f"the clock of {host} is {abs(off):.0f} s {where} that of this machine"
            self._issues.raise_issue("", issue, text, "let both follow NTP: timedatectl shows it", self._host.now())

    @hookimpl
    def siperb_call_event(self, event: CallEvent) -> None:
        """As `call_event`."""
        self.call_event(event)

    def call_event(self, event: CallEvent) -> None:
        """A call came a step further: one that is refused for its codecs is an issue until one is answered."""
        if not event.connection:
            return
        if event.what == "answered":
            self._issues.clear(event.connection, "no_common_codec")
        elif event.what == "ended" and event.cause.startswith("488"):
            entry = self._host.config.connection(event.connection)
            codecs = ", ".join(entry.codecs) if entry else "none"
            text = f"a call with {event.callee or 'the PBX'} found no common codec ({event.cause}): here are {codecs}"
            mend = (
                f"allow one of them on the PBX, or: siperb connection edit {event.connection} --codecs G722,PCMA,PCMU"
            )
            self._issues.raise_issue(event.connection, "no_common_codec", text, mend, event.when)


def _shown_wrong(der: bytes, now: float) -> str:
    try:
        return certificates.read_der(der).wrong(now)
    except ValueError:  # TLS took it, our reader does not: nothing is known of its dates
        return ""


def certificate_wrong(path: Path, now: float) -> str:
    """What is wrong with a certificate on disk, as the end of a sentence; '' where nothing is."""
    try:
        return certificates.read_file(path).wrong(now)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError:
        return "is no certificate in PEM"


def clock_off(response: Message, now: float) -> float | None:
    """How many seconds the sender's clock is ahead of ours, by the Date of a response; None where it does not say."""
    text = response.get("Date")
    if text is None or len(text) > 64:
        return None
    try:
        return parsedate_to_datetime(text).timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


__all__ = ["CLOCK_SECONDS", "Watch", "WatchHost", "certificate_wrong", "clock_off"]
