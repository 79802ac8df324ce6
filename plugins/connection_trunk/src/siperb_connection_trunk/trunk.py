"""A PBX or carrier at a fixed address, which nobody registers with: it is known by the addresses it sends from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from siperb_core import (
    Claim,
    Connection,
    ConnectionNotReady,
    EntryContext,
    OutboundCall,
    OutboundLeg,
    PeerSettings,
    Refusal,
    Source,
    Target,
    allowed,
    fields,
    qualify,
    with_port,
)
from siperb_core.sip import Message, parse_uri

if TYPE_CHECKING:
    import trio


@attrs.frozen(kw_only=True)
class TrunkSettings(PeerSettings):
    """`[connection.settings]` of an outbound_trunk: a PBX at a fixed place, username and password only where it asks
    for them. `qualify` is the seconds between two OPTIONS, 0 for none.
    """

    qualify: int = attrs.field(default=60, validator=fields.between(0, 86400, "seconds"))

    def __attrs_post_init__(self) -> None:
        if self.password and not (self.username or self.auth_username):
            raise ValueError("has a password but no username: add username")


class LiveTrunk:
    """A loaded trunk."""

    names: frozenset[str] = frozenset()
    """None: a trunk knows its PBX by the address (`ClaimsByName`)."""

    def __init__(self, ctx: EntryContext, config: TrunkSettings) -> None:
        self._ctx = ctx
        self._config = config
        self.credentials = config.credentials

    def outbound_leg(self, call: OutboundCall) -> OutboundLeg | Refusal:
        """To the fixed address."""
        return self._config.outbound_leg(call)

    def claims(self, request: Message, source: Source) -> Claim | None:
        """Everything from an address in `allow_from`, and nothing else."""
        if request.method == "REGISTER" or not allowed(self._ctx.entry.allow_from, source.host):
            return None
        return Claim(parse_uri(request.uri).user_unescaped)

    def answer(self, request: Message, source: Source) -> Message | None:
        """Nothing: the core routes."""
        return None


class OutboundTrunk:
    """The connection type."""

    kind: ClassVar[str] = "outbound_trunk"
    title: ClassVar[str] = "Outbound trunk"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Any]] = TrunkSettings
    allow_from_required: ClassVar[bool] = True

    def unique_id(self, config: TrunkSettings) -> str | None:
        """None: several entries may share a trunk, each with users and dial patterns of its own."""
        return None

    def migrate(self, data: Mapping[str, Any], old: int) -> Mapping[str, Any]:
        """Version 1 is the only one."""
        return data

    async def probe(self, ctx: EntryContext, config: TrunkSettings) -> None:
        """Send an OPTIONS; any answer that does not say the server is unwell is good enough."""
        response = await qualify.options(ctx, *_asked(config))
        if not qualify.is_well(response):
            raise ConnectionNotReady(f"the PBX answers OPTIONS with {response.status} {response.reason}")

    async def serve(
        self, ctx: EntryContext, config: TrunkSettings, *, task_status: trio.TaskStatus[Connection]
    ) -> None:
        """Loaded at once: there is nothing to set up; then see now and then whether the PBX is there."""
        import trio  # not at the top: what only reads settings, `siperb route` say, need not wait for it

        task_status.started(LiveTrunk(ctx, config))
        if config.qualify:
            await qualify.keep_qualifying(ctx, config.qualify, lambda: _asked(config))
        await trio.sleep_forever()


def _asked(config: TrunkSettings) -> tuple[Target, str, str, tuple[str, ...]]:
    user = config.from_user or config.username or "siperb"
    return config.target, f"sip:{with_port(config.server, config.port)}", f"sip:{user}@{config.domain}", config.route
