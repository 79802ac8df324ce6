"""What a plugin may add beside calls and services: control methods, HTTP routes, commands. Plain data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs


@attrs.frozen
class HttpRequest:
    """A request to a plugin's route. `parameters` are those of the path, `query` those behind the `?`; the names of
    headers are in lower case.
    """

    method: str
    path: str
    parameters: Mapping[str, str] = attrs.field(factory=dict)
    query: Mapping[str, str] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    body: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen
class HttpResponse:
    """The answer of a plugin's route; the server adds its security headers."""

    body: bytes | str = ""
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class HttpRoute:
    """A path of the gateway's HTTP server (plugin `console`): `/api/v1/things/{name}`."""

    path: str
    answer: Callable[[HttpRequest], Awaitable[HttpResponse]]
    methods: tuple[str, ...] = ("GET",)


@attrs.frozen
class Command:
    """A command of the command line, `siperb NAME`; of two words, `show things`, it stands below the core's `show`,
    `plugins`, `connection` or `device`. `siperb_core.cli` has what commands are made with.

    `function` is annotated as cyclopts wants it, or `module:function`, which is imported when the command is called. It
    returns the exit status, or None for 0.
    """

    name: str
    function: Callable[..., Any] | str
    help: str = ""


ControlMethod = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Answers one method of the control socket: parameters by name in, JSON values out. Raises `ControlError`."""
