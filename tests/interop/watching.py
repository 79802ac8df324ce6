"""The gateway's end of a test with a real peer: its softphone, and what it says of itself, waited for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import trio

from siperb_core.gateway import Gateway
from siperb_core.testing.gateway import websocket_url
from siperb_core.testing.softphone import PhoneCall, Softphone, open_softphone

T = TypeVar("T")

LIMIT = 60
"""Seconds for a test on a busy machine."""

_INTERVAL = 0.02  # seconds between two looks at what cannot be waited for otherwise


def phone_at(gateway: Gateway, **settings: Any) -> AbstractAsyncContextManager[Softphone]:
    """Alice's softphone, registered."""
    return open_softphone(websocket_url(gateway), "alice-web", "gw.example", "alice-secret", **settings)


async def until(look: Callable[[], Awaitable[T]], *, seconds: float = 15.0) -> T:
    """The first result that is true. Raises trio.TooSlowError."""
    with trio.fail_after(seconds):
        while not (found := await look()):  # noqa: ASYNC110 - of other processes, and of what tells nobody
            await trio.sleep(_INTERVAL)
        return found


async def nth_call(phone: Softphone, number: int) -> PhoneCall:
    """Wait for a softphone's call of that number, counted from 1: it rings or runs."""

    async def look() -> bool:
        return len(phone.calls) >= number

    await until(look)
    return phone.calls[number - 1]


async def connection(gateway: Gateway, name: str) -> dict[str, Any]:
    """A connection as `siperb show connections` has it."""
    rows = await gateway.operations.call("show.connections")
    (row,) = [row for row in rows if row["name"] == name]
    return row


async def registered_until(gateway: Gateway, name: str) -> float | None:
    """When a connection's registration runs out; None while there is none."""
    registration = (await connection(gateway, name))["registration"]
    if registration is None or registration["state"] != "registered":
        return None
    return registration["expires_at"]


async def wait_registered(gateway: Gateway, name: str, *, later_than: float = 0.0) -> float:
    """Wait until a connection is registered, for longer than until `later_than`: until it has been refreshed."""

    async def look() -> float | None:
        expires_at = await registered_until(gateway, name)
        return expires_at if expires_at and expires_at > later_than else None

    return await until(look)


async def wait_unregistered(gateway: Gateway, name: str) -> None:
    """Wait until a connection is not registered any more."""

    async def look() -> bool:
        return await registered_until(gateway, name) is None

    await until(look)


async def calls_of(gateway: Gateway, name: str) -> list[dict[str, Any]]:
    """The calls of a connection that are over or running, oldest first."""
    rows = await gateway.operations.call("show.calls")
    return sorted((row for row in rows if row["connection"] == name), key=lambda row: row["started"])


async def all_ended(gateway: Gateway, name: str, count: int) -> list[dict[str, Any]]:
    """Wait until a connection has had that many calls and they are over."""

    async def look() -> list[dict[str, Any]] | None:
        rows = await calls_of(gateway, name)
        return rows if len(rows) == count and all(row["state"] == "ended" for row in rows) else None

    return await until(look)
