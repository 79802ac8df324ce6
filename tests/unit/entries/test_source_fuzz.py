"""Whatever TOML the file holds, reading it gives a configuration or problems, and never an exception."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.entries.model import GatewayConfig, routes_of
from siperb_core.entries.source import load_text
from siperb_core.plugins import load_plugins
from siperb_core.routing import explain

TYPES = load_plugins().connection_types

SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["udp", "0.0.0.0:5060", "[::1]:5061", "*", "office", ".", "(", "192.0.2.0/24", "::/0", "INVITE"]),
    st.sampled_from([*TYPES, "proxy", "passthrough", "opus-first", "G722", "pbx.example.com", "12345678"]),
)
KEYS = st.one_of(
    st.sampled_from(
        [
            "domain",
            "data_dir",
            "transport",
            "bind",
            "path",
            "origins",
            "ports",
            "workers",
            "disable",
            "name",
            "user",
            "password",
            "type",
            "enabled",
            "users",
            "weight",
            "dial_pattern",
            "methods",
            "allow_from",
            "failover",
            "media",
            "codecs",
            "version",
            "settings",
            "server",
            "port",
            "username",
            "expires",
            "env",
            "file",
        ]
    ),
    st.text(max_size=5),
)
VALUES: Any = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=4,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=4)
SECTIONS = st.fixed_dictionaries(
    {"gateway": st.one_of(TABLES, st.just({"domain": "sip.example.net"}))},
    optional={
        "listen": st.lists(TABLES, max_size=2),
        "media": TABLES,
        "plugins": TABLES,
        "device": st.lists(TABLES, max_size=3),
        "connection": st.lists(
            st.builds(
                lambda table, kind, name: {**table, "type": kind, "name": name}, TABLES, st.sampled_from([*TYPES]), KEYS
            ),
            max_size=3,
        ),
        "other": VALUES,
    },
)


@given(SECTIONS)
def test_reading_never_raises(document: dict[str, Any]) -> None:
    result = load_text(tomlkit.dumps(document).encode("utf-8", "surrogatepass"), Path("siperb.toml"), TYPES)
    assert result.config is not None or result.problems
    for problem in (*result.problems, *result.warnings):
        assert str(problem).isprintable()
        assert problem.mend
    if isinstance(result.config, GatewayConfig):
        explain(routes_of(result.config), "600")


@given(st.binary(max_size=200))
def test_octets_never_raise(data: bytes) -> None:
    load_text(data, Path("siperb.toml"), TYPES)
