"""`trusted_proxies`: for all WebSockets under [gateway], for one under its [[listen]]."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from siperb_core.entries.source import LoadResult, load_text


def read(gateway: str = "", listen: str = "") -> LoadResult:
    text = f'[gateway]\ndomain = "a.example"\n{gateway}\n[[listen]]\ntransport = "ws"\nbind = "127.0.0.1:0"\n{listen}\n'
    return load_text(text.encode(), Path("siperb.toml"), {}, private=True)


def test_the_gateways_count_unless_the_listener_has_its_own() -> None:
    everywhere = 'trusted_proxies = ["10.0.0.0/24", "::1"]'
    for listen, proxies in (
        ("", (ip_network("10.0.0.0/24"), ip_network("::1/128"))),
        ('trusted_proxies = ["192.0.2.1"]', (ip_network("192.0.2.1/32"),)),
        ("trusted_proxies = []", ()),
    ):
        result = read(everywhere, listen)
        assert not result.problems
        assert result.config is not None
        assert result.config.listen[0].trusted_proxies == proxies
    nobody = read().config
    assert nobody is not None
    assert (nobody.gateway.trusted_proxies, nobody.listen[0].trusted_proxies) == ((), ())


@pytest.mark.parametrize(
    "value",
    ['["0.0.0.0/0"]', '["::/0"]', '["0.0.0.0/1", "128.0.0.0/1"]', '["proxy.example"]', '["10.0.0.0/33"]', "[1]"],
)
@pytest.mark.parametrize("where", ["gateway", "listen[0]"])
def test_mistakes(value: str, where: str) -> None:
    key = f"trusted_proxies = {value}"
    result = read(key) if where == "gateway" else read(listen=key)
    assert result.config is None
    assert [problem.path.startswith(f"{where}.trusted_proxies") for problem in result.problems] == [True]
