"""The floor of the signalling benchmark: what a call costs a trio program that only passes its datagrams on.

python bench/sip_floor.py PBX_PORT. Two UDP sockets, one towards softphones and one towards the PBX; whatever comes in
on one leaves by the other, and an INVITE is answered by a datagram of the size of a 100. Nothing is parsed: this is
receiving, waking and sending alone, in the way the gateway does it. Prints `{"pid", "phones"}`; ends at the end of
stdin.
"""

from __future__ import annotations

import json
import os
import socket
import sys

import trio

HOST = "127.0.0.1"
TRYING = b"SIP/2.0 100 Trying\r\n"


def bind() -> socket.socket:
    """A socket on a free port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    sock.setblocking(False)
    return sock


def trying(invite: bytes) -> bytes:
    """The INVITE's own header fields under a status line: as much as a 100 needs, and more."""
    return TRYING + invite[invite.index(b"\r\n") + 2 : invite.index(b"\r\n\r\n")] + b"\r\nContent-Length: 0\r\n\r\n"


async def main(pbx: int) -> None:
    """Run until stdin ends."""
    phones, trunk = bind(), bind()
    caller: tuple[str, int] = (HOST, 9)

    async def towards_pbx() -> None:
        nonlocal caller
        while True:
            await trio.lowlevel.wait_readable(phones)
            try:
                while True:
                    data, caller = phones.recvfrom(65_535)
                    if data.startswith(b"INVITE"):
                        phones.sendto(trying(data), caller)
                    trunk.sendto(data, (HOST, pbx))
            except BlockingIOError:
                pass

    async def towards_phones() -> None:
        while True:
            await trio.lowlevel.wait_readable(trunk)
            try:
                while True:
                    phones.sendto(trunk.recv(65_535), caller)
            except BlockingIOError:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(towards_pbx)
        nursery.start_soon(towards_phones)
        print(json.dumps({"pid": os.getpid(), "phones": phones.getsockname()[1]}), flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
