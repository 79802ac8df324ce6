"""A PBX the gateway registers with: calls out with our credentials, calls in at the contact we registered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    Refusal,
    Registration,
    Source,
)
from siperb_core.entries import fields
from siperb_core.entries.networks import allowed
from siperb_core.entries.peer import PeerSettings, with_port
from siperb_core.sip import Message, parse_uri
from siperb_core.sip import registration as machine

if TYPE_CHECKING:
    import trio

_DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061}
_UNREGISTER_SECONDS = 5.0
"""How long the PBX may take to answer the un-REGISTER while unloading."""


@attrs.frozen(kw_only=True)
class RegistrationSettings(PeerSettings):
    """`[connection.settings]` of an outbound_registration."""

    username: str = attrs.field(validator=fields.user)
    expires: int = attrs.field(default=300, validator=fields.between(30, 86400, "seconds"))

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
        )


class LiveRegistration:
    """A loaded connection: registered, with this contact."""

    def __init__(self, ctx: EntryContext, config: RegistrationSettings, contact: str) -> None:
        self._ctx = ctx
        self._config = config
        self._token = parse_uri(contact).user_unescaped
        self.credentials = config.credentials
        self.service_route: tuple[str, ...] = ()

    def outbound_leg(self, call: OutboundCall) -> OutboundLeg | Refusal:
        """To the server, by the way it named in Service-Route."""
        return self._config.outbound_leg(call, self.service_route)

    def claims(self, request: Message, source: Source) -> Claim | None:
        """What is sent to our contact; some PBXs put the username there instead, which counts where the address is
        the PBX's.
        """
        if request.method == "REGISTER":
            return None
        called = parse_uri(request.uri).user_unescaped
        config = self._config
        if called != self._token:
            known = source.host == config.server.strip("[]") or allowed(self._ctx.entry.allow_from, source.host)
            if called != config.username or not known:
                return None
        dialled = parse_uri(request.to.uri).user_unescaped
        return Claim(dialled if dialled not in ("", self._token) else config.username)

    def answer(self, request: Message, source: Source) -> Message | None:
        """Nothing: the core routes."""
        return None


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

    async def serve(
        self, ctx: EntryContext, config: RegistrationSettings, *, task_status: trio.TaskStatus[Connection]
    ) -> None:
        """Register, stay registered, and un-register on the way out."""
        contact = await ctx.contact_uri(config.target)
        live = LiveRegistration(ctx, config, contact)
        driver = _Driver(ctx, config, contact)
        try:
            registered = await driver.register_once()
            live.service_route = registered.service_route
            task_status.started(live)
            while True:
                live.service_route = (await driver.refresh()).service_route
        finally:
            await driver.unregister()


class _Driver:
    """Performs what the registration machine asks for, and says what came of it."""

    def __init__(self, ctx: EntryContext, config: RegistrationSettings, contact: str, *, query: bool = False) -> None:
        self._ctx = ctx
        self._target = config.target
        self._query = query
        self._client = machine.RegistrationClient(config.machine_settings(contact), ctx.random_token)
        self._wake_at = 0.0

    async def register_once(self) -> machine.Registered:
        """Register; returns once the PBX has accepted. Raises the contract's exceptions."""
        return await self._until_registered(self._client.start)

    async def refresh(self) -> machine.Registered:
        """Wait until a refresh is due, and do it."""
        await self._sleep()
        return await self._until_registered(self._client.tick)

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
            else:
                await self._sleep()
                effects = self._client.tick(self._ctx.now())

    async def _exchange(self, message: Message) -> list[machine.RegistrationEffect]:
        if self._query:
            message.remove("Contact")
            message.remove("Expires")
        try:
            response = await self._ctx.request(message, self._target)
        except ConnectionNotReady as error:
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
        raise ConnectionNotReady(text, retry_after=rejected.retry_after)

    def _report(self, state: Any, expires_at: float | None, status: int | None, reason: str) -> None:
        if not self._query:
            self._ctx.report(Registration(state, expires_at, status, reason))

    async def unregister(self) -> None:
        """Take the contact back, if the PBX has it, whatever is being cancelled; a PBX that does not answer has a few
        seconds.
        """
        if self._client.expires_at is None:
            return
        import trio

        with trio.move_on_after(_UNREGISTER_SECONDS, shield=True):
            effects = self._client.stop(self._ctx.now())
            while effects and isinstance(effects[0], machine.SendRegister):
                effects = await self._exchange(effects[0].message)
        self._report("unregistered", None, None, "unloaded")
