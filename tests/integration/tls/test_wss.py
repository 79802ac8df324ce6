"""A softphone over WSS, at the gateway as it comes out of the contract's configuration."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio

from siperb_core.gateway import Gateway
from siperb_core.testing.gateway import address, open_gateway
from siperb_core.testing.pbx import PbxSettings, open_pbx
from siperb_core.testing.softphone import Softphone, open_softphone

from .authority import Authority
from .peers import TONE, TRUNK

HEAD = """\
[gateway]
domain = "gw.example"
data_dir = "data"

[[listen]]
transport = "udp"
bind = "127.0.0.1:0"

[[listen]]
transport = "wss"
bind = "127.0.0.1:0"
path = "/ws"
certificate = "{}"
key = "{}"

[media]
workers = 1

[[device]]
name = "alice-web"
user = "alice"
password = "alice-secret"
"""


def phone_of(gateway: Gateway, ca: Path, **settings: str):  # type: ignore[no-untyped-def]
    context = ssl.create_default_context(cafile=str(ca))
    url = "wss://{}:{}/ws".format(*address(gateway, "wss"))
    return open_softphone(url, "alice-web", gateway.domain, "alice-secret", ssl_context=context, **settings)


async def calls(phone: Softphone) -> None:
    call = await phone.call("601")
    await call.answered()
    await call.hears(TONE)
    await call.hangup()


async def test_a_call_over_wss_and_a_certificate_replaced_while_it_lasts(tmp_path: Path) -> None:
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    files = first.issue("127.0.0.1", stem="wss")
    async with open_pbx(PbxSettings()) as pbx:
        text = TRUNK.format(server="127.0.0.1", port=pbx.local[1], transport="udp", more="")
        async with open_gateway(tmp_path, text, head=HEAD.format(*files)) as gateway:
            with trio.fail_after(60):
                async with phone_of(gateway, first.ca) as phone:
                    await calls(phone)
                    assert second.issue("127.0.0.1", stem="wss") == files
                    async with phone_of(gateway, second.ca) as other:
                        await calls(other)
                    await calls(phone)
                # The old one is not shown to anybody any more.
                context = ssl.create_default_context(cafile=str(first.ca))
                async with await trio.open_tcp_stream(*address(gateway, "wss")) as tcp:
                    with pytest.raises(trio.BrokenResourceError) as refused:
                        await trio.SSLStream(tcp, context, server_hostname="127.0.0.1").do_handshake()
                assert isinstance(refused.value.__cause__, ssl.SSLCertVerificationError)


@pytest.mark.parametrize(
    ("origin", "subprotocol", "path", "answer"),
    [
        ("", "sip", "/ws", 101),
        ("https://127.0.0.1:{port}", "sip", "/ws", 101),
        ("https://phone.example.net", "sip", "/ws", 403),
        ("", "chat", "/ws", 400),
        ("", "sip", "/other", 404),
    ],
)
async def test_the_contract_s_defaults_over_the_wire(
    tmp_path: Path, origin: str, subprotocol: str, path: str, answer: int
) -> None:
    authority = Authority(tmp_path)
    async with open_gateway(tmp_path, head=HEAD.format(*authority.issue("127.0.0.1"))) as gateway:
        host, port = address(gateway, "wss")
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            f"Sec-WebSocket-Protocol: {subprotocol}",
            *([f"Origin: {origin.format(port=port)}"] if origin else []),
        ]
        context = ssl.create_default_context(cafile=str(authority.ca))
        with trio.fail_after(20):
            tcp = await trio.open_tcp_stream(host, port)
            async with trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True) as stream:
                await stream.send_all("\r\n".join([*lines, "", ""]).encode())
                assert int((await stream.receive_some(1000)).split()[1]) == answer


async def test_tls_1_1_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with open_gateway(tmp_path, head=HEAD.format(*authority.issue("127.0.0.1"))) as gateway:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authority.ca)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        tcp = await trio.open_tcp_stream(*address(gateway, "wss"))
        stream = trio.SSLStream(tcp, context, server_hostname="127.0.0.1")
        with trio.fail_after(20), pytest.raises(trio.BrokenResourceError):
            await stream.do_handshake()
        await trio.aclose_forcefully(tcp)
