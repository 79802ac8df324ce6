"""A call whose media never touch the gateway outlives it: after kill -9 both sides go on in their dialog."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from siperb_core.sip import Message, response_to
from siperb_core.testing.gateway_process import GatewayProcess, gateway_process, own_address, until
from siperb_core.testing.user_agent import Credentials, token
from siperb_core.testing.wire import Wire, open_wire, request, stream_wire

from ..transport.certificates import write_certificate

GATEWAY = """
[gateway]
domain = "gw.example"
data_dir = "data"
drain_seconds = 0

[[listen]]
transport = "tls"
bind = "{here}:5061"
certificate = "{certificate}"
key = "{key}"

[[listen]]
transport = "ws"
bind = "{here}:8088"

[media]
workers = 1

[[device]]
name = "alice-web"
user = "alice"
password = "alice-secret"

[[connection]]
name = "office"
type = "outbound_trunk"
users = ["alice"]
allow_from = ["127.0.0.0/8"]
media = "passthrough"
[connection.settings]
server = "{there}"
port = 5061
transport = "tls"
ca = "{certificate}"
"""

OFFER = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=whatever it says\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 8\r\n"
ANSWER = OFFER.replace(b"4000", b"5000")
HOLD = OFFER + b"a=sendonly\r\n"
SDP = ("Content-Type", "application/sdp")


class End:
    """One side's view of the dialog (RFC 3261 section 12): enough to go on in it over another connection."""

    def __init__(self, contact: str) -> None:
        self.contact = contact
        self.local = self.remote = self.target = self.call_id = ""
        self.cseq = 100

    def as_callee(self, invite: Message, tag: str) -> None:
        self.local = f"{invite.get('To')};tag={tag}"
        self.remote = invite.get("From") or ""
        self.target, self.call_id = invite.contacts[0].uri, invite.call_id

    def as_caller(self, success: Message) -> None:
        self.local, self.remote = success.get("From") or "", success.get("To") or ""
        self.target, self.call_id = success.contacts[0].uri, success.call_id

    def request(self, method: str, body: bytes = b"", *, cseq: int = 0) -> Message:
        self.cseq += 0 if cseq else 1
        fields = [
            ("Max-Forwards", "70"),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq or self.cseq} {method}"),
            ("Contact", self.contact),
            *([SDP] if body else []),
        ]
        return Message.request(method, self.target, fields, body)


class TlsPbx:
    """A PBX that is reached, and reaches others, by TLS."""

    def __init__(self, address: str, certificate: Path, key: Path) -> None:
        self.address = address
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(certificate, key)
        self._client = ssl.create_default_context(cafile=str(certificate))
        self._sent, self._accepted = trio.open_memory_channel[Wire](16)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_ssl_over_tcp_listeners(5061, self._server, host=self.address)

        async def accept(stream: trio.SSLStream) -> None:
            await self._sent.send(stream_wire("tls", stream))
            await trio.sleep_forever()

        await trio.serve_listeners(accept, listeners, task_status=task_status)

    async def accepted(self) -> Wire:
        """The next connection that the gateway opens."""
        return await self._accepted.receive()

    @asynccontextmanager
    async def connected(self, to: str) -> AsyncIterator[Wire]:
        """A connection of the PBX's own to the gateway."""
        tcp = await trio.open_tcp_stream(to, 5061, local_address=self.address)
        async with trio.SSLStream(tcp, self._client, server_hostname=to) as stream:
            yield stream_wire("tls", stream)


@asynccontextmanager
async def phone_at(here: str) -> AsyncIterator[Wire]:
    """The softphone's WebSocket, registered."""
    async with open_wire("ws", (here, 8088)) as wire:
        aor = "sip:alice-web@gw.example"
        contact = '<sip:alice@alice.invalid;transport=ws>;+sip.instance="<urn:uuid:1>";reg-id=1'
        register = request("REGISTER", "sip:gw.example", caller=aor, callee=aor, contact=contact)
        assert (await wire.request(register, Credentials("alice-web", "alice-secret"))).status == 200
        yield wire


async def call(phone: Wire, pbx: TlsPbx) -> tuple[End, End, Wire]:
    """The phone calls the PBX; both ends, and the connection the PBX was reached on."""
    caller, callee = End("<sip:alice@alice.invalid;transport=ws>"), End(f"<sip:pbx@{pbx.address}:5061;transport=tls>")
    invite = request(
        "INVITE",
        "sip:4711@gw.example",
        caller="sip:alice-web@gw.example",
        contact=caller.contact,
        headers=(SDP,),
        body=OFFER,
    )
    invite.prepend("Via", phone.via())
    await phone.send(invite)
    line = await pbx.accepted()
    received = await line.arrival("INVITE")
    assert received.body == OFFER, "passed through to the octet"
    tag = token()
    callee.as_callee(received, tag)
    answer = response_to(received, 200, to_tag=tag, headers=[("Contact", callee.contact), SDP], body=ANSWER)
    await line.send(answer)
    success = await phone.response(invite.call_id)
    assert (success.status, success.body) == (200, ANSWER)
    caller.as_caller(success)
    await acknowledge(phone, caller, 1)
    await line.arrival("ACK")
    return caller, callee, line


async def acknowledge(wire: Wire, end: End, cseq: int) -> None:
    ack = end.request("ACK", cseq=cseq)
    ack.prepend("Via", wire.via())
    await wire.send(ack)


async def goes_through(sender: Wire, end: End, receiver: Wire, far: End, method: str, body: bytes = b"") -> None:
    """A request in the dialog reaches the other side, and its answer comes back."""
    message = end.request(method, body)
    message.prepend("Via", sender.via())
    await sender.send(message)
    received = await receiver.arrival(method)
    assert received.body == body
    headers = [("Contact", far.contact), *([SDP] if body else [])]
    await receiver.send(response_to(received, 200, headers=headers, body=ANSWER if body else b""))
    response = await sender.response(end.call_id, cseq=end.cseq)
    assert (response.status, response.body) == (200, ANSWER if body else b"")
    if method == "INVITE":
        await acknowledge(sender, end, end.cseq)
        await receiver.arrival("ACK")


async def nothing_left(gateway: GatewayProcess) -> bool:
    return not await gateway.ask("show.calls", ended=False) and not gateway.stored("dialogs")


@pytest.mark.parametrize("first", ["phone", "pbx"])
async def test_both_sides_go_on_after_the_gateway_was_killed(tmp_path: Path, first: str) -> None:
    """`first` sends a re-INVITE after the restart, the other side the BYE."""
    here, there = own_address(), own_address()
    certificate, key = write_certificate(tmp_path, here, there)
    config = GATEWAY.format(here=here, there=there, certificate=certificate, key=key)
    pbx = TlsPbx(there, certificate, key)
    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            await nursery.start(pbx.run)
            async with gateway_process(tmp_path, config) as gateway:
                async with phone_at(here) as phone:
                    caller, callee, _ = await call(phone, pbx)
                    await gateway.kill()
                await gateway.start()
                async with phone_at(here) as phone, pbx.connected(here) as own_line:
                    (row,) = await gateway.ask("show.calls", ended=False)
                    assert row["state"] == "answered"
                    if first == "phone":
                        # Nobody has heard of the PBX since the restart: the way to it is opened anew, and verified.
                        message = caller.request("INVITE", HOLD)
                        message.prepend("Via", phone.via())
                        await phone.send(message)
                        line = await pbx.accepted()
                        received = await line.arrival("INVITE")
                        assert received.body == HOLD
                        headers = [("Contact", callee.contact), SDP]
                        await line.send(response_to(received, 200, headers=headers, body=ANSWER))
                        assert (await phone.response(caller.call_id, cseq=caller.cseq)).body == ANSWER
                        await acknowledge(phone, caller, caller.cseq)
                        await line.arrival("ACK")
                        await goes_through(own_line, callee, phone, caller, "BYE")
                    else:
                        await goes_through(own_line, callee, phone, caller, "INVITE", HOLD)
                        await goes_through(phone, caller, own_line, callee, "BYE")
                    await until(lambda: nothing_left(gateway))
            assert "Traceback" not in gateway.log
            nursery.cancel_scope.cancel()
