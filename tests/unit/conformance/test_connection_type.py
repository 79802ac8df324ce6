"""`check_connection_type` finds what is wrong with a connection type, and names it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import pytest
import trio

from siperb_core import Claim, ConnectionNotReady, OutboundLeg, Refusal, Secret, Target, sip
from siperb_core.testing import NotConformant, check_connection_type

SETTINGS: Mapping[str, Any] = {"password": "not-to-be-seen"}


@attrs.frozen(kw_only=True)
class Settings:
    password: Secret
    server: str = "pbx.example.com"


class Live:
    credentials = None

    def outbound_leg(self, call: Any) -> OutboundLeg | Refusal:
        return OutboundLeg(Target("pbx.example.com"), "sip:a@pbx.example.com", "sip:b@c", "sip:a@pbx.example.com")

    def claims(self, request: sip.Message, source: Any) -> Claim | None:
        return None

    def answer(self, request: sip.Message, source: Any) -> None:
        return None


class Good:
    kind: ClassVar[str] = "good"
    title: ClassVar[str] = "Good"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Any]] = Settings
    allow_from_required: ClassVar[bool] = False
    live: Any = Live

    def unique_id(self, config: Any) -> str | None:
        return None

    def migrate(self, data: Mapping[str, Any], old: int) -> Mapping[str, Any]:
        return data

    async def probe(self, ctx: Any, config: Any) -> None: ...

    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None:
        task_status.started(self.live())
        await trio.sleep_forever()


def register(expires: int) -> sip.Message:
    return sip.Message.request(
        "REGISTER",
        "sip:pbx.example.com",
        [
            ("From", "<sip:200@pbx.example.com>;tag=1"),
            ("To", "<sip:200@pbx.example.com>"),
            ("Call-ID", "x"),
            ("CSeq", "1 REGISTER"),
            ("Contact", "<sip:x@192.0.2.1>"),
            ("Expires", str(expires)),
        ],
    )


class LeavesBinding(Good):
    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None:
        await ctx.request(register(300), Target("pbx.example.com"))
        await super().serve(ctx, config, task_status=task_status)


class LeavesTask(Good):
    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None:
        trio.lowlevel.spawn_system_task(trio.sleep, 1e6)
        await super().serve(ctx, config, task_status=task_status)


class LeavesSocket(Good):
    kept: ClassVar[list[Any]] = []

    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None:
        self.kept.append(socket.socket())
        await super().serve(ctx, config, task_status=task_status)


class StartsTwice(Good):
    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None:
        task_status.started(Live())
        await super().serve(ctx, config, task_status=task_status)


class Crashes(Good):
    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None:
        raise KeyError("port")


class Hangs(Good):
    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None:
        try:
            await super().serve(ctx, config, task_status=task_status)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(60)


class Spins(Good):
    async def probe(self, ctx: Any, config: Any) -> None:
        while True:
            await trio.lowlevel.checkpoint()


class Forgets(Good):
    """Retry-After."""

    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None:
        response = await ctx.request(register(0), Target("pbx.example.com"))
        if response.status != 200:
            raise ConnectionNotReady(f"{response.status}")
        await super().serve(ctx, config, task_status=task_status)


class Hammers(Good):
    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None:
        task_status.started(Live())
        while True:
            await ctx.request(register(0), Target("pbx.example.com"))


class Tells(Good):
    async def serve(self, ctx: Any, config: Any, *, task_status: Any) -> None:
        ctx.log.info("signing in", word=config.password.reveal())
        await super().serve(ctx, config, task_status=task_status)


class Migrates(Good):
    def migrate(self, data: Mapping[str, Any], old: int) -> Mapping[str, Any]:
        return {**data, "server": "elsewhere"}


class Looks(Live):
    def claims(self, request: sip.Message, source: Any) -> Claim | None:
        socket.getaddrinfo("127.0.0.1", 5060)
        return None


class Counts(Live):
    calls = 0

    def outbound_leg(self, call: Any) -> Refusal:
        self.calls += 1
        return Refusal(480, f"call {self.calls}")


class Trusts(Live):
    def outbound_leg(self, call: Any) -> OutboundLeg:
        uri = f"sip:{call.number}@pbx.example.com"
        return OutboundLeg(Target("pbx.example.com"), uri, "sip:b@c", uri)


class Stumbles(Live):
    def claims(self, request: sip.Message, source: Any) -> Claim | None:
        return Claim(request.contacts[0].uri)


def giving(live_class: type[Any]) -> Good:
    kind = Good()
    kind.live = live_class
    return kind


async def test_a_good_one_passes(autojump_clock: Any) -> None:
    await check_connection_type(Good(), SETTINGS, bad_settings=[{}, {**SETTINGS, "sever": "x"}])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (LeavesBinding(), "binding is left"),
        (LeavesTask(), "task"),
        (LeavesSocket(), "socket open"),
        (StartsTwice(), "more than once"),
        (Crashes(), "no exception of the contract.*KeyError"),
        (Hangs(), "has not ended 10 s"),
        (Spins(), "probe turns in a loop"),
        (Forgets(), "Retry-After: 17"),
        (Hammers(), "requests"),
        (Tells(), "a secret shows"),
        (Migrates(), "migrate"),
        (giving(Looks), "does I/O: socket.getaddrinfo"),
        (giving(Counts), "another answer the second time"),
        (giving(Trusts), "request_uri for"),
        (giving(Stumbles), "raises"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__ + getattr(value.live, "__name__", ""),
)
async def test_a_bad_one_is_told_what_is_wrong(autojump_clock: Any, kind: Good, text: str) -> None:
    with pytest.raises(NotConformant, match=text):
        await check_connection_type(kind, SETTINGS)
    while LeavesSocket.kept:
        LeavesSocket.kept.pop().close()


async def test_bad_settings_have_to_be_refused(autojump_clock: Any) -> None:
    with pytest.raises(NotConformant, match="are taken"):
        await check_connection_type(Good(), SETTINGS, bad_settings=[SETTINGS])


async def test_it_says_that_it_needs_virtual_time() -> None:
    with pytest.raises(RuntimeError, match="autojump_clock"):
        await check_connection_type(Good(), SETTINGS)
