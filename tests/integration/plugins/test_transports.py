"""The core's own transports keep to the contract of transports, which is the one third parties are held to."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio

from siperb_core import Listen
from siperb_core.testing import check_transport, datagram_peer, stream_peer, tls_peer, websocket_peer
from siperb_core.testing.conformance_purity import NotConformant
from siperb_core.testing.conformance_transport import PeerMaker
from siperb_core.transport import TRANSPORTS

from ..transport.certificates import write_certificate

BY_NAME = {transport.name: transport for transport in TRANSPORTS}


@pytest.mark.parametrize(("name", "dial"), [("udp", datagram_peer), ("tcp", stream_peer), ("ws", websocket_peer)])
async def test_it_is_a_transport_type(name: str, dial: PeerMaker) -> None:
    with trio.fail_after(120):
        await check_transport(BY_NAME[name], dial)


async def test_tls_is_a_transport_type(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "localhost")
    context = ssl.create_default_context(cafile=certificate)
    listen = Listen("tls", ("127.0.0.1", 0), certificate=certificate, key=key)
    with trio.fail_after(120):
        await check_transport(BY_NAME["tls"], tls_peer(context, "localhost"), listen=listen)


class Deaf:
    """Listens and delivers nothing."""

    name = "tcp"

    async def listen(self, config, receiver, *, external_address, task_status) -> None:  # type: ignore[no-untyped-def]
        class Silent:
            def received(self, data: bytes, flow: object) -> None: ...

            def closed(self, flow: object, reason: str) -> None: ...

        await BY_NAME["tcp"].listen(config, Silent(), external_address=None, task_status=task_status)


async def test_one_that_delivers_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siperb_core.testing.conformance_transport.PATIENCE", 0.5)
    with pytest.RaisesGroup(pytest.RaisesExc(NotConformant, match="does not arrive"), flatten_subgroups=True):
        await check_transport(Deaf(), stream_peer)
