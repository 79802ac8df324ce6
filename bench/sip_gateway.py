"""The gateway as a process of its own, for the signalling benchmarks (bench/sip.py).

python bench/sip_gateway.py CONFIG [--media]. It is the gateway of `siperb run`, with its SQLite store and its JSON log
on stderr, and differs in two things. It listens on one more UDP port whose datagrams count as a softphone's: the
product lets softphones in by WebSocket only, and a figure beside a UDP proxy needs the same transport on both sides.
And unless `--media` is given its calls have no media session: their SDP passes as it is, as through the proxy it is
compared with.
Prints `{"pid", "udp", "ws", "wss", "phones"}` once it is ready; ends at the end of stdin.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import trio

from siperb_core.gateway import Gateway
from siperb_core.log import configure_log, write_in_batches
from siperb_core.process import raise_descriptor_limit, settle_collector
from siperb_core.transport.contract import Receiver
from siperb_core.transport.udp import SOCKET_BUFFER, UdpFlow, UdpListener

HOST = "127.0.0.1"


class PhoneFlow(UdpFlow):
    """A softphone behind UDP. To admission it is a WebSocket; to the transaction layer it is unreliable, as UDP is."""

    __slots__ = ()

    transport = "ws"


class PhoneListener(UdpListener):
    """A UDP socket for softphones."""

    def _flow(self, sockaddr: tuple[Any, ...]) -> UdpFlow:
        flow = self._flows.get(sockaddr)
        if flow is None:
            flow = self._flows[sockaddr] = PhoneFlow(self, sockaddr)
        return flow


async def listen_to_phones(receiver: Receiver, *, task_status: trio.TaskStatus[int]) -> None:
    """Serve softphones on a free UDP port, which is reported."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
        listener = PhoneListener(sock, receiver, None)
        task_status.started(listener.local[1])
        await listener.serve()


class PassthroughGateway(Gateway):
    """A gateway that carries signalling alone."""

    def open_media(self, *arguments: object) -> None:
        """No media session, whatever the connection's policy says: SDP passes untouched."""


async def main(config: Path, *, media: bool) -> None:
    """Run until stdin ends."""
    gateway = (Gateway if media else PassthroughGateway)(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_in_batches)
        await nursery.start(gateway.run)
        await gateway.wait_settled()
        settle_collector()
        phones = await nursery.start(listen_to_phones, gateway.signalling)
        ports = {name: listeners[0].local[1] for name, listeners in gateway.listeners.items()}
        print(json.dumps({"pid": os.getpid(), "phones": phones, **ports}), flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        gateway.stop(drain_seconds=0)
        await gateway.stopped.wait()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    raise_descriptor_limit()
    configure_log()
    trio.run(lambda: main(Path(sys.argv[1]), media="--media" in sys.argv))  # type: ignore[arg-type, misc]
