"""Names that are on their way out: they work for one more minor version, and warn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import attrs

P = ParamSpec("P")
T = TypeVar("T")


@attrs.frozen
class Deprecation:
    """A name, what to use instead, and the minor version, `0.3` say, from which on it is gone."""

    name: str
    instead: str
    since: str
    gone: str

    def __attrs_post_init__(self) -> None:
        since, gone = ([int(part) for part in version.split(".")] for version in (self.since, self.gone))
        if len(since) != 2 or gone <= since:
            raise ValueError(f"{self.name}: deprecated in {self.since}, it cannot be gone in {self.gone}")

    def __str__(self) -> str:
        return f"{self.name} is deprecated since siperb-core {self.since} and gone in {self.gone}: use {self.instead}"

    def warn(self, stacklevel: int = 2) -> None:
        """Warn whoever is so many calls above."""
        warnings.warn(str(self), DeprecationWarning, stacklevel=stacklevel + 1)


def deprecated(instead: str, *, since: str, gone: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function warn whenever it is called.

    Raises ValueError where it would not stay for one minor version at least.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        notice = Deprecation(function.__qualname__, instead, since, gone)

        @wraps(function)
        def warns(*args: P.args, **kwargs: P.kwargs) -> T:
            notice.warn()
            return function(*args, **kwargs)

        warns.__deprecated__ = str(notice)  # type: ignore[attr-defined]
        return warns

    return decorate
