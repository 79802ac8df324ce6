"""What comes from off the list, and from who tries passwords: nothing passes, nothing is learnt, nobody else pays."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio

from siperb_core.gateway import Gateway
from siperb_core.sip import Message, parse
from siperb_core.sip.digest import answer_challenge
from siperb_core.testing.gateway import address, open_gateway, websocket_url
from siperb_core.testing.softphone import open_softphone

METHODS = ("INVITE", "REFER", "SUBSCRIBE", "MESSAGE", "OPTIONS", "NOTIFY", "REGISTER", "PUBLISH", "INFO")

TRUNK = """
[[connection]]
name = "carrier"
type = "outbound_trunk"
allow_from = ["192.0.2.0/24"]
[connection.settings]
server = "192.0.2.1"
qualify = 0
"""

BRANCH = """
[[connection]]
name = "branch"
type = "inbound_registration"
[connection.settings]
username = "branch"
password = "branch-secret-0123456789"
"""


class Stranger:
    """Somebody with a UDP socket."""

    def __init__(self, gateway: Gateway, host: str = "127.0.0.1") -> None:
        self._socket = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._to = address(gateway, "udp")
        self._host = host
        self._count = 0

    async def __aenter__(self) -> Stranger:
        await self._socket.bind((self._host, 0))
        return self

    async def __aexit__(self, *args: object) -> None:
        self._socket.close()

    def make(self, method: str, user: str, to: str = "", authorization: str = "") -> Message:
        self._count += 1
        me = f"<sip:{user}@gw.example>"
        return Message.request(
            method,
            "sip:gw.example" if method == "REGISTER" else f"sip:{to or '600'}@gw.example",
            [
                ("Via", f"SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{id(self)}{self._count};rport"),
                ("Max-Forwards", "70"),
                ("From", f"{me};tag=x{self._count}"),
                ("To", me if method == "REGISTER" else f"<sip:{to or '600'}@gw.example>"),
                ("Call-ID", f"c{id(self)}{self._count}"),
                ("CSeq", f"{self._count} {method}"),
                ("Contact", f"<sip:{user}@127.0.0.1>"),
                *([("Authorization", authorization)] if authorization else []),
                *([("Event", "presence")] if method in ("SUBSCRIBE", "NOTIFY", "PUBLISH") else []),
                *([("Refer-To", "<sip:9@gw.example>")] if method == "REFER" else []),
            ],
        )

    async def send(self, message: Message) -> None:
        """Send it; whatever becomes of it."""
        await self._socket.sendto(bytes(message), self._to)

    async def ask(self, message: Message) -> Message:
        """Send it; its final response."""
        await self.send(message)
        while True:
            response = parse(await self._socket.recv(65536))
            if response.call_id == message.call_id and response.status >= 200:
                return response

    async def is_ignored(self, message: Message) -> bool:
        """Whether no answer comes at all."""
        with trio.move_on_after(0.5):
            await self.ask(message)
            return False
        return True

    async def log_in(self, user: str, password: str, method: str = "REGISTER") -> Message:
        """Be challenged, and answer; the response to that."""
        challenged = await self.ask(self.make(method, user))
        assert challenged.status == 401
        message = self.make(method, user)
        answer = answer_challenge(
            challenged.get_all("WWW-Authenticate"),
            method=method,
            uri=message.uri,
            username=user,
            password=password,
            cnonce="c",
        )
        message.set("Authorization", answer or "")
        return await self.ask(message)


@contextmanager
def log_lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@asynccontextmanager
async def stranger_at(tmp_path: Path, connections: str, **more: Any) -> AsyncIterator[tuple[Gateway, Stranger]]:
    async with open_gateway(tmp_path, connections, **more) as gateway, Stranger(gateway) as stranger:
        with trio.fail_after(60):
            yield gateway, stranger


@pytest.mark.parametrize("method", METHODS)
async def test_no_method_passes_from_off_the_list(tmp_path: Path, method: str) -> None:
    async with stranger_at(tmp_path, TRUNK) as (gateway, stranger):
        with log_lines() as lines:
            for _ in range(20):
                assert (await stranger.ask(stranger.make(method, "anybody"))).status == 403
        assert gateway.signalling.rejected["unclaimed"] == 20
        (line,) = [line for line in lines if line["event"] == "request.unclaimed"]
        assert (line["source"], line["method"]) == ("127.0.0.1", method)
        assert gateway.calls.active() == []


@pytest.mark.parametrize("method", METHODS)
async def test_strangers_may_be_met_with_silence(tmp_path: Path, method: str) -> None:
    async with stranger_at(tmp_path, TRUNK) as (gateway, stranger):
        settings = gateway.config.gateway
        gateway.config = attrs.evolve(gateway.config, gateway=attrs.evolve(settings, strangers="drop"))
        assert await stranger.is_ignored(stranger.make(method, "anybody"))
        assert gateway.signalling.transactions == 0


def anonymous(response: Message) -> str:
    """A response without what differs in every one of them."""
    text = bytes(response).decode()
    return re.sub(r'(nonce=")[^"]*|(branch=|tag=|Call-ID: |CSeq: |rport=|sip:)[^;\s@]*', r"\1\2", text)


@pytest.mark.parametrize("method", METHODS)
async def test_a_scanner_cannot_tell_users_apart(tmp_path: Path, method: str) -> None:
    async with stranger_at(tmp_path, TRUNK + BRANCH) as (_, stranger):
        known = await stranger.ask(stranger.make(method, "branch"))
        unknown = await stranger.ask(stranger.make(method, "nobody"))
        assert known.status == 401
        assert anonymous(known) == anonymous(unknown)
        for wrong in (await stranger.log_in("branch", "wrong", method), await stranger.log_in("nobody", "x", method)):
            assert wrong.status == 401
            assert anonymous(wrong) == anonymous(known)


async def test_ten_wrong_passwords_lock_the_source_out(tmp_path: Path) -> None:
    async with stranger_at(tmp_path, BRANCH) as (gateway, stranger):
        with log_lines() as lines:
            for _ in range(10):
                assert (await stranger.log_in("branch", "wrong")).status == 401
        assert sum(line["event"] == "auth.failed" for line in lines) == 10
        assert [line["what"] for line in lines if line["event"] == "auth.locked_out"] == ["source"]
        for method in METHODS:
            assert await stranger.is_ignored(stranger.make(method, "branch"))
        assert gateway.signalling.rejected["locked_out"] == len(METHODS)
        async with Stranger(gateway, "127.0.0.2") as branch:
            assert (await branch.log_in("branch", "branch-secret-0123456789")).status == 200


async def test_datagrams_with_another_s_nonce_lock_nobody_out(tmp_path: Path) -> None:
    """What somebody sends who writes another's address into his datagrams: he never sees a nonce given to that."""
    async with stranger_at(tmp_path, BRANCH) as (gateway, stranger):
        nonce = (await stranger.ask(stranger.make("REGISTER", "branch"))).get_all("WWW-Authenticate")
        async with Stranger(gateway, "127.0.0.2") as branch:
            with log_lines() as lines:
                for _ in range(20):
                    guess = answer_challenge(
                        nonce, method="REGISTER", uri="sip:gw.example", username="branch", password="x", cnonce="c"
                    )
                    refused = await branch.ask(branch.make("REGISTER", "branch", authorization=guess or ""))
                    assert refused.status == 401
                    assert "stale=true" in (refused.get("WWW-Authenticate") or "")
            assert not [line for line in lines if line["event"] == "auth.failed"]
            assert (await branch.log_in("branch", "branch-secret-0123456789")).status == 200


@pytest.mark.parametrize("algorithms", [("SHA-256", "MD5"), ("MD5", "SHA-512-256", "SHA-256"), ("SHA-512-256",)])
async def test_algorithms_are_offered_strongest_first_and_each_is_taken(
    tmp_path: Path, algorithms: tuple[str, ...]
) -> None:
    branch = BRANCH.replace("[connection.settings]", f"algorithms = {list(algorithms)}\n[connection.settings]")
    order = [name for name in ("SHA-512-256", "SHA-256", "MD5") if name in algorithms]
    async with stranger_at(tmp_path, branch) as (_, stranger):
        for name in order:
            challenged = await stranger.ask(stranger.make("REGISTER", "branch"))
            offered = challenged.get_all("WWW-Authenticate")
            assert [re.search(r"algorithm=([\w-]+)", value)[1] for value in offered] == order  # type: ignore[index]
            (only,) = [value for value in offered if f"algorithm={name}" in value]
            answer = answer_challenge(
                [only], method="REGISTER", uri="sip:gw.example", username="branch",
                password="branch-secret-0123456789", cnonce="c",
            )  # fmt: skip
            assert f"algorithm={name}" in (answer or "")
            accepted = await stranger.ask(stranger.make("REGISTER", "branch", authorization=answer or ""))
            assert accepted.status == 200


async def test_algorithms_tell_no_scanner_which_names_exist(tmp_path: Path) -> None:
    """With two PBXs of different algorithms every other name gets the one or the other, too, always the same."""
    office = BRANCH.replace("branch", "office")
    head = BRANCH.replace("[connection.settings]", 'algorithms = ["SHA-256"]\n[connection.settings]')
    async with stranger_at(tmp_path, head + office) as (_, stranger):

        async def asked(name: str, method: str = "REGISTER") -> str:
            challenge = (await stranger.ask(stranger.make(method, name))).get("WWW-Authenticate") or ""
            return challenge.rpartition("algorithm=")[2]

        assert (await asked("branch"), await asked("office")) == ("SHA-256", "MD5")
        others = {name: await asked(name) for name in map(str, range(200, 230))}
        assert set(others.values()) == {"SHA-256", "MD5"}
        for name, algorithm in others.items():
            assert await asked(name) == await asked(name, "INVITE") == algorithm


async def test_a_first_request_without_credentials_is_no_failure(tmp_path: Path) -> None:
    async with stranger_at(tmp_path, BRANCH) as (_, stranger):
        with log_lines() as lines:
            for _ in range(30):
                assert (await stranger.ask(stranger.make("REGISTER", "branch"))).status == 401
        assert not [line for line in lines if line["event"].startswith("auth.")]


async def test_behind_one_address_others_go_on(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, BRANCH) as gateway:
        url = websocket_url(gateway)
        with trio.fail_after(60):
            async with open_softphone(url, "alice-web", gateway.domain, "alice-secret") as alice:
                for _ in range(10):
                    async with open_softphone(url, "bob-web", gateway.domain, "wrong", register=False) as bob:
                        assert (await bob.register()).status == 401
                assert gateway.guard._lockout.is_locked_user("127.0.0.1", "bob-web", gateway.now())
                assert not gateway.guard._lockout.is_locked("127.0.0.1", gateway.now())
                assert (await alice.register()).status == 200
