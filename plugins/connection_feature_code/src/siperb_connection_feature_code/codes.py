"""A code becomes an action: an endpoint that answers, or the number that was dialled before."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from siperb_connection_feature_code.users import MostRecent, Quiet
from siperb_connection_feature_code.voice import Echo, Switch
from siperb_core import (
    AnswerWith,
    Claim,
    Connection,
    ConnectionConfigError,
    DialNumber,
    EntryContext,
    OutboundCall,
    Refusal,
    Source,
    fields,
)
from siperb_core.routing import UNCHANGED, compile_pattern

if TYPE_CHECKING:
    import trio

    from siperb_core.sip import Message

ACTIONS = ("echo", "redial", "dnd_on", "dnd_off", "dnd_toggle")
CODES = {"*43": "echo", "*66": "redial", "*76": "dnd_toggle", "*78": "dnd_on", "*79": "dnd_off"}
"""As FreePBX has them; it has none for redial, and *66 is that of the North American telephone network."""

UNKNOWN = Refusal(404, "No Such Code")
NOTHING_DIALLED = Refusal(404, "Nothing To Redial")

_MOST_CODES = 100
_LONGEST_CODE = 32


def _codes(table: object) -> dict[str, str]:
    """The table `codes`. Raises ValueError, TypeError."""
    if not isinstance(table, Mapping):
        raise TypeError('codes is not a table: begin it with [connection.settings.codes], and write "*43" = "echo"')
    if not table:
        raise ValueError("codes is empty, so nothing can be dialled: leave it out for the usual ones")
    if len(table) > _MOST_CODES:
        raise ValueError(f"codes has {len(table)} rows: use at most {_MOST_CODES}")
    for code, action in table.items():
        if not isinstance(code, str) or not 0 < len(code) <= _LONGEST_CODE or not code.isprintable() or " " in code:
            raise ValueError(
                f"{str(code)[:_LONGEST_CODE]!a} cannot be dialled: use at most {_LONGEST_CODE} characters, no spaces"
            )
        if action not in ACTIONS:
            raise ValueError(f"{code} leads to {action!r:.40}, which is no action: use one of {', '.join(ACTIONS)}")
    return dict(table)


@attrs.frozen(kw_only=True)
class FeatureCodeSettings:
    """`[connection.settings]` of a feature_code connection: `codes` are what is dialled, each with its action (echo,
    redial, dnd_on, dnd_off, dnd_toggle), in place of the usual ones; an echo test ends after `echo_seconds`.
    """

    codes: Mapping[str, Any] = attrs.field(factory=lambda: dict(CODES), converter=_codes)
    echo_seconds: int = attrs.field(default=300, validator=fields.between(5, 3600, "seconds"))

    def action(self, number: str, method: str) -> str:
        """What a call to this number does, as it is dialled through the connection; "" where it is no code."""
        return str(self.codes.get(number, "")) if method == "INVITE" else ""


class LiveFeatureCode:
    """A loaded feature_code connection."""

    credentials = None
    names: frozenset[str] = frozenset()
    """Nobody's: it claims nothing (`ClaimsByName`)."""

    def __init__(self, ctx: EntryContext, config: FeatureCodeSettings, quiet: Quiet) -> None:
        self.ctx = ctx
        self.config = config
        self.recent = MostRecent(ctx.memory)
        self._quiet = quiet

    def outbound_leg(self, call: OutboundCall) -> AnswerWith | DialNumber | Refusal:
        """What a code does. Nothing is done yet: a switch is turned once the call is answered."""
        match self.config.action(call.number, call.method):
            case "":
                return UNKNOWN
            case "echo":
                return AnswerWith(Echo(self.config.echo_seconds))
            case "redial":
                number = self.recent.number_of(call.user)
                return DialNumber(number) if number else NOTHING_DIALLED
            case "dnd_on":
                return self._switch(call.user, True)
            case "dnd_off":
                return self._switch(call.user, False)
            case _:
                return self._switch(call.user, None)

    def _switch(self, user: str, on: bool | None) -> AnswerWith:
        return AnswerWith(Switch(partial(self._quiet.turn, user, on, self.ctx.entry.name)))

    def claims(self, request: Message, source: Source) -> Claim | None:
        """Nothing: codes are for softphones alone."""
        return None

    def answer(self, request: Message, source: Source) -> Message | None:
        """Nothing: the core routes."""
        return None


class FeatureCode:
    """The connection type. One object serves one gateway: it knows the connections that are loaded."""

    kind: ClassVar[str] = "feature_code"
    title: ClassVar[str] = "Feature codes"
    version: ClassVar[int] = 1
    config_class: ClassVar[type[Any]] = FeatureCodeSettings
    allow_from_required: ClassVar[bool] = False

    def __init__(self) -> None:
        self.live: dict[str, LiveFeatureCode] = {}
        """Those that are loaded, by name."""
        self.quiet = Quiet()

    def unique_id(self, config: FeatureCodeSettings) -> str | None:
        """None: each group of users may have codes of its own."""
        return None

    def migrate(self, data: Mapping[str, Any], old: int) -> Mapping[str, Any]:
        """Version 1 is the only one."""
        return data

    async def probe(self, ctx: EntryContext, config: FeatureCodeSettings) -> None:
        """There is nobody to be asked. Raises ConnectionConfigError where the entry wants what cannot be."""
        _check_media(ctx)

    async def serve(
        self, ctx: EntryContext, config: FeatureCodeSettings, *, task_status: trio.TaskStatus[Connection]
    ) -> None:
        """Loaded at once: there is nothing to set up and nothing to watch."""
        import trio  # not at the top: what only reads settings, `siperb route` say, need not wait for it

        _check_media(ctx)
        name = ctx.entry.name
        self.live[name] = live = LiveFeatureCode(ctx, config, self.quiet)
        self.quiet.join(ctx)
        try:
            _tell_what_is_never_reached(ctx, config)
            task_status.started(live)
            await trio.sleep_forever()
        finally:
            if self.live.get(name) is live:
                del self.live[name]
                self.quiet.leave(name)


def _check_media(ctx: EntryContext) -> None:
    """The gateway answers in plain G.711, over no network."""
    entry = ctx.entry
    if entry.srtp != "off":
        raise ConnectionConfigError(f'srtp = "{entry.srtp}" cannot be, media do not leave this machine: leave it out')
    if not {"PCMA", "PCMU"} & set(entry.codecs):
        raise ConnectionConfigError("codecs has neither PCMA nor PCMU, which codes are answered in: leave codecs out")


def _tell_what_is_never_reached(ctx: EntryContext, config: FeatureCodeSettings) -> None:
    """Codes that the entry's dial pattern does not let in."""
    pattern = compile_pattern(ctx.entry.dial_pattern)
    missed = [code for code in config.codes if pattern.search(code) is None]
    if missed and ctx.entry.route.rewriting == UNCHANGED:
        ctx.raise_issue(
            "codes_missed",
            f"{', '.join(missed[:5])}: the dial pattern {ctx.entry.dial_pattern} of {ctx.entry.name} does not take "
            + ("that" if len(missed) == 1 else f"these {len(missed)} codes"),
            "widen dial_pattern, or take the code out",
        )
