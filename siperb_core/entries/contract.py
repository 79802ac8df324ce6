"""The contract between the core and a connection type: what a plugin implements, and what it is handed.

A connection type has one async entry point, `serve`, which lives as long as the connection is loaded, and hands out
one live `Connection`, whose methods are pure: they look at a request and say what should become of it, at once,
without waiting. Everything that takes time happens inside `serve`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import attrs

from siperb_core.entries.decisions import AnswerWith, DialNumber, RingUsers

if TYPE_CHECKING:
    import structlog
    import trio

    from siperb_core.entries.model import Entry, GatewayConfig
    from siperb_core.sip import Flow, Message


class ConnectionNotReady(Exception):
    """The other side cannot be used for now; the core tries again: 5, 10, 20, 40, 80 s, or after `retry_after`
    seconds. `answered`: it has answered, and so need not be waited for to come back (`NoticesReturn`).
    """

    def __init__(self, reason: str, *, retry_after: float | None = None, answered: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.answered = answered


class ConnectionAuthFailed(Exception):
    """The credentials were refused. The core stops, raises an issue and waits for an edit: a wrong password is never
    hammered.
    """


class ConnectionConfigError(Exception):
    """The settings cannot work. The core waits for an edit."""


@attrs.frozen
class Target:
    """Where to send: a name (RFC 3263 applies where `port` is None), an address, or a flow, which wins while it lasts.

    The transport `auto` is left to the name's NAPTR or SRV records; it is UDP where there are none, for an address, and
    where a port is given (RFC 3263 section 4.1).

    `ca` (a file of trusted certificates, empty for the system's) and `verify` matter to TLS alone; the certificate
    has to be for `host`.
    """

    host: str
    port: int | None = None
    transport: Literal["auto", "udp", "tcp", "tls"] = "udp"
    flow: Flow | None = None
    ca: str = ""
    verify: bool = True


@attrs.frozen
class Source:
    """Where a request came from: the address the socket saw, never what the message claims."""

    host: str
    port: int
    transport: str
    flow: Flow


@attrs.frozen
class Credentials:
    """Username and password for the PBX's digest challenge; never logged, never sent to a softphone."""

    username: str
    password: str = attrs.field(repr=False)
    realms: tuple[str, ...] = ()
    """The only realms whose challenges are answered, where they are known: the registrar's, say; none for any."""


@attrs.frozen
class OutboundCall:
    """A request of a softphone that routing has given to this connection."""

    number: str  # what was dialled: the user part of the Request-URI, unescaped
    method: str
    user: str
    device: str
    request: Message


@attrs.frozen
class OutboundLeg:
    """How the request goes out. URIs are complete and without angle brackets; the core adds tags, Via and Contact."""

    target: Target
    request_uri: str
    from_uri: str
    to_uri: str
    from_display: str = ""
    route: tuple[str, ...] = ()  # values for Route headers, `<sip:...;lr>`
    headers: tuple[tuple[str, str], ...] = ()  # added to the request


@attrs.frozen
class Refusal:
    """The connection cannot take the request now; the softphone gets this answer unless another connection takes
    over.
    """

    status: int
    reason: str


WayOut = OutboundLeg | RingUsers | DialNumber | AnswerWith | Refusal
"""What becomes of a softphone's call: out to a PBX, to other softphones, to another number, to an endpoint in this
process, or nowhere.
"""


@attrs.frozen
class Claim:
    """This request came through this connection.

    `number` is what was dialled, for the trace and for a `did` table. With `authenticate` the core first challenges the
    sender (401) and checks the answer against these credentials; without it the source alone is enough.
    """

    number: str
    authenticate: Credentials | None = None


@attrs.frozen
class Registration:
    """State of a registration with the PBX, in either direction, as `siperb show connections` prints it."""

    state: Literal["registered", "unregistered", "rejected", "unreachable"]
    expires_at: float | None = None  # seconds since the epoch
    status: int | None = None
    reason: str = ""


class Connection(Protocol):
    """A loaded connection. Every method is pure and quick; an exception costs the request it was asked about."""

    def outbound_leg(self, call: OutboundCall) -> WayOut:
        """Say how a call of a softphone leaves through this connection: to its PBX as a rule."""

    @property
    def credentials(self) -> Credentials | None:
        """What answers the PBX's challenges, to a call or inside one; None where there is nothing to answer with."""

    def claims(self, request: Message, source: Source) -> Claim | None:
        """Say whether a request from the PBX's side, outside any dialog, came through this connection.

        The core has not checked `allow_from` yet; it does so on every claim, wherever the list is not empty.
        """

    def answer(self, request: Message, source: Source) -> Message | None:
        """Answer a claimed (and, where asked for, authenticated) request by itself, a REGISTER say; None to let the
        core route it.
        """


class EntryContext(Protocol):
    """The only thing a connection type is handed: its entry, and the gateway as far as it concerns that entry."""

    entry: Entry
    log: structlog.typing.FilteringBoundLogger
    domain: str
    memory: MutableMapping[str, Any]
    """Small JSON values that survive a restart, this entry's own: generated credentials, bindings. Written before the
    next answer leaves.
    """

    async def request(self, message: Message, target: Target) -> Message:
        """Send a request outside any dialog in a transaction of its own; its final response.

        The core adds Via and Max-Forwards. Raises `ConnectionNotReady` when there is no answer (timer F), the name
        does not resolve or the transport fails; any response, a 401 too, is returned.
        """

    async def contact_uri(self, target: Target) -> str:
        """Our own address as that target sees it, with a user part that is this entry's alone and the same after a
        restart.

        A request whose Request-URI is this one was sent by who learnt it from us. The address may be another one after
        a request was answered: behind NAT the answer says how we are seen (RFC 3581).
        """

    async def keep_alive(self, target: Target, interval: float) -> None:
        """Keep the path of the last answered request to a target open, by an empty line every `interval` seconds (RFC
        5626 section 4.4), so that NATs and firewalls in between do not forget it.

        Returns when the connection is lost; never where the transport has none (UDP). Raises `ConnectionNotReady`.
        """

    def report(self, registration: Registration) -> None:
        """Publish the state of the registration."""

    def qualified(self, latency_ms: float | None) -> None:
        """Publish whether the other side answers (to an OPTIONS, say), and in how many milliseconds; None: it does not.

        One that does not answer is passed over by calls that have another way.
        """

    def raise_issue(self, issue_id: str, text: str, mend: str) -> None:
        """Tell the administrator in plain words what is wrong and how to mend it, until `clear_issue`."""

    def clear_issue(self, issue_id: str) -> None:
        """Take the issue back; nothing happens where there is none."""

    def now(self) -> float:
        """Seconds since the epoch (virtual in tests)."""

    def random_token(self, octets: int = 12) -> str:
        """A fresh random token, letters and digits: for tags, Call-IDs, passwords."""


class ConnectionType(Protocol):
    """What a plugin gives for one kind of connection (hook `siperb_connection_types`)."""

    kind: ClassVar[str]
    """The name in the configuration: `type = "..."`."""
    title: ClassVar[str]
    version: ClassVar[int]
    """Version of the settings, from 1; `migrate` brings older ones up."""
    config_class: ClassVar[type[Any]]
    """An attrs class: the keys, types, defaults and validators of `[connection.settings]`."""
    allow_from_required: ClassVar[bool]

    def unique_id(self, config: Any) -> str | None:
        """What may exist only once, `200@pbx.example.com:5060` say; None where anything may exist twice."""

    def migrate(self, data: Mapping[str, Any], old: int) -> Mapping[str, Any]:
        """Settings of version `old` as settings of `version`. Pure."""

    async def probe(self, ctx: EntryContext, config: Any) -> None:
        """Try the settings once, before they are saved. Raises one of the three exceptions above."""

    async def serve(self, ctx: EntryContext, config: Any, *, task_status: trio.TaskStatus[Connection]) -> None:
        """Set up, hand the live connection to `task_status.started`, and keep it alive until cancelled.

        Before `started` the entry is setting up, after it loaded; returning or raising means it is down and is tried
        again or not, as the exception says; cancellation unloads it (un-REGISTER in a shielded `finally`).
        """


@runtime_checkable
class Authenticates(Protocol):
    """A connection type whose claims may ask for credentials says so: then everyone whom no connection claims is asked
    for credentials as well, and nobody can find out which usernames exist.
    """

    authenticates: ClassVar[bool]


@runtime_checkable
class KnowsItsPeer(Protocol):
    """A live connection may give this as well: then nobody at an address of its PBX's gets that address locked out by
    showing wrong passwords, and what comes from there inside a call may be its PBX's.
    """

    @property
    def addresses(self) -> frozenset[str]:
        """Where the other side is known to be, and not by its own word: it has registered from there, or the gateway
        sends its requests there. IP addresses; those in `allow_from` need not be among them. Read when the connection
        is loaded and again at each `EntryContext.report`. Pure.
        """


@runtime_checkable
class ClaimsByName(Protocol):
    """A live connection may give this as well: then a stranger's request costs it nothing, and there may be a thousand
    connections.
    """

    @property
    def names(self) -> frozenset[str]:
        """Users without which the connection claims nothing: it is asked about requests that have one of them in their
        Request-URI, To, From or credentials, and about those from its PBX's addresses (`allow_from`,
        `KnowsItsPeer.addresses`). Read when `addresses` is. Pure.
        """


@runtime_checkable
class GeneratesSettings(Protocol):
    """A connection type may give these two as well: then `siperb connection add` asks for less and shows more."""

    def generate(self, random_token: Callable[[int], str]) -> Mapping[str, str]:
        """Settings nobody should have to make up, passwords say: written into the new entry and shown, once."""

    def instructions(self, name: str, config: Any, gateway: GatewayConfig) -> str:
        """What to do at the PBX now, ready to paste. `config` is the entry's validated settings."""


@runtime_checkable
class NoticesReturn(Protocol):
    """A connection type may give this as well: then a PBX that was out of reach is used again as soon as it is back,
    not when the back-off has run out.
    """

    async def returned(self, ctx: EntryContext, config: Any) -> None:
        """Return when the other side answers again. Called between attempts, and cancelled when the next one is due."""
