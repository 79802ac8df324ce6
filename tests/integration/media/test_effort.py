"""A worker encodes Opus as well as it has room for: what the calls' figures and the packets say."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import trio

from siperb_core.media.encoding import MOST_CALLS
from siperb_core.media.pool import MediaPool, MediaSession
from siperb_core.sdp.plan import ClientLeg, Codec, PeerLeg, SessionPlan, Stream

OPUS, G722, PCMA = Codec("opus", 48000, 2), Codec("G722", 8000), Codec("PCMA", 8000)
PORTS = "31200-31299"


def plan(client: Codec, peer: Codec, phone: socket.socket) -> SessionPlan:
    """An answered call between a softphone that never comes and a phone."""
    leg = ClientLeg("ufrag", "x" * 24, "", "", (), (), "server", False, 5, Stream(client, 111, 111))
    return SessionPlan(PeerLeg(phone.getsockname(), None, False, 7, Stream(peer, 9, 9)), {"a": leg}, "a")


def opened(pool: MediaPool, stack: ExitStack, client: Codec = OPUS, peer: Codec = G722) -> MediaSession:
    phone = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    phone.bind(("127.0.0.1", 0))
    session = pool.open("call-id", lambda event: None)
    session.add_branch("a")
    session.apply(plan(client, peer, phone))
    return session


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - figures come by themselves
            await trio.sleep(0.02)


def efforts(sessions: list[MediaSession]) -> set[Any]:
    return {session.stats.get("effort") for session in sessions}


def pooled(setting: Any) -> MediaPool:
    return MediaPool(ports=PORTS, workers=1, bind_address="127.0.0.1", stats_interval=0.2, effort=setting)


async def test_one_call_too_many_makes_all_of_them_cheap() -> None:
    with ExitStack() as stack, trio.fail_after(60):
        async with pooled("auto") as pool:
            sessions = [opened(pool, stack) for _ in range(MOST_CALLS)]
            await until(lambda: efforts(sessions) == {"high"})
            sessions.append(opened(pool, stack))
            await until(lambda: efforts(sessions) == {"low"})


@pytest.mark.parametrize("setting", ["low", "high"])
async def test_the_setting_reaches_the_calls(setting: str) -> None:
    with ExitStack() as stack, trio.fail_after(60):
        async with pooled(setting) as pool:
            sessions = [opened(pool, stack) for _ in range(MOST_CALLS + 1)]
            await until(lambda: efforts(sessions) == {setting})


async def test_calls_without_a_choice_have_no_effort_and_do_not_count() -> None:
    with ExitStack() as stack, trio.fail_after(60):
        async with pooled("auto") as pool:
            plain = [opened(pool, stack, PCMA, G722) for _ in range(MOST_CALLS + 1)]
            relayed = opened(pool, stack, G722, G722)
            chosen = opened(pool, stack)
            await until(lambda: chosen.stats.get("effort") == "high")
            await until(lambda: all(session.stats.get("client_codec") for session in [*plain, relayed]))
            assert efforts([*plain, relayed]) == {""}
