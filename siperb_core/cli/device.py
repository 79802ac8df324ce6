"""`siperb device ...`: edit softphones in the configuration file, and give them out."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from siperb_core.cli.connection import finish, open_file, random_token, save
from siperb_core.cli.output import FINE, USAGE, CommandError, print_json
from siperb_core.cli.setup import DEFAULT_CONFIG, ConfigOption, JsonOption, ask
from siperb_core.entries.editing import EditError

_PASSWORD_LENGTH = 20


def add(
    name: str,
    *,
    user: Annotated[str | None, Parameter(help="The user who owns it; its own name when left out.")] = None,
    password: Annotated[str | None, Parameter(help="Generated and shown when left out; - reads it from stdin.")] = None,
    password_env: Annotated[str | None, Parameter(help="Take it from this environment variable.")] = None,
    password_file: Annotated[str | None, Parameter(help="Take it from this file.")] = None,
    mode: Literal["proxy", "websocket"] = "proxy",
    config: ConfigOption = DEFAULT_CONFIG,
) -> int:
    """Add a softphone."""
    if sum(given is not None for given in (password, password_env, password_file)) > 1:
        raise CommandError("more than one password is given: name one", USAGE)
    secret: Any
    if password_env is not None:
        secret = {"env": password_env}
    elif password_file is not None:
        secret = {"file": password_file}
    elif password == "-":
        secret = sys.stdin.readline().rstrip("\r\n")
    else:
        secret = password or random_token(_PASSWORD_LENGTH)
    values: dict[str, Any] = {"name": name, "user": user or name, "password": secret}
    if mode != "proxy":
        values["mode"] = mode
    file, _ = open_file(config)
    try:
        file.add("device", values)
    except EditError as error:
        raise CommandError(str(error), USAGE) from error
    save(file, config, private=isinstance(secret, str))
    if password is None and isinstance(secret, str):
        print(f"password={secret}")
    return finish(config, f"device {name} added")


def remove(name: str, *, config: ConfigOption = DEFAULT_CONFIG) -> int:
    """Remove a softphone."""
    file, _ = open_file(config)
    try:
        file.remove("device", name)
    except EditError as error:
        raise CommandError(str(error), USAGE) from error
    save(file, config)
    return finish(config, f"device {name} removed")


def link(name: str, *, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> int:
    """Print the provisioning address of a softphone, and its QR code."""
    result: dict[str, Any] = ask(config, "device.link", {"name": name})
    if json:
        print_json(result)
        return FINE
    import segno

    print(result["url"])
    segno.make(result["url"], error="m").terminal(compact=True)
    return FINE
