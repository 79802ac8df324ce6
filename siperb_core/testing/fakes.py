"""A connection type's surroundings without sockets: the entry it is handed, and the PBX its requests go to.

Both live on trio's clock, which in tests is virtual. The PBX is a registrar that challenges, and does what a script
says instead: is slow, loses requests, restarts, answers what is wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import attrs
import structlog
import trio

from siperb_core.entries.contract import Connection, ConnectionNotReady, ConnectionType, Registration, Target
from siperb_core.entries.memory import Memory
from siperb_core.entries.model import Entry
from siperb_core.entries.structure import Structurer
from siperb_core.sip import Message, ParseError, response_to
from siperb_core.sip.digest import DigestServer
from siperb_core.sip.registrar import Registrar

TIMER_F = 32.0
"""Seconds after which a request without an answer is given up (RFC 3261 section 17.1.2.2)."""
EPOCH = 1_700_000_000.0
"""When virtual time begins."""


@attrs.frozen
class Answer:
    """One answer of a script. `delay` in seconds; `lost`: it never arrives."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    lost: bool = False
    body: bytes = b""


LOST = Answer(lost=True)
"""The request, or its answer, is lost in all of its copies."""

Scripted = Answer | int | Callable[[Message], Message]


class NoFlow:
    """The flow of `FakePbx`'s requests: known by its address, and of no further use."""

    transport = "udp"
    reliable = False
    local = ("192.0.2.1", 5060)
    sent_by = "192.0.2.1:5060"

    def __init__(self, remote: tuple[str, int] = ("192.0.2.9", 5060)) -> None:
        self.remote = remote

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoFlow) and other.remote == self.remote

    def __hash__(self) -> int:
        return hash(self.remote)

    def send(self, data: bytes) -> None:
        """Raises OSError: nobody listens."""
        raise OSError("this flow is for looking at only")


class FakePbx:
    """A PBX as requests see it. `accounts` are names and passwords; without any nobody is asked for one.

    `next` scripts the coming answers, `always` all of them; `down` lets none through.
    """

    def __init__(self, accounts: Mapping[str, str] | None = None, *, granted: int = 300, delay: float = 0.01) -> None:
        self.accounts = dict(accounts or {})
        self.granted = granted
        self.delay = delay
        self.down = False
        self.always: Scripted | None = None
        self.asked: list[Message] = []
        """Every request that arrived."""
        self.challenged = 0
        self.shown_wrong = 0
        """Requests with credentials that were refused."""
        self._script: deque[Scripted] = deque()
        self._losses: Iterator[bool] = iter(())
        self._restarts = 0
        self.restart()

    def restart(self) -> None:
        """Forget bindings and nonces, as a PBX does that has been restarted."""
        self._restarts += 1
        self._digest = DigestServer("pbx", b"%d" % self._restarts, algorithms=("MD5",))
        self._registrar = Registrar(min_expires=1, max_expires=max(self.granted, 1), default_expires=self.granted)

    def next(self, *answers: Scripted) -> None:
        """Answer the coming requests so, one each; the ones after them as usual."""
        self._script.extend(answers)

    def loses(self, pattern: Iterable[bool]) -> None:
        """Lose the coming requests where the pattern is true; none once it has ended."""
        self._losses = iter(pattern)

    def bindings(self, account: str) -> tuple[str, ...]:
        """The contacts that are registered for an account now."""
        now = trio.current_time()
        return tuple(item.contact for item in self._registrar.bindings(account) if item.expires_at > now)

    @property
    def all_bindings(self) -> tuple[str, ...]:
        """The contacts of every account."""
        names = {*self.accounts, *(self._user(message) for message in self.asked)}
        return tuple(contact for name in sorted(names) for contact in self.bindings(name))

    async def handle(self, message: Message) -> Message:
        """Answer a request. Raises ConnectionNotReady where no answer arrives."""
        scripted = self._script.popleft() if self._script else self.always
        answer = Answer(scripted) if isinstance(scripted, int) else scripted
        lost = self.down or next(self._losses, False) or (isinstance(answer, Answer) and answer.lost)
        if lost:
            await trio.sleep(TIMER_F)
            raise ConnectionNotReady("no answer")
        self.asked.append(message)
        await trio.sleep(self.delay / 2 + (answer.delay if isinstance(answer, Answer) else 0.0))
        response = self._answer(message, answer)
        await trio.sleep(self.delay / 2)
        return response

    def _answer(self, message: Message, answer: Answer | Callable[[Message], Message] | None) -> Message:
        if isinstance(answer, Answer):
            if answer.status in (401, 407):
                self.challenged += 1
                self.shown_wrong += self._shows_credentials(message)
            return response_to(message, answer.status, headers=answer.headers, body=answer.body)
        if answer is not None:
            return answer(message)
        if message.method == "REGISTER":
            return self._register(message)
        return response_to(message, 200)

    def _register(self, message: Message) -> Message:
        now = trio.current_time()
        account = self._user(message)
        if self.accounts:
            value = message.get("Authorization") or ""
            result = self._digest.verify(value, method="REGISTER", secret_of=self.accounts.get, now=now)
            if not result.ok:
                self.challenged += 1
                self.shown_wrong += bool(value) and not result.stale
                challenges = self._digest.challenge(now, stale=result.stale)
                return response_to(message, 401, headers=[("WWW-Authenticate", item) for item in challenges])
            account = result.username
        return self._registrar.register(message, account, NoFlow(), now).response

    @staticmethod
    def _shows_credentials(message: Message) -> bool:
        return bool(message.get("Authorization") or message.get("Proxy-Authorization"))

    @staticmethod
    def _user(message: Message) -> str:
        try:
            return message.to.parsed_uri.user_unescaped
        except ParseError:
            return ""


class FakeEntry:
    """What a connection type is handed (`EntryContext`), with everything it does kept to be looked at.

    Its requests go to `pbx`, whatever their target.
    """

    def __init__(self, entry: Entry | None = None, pbx: FakePbx | None = None) -> None:
        self.entry = entry or Entry("office", "fake")
        self.pbx = pbx or FakePbx()
        self.domain = "sip.example.net"
        self.logged: list[Any] = []
        self.log: Any = structlog.wrap_logger(structlog.ReturnLogger(), processors=[self._keep_line])
        self.kept: dict[str, Any] = {}
        """What is in `memory`, as the store would have it."""
        self.memory: MutableMapping[str, Any] = self._opened()
        self.sent: list[tuple[Message, Target]] = []
        self.registrations: list[Registration] = []
        self.latencies: list[float | None] = []
        self.issues: dict[str, tuple[str, str]] = {}
        """Open issues: text and mend by id."""
        self.contact_address = "198.51.100.1:5060"
        self.lost = trio.Event()
        """Set it, and the connection that is kept alive is lost."""
        self.most_requests = 1_000_000
        """Whoever sends more gets no answers any more: a type that hammers would keep virtual time from passing."""
        self._tokens = 0

    def _keep_line(self, logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        self.logged.append(dict(event))
        return ""

    def _opened(self) -> Memory:
        return Memory(self.kept, self.kept.__setitem__, self.kept.__delitem__)

    def restarted(self) -> FakeEntry:
        """The same entry after a restart of the gateway: it has its memory, and nothing else."""
        again = FakeEntry(self.entry, self.pbx)
        again.kept.update(self.kept)
        again.memory = again._opened()
        return again

    async def load(self, nursery: trio.Nursery, kind: ConnectionType, config: Any) -> Connection:
        """Serve in the nursery until it is cancelled; the live connection, once there is one."""

        async def serve(*, task_status: trio.TaskStatus[Connection]) -> None:
            await kind.serve(self, config, task_status=task_status)

        connection: Connection = await nursery.start(serve)
        return connection

    async def request(self, message: Message, target: Target) -> Message:
        """As `EntryContext.request`."""
        self.sent.append((message.copy(), target))
        if len(self.sent) > self.most_requests:
            await trio.sleep_forever()
        if message.max_forwards is None:
            message.set("Max-Forwards", "70")
        message.prepend(
            "Via", f"SIP/2.0/{target.transport.upper()} {self.contact_address};branch=z9hG4bK{len(self.sent)}"
        )
        return await self.pbx.handle(message)

    async def contact_uri(self, target: Target) -> str:
        """As `EntryContext.contact_uri`."""
        await trio.lowlevel.checkpoint()
        parameter = "" if target.transport in ("auto", "udp") else f";transport={target.transport}"
        return f"sip:contact-of-{self.entry.name}@{self.contact_address}{parameter}"

    async def keep_alive(self, target: Target, interval: float) -> None:
        """As `EntryContext.keep_alive`: until `lost` is set."""
        await self.lost.wait()
        self.lost = trio.Event()

    def report(self, registration: Registration) -> None:
        """As `EntryContext.report`."""
        self.registrations.append(registration)

    def qualified(self, latency_ms: float | None) -> None:
        """As `EntryContext.qualified`."""
        self.latencies.append(latency_ms)

    def raise_issue(self, issue_id: str, text: str, mend: str) -> None:
        """As `EntryContext.raise_issue`."""
        self.issues[issue_id] = (text, mend)

    def clear_issue(self, issue_id: str) -> None:
        """As `EntryContext.clear_issue`."""
        self.issues.pop(issue_id, None)

    def now(self) -> float:
        """Virtual seconds since the epoch."""
        return EPOCH + trio.current_time()

    def random_token(self, octets: int = 12) -> str:
        """Another one every time, the same ones in every run."""
        self._tokens += 1
        return f"{self._tokens:x}".rjust(2 * octets, "0")


def settings_of(kind: ConnectionType | type[Any], settings: Mapping[str, Any]) -> Any:
    """`[connection.settings]` as an instance of the type's config class, or a plugin's own table as one of the class it
    gives for it. Raises ValueError with every mistake.
    """
    from pathlib import Path

    reader = Structurer(Path())
    cls: type[Any] = kind if isinstance(kind, type) and attrs.has(kind) else getattr(kind, "config_class")  # noqa: B009
    config = reader.instance(cls, dict(settings), "settings")
    if config is None:
        raise ValueError("; ".join(map(str, reader.problems)))
    return config
