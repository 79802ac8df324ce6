"""Torture messages sent to a running gateway by UDP and TCP: what goes back, what goes on, who is left standing.

The sender is a PBX that `allow_from` lets in, and a softphone is registered, so that a message may be passed on. The
verdicts judge a proxy that knows no users and no media. Where this gateway has more to say, `_admission` names it:

- OPTIONS from outside a dialog is a PBX asking whether the gateway is alive: answered 200, not passed on (RFC 3261
  section 11). The same for RFC 5118's.
- REGISTER: nobody may register through an outbound trunk, and a registrar refuses who has no right to it: 403 (section
  10.3 step 3). That includes RFC 5118's `ipv6-good`, for which the RFC has 200 "if the element allows it".
- A request with a To tag belongs to a dialog. The gateway hides topology: its dialogs are found by the token in its
  Contact, and one that it has not is answered 481 (section 12.2.2).
- An offer without a codec that can be bridged is answered 488 with a Warning, as the leg that reads SDP is a user agent
  there (section 21.4.26).
- A response that fits none of our transactions is dropped: RFC 6026 took the stateless forwarding of RFC 3261 section
  16.7 step 1 back, since strangers could have sent anything through a proxy.

On a stream the length decides where a message ends, and three kinds of message are not what they are in a datagram.
`_on_a_stream` reads that off the octets, and `_has_common_codec` off the body, each in its own naive way and by nothing
of the gateway's code; no message is known by its name here but two of RFC 4475's: `dblreq`, whose rest is a request of
its own, and `baddn`, which is sent a second time with the blank line it lacks in the archive.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import attrs
import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.sip import Message, ParseError, parse, response_to, validate
from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.user_agent import Credentials
from siperb_core.testing.wire import Wire, WireClosed, open_wire, request
from siperb_core.transport import connections, stream

ROOT = Path(__file__).parents[2]
SETS = {
    "rfc4475": ROOT.parent / "shared/torture/rfc4475",
    "rfc5118": ROOT.parent / "shared/torture/rfc5118",
    "own": Path(__file__).parent / "own",
}
MOST_BODY = 1 << 20
LIMIT = 60  # seconds for a whole set, if the machine is busy

STATIC = {"0", "8", "9"}
"""Payload types that need no rtpmap and can be bridged (RFC 3551 section 6): PCMU, PCMA, G.722."""

GATEWAY = """
[gateway]
domain = "gw.example"
data_dir = "data"

[[listen]]
transport = "udp"
bind = "127.0.0.1:0"

[[listen]]
transport = "tcp"
bind = "127.0.0.1:0"

[[listen]]
transport = "ws"
bind = "127.0.0.1:0"

[media]
workers = 1

[[device]]
name = "alice-web"
user = "alice"
password = "alice-secret"
"""

TRUNK = """
[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["127.0.0.0/8"]
[connection.settings]
server = "127.0.0.1"
port = {port}
"""

_sources = (f"127.77.{high}.{low}" for high, low in itertools.product(range(1, 200), range(1, 250)))


def rows(folder: Path) -> list[dict[str, str]]:
    """The verdicts of a set."""
    with (folder / "verdicts.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _on_a_stream(data: bytes) -> Literal["whole", "waits", "endless", "goes on"]:
    """What becomes of a message on a stream.

    `waits`: its end is waited for, and not for ever. `endless`: nobody can know where the next one begins, so the
    connection is closed after the answer. `goes on`: what follows the announced length, or a head without any (section
    20.14), is another message.
    """
    head, blank, rest = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not blank:
        return "waits"
    head = re.sub(rb"\r\n[ \t]+", b" ", head)
    lengths = re.findall(
        rb"^(?:Content-Length|l)[ \t]*:[ \t]*(.*?)[ \t]*\r?$", head, flags=re.IGNORECASE | re.MULTILINE
    )
    if len(lengths) > 1 or not all(re.fullmatch(rb"[0-9]{1,9}", length) for length in lengths):
        return "endless"
    length = int(lengths[0]) if lengths else 0
    if length > MOST_BODY:
        return "endless"
    return "waits" if length > len(rest) else "goes on" if length < len(rest) else "whole"


def _has_common_codec(data: bytes) -> bool:
    """Whether a body has no audio line, or one with a codec that can be bridged."""
    body = data.partition(b"\r\n\r\n")[2].decode(errors="replace")
    line = re.search(r"^m=audio \S+ \S+ (.*?)\r?$", body, flags=re.MULTILINE)
    named = re.findall(r"^a=rtpmap:(\d+) (PCMU|PCMA|G722|opus)/", body, flags=re.MULTILINE | re.IGNORECASE)
    return line is None or bool(set(line[1].split()) & (STATIC | {number for number, _ in named}))


class Phone:
    """A registered softphone that declines every call, says yes to all else, and remembers what came."""

    def __init__(self, wire: Wire) -> None:
        self.received: list[Message] = []
        self._wire = wire
        self._fence = trio.Event()
        self._fenced = ""

    async def serve(self) -> None:
        while True:
            message = await self._wire.receive()
            if not message.is_request:
                if message.call_id == self._fenced:
                    self._fence.set()
                continue
            self.received.append(message)
            if message.method != "ACK":
                await self._wire.send(response_to(message, 603 if message.method == "INVITE" else 200, to_tag="phone"))

    async def fence(self) -> None:
        """Return when everything the gateway has sent until now has come in."""
        options = request("OPTIONS", "sip:gw.example", caller="sip:alice-web@gw.example")
        options.prepend("Via", self._wire.via())
        self._fence, self._fenced = trio.Event(), options.call_id
        await self._wire.send(options)
        await self._fence.wait()


@attrs.frozen
class World:
    """What surrounds the messages."""

    gateway: Gateway
    transport: str
    phone: Phone
    pbx: socket.socket

    async def alive(self, wire: Wire | None = None) -> list[Message]:
        """Ask the listener for a sign of life, on a connection that is there or a new one; what came before it."""
        options = request("OPTIONS", "sip:gw.example", caller="sip:pbx@127.0.0.1")
        before: list[Message] = []
        async with self.connected() as new:
            asked = wire or new
            options.prepend("Via", asked.via())
            await asked.send(options)
            while True:
                message = await asked.receive()
                if message.get("Call-ID") == options.call_id:
                    assert message.status == 200
                    return before
                before.append(message)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Wire]:
        """An end on an address of its own: messages of one RFC share branches, and are no repetitions."""
        async with open_wire(self.transport, address(self.gateway, self.transport), source=next(_sources)) as wire:
            yield wire

    def at_the_pbx(self) -> list[bytes]:
        """What was sent to the trunk's address, but for what the trunk itself asks: whether its PBX is alive."""
        datagrams = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self.pbx.recv(65_536)
                if data.strip() and not data.startswith(b"OPTIONS sip:127.0.0.1"):
                    datagrams.append(data)
        return datagrams


@asynccontextmanager
async def world(folder: Path, transport: str) -> AsyncIterator[World]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as pbx:
        pbx.bind(("127.0.0.1", 0))
        pbx.setblocking(False)
        connections = TRUNK.format(port=pbx.getsockname()[1])
        async with (
            open_gateway(folder, connections, head=GATEWAY) as gateway,
            open_wire("ws", address(gateway, "ws")) as wire,
            trio.open_nursery() as nursery,
        ):
            aor = "sip:alice-web@gw.example"
            contact = "<sip:phone@phone.invalid;transport=ws>"
            register = request("REGISTER", "sip:gw.example", caller=aor, callee=aor, contact=contact)
            assert (await wire.request(register, Credentials("alice-web", "alice-secret"))).status == 200
            phone = Phone(wire)
            nursery.start_soon(phone.serve)
            yield World(gateway, transport, phone, pbx)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("name", SETS)
async def test_every_message_gets_what_its_verdict_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, transport: str
) -> None:
    folder = SETS[name]
    if not (folder / "verdicts.csv").exists():
        pytest.skip(f"{name}: no messages beside the checkout (../shared/torture/{name})")
    monkeypatch.setattr(stream, "FIRST_MESSAGE_SECONDS", 0.2)
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.1)
    judged = 0
    with trio.fail_after(LIMIT):
        async with world(tmp_path, transport) as around:
            for row in rows(folder):
                variants = [(folder / row["file"]).read_bytes()]
                if row["message"] == "baddn":
                    variants.append(variants[0] + b"\r\n")  # it lacks its blank line in the archive
                for data in variants:
                    around.phone.received.clear()
                    await _judge(around, row, data)
                    judged += 1
            assert not around.at_the_pbx()
            assert not around.gateway.calls.active()
            assert around.gateway.signalling.rejected["bug"] == 0
    assert judged >= {"rfc4475": 50, "rfc5118": 12, "own": 40}[name]


async def _judge(around: World, row: dict[str, str], data: bytes) -> None:
    name = row["message"]
    where = f"{name} by {around.transport}"
    on_stream = _on_a_stream(data) if around.transport == "tcp" else "whole"
    action = row.get("proxy_action") or ("reply" if row["parser"].startswith("reject") else "forward")
    codes = {int(code) for code in (row.get("proxy_codes") or row.get("reply") or "").split("|") if code}
    async with around.connected() as wire:
        await wire.send(data)
        if on_stream == "waits":
            with pytest.raises(WireClosed):
                await wire.receive()
            answers: list[Message] = []
        elif on_stream == "endless":
            answers = [await wire.receive()]
            with pytest.raises(WireClosed):
                await wire.receive()
            assert answers[0].status in codes, where
        else:
            answers = await _answers(around, wire, data, name)
            outcome = _outcome(data)
            statuses = [answer.status for answer in answers if answer.status >= 200]
            if action == "drop" or data.startswith(b"SIP/2.0 "):
                assert not answers, where
            elif action == "reply":
                assert len(statuses) == 1, (where, statuses)
                assert statuses[0] in codes, where
            else:
                allowed = (codes if action == "either" else set()) | outcome
                assert statuses, where
                assert statuses[0] in allowed, (where, statuses, allowed)
                assert len(statuses) == 1 or on_stream == "goes on", (where, statuses)
    await around.alive()
    await around.phone.fence()
    passed_on = [message for message in around.phone.received if message.method != "ACK"]
    if action in ("reply", "drop") or not _passes(data):
        second_of_two = around.transport == "tcp" and name == "dblreq"
        assert second_of_two or not passed_on, (where, [bytes(message) for message in passed_on])
    elif passed_on or action == "forward":
        (forwarded,) = passed_on
        original = parse(data)
        assert forwarded.method == original.method, where
        assert forwarded.call_id == original.call_id, where
        # RFC 3261 section 16.6 step 3.
        assert forwarded.max_forwards == (70 if original.max_forwards is None else original.max_forwards - 1), where
        if (original.get("Content-Type") or "") != "application/sdp" and original.get("Content-Length") is not None:
            assert forwarded.body == original.body, where


async def _answers(around: World, wire: Wire, data: bytes, name: str) -> list[Message]:
    """All that comes back for a message: what is there before the answer to a later question, or the final response."""
    try:
        request_ = parse(data)
    except ParseError:
        return await around.alive(wire)
    passes = request_.is_request and validate(request_) is None and _passes(data)
    if not passes and not (around.transport == "tcp" and _on_a_stream(data) == "goes on"):
        return await around.alive(wire)
    answers = [await wire.receive()]
    while answers[-1].status < 200 or (around.transport == "tcp" and name == "dblreq" and len(answers) < 2):
        answers.append(await wire.receive())
    return answers


def _passes(data: bytes) -> bool:
    """Whether a good request is one the gateway passes on to the softphone."""
    try:
        message = parse(data)
    except ParseError:
        return False
    if not message.is_request or validate(message) is not None:
        return False
    return not (message.method in ("OPTIONS", "REGISTER") or message.to_tag or not _has_common_codec(data))


def _outcome(data: bytes) -> set[int]:
    """How a request that the verdict wants forwarded may end here, see above."""
    try:
        message = parse(data)
    except ParseError:
        return set()
    if not message.is_request or validate(message) is not None:
        return set()
    if message.to_tag:
        return {481}
    if not _has_common_codec(data):
        return {488}
    return {"OPTIONS": {200}, "REGISTER": {403}, "INVITE": {603}}.get(message.method, {200})
