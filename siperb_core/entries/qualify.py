"""Is the other side there? An OPTIONS now and then (RFC 3261 section 11), for connection types."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from siperb_core.entries.contract import ConnectionNotReady, EntryContext, Target
from siperb_core.sip import Message

ANSWER_SECONDS = 10.0
"""How long one is waited for: less than timer F, which would tell of an outage half a minute late."""
FAILURES = 2
"""Silences in a row after which the other side counts as unreachable: one datagram may get lost with all its
repetitions, and a PBX may restart.
"""
RETRY_SECONDS = 5.0


async def options(ctx: EntryContext, target: Target, uri: str, from_uri: str, route: Iterable[str] = ()) -> Message:
    """Ask once; the answer, whatever it says. Raises ConnectionNotReady where there is none."""
    request = Message.request(
        "OPTIONS",
        uri,
        [
            *(("Route", value) for value in route),
            ("From", f"<{from_uri}>;tag={ctx.random_token()}"),
            ("To", f"<{uri}>"),
            ("Call-ID", ctx.random_token()),
            ("CSeq", "1 OPTIONS"),
            ("Contact", f"<{await ctx.contact_uri(target)}>"),
            ("Accept", "application/sdp"),
        ],
    )
    return await ctx.request(request, target)


def is_well(response: Message) -> bool:
    """Whether an answer says that calls can be taken: any that does not blame the server (a 404 or 405 is fine)."""
    return response.status not in (408, 480) and response.status < 500


async def keep_qualifying(
    ctx: EntryContext, interval: float, ask: Callable[[], tuple[Target, str, str, Iterable[str]] | None]
) -> None:
    """Ask every `interval` seconds, and publish what comes of it (`EntryContext.qualified`); for ever.

    `ask` gives target, Request-URI, From and Route of the next OPTIONS, None where there is nobody to ask just now. A
    side that stays silent is asked again sooner, so that its return is noticed.
    """
    import trio  # not at the top: what only reads settings, `siperb route` say, need not wait for it

    silences = 0
    while True:
        asked = ask()
        if asked is not None:
            began = trio.current_time()
            well = False
            try:
                with trio.move_on_after(ANSWER_SECONDS):
                    well = is_well(await options(ctx, *asked))
            except ConnectionNotReady:
                pass
            silences = 0 if well else silences + 1
            if well:
                ctx.qualified((trio.current_time() - began) * 1000)
            elif silences >= FAILURES:
                ctx.qualified(None)
        await trio.sleep(interval if not silences else min(RETRY_SECONDS, interval))
