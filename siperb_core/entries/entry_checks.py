"""What is checked of a `[[connection]]` beyond the types of its keys: patterns, numbers, networks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from siperb_core.entries import fields
from siperb_core.entries.contract import ConnectionType
from siperb_core.entries.model import Entry, Network
from siperb_core.entries.networks import MAX_NETWORKS, is_everything, parse_network
from siperb_core.entries.structure import Structurer, failed
from siperb_core.routing import Did, PatternError, check_replacement, compile_pattern, lost_backslash, shadowed

MAX_DID = 1000
MAX_NAMES = 50
"""DNS names in one `allow_from`: each is asked for again and again."""

_DIALLED = re.compile(r"[0-9A-Za-z+*#._-]*")
_MEND_PATTERN = "write a regular expression without look-around and back-references"
_MEND_REPLACEMENT = r"write digits, +, * and #, and groups as \1"


def check_pattern(pattern: str, path: str, reader: Structurer) -> None:
    """A dial pattern RE2 accepts, and one that was not copied from a page that ate its backslash."""
    try:
        compile_pattern(pattern)
    except PatternError as error:
        reader.wrong(path, f'"{pattern[:60]}" {error}', _MEND_PATTERN)
        return
    meant = lost_backslash(pattern)
    if meant is not None:
        reader.warn(
            path, f"{pattern} may have lost a backslash", f"write '{meant}' in single quotes if digits are meant"
        )


def check_srtp(srtp: str, settings: object, path: str, reader: Structurer) -> None:
    """SDES keys stand in the SDP as they are (RFC 4568): the signalling has to be TLS."""
    transport = getattr(settings, "transport", "tls")
    if srtp == "sdes" and transport != "tls":
        reader.wrong(
            f"{path}.srtp", f'"sdes" would send its keys in the clear over {transport}', 'set transport = "tls"'
        )


def check_rewriting(prefix: str, replace: Sequence[str], path: str, reader: Structurer) -> None:
    """`prefix` and `replace`."""
    if not _DIALLED.fullmatch(prefix) or len(prefix) > 64:
        reader.wrong(f"{path}.prefix", f'"{prefix[:60]}" cannot be dialled', "write digits, +, * and #, at most 64")
    if not replace:
        return
    where = f"{path}.replace"
    if len(replace) != 2:
        mend = "write the pattern and what comes in its place: ['^00', '+']"
        reader.wrong(where, f"has {len(replace)} items", mend)
        return
    pattern, replacement = replace
    try:
        compile_pattern(pattern)
    except PatternError as error:
        reader.wrong(where, f'"{pattern[:60]}" {error}', _MEND_PATTERN)
        return
    try:
        check_replacement(pattern, replacement)
    except PatternError as error:
        reader.wrong(where, f'"{pattern[:60]}" {error}', _MEND_REPLACEMENT)
        return
    if not _DIALLED.fullmatch(re.sub(r"\\[0-9]", "", replacement)):
        reader.wrong(where, f'"{replacement[:60]}" cannot be dialled', _MEND_REPLACEMENT)


def did_table(data: object, path: str, reader: Structurer) -> Did:
    """`[connection.did]`: patterns with the user or the list of users who ring."""
    if not isinstance(data, Mapping):
        reader.wrong(path, "is not a table", "begin it with [connection.did], and write '^1234$' = \"alice\"")
        return ()
    if len(data) > MAX_DID:
        reader.wrong(path, f"has {len(data)} numbers", f"use at most {MAX_DID}, or a pattern for several")
        return ()
    rows = []
    for pattern, rung in data.items():
        where = f'{path}."{pattern[:60]}"'
        check_pattern(pattern, where, reader)
        users = reader.value(tuple[str, ...], [rung] if isinstance(rung, str) else rung, where)
        if failed(users):
            continue
        if not users:
            reader.wrong(where, "rings nobody", "name a user")
        for user in users:
            if not fields.is_name(user):
                reader.wrong(where, f'"{user[:60]}" is not a user', "name one as in users")
        rows.append((pattern, users))
    return tuple(rows)


def check_emergency(numbers: Sequence[str], reader: Structurer) -> None:
    """`gateway.emergency`."""
    for index, number in enumerate(numbers):
        if not number or not _DIALLED.fullmatch(number) or len(number) > 32:
            reader.wrong(f"gateway.emergency[{index}]", f'"{number[:40]}" is not a number', 'write one such as "112"')


def networks_and_names(
    texts: Sequence[str], path: str, reader: Structurer
) -> tuple[tuple[Network, ...], tuple[str, ...]]:
    """`allow_from` taken apart: networks, and DNS names that stand for the addresses behind them."""
    networks: list[Network] = []
    names: list[str] = []
    if len(texts) > MAX_NETWORKS:
        reader.wrong(path, f"has {len(texts)} networks", f"use at most {MAX_NETWORKS}")
        return (), ()
    for index, text in enumerate(texts):
        try:
            networks.append(parse_network(text))
        except ValueError:
            if "." in text and fields.is_host(text):
                names.append(text.lower().rstrip("."))
            else:
                reader.wrong(
                    f"{path}[{index}]",
                    f'"{text[:60]}" is not an address, a network or a DNS name',
                    "write one such as 192.0.2.0/24",
                )
    if len(names) > MAX_NAMES:
        reader.wrong(path, f"has {len(names)} names", f"use at most {MAX_NAMES}, or networks")
    return tuple(networks), tuple(names)


def proxies(texts: Sequence[str], path: str, reader: Structurer) -> tuple[Network, ...]:
    """`trusted_proxies`: networks, and less than everyone; whoever is in them names any address as the client's."""
    networks: list[Network] = []
    if len(texts) > MAX_NETWORKS:
        reader.wrong(path, f"has {len(texts)} networks", f"use at most {MAX_NETWORKS}")
        return ()
    for index, text in enumerate(texts):
        try:
            networks.append(parse_network(text))
        except ValueError:
            wrong = f'"{text[:60]}" is not an address or a network'
            reader.wrong(f"{path}[{index}]", wrong, "write one such as 127.0.0.1 or 10.1.0.0/28")
    if is_everything(networks):
        reader.wrong(path, "trusts everyone", "name only the addresses of your own reverse proxies")
    return tuple(networks)


def check_allow_from(
    texts: Sequence[str], networks: Sequence[Network], path: str, found: ConnectionType, reader: Structurer
) -> None:
    """That the list is there where it has to be, and lets in less than everyone."""
    if not texts:
        reader.wrong(
            f"{path}.allow_from", f"is missing, {found.kind} needs it", "name the addresses the PBX sends from"
        )
    elif is_everything(networks):
        reader.wrong(f"{path}.allow_from", "lets everyone in", "name only the addresses the PBX sends from")


def check_shadowing(connections: Sequence[Entry], reader: Structurer) -> None:
    """Warn of a catch-all before connections that so never get a call."""
    by_name = {entry.name: entry for entry in connections}
    for name, behind in shadowed([entry.route for entry in connections]).items():
        entry = by_name[name]
        shown = ", ".join(behind[:5]) + (f" and {len(behind) - 5} more" if len(behind) > 5 else "")
        reader.connection = name
        reader.warn(
            f"connection.{name}.dial_pattern",
            f"{entry.dial_pattern} with weight {entry.weight} takes every number, so {shown} never gets a call",
            "give it a higher weight than those, or a pattern that begins with ^",
        )
    reader.connection = None
