"""A media pool with its worker, a browser and a phone, all on loopback."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio_asyncio

sys.path.insert(0, str(Path(__file__).parent))

from media_browser import Browser, use_loopback
from media_phone import Phone

from siperb_core.media.messages import MediaEvent
from siperb_core.media.pool import MediaPool, MediaSession
from siperb_core.sdp.plan import ClientLeg, Codec, PeerLeg, SessionPlan, Stream


class Call:
    """One call through the pool: a browser that offers, a phone that answers."""

    def __init__(self, pool: MediaPool, nursery: trio.Nursery, browser: Browser, phone: Phone) -> None:
        self.pool, self.nursery, self.browser, self.phone = pool, nursery, browser, phone
        self.session: MediaSession = pool.open("call-id", self._happened)
        self.events: list[MediaEvent] = []
        self._changed = trio.Event()
        self.port = self.session.add_branch("a")
        self.leg: ClientLeg | None = None

    def _happened(self, event: MediaEvent) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = trio.Event()

    async def event(self, kind: str) -> MediaEvent:
        """Wait for an event."""
        with trio.fail_after(20):
            while True:
                for event in self.events:
                    if event.kind == kind:
                        return event
                await self._changed.wait()

    def plan(self, leg: ClientLeg, *, symmetric: bool = False, **stream: object) -> SessionPlan:
        """The plan of an answered call; `stream` changes the PBX's stream."""
        payload_type = {"G722": 9, "PCMA": 8, "PCMU": 0}[self.phone.codec]
        peer = Stream(Codec(self.phone.codec, 8000), payload_type, payload_type, **stream)
        return SessionPlan(PeerLeg(self.phone.address, None, symmetric, 777, peer), {"a": leg}, "a")

    async def connect(self) -> None:
        """Offer, plan, answer; returns when DTLS is up."""
        self.leg = await self.browser.offer()
        self.session.apply(self.plan(self.leg))
        await self.browser.answered(self.leg, self.port, self.pool.fingerprint)
        await self.event("connected")

    async def closed(self) -> None:
        """Wait until the ports are free again."""
        with trio.fail_after(20):
            await self.session.closed.wait()
        assert self.pool.ports.taken == 0


@pytest.fixture
async def pool() -> AsyncIterator[MediaPool]:
    """A pool with one worker."""
    with trio.fail_after(60):
        async with MediaPool(
            ports="31000-31099",
            workers=1,
            bind_address="127.0.0.1",
            rtp_timeout=2,
            one_way_after=1,
            stats_interval=0.2,
            transcoder_plugins=("transcoder_opus_g722",),
        ) as pool:
            yield pool


@pytest.fixture
async def call(pool: MediaPool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Call]:
    """A call that is not connected yet; the phone listens."""
    use_loopback(monkeypatch)
    async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
        phone = await Phone.create("G722")
        nursery.start_soon(phone.listen)
        call = Call(pool, nursery, Browser(), phone)
        try:
            yield call
        finally:
            with trio.CancelScope(shield=True):
                await call.browser.close()
            nursery.cancel_scope.cancel()
            phone.socket.close()
