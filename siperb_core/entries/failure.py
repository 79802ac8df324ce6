"""What an ended connection means: try again, wait for an edit, or a fault of the plugin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from siperb_core.entries.contract import ConnectionAuthFailed, ConnectionConfigError, ConnectionNotReady

DELAYS = (5.0, 10.0, 20.0, 40.0, 80.0)
"""Seconds before the next attempt; the last one is repeated."""
JITTER = 0.1
"""Share of a delay added at random, so that a PBX that comes back is not met by all at once."""
LONGEST_RETRY_AFTER = 3600.0


@attrs.frozen
class Failure:
    """Why a connection is down and what follows. `crash` marks what is no exception of the contract: the plugin's own
    fault; `answered` that the other side is there, though of no use.
    """

    state: Literal["retry", "auth_failed", "config_error"]
    reason: str
    retry_after: float | None = None
    crash: bool = False
    answered: bool = False


def classify(error: BaseException) -> Failure:
    """The gravest leaf decides: a refused password before wrong settings, those before a fault, a fault before bad
    luck.
    """
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, ConnectionAuthFailed):
            return Failure("auth_failed", _text(leaf, "the credentials were refused"))
    for leaf in leaves:
        if isinstance(leaf, ConnectionConfigError):
            return Failure("config_error", _text(leaf, "the settings cannot work"))
    for leaf in leaves:
        if not isinstance(leaf, ConnectionNotReady):
            text = " ".join(str(leaf).split())[:300]
            name = type(leaf).__name__
            return Failure("retry", f"crashed: {name}: {text}" if text else f"crashed: {name}", crash=True)
    not_ready = [leaf for leaf in leaves if isinstance(leaf, ConnectionNotReady)]
    known = [leaf.retry_after for leaf in not_ready if leaf.retry_after is not None]
    answered = any(leaf.answered for leaf in not_ready)
    return Failure("retry", _text(leaves[0], "not ready"), max(known, default=None), answered=answered)


def delay(attempt: int, retry_after: float | None, random: float) -> float:
    """Seconds until the next attempt after `attempt` failures in a row (from 1); `random` is from 0 to 1.

    A Retry-After is kept to (up to an hour), never undercut.
    """
    step = DELAYS[min(attempt, len(DELAYS)) - 1]
    if retry_after is not None:
        step = min(max(retry_after, 1.0), LONGEST_RETRY_AFTER)
    return step * (1 + JITTER * random)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _text(error: BaseException, default: str) -> str:
    return " ".join(str(error).split())[:300] or default
