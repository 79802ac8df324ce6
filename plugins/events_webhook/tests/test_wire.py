"""POSTs over loopback to a real HTTP/1.1 server: TLS, connections, and receivers that misbehave."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from siperb_core import Secret
from siperb_events_webhook import WebhookConfig
from siperb_events_webhook.sender import Sender


def certificate(folder: Path) -> Path:
    """For 127.0.0.1, signed by itself; certificate and key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "receiver.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


async def test_tls_is_verified_against_the_ca_that_is_named(
    nursery: trio.Nursery, webhook: Any, receiver: Any, tmp_path: Path
) -> None:
    pem = certificate(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pem)
    with trio.fail_after(60):
        async with receiver().listening(tls=server) as taker:
            stranger = webhook(taker)
            await nursery.start(stranger.run)
            stranger.ring(1)
            await stranger.has_failed()
            assert stranger.status["last_error"].startswith("its certificate is not trusted")
            await stranger.stop()
            assert taker.posts == []

            friend = webhook(taker, ca=str(pem))
            await nursery.start(friend.run)
            friend.ring(2)
            (post,) = await taker.took(1)
            assert post.is_genuine()
            await friend.stop()


async def test_one_connection_carries_them_all(nursery: trio.Nursery, webhook: Any, receiver: Any) -> None:
    with trio.fail_after(60):
        async with receiver().listening() as taker:
            hook = webhook(taker)
            await nursery.start(hook.run)
            hook.ring(*range(20))
            await taker.took(20)
            assert hook.numbers() == list(range(20))
            assert taker.connections == 1
            await hook.stop()


async def test_a_receiver_that_is_not_there_yet_gets_everything_in_order(
    nursery: trio.Nursery, webhook: Any, receiver: Any
) -> None:
    with trio.fail_after(60):
        taker = receiver()
        async with taker.listening():
            port = int(taker.url.rpartition(":")[2].partition("/")[0])
        hook = webhook(taker)
        await nursery.start(hook.run)
        hook.ring(1, 2, 3)
        await hook.has_failed()
        assert hook.status["last_error"] == "Connection refused"
        async with taker.listening(port):
            await taker.took(3)
            assert hook.numbers() == [1, 2, 3]
            await hook.stop()


async def answering(stream: trio.SocketStream, *data: bytes, then: Callable[[], Any] | None = None) -> None:
    """Whatever is asked, these octets."""
    await stream.receive_some()
    for octets in data:
        await stream.send_all(octets)
    if then is not None:
        await then()
    await stream.aclose()


BAD = {
    "hangs up": [],
    "no HTTP": [b"SIP/2.0 200 OK\r\n\r\n"],
    "half an answer": [b"HTTP/1.1 200 OK\r\nContent-Le"],
    "endless headers": [b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 30_000],
    "two lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"],
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
async def test_nonsense_is_tried_again(nursery: trio.Nursery, data: list[bytes]) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        try:
            await answering(stream, *data)
        except trio.BrokenResourceError:
            pass  # it was not worth reading to its end

    with trio.fail_after(60):
        result = await posted(nursery, serve, 30)
    assert (result.delivered, result.retry) == (False, True)
    assert result.reason
    assert "a-token" not in result.reason


async def posted(nursery: trio.Nursery, serve: Any, timeout: float, times: int = 1) -> Any:
    """What becomes of a POST to such a server."""
    (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/a-token"
    with attrs.validators.disabled():  # quicker than an administrator may have it
        config = WebhookConfig(Secret(url), Secret("0123456789abcdef"), timeout=timeout)
    async with Sender(config) as sender:
        for _ in range(times):
            result = await sender.post(b"{}", {}, 0.0)
    nursery.cancel_scope.cancel()
    return result


async def test_silence_again_and_again_uses_nothing_up(nursery: trio.Nursery) -> None:
    asked = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal asked
        asked += 1
        if asked < 6:
            await answering(stream, then=trio.sleep_forever)
        await answering(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with trio.fail_after(60):
        result = await posted(nursery, serve, 0.2, times=6)
    assert result.delivered
    assert asked == 6


@pytest.mark.parametrize("chunk", [b"", b"1\r\nx\r\n", b"ffff\r\n" + b"x" * 65535 + b"\r\n"])
async def test_the_status_counts_whatever_follows(nursery: trio.Nursery, chunk: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async def more() -> None:
            try:
                while True:
                    await stream.send_all(chunk)
                    await trio.sleep(0.01)
            except trio.BrokenResourceError:
                pass

        await answering(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", then=more)

    with trio.fail_after(60):
        result = await posted(nursery, serve, 1.0)
    assert result.delivered
