"""What plugins put in the place of the core's own, used with care: a media engine, a place for the bindings.

An exception of theirs costs the call or the write it came in, as it would where the core's own cannot do its work, and
is a fault of the plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

import structlog

from siperb_core.media.counters import Counters, CountsMedia
from siperb_core.media.engine import EngineSession, MediaElsewhere, MediaEngine
from siperb_core.media.messages import MediaEvent
from siperb_core.media.pool import MediaUnavailableError
from siperb_core.media.ports import PortsExhaustedError
from siperb_core.rtp.events import Digit
from siperb_core.sdp.plan import SessionPlan
from siperb_core.store.contract import Failed, LocationStore, StoredBinding, Then

log = structlog.get_logger("siperb.plugins")

Fault = Callable[[str], None]
_NO_MEDIA = (MediaUnavailableError, PortsExhaustedError)


def guarded_engine(engine: MediaEngine, fault: Fault) -> MediaEngine:
    """A plugin's engine; `fault` is told what it has done wrong."""
    return _CountingEngine(engine, fault) if isinstance(engine, CountsMedia) else _Engine(engine, fault)


@contextmanager
def _counted(what: str, fault: Fault, *, fatal: bool) -> Iterator[None]:
    """Count what is raised by mistake. `fatal`: nothing can go on without what was asked for."""
    try:
        yield
    except _NO_MEDIA:
        raise
    except Exception as error:
        log.exception("plugin.failed", asked=what)
        fault(f"{type(error).__name__} in {what} of its media engine")
        if fatal:
            raise MediaUnavailableError("the media engine has failed") from error


class _Engine:
    def __init__(self, engine: MediaEngine, fault: Fault) -> None:
        self._engine: Any = engine
        self._fault = fault
        self.fingerprint: tuple[str, str] = engine.fingerprint

    async def __aenter__(self) -> Self:
        await self._engine.__aenter__()
        self.fingerprint = self._engine.fingerprint  # of a certificate that may have been made only now
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        found: bool | None = await self._engine.__aexit__(kind, error, traceback)
        return found

    def open(self, call_id: str, *, client_v6: bool = False, peer_v6: bool = False) -> EngineSession:
        with _counted("open", self._fault, fatal=True):
            session = self._engine.open(call_id, client_v6=client_v6, peer_v6=peer_v6)
            kind = _SessionElsewhere if isinstance(session, MediaElsewhere) else _Session
            return kind(session, self._fault)
        raise AssertionError


class _CountingEngine(_Engine):
    def counters(self) -> Counters:
        found: Counters = self._engine.counters()
        return found


class _Session:
    def __init__(self, session: EngineSession, fault: Fault) -> None:
        self._session = session
        self._fault = fault
        self.peer_port = session.peer_port

    @property
    def stats(self) -> dict[str, Any]:
        return self._session.stats

    @stats.setter
    def stats(self, stats: dict[str, Any]) -> None:
        self._session.stats = stats

    @property
    def on_event(self) -> Callable[[MediaEvent], None] | None:
        return self._session.on_event

    @on_event.setter
    def on_event(self, told: Callable[[MediaEvent], None] | None) -> None:
        self._session.on_event = told

    def add_branch(self, branch: str) -> int:
        with _counted("add_branch", self._fault, fatal=True):
            return self._session.add_branch(branch)
        raise AssertionError

    def drop_branch(self, branch: str) -> None:
        with _counted("drop_branch", self._fault, fatal=False):
            self._session.drop_branch(branch)

    def apply(self, plan: SessionPlan) -> None:
        with _counted("apply", self._fault, fatal=True):
            self._session.apply(plan)

    def send_digit(self, leg: Literal["client", "peer"], digit: Digit) -> None:
        with _counted("send_digit", self._fault, fatal=False):
            self._session.send_digit(leg, digit)

    def close(self, then: Callable[[], None] | None = None) -> None:
        told = False

        def once() -> None:
            nonlocal told
            if not told and then is not None:
                told = True
                then()

        try:
            with _counted("close", self._fault, fatal=True):
                self._session.close(once)
        except MediaUnavailableError:
            once()  # the call's record is not to wait for ever


class _SessionElsewhere(_Session):
    def __init__(self, session: Any, fault: Fault) -> None:
        super().__init__(session, fault)
        self.client_address, self.peer_address = session.client_address, session.peer_address


class GuardedLocations:
    """A plugin's place for the bindings. What it raises is a write that has failed."""

    def __init__(self, store: LocationStore, fault: Fault) -> None:
        self._store = store
        self._fault = fault

    def put_binding(
        self,
        aor: str,
        key: str,
        data: Mapping[str, Any],
        expires: float,
        *,
        then: Then | None = None,
        failed: Failed | None = None,
    ) -> None:
        """As `LocationStore.put_binding`."""
        try:
            self._store.put_binding(aor, key, data, expires, then=then, failed=failed)
        except Exception as error:
            self._wrong("put_binding", error, failed)

    def delete_binding(self, aor: str, key: str, *, then: Then | None = None, failed: Failed | None = None) -> None:
        """As `LocationStore.delete_binding`."""
        try:
            self._store.delete_binding(aor, key, then=then, failed=failed)
        except Exception as error:
            self._wrong("delete_binding", error, failed)

    def load_bindings(self, now: float | None = None) -> list[StoredBinding]:
        """As `LocationStore.load_bindings`; none where it raises."""
        try:
            return self._store.load_bindings(now)
        except Exception as error:
            self._wrong("load_bindings", error, None)
            return []

    def _wrong(self, what: str, error: Exception, failed: Failed | None) -> None:
        log.exception("plugin.failed", asked=what)
        self._fault(f"{type(error).__name__} in {what} of its location store")
        if failed is not None:
            failed(error)
