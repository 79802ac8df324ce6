"""A PBX the gateway registers with: calls out with our credentials, calls in at the contact we registered."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from siperb_core import (
    Claim,
    Connection,
    ConnectionAuthFailed,
    ConnectionConfigError,
    ConnectionNotReady,
    EntryContext,
    OutboundCall,
    OutboundLeg,
    PeerSettings,
    Refusal,
    Registration,
    Source,
    allowed,
    fields,
    qualify,
    with_port,
)
from siperb_core.sip import Message, parse_uri
from siperb_core.sip import registration as machine

if TYPE_CHECKING:
    import trio

_DEFAULT_PORT = {"auto": 5060, "udp": 5060, "tcp": 5060, "tls": 5061}
_UNREGISTER_SECONDS = 5.0
"""How long the PBX may take to answer the un-REGISTER while unloading."""
_STEADY_SECONDS = 60.0
"""A connection that lasted for so long was not closed because of the REGISTER."""
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 80.0


@attrs.frozen(kw_only=True)
class RegistrationSettings(PeerSettings):
    """`[connection.settings]` of an outbound_registration."""

    username: str = attrs.field(validator=fields.user)
    expires: int = attrs.field(default=300, validator=fields.between(30, 86400, "seconds"))
    keep_alive: int = attrs.field(default=30, validator=fields.between(5, 600, "seconds"))

    def machine_settings(self, contact: str) -> machine.RegistrationSettings:
        """What the registration machine is to do."""
        credentials = self.credentials
        return machine.RegistrationSettings(
            registrar=f"sip:{with_port(self.server, self.port)}",
            aor=f"sip:{self.from_user or self.username}@{self.domain}",
            contact=contact,
            username=credentials.username if credentials else "",
            password=credentials.password if credentials else "",
            expires=self.expires,
            route=self.route,
            user_agent="siperb",
            realm="" if self.realm == "*" else self.realm,
        )


class LiveRegistration:
    """A loaded connection: registered, with this contact."""

    def __init__(self, ctx: EntryContext, config: RegistrationSettings, contact: str) -> None:
        self._ctx = ctx
        self._config = config
        self._token = parse_uri(contact).user_unescaped
        self.credentials = config.credentials
        self.service_route: tuple[str, ...] = ()
        way = _address(config.target.host)
        self.addresses = frozenset(home for home in (way, _address(config.server)) if home is not None)
        """Where the settings have the PBX, or our way to it (`KnowsItsPeer`)."""
        self.names = frozenset((self._token, config.username))
        """Whom the PBX calls (`ClaimsByName`)."""
        self._only_there = way is not None  # what is called by a name may be at any address

    def learn(self, registered: machine.Registered, realms: tuple[str, ...]) -> None:
        """Take from a successful REGISTER the way calls are to go, and whose challenges are the PBX's."""
        self.service_route = registered.service_route
        credentials = self.credentials
        if credentials is not None and not self._config.realm:
            self.credentials = attrs.evolve(credentials, realms=realms)

    def outbound_leg(self, call: OutboundCall) -> OutboundLeg | Refusal:
        """To the server, by the way it named in Service-Route."""
        return self._config.outbound_leg(call, self.service_route)

    def claims(self, request: Message, source: Source) -> Claim | None:
        """What is sent to the contact we registered, which nobody knows but the PBX, and to our username, as some PBXs
        write, a GRUU they gave us included (RFC 5627: it has the username's address, and `gr`).

        From the PBX's address alone, as far as that is known: it is in the settings, or in `allow_from`. Behind a name
        there may be more addresses than DNS tells of, so to our contact any may send; to the username, none.
        """
        if request.method == "REGISTER":
            return None
        called = parse_uri(request.uri).user_unescaped
        config = self._config
        if called not in (self._token, config.username):
            return None
        if not self._is_pbx(source.host) and (called != self._token or self._only_there):
            return None
        dialled = parse_uri(request.to.uri).user_unescaped
        return Claim(dialled if dialled not in ("", self._token) else config.username)

    def _is_pbx(self, host: str) -> bool:
        return _address(host) in self.addresses or allowed(self._ctx.entry.allow_from, host)

    def answer(self, request: Message, source: Source) -> Message | None:
        """Nothing: the core routes."""
        return None


@lru_cache(maxsize=1024)
def _address(host: str) -> str | None:
    """A literal address as `ipaddress` writes it, an IPv4 one in IPv6 dress as IPv4; None for a name."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


class OutboundRegistration:
    """The connection type."""

    kind: ClassVar[str] = "outbound_registration"
    title: ClassVar[str] = "Outbound registration"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Any]] = RegistrationSettings
    allow_from_required: ClassVar[bool] = False

    def unique_id(self, config: RegistrationSettings) -> str | None:
        """An account is registered once: a second registration would take the first one's calls."""
        port = config.port or _DEFAULT_PORT[config.transport]
        return f"{config.username}@{with_port(config.server.lower(), port)}"

    def migrate(self, data: Mapping[str, Any], old: int) -> Mapping[str, Any]:
        """Version 1 is the only one."""
        return data

    async def probe(self, ctx: EntryContext, config: RegistrationSettings) -> None:
        """Ask the PBX for our bindings (a REGISTER without Contact, RFC 3261 section 10.2.3): it checks the password
        and leaves the bindings as they are.
        """
        contact = await ctx.contact_uri(config.target)
        await _Driver(ctx, config, contact, query=True).register_once()

    async def returned(self, ctx: EntryContext, config: RegistrationSettings) -> None:
        """Ask by OPTIONS, which needs no password and so cannot be too often wrong, until there is any answer."""
        import trio  # not at the top: what only reads settings, `siperb route` say, need not wait for it

        while True:
            try:
                await _ask(ctx, config)
            except ConnectionNotReady:
                await trio.sleep(qualify.RETRY_SECONDS)
            else:
                return

    async def serve(
        self, ctx: EntryContext, config: RegistrationSettings, *, task_status: trio.TaskStatus[Connection]
    ) -> None:
        """Register, stay registered, and un-register on the way out."""
        contact = await ctx.contact_uri(config.target)
        live = LiveRegistration(ctx, config, contact)
        driver = _Driver(ctx, config, contact)
        try:
            live.learn(await driver.register_once(), driver.realms)
            task_status.started(live)
            while True:
                live.learn(await driver.refresh(), driver.realms)
        finally:
            await driver.unregister()


async def _ask(ctx: EntryContext, config: RegistrationSettings) -> None:
    """Is the PBX there? Raises ConnectionNotReady where it gives no answer."""
    server, user = with_port(config.server, config.port), config.from_user or config.username
    await qualify.options(ctx, config.target, f"sip:{server}", f"sip:{user}@{config.domain}", config.route)


class _Driver:
    """Performs what the registration machine asks for, and says what came of it."""

    def __init__(self, ctx: EntryContext, config: RegistrationSettings, contact: str, *, query: bool = False) -> None:
        self._ctx = ctx
        self._config = config
        self._target = config.target
        self._losses = 0
        self._knows_options = False
        self._query = query
        self._client = machine.RegistrationClient(config.machine_settings(contact), ctx.random_token)
        self._wake_at = 0.0
        self._unanswered = False  # a REGISTER is on its way, and may be granted whatever becomes of us

    @property
    def realms(self) -> tuple[str, ...]:
        """Realms whose challenges the PBX has accepted an answer to."""
        return self._client.realms

    async def register_once(self) -> machine.Registered:
        """Register; returns once the PBX has accepted. Raises the contract's exceptions.

        Behind NAT the answer tells how the PBX sees us (RFC 3581): then once more, with that address for calls.
        """
        registered = await self._until_registered(self._client.start)
        return registered if self._query else await self._seen_otherwise() or registered

    async def refresh(self) -> machine.Registered:
        """Wait until a refresh is due or the connection is lost, and register again."""
        if await self._lost_before_refresh():
            registered = await self._until_registered(self._client.refresh)
        else:
            registered = await self._until_registered(self._client.tick)
        return await self._seen_otherwise() or registered

    async def _seen_otherwise(self) -> machine.Registered | None:
        contact = await self._ctx.contact_uri(self._target)
        if not self._client.move(contact):
            return None
        self._ctx.log.info("registration.contact_moved", contact=parse_uri(contact).host_port)
        return await self._until_registered(self._client.refresh)

    async def _lost_before_refresh(self) -> bool:
        """Keep the path to the PBX open until a refresh is due; whether its connection was lost before.

        Without it no call comes in, so the first loss is mended at once; a PBX that closes every connection soon after
        a REGISTER is not hammered.
        """
        import trio

        now = self._ctx.now
        registered_at = now()
        with trio.move_on_after(max(0.0, self._wake_at - registered_at)) as waiting:
            try:
                await self._until_lost()
            except* ConnectionNotReady as group:
                self._ctx.log.debug("registration.not_kept_alive", reason=str(group.exceptions[0]))
            if now() - registered_at > _STEADY_SECONDS:
                self._losses = 0
            self._losses += 1
            self._ctx.log.info("registration.connection_lost", losses=self._losses)
            if self._losses > 1:
                await trio.sleep(min(_FIRST_PAUSE * 2 ** (self._losses - 2), _LONGEST_PAUSE))
        return not waiting.cancelled_caught

    async def _until_lost(self) -> None:
        """Keep the path open as long as it lasts: a connection until it ends; over UDP until the PBX was away."""
        import trio

        async with trio.open_nursery() as nursery:
            if self._target.transport == "udp":
                nursery.start_soon(self._ctx.keep_alive, self._target, self._config.keep_alive)
                await self._until_away_and_back()
                nursery.cancel_scope.cancel()
            else:
                await self._ctx.keep_alive(self._target, self._config.keep_alive)

    async def _until_away_and_back(self) -> None:
        """Over UDP nothing tells that a PBX has restarted, and forgotten us: OPTIONS asks now and then if it is there.

        One that has never answered OPTIONS is not missed when it is silent.
        """
        import trio

        while await self._is_there():  # noqa: ASYNC110 - another machine tells nobody
            await trio.sleep(self._config.keep_alive)
        if not self._knows_options:
            await trio.sleep_forever()
        self._ctx.log.info("registration.pbx_silent")
        while not await self._is_there():  # noqa: ASYNC110 - nor does it tell that it is back
            await trio.sleep(qualify.RETRY_SECONDS)

    async def _is_there(self) -> bool:
        import trio

        with trio.move_on_after(qualify.ANSWER_SECONDS):
            try:
                await _ask(self._ctx, self._config)
            except ConnectionNotReady:
                return False
            self._knows_options = True
            return True
        return False

    async def _sleep(self) -> None:
        import trio  # not at the top: what only reads settings, `siperb route` say, need not wait for it

        await trio.sleep(max(0.0, self._wake_at - self._ctx.now()))

    async def _until_registered(self, step: Callable[[float], list[machine.RegistrationEffect]]) -> machine.Registered:
        effects = step(self._ctx.now())
        while True:
            message: Message | None = None
            registered: machine.Registered | None = None
            for effect in effects:
                if isinstance(effect, machine.SendRegister):
                    message = effect.message
                elif isinstance(effect, machine.WakeAt):
                    self._wake_at = effect.time
                elif isinstance(effect, machine.Registered):
                    registered = effect
                elif isinstance(effect, machine.RefreshFailed):
                    self._report("registered", self._client.expires_at, effect.status, effect.reason)
                elif isinstance(effect, machine.Rejected):
                    self._fail(effect)
            if registered is not None:
                self._report("registered", registered.expires_at, 200, "OK")
                return registered
            if message is not None:
                effects = await self._exchange(message)
                if not effects and self._wake_at <= self._ctx.now():
                    raise ConnectionNotReady("the PBX's answer is none to a REGISTER", answered=True)
            else:
                await self._sleep()
                effects = self._client.tick(self._ctx.now())

    async def _exchange(self, message: Message) -> list[machine.RegistrationEffect]:
        if self._query:
            message.remove("Contact")
            message.remove("Expires")
        try:
            self._unanswered = True
            response = await self._ctx.request(message, self._target)
            self._unanswered = False
        except ConnectionNotReady as error:
            self._unanswered = False  # nobody is there to take a contact back from
            return self._client.timeout(self._ctx.now(), str(error))
        return self._client.response(response, self._ctx.now())

    def _fail(self, rejected: machine.Rejected) -> None:
        """Raise what a rejection means for the entry."""
        status, reason = rejected.status, rejected.reason
        text = reason if status is None else f"the PBX answered {status} {reason}"
        self._report("unreachable" if status is None else "rejected", None, status, reason)
        if rejected.kind == "auth":
            raise ConnectionAuthFailed(text)
        if rejected.kind == "config":
            raise ConnectionConfigError(text)
        raise ConnectionNotReady(text, retry_after=rejected.retry_after, answered=status is not None)

    def _report(self, state: Any, expires_at: float | None, status: int | None, reason: str) -> None:
        if not self._query:
            self._ctx.report(Registration(state, expires_at, status, reason))

    async def unregister(self) -> None:
        """Take the contact back, if the PBX has or may have it, whatever is being cancelled; a PBX that does
        not answer has a few seconds.
        """
        if self._client.expires_at is None and not self._unanswered:
            return
        import trio

        with trio.move_on_after(_UNREGISTER_SECONDS, shield=True):
            effects = self._client.stop(self._ctx.now())
            while effects and isinstance(effects[0], machine.SendRegister):
                effects = await self._exchange(effects[0].message)
        self._report("unregistered", None, None, "unloaded")
