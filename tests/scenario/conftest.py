"""A world on virtual time, a softphone and a PBX in it."""

from __future__ import annotations

import pytest
import trio

from .fake_media import FakeMedia
from .world import EndPoint, FakeFlow, World


@pytest.fixture
async def world(nursery: trio.Nursery) -> World:
    world = World()
    nursery.start_soon(world.run)
    return world


@pytest.fixture
def phone(world: World) -> EndPoint:
    return EndPoint(world, FakeFlow("ws", ("198.51.100.7", 50000)), "alice")


@pytest.fixture
def pbx(world: World) -> EndPoint:
    return EndPoint(world, FakeFlow("udp", ("192.0.2.99", 5060)), "pbx")


@pytest.fixture
def media(world: World) -> FakeMedia:
    """Media of every call in the world; without this fixture SDP passes untouched."""
    media = FakeMedia()
    world.media = lambda *_: media  # type: ignore[assignment, return-value]
    return media
