"""UDP: what is sent arrives, what is no message does not, and nothing a stranger sends hurts."""

from __future__ import annotations

import os
import random
import socket

import pytest
import trio

from siperb_core.transport.udp import UdpListener, UdpTransport

from .ends import Inbox, listening

MESSAGE = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP c\r\n\r\n"


async def peer(host: str = "127.0.0.1") -> trio.socket.SocketType:
    sock = trio.socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    await sock.bind((host, 0))
    return sock


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_both_ends_hear_each_other(inbox: Inbox, host: str) -> None:
    async with listening(UdpTransport(), inbox, host=host) as listener:
        with await peer(host) as sock:
            await sock.sendto(MESSAGE, listener.local)
            data, flow = await inbox.message()
            assert data == MESSAGE
            assert flow.transport == "udp"
            assert not flow.reliable
            assert flow.remote == sock.getsockname()[:2]
            assert flow.local == listener.local
            flow.send(b"answer")
            answer, source = await sock.recvfrom(100)
            assert (answer, source[:2]) == (b"answer", listener.local)
            assert listener.flow_to(*flow.remote) == flow
            assert flow.sent_by == (f"[{host}]" if ":" in host else host) + f":{listener.local[1]}"


async def test_flows_are_equal_by_path(inbox: Inbox) -> None:
    async with listening(UdpTransport(), inbox) as one, listening(UdpTransport(), inbox) as other:
        flow = one.flow_to("127.0.0.1", 5060)
        assert flow == one.flow_to("127.0.0.1", 5060)
        assert hash(flow) == hash(one.flow_to("127.0.0.1", 5060))
        assert flow != one.flow_to("127.0.0.1", 5061)
        assert flow != other.flow_to("127.0.0.1", 5060)
        for port in range(1, 20_000):
            one.flow_to("127.0.0.1", port)
        assert len(one._flows) <= 16_384
        again = one.flow_to("127.0.0.1", 5060)
        assert (again == flow, hash(again) == hash(flow)) == (True, True)


async def test_own_address_is_the_interfaces_or_the_external_one(inbox: Inbox) -> None:
    async with listening(UdpTransport(), inbox, host="0.0.0.0") as listener:
        port = listener.local[1]
        flow = listener.flow_to("127.0.0.1", 9)
        assert flow.local == ("127.0.0.1", port)
        assert flow.sent_by == f"127.0.0.1:{port}"
    async with listening(UdpTransport(), inbox, host="0.0.0.0", external="203.0.113.5") as listener:
        flow = listener.flow_to("127.0.0.1", 9)
        assert flow.sent_by == f"203.0.113.5:{listener.local[1]}"
        assert flow.local == ("127.0.0.1", listener.local[1])
    async with listening(UdpTransport(), inbox, host="::1", external="203.0.113.5") as listener:
        assert listener.flow_to("::1", 9).sent_by == f"[::1]:{listener.local[1]}"


async def test_keep_alives_and_stun_are_not_messages(inbox: Inbox) -> None:
    stun = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)
    async with listening(UdpTransport(), inbox) as listener:
        with await peer() as sock:
            for junk in (b"", b"\r\n\r\n", b"\r\n", b"\0\0\0\0", b"jaK", b" ", stun, stun * 3, b"\r\n" * 300):
                await sock.sendto(junk, listener.local)
            await sock.sendto(b"\r\n\r\n" + MESSAGE, listener.local)
            assert (await inbox.message())[0] == MESSAGE
            assert inbox.empty


async def test_garbage_and_a_failing_receiver_do_not_hurt(inbox: Inbox) -> None:
    class Failing(Inbox):
        def received(self, data: bytes, flow: object) -> None:
            super().received(data, flow)
            if data == b"what the receiver fails at":
                raise ValueError("a bug in the receiver")

    failing = Failing()
    chance = random.Random(1)
    async with listening(UdpTransport(), failing) as listener:
        with await peer() as sock:
            for _ in range(300):
                await sock.sendto(chance.randbytes(chance.randrange(0, 1500)), listener.local)
            await sock.sendto(os.urandom(65_507), listener.local)
            await sock.sendto(b"what the receiver fails at", listener.local)
            await sock.sendto(MESSAGE, listener.local)
            while (await failing.message())[0] != MESSAGE:
                pass


async def test_the_biggest_datagram_arrives_whole(inbox: Inbox) -> None:
    big = b"MESSAGE" + bytes(65_500)
    async with listening(UdpTransport(), inbox) as one, listening(UdpTransport(), Inbox()) as other:
        other.flow_to(*one.local).send(big)
        assert (await inbox.message())[0] == big
        with pytest.raises(OSError, match="too long"):
            other.flow_to(*one.local).send(big + b"x")


async def test_names_and_the_other_family_are_refused(inbox: Inbox) -> None:
    async with listening(UdpTransport(), inbox) as listener:
        with pytest.raises(ValueError, match="pbx"):
            listener.flow_to("pbx.example.com", 5060)
        with pytest.raises(ValueError, match="IPv6"):
            listener.flow_to("::1", 5060)


async def test_a_dead_peer_does_not_stop_the_socket(inbox: Inbox) -> None:
    async with listening(UdpTransport(), inbox) as listener:
        with await peer() as gone:
            address = gone.getsockname()
        flow = listener.flow_to(*address)
        for _ in range(5):
            flow.send(MESSAGE)
        with await peer() as sock:
            await sock.sendto(MESSAGE, listener.local)
            assert (await inbox.message())[0] == MESSAGE


async def test_a_taken_port_is_said_clearly(inbox: Inbox) -> None:
    async with listening(UdpTransport(), inbox) as listener:
        port = listener.local[1]

        class Fixed:
            bind = ("127.0.0.1", port)

        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
            await UdpTransport().listen(Fixed(), inbox, external_address=None, task_status=trio.TASK_STATUS_IGNORED)


class FullSocket:
    """A real socket whose send buffer is full until told otherwise."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.full = True

    def sendto(self, data: bytes, address: object) -> int:
        if self.full:
            raise BlockingIOError
        return self._sock.sendto(data, address)

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)


async def test_what_does_not_fit_is_sent_later_in_order_and_in_bounds(inbox: Inbox) -> None:
    with (
        await peer() as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as real,
    ):
        real.bind(("127.0.0.1", 0))
        full = FullSocket(real)
        listener = UdpListener(full, inbox, None)
        flow = listener.flow_to(*sock.getsockname())
        for number in range(100):
            flow.send(b"%d" % number)
        full.full = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener._flush)
            for number in range(100):
                assert await sock.recv(100) == b"%d" % number
            flow.send(b"direct")
            assert await sock.recv(100) == b"direct"
            nursery.cancel_scope.cancel()
        full.full = True
        for _ in range(5000):
            flow.send(b"more than is kept")
        assert len(listener._queue) == 512
