"""A number or a user's name becomes that user's softphones, which ring all at once; media go from one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from siperb_core import (
    Claim,
    Connection,
    ConnectionConfigError,
    EntryContext,
    OutboundCall,
    Refusal,
    RingUsers,
    Source,
    fields,
)
from siperb_core.routing import UNCHANGED, compile_pattern

if TYPE_CHECKING:
    import trio

    from siperb_core.sip import Message

NOBODY = Refusal(404, "No Such User")
"""For numbers and names that are nobody's (RFC 3261 section 21.4.5)."""

NOT_BRIDGED = Refusal(503, "Media Cannot Be Bridged")

BRIDGED = ("relay", "transcode")
"""Ways of `media` that cannot be: the gateway bridges a softphone and a PBX, not two softphones."""

LOOK_SECONDS = 10.0
"""How often it is looked whether the entry has changed."""

_MOST_NUMBERS = 10_000
_LONGEST_NUMBER = 64


def _numbers(table: object) -> dict[str, tuple[str, ...]]:
    """The table `numbers`, every value a tuple of users. Raises ValueError, TypeError."""
    if not isinstance(table, Mapping):
        raise TypeError('numbers is not a table: begin it with [connection.settings.numbers], and write 1001 = "alice"')
    if len(table) > _MOST_NUMBERS:
        raise ValueError(f"numbers has {len(table)} rows: use at most {_MOST_NUMBERS}")
    found: dict[str, tuple[str, ...]] = {}
    for number, value in table.items():
        number, users = str(number), [value] if isinstance(value, str) else value
        if not number or len(number) > _LONGEST_NUMBER or not number.isprintable():
            raise ValueError(
                f"{number[:_LONGEST_NUMBER]!a} cannot be dialled: use at most {_LONGEST_NUMBER} characters"
            )
        if not isinstance(users, list | tuple) or not users or not all(isinstance(user, str) for user in users):
            raise ValueError(f'{number} in numbers leads to no user: write {number} = "alice", or a list of users')
        for user in users:
            fields.name(None, None, user)
        found[number] = tuple(dict.fromkeys(map(str, users)))
    return found


@attrs.frozen(kw_only=True)
class DirectSettings:
    """`[connection.settings]` of a direct connection: `numbers` are those of users (a user's name, or a list of names
    that ring together); with `names` a user can be dialled by name as well.
    """

    numbers: Any = attrs.field(factory=dict, converter=_numbers)  # a table; Any, as then it is we who say what is wrong
    names: bool = True

    def users_of(self, number: str) -> tuple[str, ...]:
        """Whom a number or name is for; nobody where it is unknown. Whether a user has softphones is not known here."""
        users: tuple[str, ...] = self.numbers.get(number, ())
        return users or ((number,) if self.names and fields.is_name(number) else ())

    def number_of(self, user: str) -> str:
        """What leads back to a user: the first number that is this user's alone, else the name."""
        return next((number for number, users in self.numbers.items() if users == (user,)), user)


class LiveDirect:
    """A loaded direct connection."""

    credentials = None
    names: frozenset[str] = frozenset()
    """Nobody's: it claims nothing (`ClaimsByName`)."""

    def __init__(self, ctx: EntryContext, config: DirectSettings) -> None:
        self._ctx = ctx
        self.config = config

    def outbound_leg(self, call: OutboundCall) -> RingUsers | Refusal:
        """The users of the number who may use this connection ring.

        They see the caller's number, so that they can call back. Who calls a group is no part of it.
        """
        entry = self._ctx.entry  # as it is now: a reload changes its users without setting it up anew
        if entry.media in BRIDGED:
            return NOT_BRIDGED
        users = tuple(user for user in self.config.users_of(call.number) if entry.rings(user))
        users = tuple(user for user in users if user != call.user) or users
        return RingUsers(users, caller=self.config.number_of(call.user)) if users else NOBODY

    def claims(self, request: Message, source: Source) -> Claim | None:
        """Nothing: there is no PBX."""
        return None

    def answer(self, request: Message, source: Source) -> Message | None:
        """Nothing: the core routes."""
        return None


class Direct:
    """The connection type. One object serves one gateway: it knows the connections that are loaded."""

    kind: ClassVar[str] = "direct"
    title: ClassVar[str] = "Softphone to softphone"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Any]] = DirectSettings
    allow_from_required: ClassVar[bool] = False

    def __init__(self) -> None:
        self.live: dict[str, LiveDirect] = {}
        """Those that are loaded, by name."""

    def unique_id(self, config: DirectSettings) -> str | None:
        """None: each group of users may have an entry of its own."""
        return None

    def migrate(self, data: Mapping[str, Any], old: int) -> Mapping[str, Any]:
        """Version 1 is the only one."""
        return data

    async def probe(self, ctx: EntryContext, config: DirectSettings) -> None:
        """There is nobody to be asked. Raises ConnectionConfigError where the entry wants what cannot be."""
        if ctx.entry.media in BRIDGED:
            raise ConnectionConfigError(f'media = "{ctx.entry.media}" {_NO_BRIDGE}: {_MEND_MEDIA}')

    async def serve(
        self, ctx: EntryContext, config: DirectSettings, *, task_status: trio.TaskStatus[Connection]
    ) -> None:
        """Loaded at once: there is nothing to set up. What can never work is an issue until it is mended."""
        import trio  # not at the top: what only reads settings, `siperb route` say, need not wait for it

        self.live[ctx.entry.name] = live = LiveDirect(ctx, config)
        try:
            task_status.started(live)
            seen = None
            while True:
                if ctx.entry is not seen:
                    seen = ctx.entry
                    _tell_what_cannot_be(ctx, config)
                await trio.sleep(LOOK_SECONDS)
        finally:
            if self.live.get(ctx.entry.name) is live:
                del self.live[ctx.entry.name]


_NO_BRIDGE = "cannot be, as softphones send media to each other"
_MEND_MEDIA = 'leave media out, or write "passthrough"'


def _tell_what_cannot_be(ctx: EntryContext, config: DirectSettings) -> None:
    """Issues of this entry as it is written now."""
    entry = ctx.entry
    if entry.media in BRIDGED:
        text = f'media = "{entry.media}" of {entry.name} {_NO_BRIDGE}, so every call is refused'
        ctx.raise_issue("media_bridged", text, _MEND_MEDIA)
    else:
        ctx.clear_issue("media_bridged")
    closed = [number for number, users in config.numbers.items() if not any(map(entry.rings, users))]
    if closed:
        text = f"{_some(closed)}: nobody these are for is among the users of {entry.name}, so it is 404"
        ctx.raise_issue("numbers_closed", text, "add them to users, or take the number out")
    else:
        ctx.clear_issue("numbers_closed")
    pattern = compile_pattern(entry.dial_pattern)
    missed = [number for number in config.numbers if pattern.search(number) is None]
    if missed and entry.route.rewriting == UNCHANGED:
        text = f"{_some(missed)}: the dial pattern {entry.dial_pattern} of {entry.name} does not take that"
        ctx.raise_issue("numbers_missed", text, "widen dial_pattern, or take the number out")
    else:
        ctx.clear_issue("numbers_missed")


def _some(numbers: list[str]) -> str:
    shown = ", ".join(numbers[:5])
    return shown if len(numbers) <= 5 else f"{shown} and {len(numbers) - 5} more"
