"""A PBX that registers to the gateway: it may be anywhere, behind any firewall, and opens nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from siperb_connection_inbound_reg.bindings import Address, Bindings
from siperb_core import (
    Claim,
    Connection,
    Credentials,
    EntryContext,
    GatewayConfig,
    OutboundCall,
    OutboundLeg,
    Refusal,
    Registration,
    Secret,
    Source,
    Target,
    allowed,
    escape_user,
    fields,
    qualify,
)
from siperb_core.sip import Message, ParseError, parse_uri
from siperb_core.sip.registrar import Binding

if TYPE_CHECKING:
    import trio

_PASSWORD_OCTETS = 24
_USERNAME = re.compile(r'\busername="([^"\\]{1,256})"')


@attrs.frozen(kw_only=True)
class InboundSettings:
    """`[connection.settings]` of an inbound_registration: `siperb connection add` makes both up."""

    username: str = attrs.field(validator=fields.user)
    password: Secret
    qualify: int = attrs.field(default=60, validator=fields.between(0, 86400, "seconds"))

    def __attrs_post_init__(self) -> None:
        if len(self.password.reveal()) < 8:
            raise ValueError("password is shorter than 8 characters: use a longer one")


class LiveRegistrar:
    """A loaded connection: a registrar for one address of record (RFC 3261 section 10.3), the PBX's."""

    def __init__(self, ctx: EntryContext, config: InboundSettings) -> None:
        self._ctx = ctx
        self._config = config
        self.credentials = Credentials(config.username, config.password.reveal())
        self.bindings = Bindings(config.username, ctx.memory)

    def outbound_leg(self, call: OutboundCall) -> OutboundLeg | Refusal:
        """To the contact the PBX registered last.

        Everything of the contact is kept but its user part, which is the number: PBXs know their own gateway again by
        the parameters they put there (`line` of Asterisk, `gw` of FreeSWITCH).
        """
        found = self.bindings.newest(self._ctx.now())
        if found is None:
            return Refusal(480, "the PBX is not registered")
        binding, _ = found
        contact = parse_uri(binding.contact)
        domain = self._ctx.domain
        return OutboundLeg(
            target=_target(found),
            request_uri=str(contact.with_(user=escape_user(call.number), password=None, headers=())),
            from_uri=f"sip:{self._config.username}@{domain}",
            to_uri=f"sip:{escape_user(call.number)}@{contact.host_port}",
            from_display=call.request.from_.display,
            route=tuple(binding.path),
            headers=(("P-Asserted-Identity", f"<sip:{escape_user(call.user)}@{domain}>"),),
        )

    def asked(self) -> tuple[Target, str, str, tuple[str, ...]] | None:
        """Where an OPTIONS finds the PBX; None while it is not registered."""
        found = self.bindings.newest(self._ctx.now())
        if found is None:
            return None
        binding, _ = found
        from_uri = f"sip:{self._config.username}@{self._ctx.domain}"
        return _target(found), binding.contact, from_uri, tuple(binding.path)

    def claims(self, request: Message, source: Source) -> Claim | None:
        """A REGISTER for our username, with its password; other requests from where the PBX registered, from
        `allow_from`, or with the password.
        """
        username = self._config.username
        if request.method == "REGISTER":
            return Claim(username, self.credentials) if _user(request.to.uri) == username else None
        number = parse_uri(request.uri).user_unescaped
        if self.bindings.came_from(source, self._ctx.now()):
            return Claim(number)
        networks = self._ctx.entry.allow_from
        if networks and allowed(networks, source.host):
            return Claim(number)
        if username in (_user(request.from_.uri), _authorization_user(request)):
            return Claim(number, self.credentials)
        return None

    def answer(self, request: Message, source: Source) -> Message | None:
        """A REGISTER by the registrar; everything else is the core's to route."""
        if request.method != "REGISTER":
            return None
        response = self.bindings.register(request, source, self._ctx.now())
        self.report()
        return response

    @property
    def addresses(self) -> frozenset[str]:
        """Where the PBX has registered from (`KnowsItsPeer`)."""
        return self.bindings.addresses(self._ctx.now())

    @property
    def names(self) -> frozenset[str]:
        """The username alone (`ClaimsByName`)."""
        return frozenset((self._config.username,))

    def report(self) -> None:
        """Tell the state of the registration."""
        found = self.bindings.newest(self._ctx.now())
        if found is None:
            self._ctx.report(Registration("unregistered", reason="the PBX has not registered"))
        else:
            self._ctx.report(Registration("registered", found[0].expires_at, 200, "OK"))


class InboundRegistration:
    """The connection type."""

    kind: ClassVar[str] = "inbound_registration"
    title: ClassVar[str] = "Inbound registration"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Any]] = InboundSettings
    allow_from_required: ClassVar[bool] = False
    authenticates: ClassVar[bool] = True

    def unique_id(self, config: InboundSettings) -> str | None:
        """A username belongs to one PBX."""
        return config.username

    def migrate(self, data: Mapping[str, Any], old: int) -> Mapping[str, Any]:
        """Version 1 is the only one."""
        return data

    def generate(self, random_token: Callable[[int], str]) -> Mapping[str, str]:
        """A username and a password nobody can guess."""
        return {"username": f"pbx-{random_token(6).lower()}", "password": random_token(_PASSWORD_OCTETS)}

    def instructions(self, name: str, config: InboundSettings, gateway: GatewayConfig) -> str:
        """The host to register to, and what to enter into Asterisk, FreePBX, FreeSWITCH and 3CX."""
        from siperb_connection_inbound_reg.snippets import gateway_address, snippets

        host, port, transport = gateway_address(gateway)
        head = f"host={host}\nport={port}\ntransport={transport}\ndomain={gateway.gateway.domain}\n\n"
        return head + snippets(name, config.username, config.password.reveal(), gateway)

    async def probe(self, ctx: EntryContext, config: InboundSettings) -> None:
        """Nothing to try: the PBX has to come by itself."""

    async def serve(
        self, ctx: EntryContext, config: InboundSettings, *, task_status: trio.TaskStatus[Connection]
    ) -> None:
        """Loaded at once, with the bindings of before a restart; then watch them expire."""
        import trio  # not at the top: what only reads settings, `siperb route` say, need not wait for it

        live = LiveRegistrar(ctx, config)
        live.report()
        task_status.started(live)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_expiry, ctx, live)
            if config.qualify:
                await qualify.keep_qualifying(ctx, config.qualify, live.asked)

    async def _watch_expiry(self, ctx: EntryContext, live: LiveRegistrar) -> None:
        import trio

        while True:
            deadline = live.bindings.next_expiry
            changed = trio.Event()
            live.bindings.changed = changed.set
            with trio.move_on_after(float("inf") if deadline is None else max(0.0, deadline - ctx.now())):
                await changed.wait()
            if live.bindings.expire(ctx.now()):
                live.report()


def _target(found: tuple[Binding, Address]) -> Target:
    binding, (host, source_port, transport) = found
    port: int | None = source_port
    if transport != "udp":
        # Nobody listens on the port a connection came from: once it is gone the contact is all there is.
        contact = parse_uri(binding.contact)
        host, port = contact.host, contact.port
    return Target(host, port, _transport(transport), flow=binding.flow)


def _transport(name: str) -> Literal["udp", "tcp", "tls"]:
    """What to dial with where the flow is gone; one that came in by WebSocket cannot be dialled at all, TCP says so."""
    if name == "udp":
        return "udp"
    return "tls" if name == "tls" else "tcp"


def _user(uri: str) -> str:
    try:
        return parse_uri(uri).user_unescaped
    except ParseError:
        return ""


def _authorization_user(request: Message) -> str:
    """The username an Authorization header gives itself, unchecked; '' where there is none."""
    value = request.get("Authorization") or ""
    found = _USERNAME.search(value)
    return found[1] if found else ""
