"""TCP and TLS: messages in any chunking, connections shared, failures told."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from siperb_core.sip import parse
from siperb_core.transport import stream as stream_module
from siperb_core.transport.contract import TlsOptions, vouch
from siperb_core.transport.stream import StreamTransport

from .certificates import write_certificate
from .ends import Gatekeeper, Inbox, listening

TCP, TLS = StreamTransport("tcp"), StreamTransport("tls")
HEAD = (
    b"Via: SIP/2.0/TCP c;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n"
)
MESSAGE = b"OPTIONS sip:a@b SIP/2.0\r\n" + HEAD + b"Content-Length: 0\r\n\r\n"


def with_body(body: bytes) -> bytes:
    return b"MESSAGE sip:a@b SIP/2.0\r\n" + HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def test_both_ends_hear_each_other(inbox: Inbox) -> None:
    other = Inbox()
    async with listening(TCP, inbox) as one, listening(TCP, other) as two:
        out = two.flow_to(*one.local)
        out.send(MESSAGE)
        out.send(with_body(b"second"))
        data, back = await inbox.message()
        assert data == MESSAGE
        assert (await inbox.message())[0] == with_body(b"second")
        assert (back.transport, back.reliable, back.remote) == ("tcp", True, out.local)
        assert (out.remote, back.local) == (one.local, one.local)
        # Via names the listening port, whichever end opened the connection.
        assert out.sent_by == "{}:{}".format(*two.local)
        assert back.sent_by == "{}:{}".format(*one.local)
        back.send(MESSAGE)
        assert await other.message() == (MESSAGE, out)
        # One connection per remote address; one that came in once somebody has vouched for it.
        assert two.flow_to(*one.local) is out
        vouch(back)
        assert one.flow_to(*back.remote) is back


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.data())
async def test_any_chunking_gives_the_same_messages(bodies: list[bytes], data: st.DataObject) -> None:
    inbox = Inbox()
    messages = [with_body(body) for body in bodies]
    octets = b"\r\n\r\n".join(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=12)))
    async with listening(TCP, inbox) as listener, await trio.open_tcp_stream(*listener.local) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, stop in zip([0, *cuts], [*cuts, len(octets)], strict=True):
            await stream.send_all(octets[start:stop])
            await trio.lowlevel.checkpoint()
        assert [(await inbox.message())[0] for _ in messages] == messages
        # Each ping between them got its pong.
        pongs = b""
        while len(pongs) < 2 * (len(messages) - 1):
            pongs += await stream.receive_some()
        assert pongs == b"\r\n" * (len(messages) - 1)
        assert inbox.empty


async def test_what_is_not_sip_is_answered_where_possible_and_ends_its_connection(inbox: Inbox) -> None:
    async with listening(TCP, inbox) as listener, await trio.open_tcp_stream(*listener.local) as good:
        for junk, answered in (
            (b"\x16\x03\x01" + bytes(100) + b"\r\n\r\n" + b"x" * 300_000, False),
            (b"x" * 200_000, False),
            (b"MESSAGE sip:a@b SIP/2.0\r\n" + HEAD + b"Content-Length: -1\r\n\r\n", True),
            (b"MESSAGE sip:a@b SIP/2.0\r\n" + HEAD + b"Content-Length: 99999999\r\n\r\n", True),
        ):
            async with await trio.open_tcp_stream(*listener.local) as bad:
                answer = b""
                try:
                    await bad.send_all(junk)
                    async for chunk in bad:
                        answer += chunk
                except trio.BrokenResourceError:
                    pass
                assert (parse(answer).status in (400, 413)) if answered else answer == b""
        await good.send_all(MESSAGE)
        while (await inbox._receive.receive())[0] != MESSAGE:
            pass


async def test_a_refused_connection_is_told_and_the_next_try_is_a_new_one(inbox: Inbox) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
        async with listening(TCP, inbox) as listener:
            flow = listener.flow_to(*address)
            flow.send(MESSAGE)
            assert await inbox.end() == (flow, "Connection refused")
            with pytest.raises(OSError, match="Connection refused"):
                flow.send(MESSAGE)
            again = listener.flow_to(*address)
            assert again is not flow
            assert (await inbox.end())[0] is again


async def test_a_peer_that_never_answers_is_given_up_after_4_s(
    inbox: Inbox, autojump_clock: trio.testing.MockClock
) -> None:
    async with AsyncExitStack() as stack:
        # A listening socket with a full backlog drops what comes.
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        listener = await stack.enter_async_context(listening(TCP, inbox))
        flow = listener.flow_to(*deaf.getsockname())
        flow.send(MESSAGE)
        start = trio.current_time()
        assert await inbox.end() == (flow, "no connection within 4 s")
        assert trio.current_time() - start == pytest.approx(4.0)


async def test_what_waits_for_a_connection_is_bounded(inbox: Inbox) -> None:
    async with listening(TCP, inbox) as one, listening(TCP, Inbox()) as two:
        flow = two.flow_to(*one.local)
        with pytest.raises(OSError, match="does not read"):
            while True:
                flow.send(with_body(bytes(10_000)))


async def test_the_end_of_a_connection_is_told_on_both_sides(inbox: Inbox) -> None:
    other = Inbox()
    async with listening(TCP, inbox) as one:
        async with listening(TCP, other) as two:
            out = two.flow_to(*one.local)
            out.send(MESSAGE)
            _, back = await inbox.message()
        assert await other.end() == (out, "the listener was stopped")
        assert await inbox.end() == (back, "connection closed by the peer")
        with pytest.raises(OSError):
            back.send(MESSAGE)
        assert one._flows == set()
        assert one._shared == {}


async def test_stuck_and_idle_connections_end(inbox: Inbox, autojump_clock: trio.testing.MockClock) -> None:
    async with listening(TCP, inbox) as listener:
        for octets in (b"", b"OPTIONS sip:a@b SIP/2.0\r\n"):
            async with await trio.open_tcp_stream(*listener.local) as stream:
                start = trio.current_time()
                await stream.send_all(octets)
                assert await stream.receive_some() == b""
                assert 30 <= trio.current_time() - start <= 36
                assert (await inbox.end())[1] == "no whole message within 30 s"
        async with await trio.open_tcp_stream(*listener.local) as stream:
            await stream.send_all(MESSAGE)
            start = trio.current_time()
            assert await stream.receive_some() == b""
            assert trio.current_time() - start >= 7200


async def test_connections_we_opened_are_kept_alive(inbox: Inbox, autojump_clock: trio.testing.MockClock) -> None:
    with trio.socket.socket() as server:
        await server.bind(("127.0.0.1", 0))
        server.listen()
        async with listening(TCP, inbox) as listener:
            flow = listener.flow_to(*server.getsockname())
            flow.send(MESSAGE)
            accepted, _ = await server.accept()
            with accepted:
                assert await accepted.recv(1000) == MESSAGE
                start = trio.current_time()
                assert await accepted.recv(1000) == b"\r\n\r\n"
                assert 60 <= trio.current_time() - start <= 66
                await accepted.send(b"\r\n" + MESSAGE)
                assert await inbox.message() == (MESSAGE, flow)


async def test_strangers_cannot_take_the_place_of_peers_or_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MAX_STRANGERS", 16)
    monkeypatch.setattr(stream_module, "MAX_CONNECTIONS", 1)
    inbox = Gatekeeper(MESSAGE)
    async with listening(TCP, inbox) as listener, await trio.open_tcp_stream(*listener.local) as peer:
        await peer.send_all(MESSAGE)
        await inbox.message()
        async with AsyncExitStack() as stack:
            strangers = [
                await stack.enter_async_context(await trio.open_tcp_stream(*listener.local)) for _ in range(40)
            ]
            for stranger in strangers[:24]:
                assert await stranger.receive_some() == b"", "the oldest one goes"
            for end in (peer, strangers[-1]):
                await end.send_all(with_body(b"here"))
                while (await inbox._receive.receive())[0] != with_body(b"here"):
                    pass
            assert listener.door.strangers == 16
            out = listener.flow_to(*listener.local)
            out.send(with_body(b"ours"))
            while (await inbox._receive.receive())[0] != with_body(b"ours"):
                pass
            with pytest.raises(OSError, match="connections are open"):
                listener.flow_to("127.0.0.1", 9)


async def test_who_is_no_peer_is_sent_away(autojump_clock: trio.testing.MockClock) -> None:
    inbox = Gatekeeper(MESSAGE)
    async with listening(TCP, inbox) as listener, await trio.open_tcp_stream(*listener.local) as peer:
        async with await trio.open_tcp_stream(*listener.local) as stranger:
            start = trio.current_time()
            await peer.send_all(MESSAGE)
            await stranger.send_all(with_body(b"no proof"))
            assert await stranger.receive_some() == b""
            assert 32 <= trio.current_time() - start <= 38
        while (await inbox._receive.receive())[0] is not None:
            pass
        await peer.send_all(with_body(b"still here"))
        assert (await inbox.message())[0] == with_body(b"still here")
        assert inbox.noted == [("not_signed_in", "connection.not_signed_in")]


async def test_a_strangers_flood_costs_its_connection_and_a_peer_may_be_busy() -> None:
    inbox = Gatekeeper(MESSAGE)
    async with listening(TCP, inbox) as listener, await trio.open_tcp_stream(*listener.local) as peer:
        async with await trio.open_tcp_stream(*listener.local) as stranger:
            try:
                await stranger.send_all(with_body(b"x") * 1000)
                while await stranger.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
        assert inbox.count <= 300
        assert inbox.noted == [("flood", "transport.flood")]
        await peer.send_all(MESSAGE + with_body(b"x") * 1000 + with_body(b"last"))
        while (await inbox._receive.receive())[0] != with_body(b"last"):
            pass


async def test_a_body_beyond_the_bound_is_answered_413(inbox: Inbox) -> None:
    async with listening(TCP, inbox) as listener, await trio.open_tcp_stream(*listener.local) as stream:
        await stream.send_all(with_body(b"x" * (256 * 1024)))
        await inbox.message()
        await stream.send_all(with_body(b"x" * (256 * 1024 + 1)))
        answer = b""
        async for chunk in stream:
            answer += chunk
        assert parse(answer).status == 413


async def test_a_strangers_connection_is_not_used_for_its_address() -> None:
    """RFC 5923 section 9: behind one NAT he may come from the PBX's address and port."""
    inbox = Gatekeeper(MESSAGE)
    async with listening(TCP, inbox) as listener, await trio.open_tcp_stream(*listener.local) as stranger:
        alias = b"Via: SIP/2.0/TCP 127.0.0.1:9;alias;branch=z9hG4bK1\r\n"
        await stranger.send_all(with_body(b"1").replace(b"Via: SIP/2.0/TCP c;branch=z9hG4bK1\r\n", alias))
        _, flow = await inbox.message()
        assert listener._shared == {}
        other = listener.flow_to(*flow.remote)
        assert other is not flow, "a connection of our own"
        other.end("refused, most likely")
        await stranger.send_all(MESSAGE)
        while (got := await inbox._receive.receive())[0] != MESSAGE:
            pass
        assert got[1] is flow
        await trio.testing.wait_all_tasks_blocked()
        listener.share(flow)
        assert listener.flow_to(*flow.remote) is flow, "somebody has vouched for it"
        assert listener.flow_to("127.0.0.1", 9) is not flow, "alias is not believed"


async def test_names_and_the_other_family_are_refused(inbox: Inbox) -> None:
    async with listening(TCP, inbox) as listener:
        with pytest.raises(ValueError, match="pbx"):
            listener.flow_to("pbx.example.com", 5060)
        with pytest.raises(ValueError, match="IPv6"):
            listener.flow_to("::1", 5060)


async def test_ipv6(inbox: Inbox) -> None:
    other = Inbox()
    async with listening(TCP, inbox, host="::1") as one, listening(TCP, other, host="::1") as two:
        out = two.flow_to("0:0:0:0:0:0:0:1", one.local[1])
        assert two.flow_to(*one.local) is out
        out.send(MESSAGE)
        _, back = await inbox.message()
        back.send(MESSAGE)
        assert (await other.message())[1] is out
        assert out.sent_by == f"[::1]:{two.local[1]}"


@pytest.fixture
def pem(tmp_path: Path) -> dict[str, Any]:
    certificate, key = write_certificate(tmp_path, "pbx.example.com")
    return {"certificate": certificate, "key": key}


async def test_tls_verifies_the_name(inbox: Inbox, pem: dict[str, Any]) -> None:
    other = Inbox()
    ca = str(pem["certificate"])
    good = TlsOptions("pbx.example.com", ca)
    async with listening(TLS, inbox, **pem) as one, listening(TLS, other) as two:
        out = two.flow_to(*one.local, good)
        out.send(MESSAGE)
        data, back = await inbox.message()
        assert (data, out.transport, back.transport) == (MESSAGE, "tls", "tls")
        back.send(with_body(b"x" * 200_000))
        assert await other.message() == (with_body(b"x" * 200_000), out)
        assert two.flow_to(*one.local, good) is out

        for options, why in (
            (TlsOptions("pbx.example.com"), "self-signed certificate"),
            (TlsOptions("other.example.com", ca), "Hostname mismatch"),
            (TlsOptions("", ca), "IP address mismatch"),
            (TlsOptions("pbx.example.com", ca + ".missing"), "cannot use the trusted certificates of .*missing"),
        ):
            flow = two.flow_to(*one.local, options)
            assert flow is not out
            flow.send(b"must not arrive")
            ended, reason = await other.end()
            assert ended is flow
            pytest.RaisesExc(OSError, match=why).matches(OSError(reason))
            assert why.split(" .*")[0] in reason

        unverified = two.flow_to(*one.local, TlsOptions(verify=False))
        assert unverified is not out
        unverified.send(with_body(b"unverified"))
        while (got := await inbox._receive.receive())[0] is None:
            pass
        assert got[0] == with_body(b"unverified")


async def test_tls_without_a_certificate_accepts_nobody(inbox: Inbox) -> None:
    async with listening(TLS, inbox) as listener:
        with pytest.raises(OSError):
            await trio.open_tcp_stream(*listener.local)


async def test_a_tls_connection_that_came_in_is_not_used_for_its_address(inbox: Inbox, pem: dict[str, Any]) -> None:
    async with listening(TLS, inbox, **pem) as one, listening(TLS, Inbox()) as two:
        two.flow_to(*one.local, TlsOptions("pbx.example.com", str(pem["certificate"]))).send(MESSAGE)
        _, back = await inbox.message()
        assert one.flow_to(*back.remote) is not back


async def test_garbage_instead_of_a_tls_handshake(
    inbox: Inbox, pem: dict[str, Any], autojump_clock: trio.testing.MockClock
) -> None:
    async with listening(TLS, inbox, **pem) as listener:
        for junk in (MESSAGE, bytes(2000), b""):
            async with await trio.open_tcp_stream(*listener.local) as stream:
                try:
                    await stream.send_all(junk)
                    async for _ in stream:
                        pass
                except trio.BrokenResourceError:
                    pass
        assert inbox.empty  # nobody knew these flows, so nobody is told of their end


async def test_a_receiver_that_fails_at_the_end_of_one_flow_keeps_the_others() -> None:
    class Failing(Inbox):
        def closed(self, flow: Any, reason: str) -> None:
            super().closed(flow, reason)
            raise ValueError("a bug in the receiver")

    inbox = Failing()
    async with listening(TCP, inbox) as listener, await trio.open_tcp_stream(*listener.local) as good:
        async with await trio.open_tcp_stream(*listener.local) as bad:
            await bad.send_all(MESSAGE)
            _, flow = await inbox.message()
        assert (await inbox.end())[0] is flow
        await good.send_all(MESSAGE)
        assert (await inbox.message())[0] == MESSAGE
