"""The demo PBX: a registrar and a handful of numbers, over real SIP and real RTP on sockets of its own.

Used by `siperb demo`, by `doctor`'s tests and by the test suite. It is a user agent like any desk phone or PBX, not a
part of the gateway: what it knows, it learnt from the messages.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from siperb_core.entries.model import Listen
from siperb_core.sip import Flow, Message, NameAddr, ParseError, Uri, parse_uri, response_to
from siperb_core.sip.digest import DigestServer
from siperb_core.sip.registrar import Registrar
from siperb_core.sip.transaction import ServerTransaction
from siperb_core.testing import pbx_numbers, tones
from siperb_core.testing.audible import AudibleCall
from siperb_core.testing.pbx_media import PbxMedia, PortsExhausted
from siperb_core.testing.pbx_sdp import PbxNegotiation
from siperb_core.testing.registering import Registration
from siperb_core.testing.session import Direction
from siperb_core.testing.user_agent import ALLOW, Credentials, UserAgent, background, token
from siperb_core.transport import TRANSPORTS
from siperb_core.transport.contract import Listener, TlsOptions
from siperb_core.transport.resolver import DEFAULT_PORT
from siperb_core.transport.stream import StreamFlow

_KEPT_CALLS = 1000

Number = Callable[["PbxCall"], Awaitable[None]]


@attrs.frozen(kw_only=True)
class PbxSettings:
    """What kind of PBX to be. Every field has a value that makes a PBX to try things with."""

    address: str = "127.0.0.1"
    port: int = 0
    """Of SIP, the same for all transports; 0: whichever is free."""
    transports: tuple[str, ...] = ("udp",)
    """Of `udp`, `tcp`, `tls`; the first is what own requests go by."""
    certificate: Path | None = None
    """For TLS, with `key`."""
    key: Path | None = None
    ca: str = ""
    """Who has to have signed the certificate of a TLS server that is called; empty: anybody."""
    rtp_ports: range | None = None
    """None: whichever are free."""
    realm: str = "pbx.example.com"
    accounts: Mapping[str, str] = attrs.field(factory=dict, repr=lambda accounts: repr(sorted(accounts)))
    """Names and passwords of those who may register."""
    challenge_invites: bool = True
    """Whether callers must show an account's password; without accounts nobody can, and nobody is asked to."""
    challenge_status: int = 407
    """407, or 401 as some PBXs have it."""
    min_expires: int = 1
    max_expires: int = 3600
    default_expires: int = 300
    codecs: tuple[str, ...] = ("G722", "PCMA", "PCMU")
    own_order: bool = False
    """Whether our order of codecs decides in answers; else the offer's does."""
    telephone_event: bool = True
    srtp: bool = False
    """SRTP with keys in the SDP (RFC 4568), and nothing else."""
    tone_hz: int = 1000
    tone_dbfs: float = tones.LEVEL
    ring_seconds: float = 0.0
    """How long 180 is left to ring before a number answers."""
    early_media_seconds: float = 0.0
    """How long a ringing tone is played over 183 before a number answers."""
    credentials: Credentials | None = None
    """What the PBX shows when it is challenged as a caller."""
    numbers: Mapping[str, Number] = attrs.field(factory=lambda: dict(pbx_numbers.NUMBERS))
    """What happens when a number is called; others do not exist (404)."""
    max_calls: int = 500


class PbxCall(AudibleCall):
    """A call to or from the PBX."""

    media: PbxMedia

    def __init__(self, pbx: Pbx, media: PbxMedia, *, number: str, **kwargs: Any) -> None:
        super().__init__(pbx.agent, media, **kwargs)
        self.pbx = pbx
        self.number = number
        """What was dialled."""
        self.account = ""
        """Who calls, as the caller proved by a password; "" where nobody was asked."""
        self.source: Flow = self._flow
        """Where the INVITE came from or went."""


class Pbx:
    """A running demo PBX. It is a `siperb_core.testing.user_agent.Handler`."""

    def __init__(self, settings: PbxSettings, *, now: Callable[[], float] = time.time) -> None:
        """`now` says when bindings run out: seconds on any clock."""
        self.settings = settings
        self.now = now
        self.agent = UserAgent("demo PBX", self, self._route)
        self.registrar = Registrar(
            min_expires=settings.min_expires,
            max_expires=settings.max_expires,
            default_expires=settings.default_expires,
        )
        self.calls: deque[PbxCall] = deque(maxlen=_KEPT_CALLS)
        """All calls, running and past, in the order they began."""
        self.messages: deque[Message] = deque(maxlen=_KEPT_CALLS)
        """All MESSAGE requests that came in."""
        self._digest = DigestServer(settings.realm, secrets.token_bytes(16))
        self._listeners: dict[str, Listener] = {}
        self._news = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[Pbx] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; running calls are hung up. Raises OSError when the port is taken."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.agent.run)
            port = self.settings.port
            for name in self.settings.transports:
                port = await self._listen(nursery, name, port)
            task_status.started(self)
            try:
                await trio.sleep_forever()
            finally:
                for call in list(self.agent.calls.values()):
                    call.abandon()

    async def _listen(self, nursery: trio.Nursery, name: str, port: int) -> int:
        settings = self.settings
        transport = next(transport for transport in TRANSPORTS if transport.name == name)
        listen = Listen(name, (settings.address, port), certificate=settings.certificate, key=settings.key)

        async def serve(*, task_status: trio.TaskStatus[Listener]) -> None:
            await transport.listen(listen, self.agent, external_address=None, task_status=task_status)

        listener: Listener = await nursery.start(serve)
        self._listeners[name] = listener
        return listener.local[1]

    @property
    def local(self) -> tuple[str, int]:
        """Address and port of SIP. Raises RuntimeError when the PBX does not run."""
        if not self._listeners:
            raise RuntimeError("the PBX does not run")
        return self._listeners[self.settings.transports[0]].local

    @property
    def host_port(self) -> str:
        """`local` as it is written in a URI."""
        host, port = self.local
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    # Calls out

    async def call(
        self,
        target: str,
        *,
        caller: str = "pbx",
        display: str = "",
        play_hz: int | None = None,
        to: tuple[str, int] | None = None,
        headers: Iterable[tuple[str, str]] = (),
        late_offer: bool = False,
    ) -> PbxCall:
        """Call an account that is registered here, or a SIP URI; `to` overrides where the INVITE is sent.

        With `late_offer` the INVITE has no offer: the 200 has to bring one.

        Returns when the INVITE is on its way: see `PbxCall.answered`. Raises LookupError when the account is not
        registered, ValueError when the URI cannot be reached.
        """
        flow = None
        if not target.startswith(("sip:", "sips:")):
            bindings = [b for b in self.registrar.bindings(target) if b.expires_at > self.now()]
            if not bindings:
                raise LookupError(f"{target} is not registered here")
            binding = max(bindings, key=lambda binding: binding.registered_at)
            target, flow = binding.contact, binding.flow
            if isinstance(flow, StreamFlow) and flow.ended is not None:
                flow = None
        if to is not None:
            flow = self._flow_to(*to, self.settings.transports[0])
        if flow is None:
            flow = self._flow_towards(parse_uri(target))
        remote = parse_uri(target)
        call = self._new_call(
            number=remote.user_unescaped,
            direction="outgoing",
            flow=flow,
            local=NameAddr(display, f"sip:{caller}@{self.host_port}"),
            remote=NameAddr("", str(remote.with_(params=(), headers=()))),
            call_id=f"{token()}@{self.local[0]}",
        )
        call.play(play_hz or self.settings.tone_hz, self.settings.tone_dbfs)
        await call.begin_outgoing(target, headers, late_offer=late_offer)
        return call

    async def next_call(self) -> PbxCall:
        """Wait for the next call that comes in."""
        while True:
            known = len(self.calls)
            await self._news.wait()
            new = list(self.calls)[known:]
            if new:
                return new[0]

    async def register(
        self, server: tuple[str, int], credentials: Credentials, *, domain: str = "", expires: int = 300
    ) -> Registration:
        """Register with a gateway and stay registered. The outcome is in `status`: 200, or what it was refused with."""
        flow = self._flow_to(*server, self.settings.transports[0])
        contact = f"<sip:{credentials.username}@{self.host_port}{_parameter(flow)}>"
        registration = Registration(self.agent, flow, credentials, domain or server[0], contact)
        await registration.register(expires)
        self.agent.nursery.start_soon(registration.keep)
        return registration

    # Handler

    def on_invite(self, transaction: ServerTransaction, invite: Message) -> None:
        """A call to one of the numbers."""
        account = ""
        if self.settings.challenge_invites and self.settings.accounts:
            header = "Authorization" if self.settings.challenge_status == 401 else "Proxy-Authorization"
            account = self._authenticate(transaction, invite, header, self.settings.challenge_status)
            if not account:
                return
        try:
            number = parse_uri(invite.uri).user_unescaped
            local, remote = invite.to, invite.from_.without_param("tag")
        except ParseError:
            self.agent.respond(transaction, response_to(invite, 400, to_tag=token()))
            return
        behaviour = self.settings.numbers.get(number)
        if behaviour is None:
            self.agent.respond(transaction, response_to(invite, 404, to_tag=token()))
            return
        if len(self.agent.calls) >= self.settings.max_calls:
            self._refuse_busy(transaction, invite)
            return
        try:
            call = self._new_call(
                number=number,
                direction="incoming",
                flow=transaction.flow,
                local=local,
                remote=remote,
                call_id=invite.call_id,
            )
        except PortsExhausted:
            self._refuse_busy(transaction, invite)
            return
        call.account = account
        call.begin_incoming(transaction, invite)
        self.agent.nursery.start_soon(behaviour, call)

    def on_request(self, transaction: ServerTransaction, request: Message) -> None:
        """Anything outside a call."""
        match request.method:
            case "REGISTER":
                self._register(transaction, request)
            case "OPTIONS":
                headers = [("Allow", ALLOW), ("Accept", "application/sdp")]
                self.agent.respond(transaction, response_to(request, 200, to_tag=token(), headers=headers))
            case "MESSAGE":
                self.messages.append(request)
                self.agent.respond(transaction, response_to(request, 200, to_tag=token()))
            case _:
                headers = [("Allow", ALLOW)]
                self.agent.respond(transaction, response_to(request, 405, to_tag=token(), headers=headers))

    # Within

    def _new_call(
        self, *, number: str, direction: Direction, flow: Flow, local: NameAddr, remote: NameAddr, call_id: str
    ) -> PbxCall:
        settings = self.settings
        negotiation = PbxNegotiation(
            settings.address,
            settings.codecs,
            own_order=settings.own_order,
            events=settings.telephone_event,
            srtp=settings.srtp,
        )
        media = PbxMedia(self.agent.nursery, negotiation, settings.address, settings.rtp_ports)
        call = PbxCall(
            self,
            media,
            number=number,
            direction=direction,
            flow=flow,
            contact=f"<sip:pbx@{self.host_port}{_parameter(flow)}>",
            local=local,
            remote=remote,
            call_id=call_id,
            credentials=settings.credentials,
        )
        self.calls.append(call)
        self._news.set()
        self._news = trio.Event()
        return call

    def _refuse_busy(self, transaction: ServerTransaction, invite: Message) -> None:
        refusal = response_to(invite, 503, to_tag=token(), headers=[("Retry-After", "5")])
        self.agent.respond(transaction, refusal)

    def _authenticate(self, transaction: ServerTransaction, request: Message, header: str, status: int) -> str:
        """The account whose password the request shows; "" when it has been challenged or refused instead."""
        now = trio.current_time()
        stale = False
        for value in request.get_all(header)[:4]:
            result = self._digest.verify(value, method=request.method, secret_of=self.settings.accounts.get, now=now)
            if result.ok:
                return result.username
            stale = stale or result.stale
        asked = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
        headers = [(asked, challenge) for challenge in self._digest.challenge(now, stale=stale)]
        self.agent.respond(transaction, response_to(request, status, to_tag=token(), headers=headers))
        return ""

    def _register(self, transaction: ServerTransaction, request: Message) -> None:
        if not self.settings.accounts:
            self.agent.respond(transaction, response_to(request, 403, to_tag=token()))
            return
        account = self._authenticate(transaction, request, "Authorization", 401)
        if not account:
            return
        try:
            claimed = request.to.parsed_uri.user_unescaped
        except ParseError:
            claimed = ""
        if claimed != account:
            self.agent.respond(transaction, response_to(request, 403, to_tag=token()))
            return
        now = self.now()
        self.registrar.expire(now)
        self.agent.respond(transaction, self.registrar.register(request, account, transaction.flow, now).response)

    def _flow_to(self, host: str, port: int, transport: str = "udp") -> Flow:
        if not self._listeners:
            raise RuntimeError("the PBX does not run")
        listener = self._listeners.get(transport)
        if listener is None:
            raise ValueError(f"this PBX does not speak SIP over {transport}")
        tls = TlsOptions(ca=self.settings.ca, verify=bool(self.settings.ca))
        return listener.flow_to(host, port, tls if transport == "tls" else None)

    def _flow_towards(self, uri: Uri) -> Flow:
        transport = (uri.param("transport") or self.settings.transports[0]).lower()
        return self._flow_to(uri.host.strip("[]"), uri.port or DEFAULT_PORT.get(transport, 5060), transport)

    def _route(self, uri: str, fallback: Flow) -> Flow:
        """Where a request in a dialog goes.

        Over the dialog's own connection while it lasts (RFC 5923); else to its next hop's address, or where the dialog
        began if that is a name.
        """
        if isinstance(fallback, StreamFlow) and fallback.ended is None:
            return fallback
        try:
            return self._flow_towards(parse_uri(uri))
        except ValueError:
            return fallback


def _parameter(flow: Flow) -> str:
    return "" if flow.transport == "udp" else f";transport={flow.transport}"


@asynccontextmanager
async def open_pbx(settings: PbxSettings | None = None) -> AsyncIterator[Pbx]:
    """A PBX that runs as long as the context: `async with open_pbx(PbxSettings(accounts={"200": "secret"})) as pbx`."""
    async with background() as nursery:
        pbx: Pbx = await nursery.start(Pbx(settings or PbxSettings()).run)
        yield pbx
